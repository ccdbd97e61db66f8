//! SIPp's load on a cluster: registrations, and calls that talk, from telephones that know both proxies.
//!
//! In: a cluster. Out: calls that come and go until the test has seen enough, and each of them in the records. Elsewhere: SIPp (`sipp`), its
//! scenarios (`sipp/load_*.xml`).

use crate::DOMAIN;
use crate::cluster::{Cluster, password};
use crate::records::check;
use crate::sipp::{Sipp, SippRun};
use model::{Cdr, HungUpBy};
use std::collections::BTreeSet;

/// Host parts: Carol calls, Dave is called, and Carol has a telephone that registers all the time.
const CALLER: u8 = 12;
const CALLEE: u8 = 13;
const REGISTERS: u8 = 14;
/// How long a call talks.
const TALK_MS: u32 = 2000;
/// New calls a second.
const CALLS: u32 = 5;
/// Registrations a second.
const REGISTRATIONS: u32 = 5;
/// How long SIPp answers for calls that have ended.
const SETTLED_MS: &str = "1000";
/// Calls that must end well before the test goes on.
const ENOUGH: usize = 10;
/// More than any test waits for.
const MANY: u32 = 100_000;

/// A load that goes on by itself.
pub struct Load {
    calls: SippRun,
    answers: SippRun,
    registrations: SippRun,
}

impl Load {
    /// Begins it: callers at the first proxy, the called telephone at the second.
    ///
    /// # Panics
    /// When SIPp does not start.
    pub fn start(cluster: &Cluster) -> Load {
        let (place, folder) = (cluster.place(), cluster.folder());
        let proxies = ["p1", "p2"].map(|name| cluster.host(name));
        let other = |proxy: usize| place.ip(proxies[1 - proxy]);
        cluster.known(1, || cluster.phone("p2", CALLEE, "dave").register());
        let audio = folder.join("audio.pcma");
        std::fs::write(&audio, [0xd5; 8000]).expect("a file can be written");
        let answers = Sipp::callee("load_answer")
            .user("dave")
            .host(CALLEE)
            .calls(MANY, 1)
            .arguments(&["-rtp_echo", "-deadcall_wait", SETTLED_MS])
            .within(600)
            .start_at(place, folder, proxies[1]);
        let calls = Sipp::caller("load_call")
            .user("carol")
            .password(password("carol"))
            .number("104")
            .host(CALLER)
            .calls(MANY, CALLS)
            .arguments(&["-deadcall_wait", SETTLED_MS])
            .value("talk", TALK_MS)
            .value("other", other(0))
            .value("audio", audio.display())
            .within(600)
            .start_at(place, folder, proxies[0]);
        let registrations = Sipp::caller("load_register")
            .user("carol")
            .password(password("carol"))
            .host(REGISTERS)
            .calls(MANY, REGISTRATIONS)
            .arguments(&["-deadcall_wait", SETTLED_MS])
            .value("digest-uri", DOMAIN)
            .value("other", other(0))
            .within(600)
            .start_at(place, folder, proxies[0]);
        Load { calls, answers, registrations }
    }

    /// Waits until some calls and registrations more went as they should.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn goes_on(&mut self) {
        self.calls.until_more(ENOUGH);
        self.registrations.until_more(ENOUGH);
    }

    /// Ends it: no call failed, no registration did, and each call has one record, as so many `others` of the test have.
    ///
    /// # Panics
    /// When that is not so.
    pub fn finish(self, cluster: Cluster, others: usize) {
        let calls = self.calls.stop();
        self.registrations.stop();
        let answered = self.answers.stop();
        let records = cluster.finish();
        assert_eq!((answered, records.len()), (calls, calls + others), "calls answered, and all records");
        let names: BTreeSet<&str> = records.iter().map(|record| record.call.as_str()).collect();
        assert_eq!(names.len(), records.len(), "no call has two");
        records.iter().for_each(as_it_was);
    }

    /// Ends it after nodes have died: conversations went on, whatever died; of calls that were being set up at such a moment so many may
    /// have failed. Each call has one record.
    ///
    /// # Panics
    /// When that is not so.
    pub fn finish_after_deaths(self, cluster: Cluster, failures: usize) {
        let (done, failed) = self.calls.stop_with(failures);
        self.registrations.stop();
        self.answers.stop_with(failures);
        let records = cluster.finish();
        let names: BTreeSet<&str> = records.iter().map(|record| record.call.as_str()).collect();
        assert_eq!(names.len(), records.len(), "no call has two");
        let (talked, others): (Vec<&Cdr>, Vec<&Cdr>) =
            records.iter().partition(|record| record.conversation_us().is_some_and(|us| us >= LONG_US));
        assert!(talked.len() >= done, "{done} calls went well, {} talked: {others:#?}", talked.len());
        assert!(talked.len() <= done + failed, "{failed} failed: {others:#?}");
        // A call that fails may be made once more by the other proxy.
        assert!(others.len() <= 2 * failures, "{others:#?}");
        for record in talked {
            assert_eq!((record.cause.status, record.hung_up_by), (200, HungUpBy::Caller), "{record:#?}");
        }
    }
}

/// Nearly as long as they talk.
const LONG_US: i64 = TALK_MS as i64 * 900;

fn as_it_was(record: &Cdr) {
    check(record);
    assert_eq!((record.cause.status, record.hung_up_by), (200, HungUpBy::Caller), "{record:#?}");
    // What the test does beside it has its own ways to look.
    if record.caller.number != "103" {
        return;
    }
    let talked_us = record.conversation_us().unwrap_or_default();
    assert!(talked_us >= LONG_US, "nearly as long as they talked: {record:#?}");
    // Both ways: the called telephone sends back what it hears.
    let [caller, callee] = record.legs.as_slice() else { panic!("two legs: {record:#?}") };
    for leg in [caller, callee] {
        let media = leg.media.unwrap_or_default();
        assert!(media.packets_received > 0 && media.packets_sent > 0, "{record:#?}");
    }
}
