//! What became of each call: as its telephones saw it, and as its record tells it.
//!
//! In: news of the telephones, call records. Out: counts. Elsewhere: the telephones (`sipload`), their audio (`talk`).

use crate::sipload::{CallKey, News, Whose};
use crate::talk::Heard;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Instant;

/// A record whose times are further from those of the telephones is wrong.
const TOLERANCE_US: i64 = 1_000_000;

/// The story of a call.
#[derive(Default)]
pub(crate) struct Story {
    began_us: i64,
    answered_us: i64,
    /// The servers of caller and callee.
    pub(crate) servers: [Option<SocketAddr>; 2],
    /// Where they send.
    pub(crate) to: [Option<SocketAddr>; 2],
    /// When they last took another description.
    pub(crate) moved: [Option<Instant>; 2],
    /// Who was told to hang up, and when.
    hung_up: Option<(Whose, i64)>,
    /// His BYE was answered 200.
    closed: bool,
    /// The other side got one.
    told: bool,
    failed: Option<String>,
    /// What came of its audio.
    pub(crate) heard: Option<Heard>,
}

impl Story {
    /// Both sides have answered.
    pub(crate) fn talks(&self) -> bool {
        self.to.iter().all(Option::is_some)
    }

    /// Nothing more is to be expected.
    pub(crate) fn is_over(&self) -> bool {
        self.failed.is_some() || (self.closed && self.told)
    }

    /// Why it is a lost call; none: it began, was heard and ended as a call does.
    pub(crate) fn loss(&self) -> Option<String> {
        if let Some(cause) = &self.failed {
            return Some(cause.clone());
        }
        match (self.talks(), self.closed, self.told) {
            (false, ..) => Some("not established".to_owned()),
            (true, false, _) => Some("BYE not answered".to_owned()),
            (true, true, false) => Some("no BYE to the other side".to_owned()),
            (true, true, true) if self.heard.is_some_and(|heard| !heard.alive) => {
                Some("silent at its end".to_owned())
            }
            (true, true, true) => None,
        }
    }
}

/// All calls of a scenario.
#[derive(Default)]
pub(crate) struct Book {
    /// By name.
    pub(crate) stories: HashMap<CallKey, Story>,
}

/// What the records say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Records {
    /// One, with right times.
    pub(crate) right: usize,
    /// None.
    pub(crate) missing: usize,
    /// More than one.
    pub(crate) doubled: usize,
    /// One, whose times or end are not those that the telephones saw.
    pub(crate) wrong: usize,
    /// Records of no call.
    pub(crate) strange: usize,
}

impl Book {
    /// Writes down what happened; the call, if its audio can begin now.
    pub(crate) fn note(&mut self, news: &News) -> Option<(CallKey, [SocketAddr; 2])> {
        let now = now_us();
        let (News::Begun { call }
        | News::Elsewhere { call }
        | News::Answered { call, .. }
        | News::Acknowledged { call, .. }
        | News::Moved { call, .. }
        | News::HungUp { call, .. }
        | News::Ended { call }
        | News::Failed { call, .. }) = *news;
        if matches!(news, News::Begun { .. }) {
            self.stories.insert(call, Story { began_us: now, ..Story::default() });
        }
        let story = self.stories.get_mut(&call)?;
        let before = story.talks();
        match news {
            News::Begun { .. } => {}
            News::Elsewhere { .. } => {
                self.stories.remove(&call);
                return None;
            }
            News::Answered { from, to, .. } => {
                story.answered_us = now;
                (story.servers[0], story.to[0]) = (Some(*from), *to);
            }
            News::Acknowledged { from, to, .. } => (story.servers[1], story.to[1]) = (Some(*from), *to),
            News::Moved { side, to, .. } => {
                let side = usize::from(*side == Whose::Callee);
                story.to[side] = Some(*to);
                story.moved[side] = Some(Instant::now());
            }
            // Both may hang up at the same moment, but here only one of them is ever told to.
            News::HungUp { side, .. }
                if story.hung_up.is_some_and(|(by, _)| (by == Whose::Callee) != (*side == Whose::Callee)) =>
            {
                story.told = true;
            }
            News::HungUp { .. } => story.failed = Some("BYE by the platform".to_owned()),
            News::Ended { .. } => story.closed = true,
            News::Failed { cause, .. } => story.failed = Some(cause.clone()),
        }
        let both = story.to[0].zip(story.to[1]).filter(|_| !before);
        both.map(|(caller, callee)| (call, [caller, callee]))
    }

    /// A side hangs up now.
    pub(crate) fn hangs_up(&mut self, call: CallKey, side: Whose) {
        if let Some(story) = self.stories.get_mut(&call) {
            story.hung_up = Some((side, now_us()));
        }
    }

    /// Calls with both sides talking.
    pub(crate) fn talking(&self) -> Vec<CallKey> {
        let talking = self.stories.iter().filter(|(_, story)| story.talks() && story.hung_up.is_none());
        let mut calls: Vec<CallKey> =
            talking.filter(|(_, story)| story.failed.is_none()).map(|(call, _)| *call).collect();
        calls.sort_unstable();
        calls
    }

