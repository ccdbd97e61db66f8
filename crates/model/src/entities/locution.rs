//! Locutions: recorded announcements of a client.
//!
//! Manual: "Client configuration", locutions.

use crate::checks::{client_of_type, differs, name_is_there};
use crate::prelude::*;

/// A recording that is played to callers at places which an administrator chooses: a welcome, a menu, a
/// closing time.
#[derive(Clone, Debug, Entity)]
#[entity(path = "locutions", access = ACCESS, unique(name, company), rules)]
pub struct Locution {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<Locution>,
    /// What it is called in lists; once within a client.
    #[field(max = 50, client = "ldw")]
    pub name: String,
    /// How far the conversion of the uploaded file is. Null: nothing was uploaded yet.
    #[field(client = "ldw")]
    pub status: Option<EncodingStatus>,
    /// The sound as it is played, made from the uploaded file.
    #[field(client = "dw")]
    pub encoded_file: File,
    /// The sound file as it was uploaded.
    #[field(brief("baseName"), client = "ldw")]
    pub original_file: File,
    /// The client that it belongs to.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_types(&[CompanyType::Vpbx])
    .read(&[Rule::OwnCompany("company")])];

impl Rules for Locution {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
        if differs(self, old, "originalFile") && self.original_file.is_there() {
            self.status = Some(EncodingStatus::Pending);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn an_uploaded_file_waits_for_its_conversion() {
        let file = File { size: Some(20), ..File::default() };
        let row = Locution {
            name: "new".to_owned(),
            company: Id::new(1),
            original_file: file,
            ..Locution::default()
        };
        let (id, rows, _) = change(|draft| draft.create(row)).unwrap();
        assert_eq!(rows.get(id).unwrap().status, Some(EncodingStatus::Pending));
    }

    #[test]
    fn a_conversion_that_is_done_stays_done() {
        let ready = |row: &mut Locution| row.status = Some(EncodingStatus::Ready);
        let (_, rows, _) = change(|draft| draft.change(Id::new(1), ready)).unwrap();
        assert_eq!(rows.get(Id::<Locution>::new(1)).unwrap().status, Some(EncodingStatus::Ready));
    }
}
