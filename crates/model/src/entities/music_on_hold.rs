//! Music on hold: what a caller hears while waiting.
//!
//! Manual: "Client configuration", music on hold; "Brand configuration", generic music on hold.

use crate::checks::{client_of_type, differs, name_is_there};
use crate::prelude::*;

/// Music for callers on hold. Where there are several, each call gets one by chance. A client's own music
/// comes before its brand's, and that before the platform's.
#[derive(Clone, Debug, Entity)]
#[entity(path = "music_on_holds", access = ACCESS, unique(name, brand), unique(name, company), rules)]
pub struct MusicOnHold {
    /// Its number, given by the platform.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<MusicOnHold>,
    /// What it is called in lists; once within a brand or a client.
    #[field(max = 50, brand = "ldw", client = "ldw")]
    pub name: String,
    /// How far the conversion of the uploaded file is; it is played when it is ready. Null: nothing was
    /// uploaded yet.
    #[field(brand = "ldw", client = "ldw")]
    pub status: Option<EncodingStatus>,
    /// The sound file as it was uploaded.
    #[field(brief("baseName"), brand = "ldw", client = "ldw")]
    pub original_file: File,
    /// The sound as it is played, made from the uploaded file.
    #[field(brand = "dw", client = "dw")]
    pub encoded_file: File,
    /// The brand, for music of all its clients. Null: the music is one client's.
    #[field(delete = "cascade", index)]
    pub brand: Option<Id<Brand>>,
    /// The client that the music belongs to. Null: it is a brand's music.
    #[field(delete = "cascade", index)]
    pub company: Option<Id<Company>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["name"])
        .read(&[Rule::OwnBrand("brand"), Rule::Null("company")]),
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["name"])
        .company_types(&[CompanyType::Vpbx])
        .read(&[Rule::OwnCompany("company")]),
];

impl Rules for MusicOnHold {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
        if self.company.is_some() {
            self.brand = None;
        }
        let owned = self.brand.is_some() || self.company.is_some();
        check.require(owned, "", "say which brand or which client the music belongs to");
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
        let row = MusicOnHold {
            name: "new".to_owned(),
            company: Some(Id::new(1)),
            original_file: file,
            ..MusicOnHold::default()
        };
        let (id, rows, _) = change(|draft| draft.create(row)).unwrap();
        assert_eq!(rows.get(id).unwrap().status, Some(EncodingStatus::Pending));
    }

    #[test]
    fn a_conversion_that_is_done_stays_done() {
        let ready = |row: &mut MusicOnHold| row.status = Some(EncodingStatus::Ready);
        let (_, rows, _) = change(|draft| draft.change(Id::new(1), ready)).unwrap();
        assert_eq!(rows.get(Id::<MusicOnHold>::new(1)).unwrap().status, Some(EncodingStatus::Ready));
    }

    #[test]
    fn music_is_a_brands_or_a_clients() {
        let made = |brand: Option<u32>, company: Option<u32>| {
            let (brand, company) = (brand.map(Id::new), company.map(Id::new));
            let music = MusicOnHold { name: "waltz".to_owned(), brand, company, ..MusicOnHold::default() };
            let made = change(|draft| draft.create(music));
            made.map(|(id, rows, _)| rows.get(id).map(|music| (music.brand, music.company)).unwrap())
        };
        assert_eq!(made(Some(1), None), Ok((Some(Id::new(1)), None)));
        assert_eq!(made(Some(1), Some(2)), Ok((None, Some(Id::new(2)))));
        assert!(matches!(made(None, None), Err(Refusal::Invalid(_))));
        assert!(
            matches!(made(None, Some(4)), Err(Refusal::Invalid(_))),
            "a residential client has its brand's"
        );
    }
}