    /// Why calls are lost, and how many.
    pub(crate) fn losses(&self) -> BTreeMap<String, usize> {
        let mut losses = BTreeMap::new();
        for cause in self.stories.values().filter_map(Story::loss) {
            *losses.entry(cause).or_default() += 1;
        }
        losses
    }

    /// Holds the records against what the telephones saw. Calls that were refused have a record or none.
    pub(crate) fn compare(&self, records: &[serde_json::Value]) -> Records {
        let mut by_call: HashMap<&str, Vec<&serde_json::Value>> = HashMap::new();
        for record in records {
            let name = record["legs"][0]["sip_call_id"].as_str().unwrap_or_default();
            by_call.entry(name).or_default().push(record);
        }
        let mut found = Records::default();
        for (call, story) in &self.stories {
            let own = by_call.remove(call.call_id().as_str()).unwrap_or_default();
            if !story.talks() {
                continue;
            }
            match own[..] {
                [] => found.missing += 1,
                [record] if story.agrees(record) => found.right += 1,
                [record] => {
                    eprintln!("    wrong record of {}: {record}; {}", call.call_id(), story.times());
                    found.wrong += 1;
                }
                _ => found.doubled += 1,
            }
        }
        // Attempts that were begun anew elsewhere may have been answered by nobody.
        let strange = by_call.values().flatten().filter(|record| !record["answered_us"].is_null());
        found.strange = strange.count();
        found
    }
}

impl Story {
    fn agrees(&self, record: &serde_json::Value) -> bool {
        let near = |key: &str, seen: i64| {
            record[key].as_i64().is_some_and(|told| (told - seen).abs() <= TOLERANCE_US)
        };
        let Some((side, ended_us)) = self.hung_up else { return false };
        let by = if side == Whose::Callee { "Callee" } else { "Caller" };
        // A call begins when the INVITE comes in, which may be a repeated one.
        let started = record["started_us"].as_i64().unwrap_or_default();
        let is_within = (self.began_us - TOLERANCE_US..=self.answered_us + TOLERANCE_US).contains(&started);
        is_within
            && near("answered_us", self.answered_us)
            && near("ended_us", ended_us)
            && record["hung_up_by"].as_str() == Some(by)
            && record["cause"]["status"].as_i64() == Some(200)
    }

    fn times(&self) -> String {
        format!("seen: began {} answered {} hung up {:?}", self.began_us, self.answered_us, self.hung_up)
    }
}

/// Microseconds of the Unix epoch.
pub(crate) fn now_us() -> i64 {
    Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CALL: CallKey = CallKey { at: 1, generation: 0 };

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn book(upto: usize) -> Book {
        let mut book = Book::default();
        let news = [
            News::Begun { call: CALL },
            News::Answered { call: CALL, from: at(1), to: Some(at(2)) },
            News::Acknowledged { call: CALL, from: at(3), to: Some(at(4)) },
        ];
        let begins: Vec<bool> = news.iter().map(|news| book.note(news).is_some()).collect();
        assert_eq!(begins, [false, false, true]);
        book.hangs_up(CALL, Whose::Callee);
        for news in
            [News::HungUp { call: CALL, side: Whose::Asked }, News::Ended { call: CALL }].iter().take(upto)
        {
            book.note(news);
        }
        book
    }

    fn record(book: &Book, by: &str) -> serde_json::Value {
        let story = &book.stories[&CALL];
        json!({
            "legs": [{"sip_call_id": CALL.call_id()}], "started_us": story.began_us, "answered_us": story.answered_us,
            "ended_us": story.hung_up.unwrap().1 + 900_000, "hung_up_by": by, "cause": {"status": 200},
        })
    }

    #[test]
    fn a_call_is_lost_unless_both_sides_know_that_it_ended() {
        assert_eq!(book(2).losses(), BTreeMap::new());
        assert_eq!(book(1).losses(), BTreeMap::from([("BYE not answered".to_owned(), 1)]));
        let mut ended = Book::default();
        ended.note(&News::Begun { call: CALL });
        ended.note(&News::HungUp { call: CALL, side: Whose::Callee });
        assert_eq!(ended.losses(), BTreeMap::from([("BYE by the platform".to_owned(), 1)]));
    }

    #[test]
    fn records_are_right_missing_doubled_or_wrong() {
        let book = book(2);
        let (right, wrong) = (record(&book, "Callee"), record(&book, "Caller"));
        let found = |records: &[serde_json::Value]| {
            let Records { right, missing, doubled, wrong, strange } = book.compare(records);
            [right, missing, doubled, wrong, strange]
        };
        assert_eq!(found(&[]), [0, 1, 0, 0, 0]);
        assert_eq!(found(std::slice::from_ref(&right)), [1, 0, 0, 0, 0]);
        assert_eq!(found(&[right.clone(), wrong.clone()]), [0, 0, 1, 0, 0]);
        assert_eq!(found(&[wrong]), [0, 0, 0, 1, 0]);
        let mut late = right.clone();
        late["ended_us"] = json!(right["ended_us"].as_i64().unwrap() + 200_000);
        assert_eq!(found(&[late]), [0, 0, 0, 1, 0]);
        let mut other = right.clone();
        other["legs"][0]["sip_call_id"] = json!("other");
        assert_eq!(found(&[right, other]), [1, 0, 0, 0, 1]);
    }
}
