//! Which codecs are added to those that a client offers.
//!
//! Manual, chapters 9.1.3 and 9.1.4 ("Audio transcoding").

use crate::prelude::*;

/// One codec that media relays add for one retail or wholesale client.
#[derive(Clone, Debug, Entity)]
#[entity(path = "company_rel_codecs", access = ACCESS, rules)]
pub struct CompanyRelCodec {
    /// Number of the pair.
    #[field(brand = "ld")]
    pub id: Id<CompanyRelCodec>,
    /// The client.
    #[field(delete = "cascade", index, brand = "dw")]
    pub company: Id<Company>,
    /// The codec.
    #[field(delete = "cascade", index, brand = "dw")]
    pub codec: Id<Codec>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lgcud").acl().read(&[Rule::OwnClients("company")])];

impl Rules for CompanyRelCodec {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        keep_pair(old, check);
        if check.rows.get(self.company).is_some_and(|company| !company.kind.passes_no_application_server()) {
            check.forbid("codecs can be added only for retail and wholesale clients");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn codecs_are_for_retail_and_wholesale_clients() {
        let give = |company: u32| {
            let company = Id::new(company);
            change(|draft| {
                let codec =
                    draft.create(Codec { iden: "PCMA".into(), name: "G.711".into(), ..Codec::default() })?;
                draft.create(CompanyRelCodec { id: Id::default(), company, codec })
            })
        };
        assert!(give(3).is_ok());
        assert!(give(5).is_ok());
        assert!(matches!(give(1), Err(Refusal::Forbidden(_))));
    }
}
