//! Call records as `carillon cdrs --json` lists them, and what tests ask of them.
//!
//! In: the data directory of a stopped node. Out: [`Cdr`]s. Elsewhere: the node (`node`).

use crate::node::run;
use model::{Cdr, HungUpBy};
use std::path::Path;

/// The records of a node, newest first.
#[derive(Debug)]
pub struct Records(pub Vec<Cdr>);

impl Records {
    /// Reads all records of a data directory.
    ///
    /// # Panics
    /// When the program does not list them.
    pub fn read(data: &Path) -> Records {
        Self::listed(&["--data", data.to_str().expect("the test's directory is text")])
    }

    /// Reads all records of the cluster that this configuration file is of.
    ///
    /// # Panics
    /// When the program does not list them.
    pub fn of_cluster(config: &Path) -> Records {
        Self::listed(&["--config", config.to_str().expect("the test's directory is text")])
    }

    fn listed(source: &[&str]) -> Records {
        let output = run(&[&["cdrs", "--json", "--limit", "100000"], source].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "carillon cdrs: {}", String::from_utf8_lossy(&output.stderr));
        let cdr =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the record {line}"));
        Records(text.lines().map(cdr).collect())
    }

    /// The only record.
    ///
    /// # Panics
    /// When there is none or more than one.
    pub fn only(&self) -> &Cdr {
        assert_eq!(self.0.len(), 1, "exactly one call record is expected: {:#?}", self.0);
        check(&self.0[0]);
        &self.0[0]
    }

    /// The only record, of a call from alice to bob that was answered and hung up by `by`.
    ///
    /// # Panics
    /// When it is another one.
    pub fn answered(&self, by: HungUpBy) -> &Cdr {
        let cdr = self.only();
        assert!(cdr.answered_us.is_some(), "answered: {cdr:#?}");
        assert_eq!((cdr.cause.status, cdr.hung_up_by), (200, by), "{cdr:#?}");
        assert_eq!((cdr.caller.number.as_str(), cdr.callee.number.as_str()), ("101", "102"), "{cdr:#?}");
        cdr
    }

    /// The only record, of a call that was never answered and ended so.
    ///
    /// # Panics
    /// When it is another one.
    pub fn unanswered(&self, status: u16, by: HungUpBy) -> &Cdr {
        let cdr = self.only();
        assert_eq!((cdr.answered_us, cdr.cause.status, cdr.hung_up_by), (None, status, by), "{cdr:#?}");
        cdr
    }
}

/// What holds for every record.
///
/// # Panics
/// When it does not.
pub fn check(cdr: &Cdr) {
    assert!(cdr.started_us > 1_500_000_000_000_000, "a time of this century: {cdr:#?}");
    assert!(cdr.ended_us >= cdr.answered_us.unwrap_or(cdr.started_us), "ends after its answer: {cdr:#?}");
    assert!(cdr.answered_us.is_none_or(|at| at >= cdr.started_us), "answered after its start: {cdr:#?}");
    assert!(!cdr.call.is_empty() && !cdr.cause.text.is_empty(), "named: {cdr:#?}");
    // A callee's leg that was never called, for want of a port for instance, has no name.
    assert!(
        cdr.legs.first().is_some_and(|leg| !leg.sip_call_id.is_empty()),
        "the caller's leg is named: {cdr:#?}"
    );
}
