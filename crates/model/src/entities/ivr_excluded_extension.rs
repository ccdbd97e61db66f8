//! Extensions that cannot be dialled in an IVR.
//!
//! Manual: "Client configuration", IVRs.

use crate::checks::within_client;
use crate::prelude::*;

/// An extension that callers of an IVR may not dial, although the IVR allows extensions.
#[derive(Clone, Debug, Entity)]
#[entity(path = "ivr_excluded_extensions", access = ACCESS, unique(ivr, extension), rules)]
pub struct IvrExcludedExtension {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<IvrExcludedExtension>,
    /// The IVR.
    #[field(delete = "cascade", index, client = "ldw")]
    pub ivr: Id<Ivr>,
    /// The extension, of the same client.
    #[field(delete = "cascade", index, client = "ldw")]
    pub extension: Id<Extension>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("ivr")])
    .write(&[Rule::Visible("ivr"), Rule::Visible("extension")])];

impl Rules for IvrExcludedExtension {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let client = check.rows.get(self.ivr).map(|ivr| ivr.company);
        within_client(self, old, client, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn both_sides_are_of_one_client() {
        let paired = |extension| IvrExcludedExtension {
            ivr: Id::new(1),
            extension,
            ..IvrExcludedExtension::default()
        };
        let foreign = Extension { company: Id::new(2), number: "205".to_owned(), ..Extension::default() };
        assert!(change(|draft| draft.create(paired(Id::new(2)))).is_ok());
        let refused = change(|draft| {
            let foreign = draft.create(foreign)?;
            draft.create(paired(foreign))
        });
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
}
