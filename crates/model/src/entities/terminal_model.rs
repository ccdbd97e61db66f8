//! Models of telephones, and the files that configure them.
//!
//! Manual, chapter 8.4. Elsewhere: serving the files, which is up to the provisioning server.

use crate::checks::differs;
use crate::prelude::*;

/// A model of telephones that fetch their configuration over HTTP: first a file that is the same for all of a
/// model, then one for each telephone.
#[derive(Clone, Debug, Entity)]
#[entity(path = "terminal_models", access = ACCESS, unique(iden), unique(generic_url_pattern), rules)]
pub struct TerminalModel {
    /// Number of the model.
    #[field(platform = "ld", client = "ld")]
    pub id: Id<TerminalModel>,
    /// The word by which files and imports know it: letters, digits, _ and -. It occurs once.
    #[field(max = 100, platform = "ldw", client = "ld")]
    pub iden: String,
    /// Its name.
    #[field(max = 100, default = "", platform = "ldw", client = "ld")]
    pub name: String,
    /// A note for operators.
    #[field(max = 500, default = "", platform = "ldw", client = "ld")]
    pub description: String,
    /// The file that is the same for all telephones of the model; it tells them where the next one is.
    #[field(platform = "ldw", client = "l")]
    pub generic_template: Option<String>,
    /// The file for one telephone, with its user, password and domain.
    #[field(platform = "ldw", client = "l")]
    pub specific_template: Option<String>,
    /// The name under which the first file is asked for: y000000000044.cfg. It occurs once.
    #[field(max = 225, platform = "ldw", client = "l")]
    pub generic_url_pattern: Option<String>,
    /// The name under which a telephone asks for its own file; {mac} stands for its MAC address: {mac}.cfg.
    #[field(max = 225, platform = "ldw", client = "l")]
    pub specific_url_pattern: Option<String>,
    /// Who makes it.
    #[field(delete = "cascade", platform = "dw")]
    pub terminal_manufacturer: Id<TerminalManufacturer>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud").acl().order(&["iden"]),
    Access::at(Level::Client, "lg").acl().write(&[Rule::Never]),
];

impl Rules for TerminalModel {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "iden") {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            let right = !self.iden.is_empty() && self.iden.bytes().all(plain);
            check.require(right, "iden", "write letters, digits, _ and - only");
        }
        // Models without a first file do not stand in each other's way.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn model(iden: &str, pattern: &str) -> TerminalModel {
        let generic_url_pattern = Some(pattern.to_owned());
        TerminalModel {
            iden: iden.into(),
            generic_url_pattern,
            terminal_manufacturer: Id::new(1),
            ..TerminalModel::default()
        }
    }

    #[test]
    fn a_model_is_known_by_a_plain_word() {
        assert!(change(|draft| draft.create(model("T-46_G", "y46.cfg"))).is_ok());
        assert!(change(|draft| draft.create(model("T46 G", "y46.cfg"))).is_err());
        assert!(change(|draft| draft.create(model("", "y46.cfg"))).is_err());
    }

    #[test]
    fn file_names_occur_once_but_for_empty_ones() {
        let twice = |pattern: &str| {
            change(|draft| {
                draft.create(model("one", pattern))?;
                draft.create(model("two", pattern))
            })
        };
        assert!(twice("").is_ok());
        assert!(twice("y46.cfg").is_err());
    }
}
