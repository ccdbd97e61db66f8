//! Sets of application servers, and how calls are spread over them.
//!
//! Manual, chapters 8.1 and 8.14.4. Elsewhere: which brands have them (`application_server_sets_rel_brand`).

use crate::draft::alike;
use crate::prelude::*;

/// Application servers that share the calls of the clients assigned to the set. Set 0 is the platform's
/// default and cannot be changed or deleted.
#[derive(Clone, Debug, Entity)]
#[entity(path = "application_server_sets", access = ACCESS, computed = COMPUTED, unique(name), rules)]
pub struct ApplicationServerSet {
    /// Number of the set.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<ApplicationServerSet>,
    /// What operators call it; it occurs once.
    #[field(max = 32, default = "", platform = "ldw", brand = "ld")]
    pub name: String,
    /// How calls are spread over the servers of the set.
    #[field(default = ApplicationServerSetDistributeMethod::Hash, platform = "ldw", brand = "ld")]
    pub distribute_method: ApplicationServerSetDistributeMethod,
    /// A note for operators.
    #[field(max = 200, platform = "ldw", brand = "ld")]
    pub description: Option<String>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud").acl().order(&["name"]),
    Access::at(Level::Brand, "lg")
        .acl()
        .order(&["name"])
        .read(&[Rule::Where(assigned)])
        .write(&[Rule::Never]),
];

const COMPUTED: &[Computed] = &[Computed::new(
    "applicationServers",
    "The servers of the set. A set that is there keeps one at least.",
    How::Pairs(
        ApplicationServerSetRelApplicationServer::definition,
        "applicationServerSet",
        "applicationServer",
    ),
)
.at(Level::Platform, "dw")
.at(Level::Brand, "dn")];

choice! {
    /// How calls are spread over the servers of a set.
    pub enum ApplicationServerSetDistributeMethod {
        /// Each call goes to the next server in turn. Queues and conferences need all calls of a client on
        /// one server, so this is for very large clients without them.
        RoundRobin = "rr",
        /// All calls of a client go to the same server, as long as it answers.
        Hash = "hash",
    }
}

fn assigned(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    paired::<ApplicationServerSetsRelBrand>(
        rows,
        "brand",
        caller.brand.unwrap_or(0),
        "applicationServerSet",
        row.id(),
    )
}

impl ApplicationServerSet {
    /// The platform's default set.
    pub const DEFAULT: Id<Self> = Id::new(0);

    /// Says so where the set has lost its last server; sets that are gone have none to lose.
    pub(crate) fn keeps_a_server(id: Id<Self>, rows: &Rows) -> Result<(), Refusal> {
        let has = rows
            .of::<ApplicationServerSetRelApplicationServer>("applicationServerSet", id.get())
            .next()
            .is_some();
        if has || rows.get(id).is_none() {
            return Ok(());
        }
        Err(Refusal::wrong("applicationServers", "a set keeps one server at least; add another one first"))
    }
}

impl Rules for ApplicationServerSet {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let Some(old) = old.filter(|old| old.id == Self::DEFAULT) else { return };
        if !alike(old, self) {
            check.forbid("the default set of application servers cannot be changed; make another one");
        }
    }

    fn deleting(&self, _: &mut Draft<'_>) -> Result<(), Refusal> {
        if self.id == Self::DEFAULT {
            return Err(Refusal::Forbidden(
                "the default set of application servers cannot be deleted".to_owned(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn pairs(draft: &Draft<'_>, set: u32) -> Vec<Id<ApplicationServerSetRelApplicationServer>> {
        let pairs = draft.rows().of::<ApplicationServerSetRelApplicationServer>("applicationServerSet", set);
        pairs.map(|pair| pair.id).collect()
    }

    #[test]
    fn a_set_keeps_a_server_while_it_is_there() {
        let empty =
            |draft: &mut Draft<'_>| pairs(draft, 2).into_iter().try_for_each(|pair| draft.delete(pair));
        let refusal = change(empty).unwrap_err();
        assert!(matches!(refusal, Refusal::Invalid(_)), "{refusal}");
        let replace = |draft: &mut Draft<'_>| {
            empty(draft)?;
            let (application_server, application_server_set) = (Id::new(4), Id::new(2));
            let id = Id::default();
            draft.create(ApplicationServerSetRelApplicationServer {
                id,
                application_server,
                application_server_set,
            })
        };
        assert!(change(replace).is_ok());
        assert!(change(|draft| draft.delete(Id::<ApplicationServerSet>::new(2))).is_ok());
    }

    #[test]
    fn the_default_set_is_neither_changed_nor_deleted() {
        let rename = |row: &mut ApplicationServerSet| row.name = "other".into();
        assert!(matches!(change(|draft| draft.change(Id::new(0), rename)), Err(Refusal::Forbidden(_))));
        assert!(change(|draft| draft.change(Id::new(0), |_: &mut ApplicationServerSet| ())).is_ok());
        assert!(change(|draft| draft.change(Id::new(1), rename)).is_ok());
        let refusal = change(|draft| draft.delete(ApplicationServerSet::DEFAULT)).unwrap_err();
        assert!(refusal.to_string().contains("default"), "{refusal}");
    }
}
