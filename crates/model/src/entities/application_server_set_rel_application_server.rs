//! Which application servers are in which sets.
//!
//! Manual, chapter 8.14.4. Written through the sets' list of servers.

use crate::prelude::*;

/// One application server's place in one set.
#[derive(Clone, Debug, Entity)]
#[entity(unique(application_server, application_server_set), rules)]
pub struct ApplicationServerSetRelApplicationServer {
    /// Number of the pair.
    pub id: Id<ApplicationServerSetRelApplicationServer>,
    /// The server.
    #[field(index)]
    pub application_server: Id<ApplicationServer>,
    /// The set.
    #[field(delete = "cascade", index)]
    pub application_server_set: Id<ApplicationServerSet>,
}

impl Rules for ApplicationServerSetRelApplicationServer {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        keep_pair(old, check);
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let set = self.application_server_set;
        draft.at_end(move |rows| ApplicationServerSet::keeps_a_server(set, rows));
        Ok(())
    }
}
