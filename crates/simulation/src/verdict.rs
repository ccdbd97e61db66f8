//! What must hold of a run, and of its end.
//!
//! In: the world when its faults are over, and when all is at rest. Out: complaints. Elsewhere: what is looked at all the while (`watch`).

use crate::phones::{Behaviour, Side, by_call};
use crate::plan::{Fault, HEALING, Kind, MS, ONE_CALL, SECOND};
use crate::process::{Open, UNIX};
use crate::store::Row;
use crate::world::World;
use cluster::ids::{CallId, NodeId};
use cluster::node::Role;
use model::Aor;
use std::collections::BTreeMap;
use std::ops::Range;

/// How long a hang-up may take to reach the other side, whatever was broken when it happened, once all is healed.
const ENDING: u64 = 14 * SECOND;
/// All must be at rest so long after the last telephone has hung up.
const REST: u64 = 75 * SECOND;
/// How long a transaction lasts after its answer, and a little.
const REMEMBERED: u64 = 36 * SECOND;
/// How long a call is kept that nobody can carry on, and a little (`custody::EMPTY_LIMIT`).
const KEPT: u64 = 320 * SECOND;
/// How far a record's time may be from what telephones have seen, beside the difference of the clocks.
const RECORDED: i64 = 2_500_000;
/// How long it takes at most until a dialog that has begun is known beyond its proxy.
const GAP: u64 = 200 * MS;

impl World {
    /// The nodes that are to work in the end.
    pub(crate) fn healthy(&self) -> Vec<NodeId> {
        let broken = self.plan.broken();
        self.machines.keys().copied().filter(|node| !broken.contains(node)).collect()
    }

    fn complain(&self, text: String) {
        self.watcher.complain(false, text);
    }

    fn complain_gravely(&self, text: String) {
        self.watcher.complain(true, text);
    }

    /// Faults are over, and a while has passed: everything has found its place.
    pub(crate) fn check_healed(&mut self) {
        let healthy = self.healthy();
        let mut views = BTreeMap::new();
        for node in &healthy {
            let Some(process) = self.machines.get(node).and_then(|machine| machine.process.as_ref()) else {
                self.complain(format!("node {} does not run after {} s", node.0, HEALING / SECOND));
                continue;
            };
            if !process.is_serving() {
                self.complain(format!("node {} does not serve", node.0));
                continue;
            }
            let view = process.member_view();
            let nodes: Vec<(NodeId, u64, bool)> =
                view.nodes.values().map(|node| (node.id, node.instance, node.draining)).collect();
            views.entry(nodes).or_insert_with(Vec::new).push(*node);
            if !process.lines_up(&healthy) {
                self.complain(format!("node {} has a link without a session to a node that works", node.0));
            }
            let open = process.open();
            if open.unowned > 0 {
                self.complain(format!("{} calls in custody of node {} have no owner", open.unowned, node.0));
            }
        }
        if views.len() > 1 {
            self.complain(format!("views differ: {views:?}"));
        }
        for (call, sides) in by_call(&self.phones) {
            if is_conversation(&sides) && !self.is_forgotten(call) {
                self.check_media(call, &sides);
            }
        }
        self.check_sides();
    }

    /// Both sides of a conversation send to ports of one session of a relay that lives.
    pub(crate) fn check_media(&self, call: CallId, sides: &[&Side]) {
        for side in sides.iter().filter(|side| side.is_talking() && !self.is_waiting(side)) {
            let Some((address, _)) = side.media else {
                self.complain(format!("{} has no media in {call}", self.phones[side.phone].name));
                continue;
            };
            let relays = self.machines.values().filter_map(|machine| machine.process.as_ref()?.relay());
            let found: Vec<CallId> = relays.filter_map(|relay| relay.call_at(address)).collect();
            if found != [call] {
                let name = self.phones[side.phone].name;
                self.complain(format!("{name} sends to {address} in {call}, which is a port of {found:?}"));
            }
        }
    }

    /// Its proxy died between its ACK and the first copy of its dialog: nobody can tell it that the call is over.
    fn is_unknown(&self, side: &Side) -> bool {
        side.answered.is_none_or(|at| self.has_lost_a_proxy(at..at))
    }

    /// Its proxy has said that it will answer (100) and died: a telephone waits for that for ever, and takes no other change meanwhile.
    fn is_waiting(&self, side: &Side) -> bool {
        side.changing.is_some_and(|at| self.has_lost_a_proxy(at..self.now))
    }

    fn has_lost_a_proxy(&self, around: Range<u64>) -> bool {
        self.plan.troubles.iter().any(|trouble| match trouble.fault {
            Fault::Crash { node, .. } => {
                let is_then = (around.start.saturating_sub(GAP)..around.end + GAP).contains(&trouble.begin);
                is_then && self.machines[&node].place.roles.has(Role::Proxy)
            }
            _ => false,
        })
    }

    /// Who hung up is not left alone by the other side.
    fn check_sides(&self) {
        let now = self.now;
        for (call, sides) in by_call(&self.phones).into_iter().filter(|(call, _)| !self.is_forgotten(*call)) {
            for side in sides.iter().filter(|side| side.is_talking() && !self.is_unknown(side)) {
                let is_other =
                    |other: &&&Side| other.phone != side.phone || other.is_caller != side.is_caller;
                let others = || sides.iter().filter(is_other);
                // A call that rang when its server was lost may have been answered twice.
                if others().any(|other| other.is_talking()) {
                    continue;
                }
                let gone: Vec<u64> = others()
                    .filter(|other| other.answered.is_some())
                    .filter_map(|other| other.ended)
                    .collect();
                let name = self.phones[side.phone].name;
                if let Some(at) = gone.iter().max().filter(|at| (**at).max(now - HEALING) + ENDING < now) {
                    self.complain(format!("{name} is alone in {call} since {:.3}", *at as f64 / 1e6));
                }
            }
        }
    }

    /// In the end: nobody is in a call, nothing is open, every call has its record.
    pub(crate) fn check_rest(&mut self) {
        for node in self.healthy() {
            let Some(process) = self.machines.get(&node).and_then(|machine| machine.process.as_ref()) else {
                self.complain(format!("node {} does not run in the end", node.0));
                continue;
            };
            let open = process.open();
            if open != Open::default() {
                let sessions = process.relay().map(|relay| relay.sessions()).unwrap_or_default();
                let kept: Vec<String> = process
                    .custody()
                    .into_iter()
                    .map(|(call, owner)| {
                        format!("{call} of {:?}", owner.map(|owner| (owner.epoch, owner.node.0)))
                    })
                    .collect();
                self.complain(format!(
                    "node {} has something open in the end: {open:?}, sessions {}, custody {}",
                    node.0,
                    sessions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                    kept.join(", ")
                ));
            }
        }
        for phone in &self.phones {
            if phone.open() > 0 {
                self.complain(format!("{} has something open in the end", phone.name));
            }
        }
        self.check_records();
        self.check_twice();
        self.check_limits();
        match self.plan.kind {
            Kind::Single => self.check_survival(),
            Kind::Rolling => self.check_nothing_failed(),
            Kind::Chaos => {}
        }
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.phones.iter().all(|phone| phone.open() == 0)
            && self.healthy().iter().all(|node| {
                let process = self.machines.get(node).and_then(|machine| machine.process.as_ref());
                process.is_some_and(|process| process.open() == Open::default())
            })
    }

    /// Nothing is open but transactions.
    fn only_remembers(&self) -> bool {
        self.healthy().iter().all(|node| {
            let process = self.machines.get(node).and_then(|machine| machine.process.as_ref());
            process.is_some_and(|process| Open { transactions: 0, ..process.open() } == Open::default())
        })
    }

    /// Nothing is open but custody.
    fn only_keeps(&self) -> bool {
        self.healthy().iter().all(|node| {
            let process = self.machines.get(node).and_then(|machine| machine.process.as_ref());
            process.is_some_and(|process| Open { custody: 0, ..process.open() } == Open::default())
        })
    }

    /// Every conversation has a record, which says that there was one, and when.
    fn check_records(&self) {
        let rows = self.store.rows();
        for (call, sides) in by_call(&self.phones) {
            let is_answered = has_talked(&sides);
            let Some(row) = rows.get(&call.to_string()) else {
                if is_answered && !self.is_excused(call) {
                    self.complain_gravely(format!("no record of {call}"));
                }
                continue;
            };
            if !is_answered || row.recovered {
                continue;
            }
            if row.cdr.answered_us.is_none() {
                self.complain_gravely(format!("the record of {call} knows of no answer"));
            }
            let ended =
                sides.iter().filter(|side| side.answered.is_some()).filter_map(|side| side.ended).min();
            let unix = |at: u64| UNIX.as_micros() as i64 + at as i64;
            // A telephone repeats its BYE until somebody hears it.
            let heard = sides.iter().filter_map(|side| self.byes.get(&side.dialog)).min();
            if let (Some(ended), Kind::Single) = (ended, self.plan.kind)
                && (row.cdr.ended_us < unix(ended) - self.allowed()
                    || row.cdr.ended_us > unix(ended.max(heard.copied().unwrap_or(0))) + self.allowed())
            {
                let late = (row.cdr.ended_us - unix(ended)) as f64 / 1e6;
                self.complain(format!("the record of {call} has its end {late:.3} s late"));
            }
        }
    }

    /// Everybody who knew of the call died before another one did: nobody can go on with it.
    fn is_forgotten(&self, call: CallId) -> bool {
        self.knowers.is_forgotten(&call.to_string())
    }

    /// And of those who had written down that there is the call nobody is left to find it.
    fn is_excused(&self, call: CallId) -> bool {
        let broken = self.plan.broken();
        self.is_forgotten(call)
            && self.knowers.noted(&call.to_string()).iter().all(|node| broken.contains(node))
    }

    /// No call has two different records. Those of two owners may differ in whether there was an answer, where one was cut off from a telephone
    /// that gave up meanwhile: then the better owner's stays, and is right. Where the cluster was torn, they may differ in more.
    fn check_twice(&self) {
        let calls = by_call(&self.phones);
        for (known, new) in &self.store.twice {
            let call = &new.cdr.call;
            let is_same_owner = (known.epoch, known.by) == (new.epoch, new.by);
            if is_same_owner && known.cdr != new.cdr {
                self.complain_gravely(format!("node {} has two different records of {call}", new.by.0));
            }
            let was_answered = |row: &Row| row.cdr.answered_us.is_some();
            let has_talked = calls.iter().any(|(id, sides)| id.to_string() == *call && has_talked(sides));
            let stays = self.store.rows().get(call).unwrap_or(new);
            // Where somebody is cut off, the end of the record that stays is looked at by `check_records`.
            let differ = if was_answered(known) == was_answered(new) {
                let apart = (known.cdr.ended_us - new.cdr.ended_us).abs();
                self.plan.kind == Kind::Rolling && was_answered(new) && apart > self.allowed()
            } else {
                was_answered(stays) != has_talked
            };
            if differ && self.plan.kind != Kind::Chaos {
                self.complain_gravely(format!(
                    "nodes {} and {} have different records of {call}",
                    known.by.0, new.by.0
                ));
            }
        }
    }

    /// How far times in records may be from others.
    fn allowed(&self) -> i64 {
        let skew = self.machines.values().map(|machine| machine.place.skew_us.abs()).max().unwrap_or(0);
        let drift = (self.now as f64 * 0.02) as i64;
        RECORDED + 2 * skew + if skew > 0 { drift } else { 0 }
    }

    /// Nobody who takes one call at a time had two, as long as nothing befell those who count.
    fn check_limits(&self) {
        let counts = |node: &NodeId| self.machines[node].place.roles.has(Role::As);
        if self.plan.kind != Kind::Single || self.plan.hit().iter().any(counts) {
            return;
        }
        let sides: Vec<&Side> =
            self.phones[ONE_CALL].sides.iter().filter(|side| side.answered.is_some()).collect();
        for (at, side) in sides.iter().enumerate() {
            let crossing = |other: &&&Side| {
                !other.is_caller
                    && other.began > side.answered.unwrap_or(side.began)
                    && side.ended.is_none_or(|ended| other.began + SECOND < ended)
                    && side.hung_up.is_none_or(|at| other.began + SECOND < at)
            };
            if sides.iter().skip(at + 1).any(|other| crossing(&other)) {
                self.complain_gravely(format!("{} takes one call and had two", self.phones[ONE_CALL].name));
            }
        }
    }

    /// Whoever was in a conversation when the one fault came stayed in it until one of the two hung up.
    fn check_survival(&self) {
        let begin = self.plan.troubles.iter().map(|trouble| trouble.begin).min().unwrap_or(0);
        for (call, sides) in by_call(&self.phones) {
            let talked = sides.iter().filter(|side| side.answered.is_some_and(|at| at + SECOND < begin));
            let talked: Vec<&&Side> = talked.collect();
            if talked.len() == 2 {
                self.check_ended_by_them(call, &talked);
            }
        }
    }

    fn check_ended_by_them(&self, call: CallId, sides: &[&&Side]) {
        if sides.iter().any(|side| self.is_waiting(side)) {
            return; // its media cannot move
        }
        let first = sides.iter().filter_map(|side| side.hung_up).min();
        for side in sides {
            let Some(ended) = side.ended else { continue };
            if first.is_none_or(|first| ended < first) {
                let name = self.phones[side.phone].name;
                self.complain(format!("{name} lost the conversation {call} at {:.3}", ended as f64 / 1e6));
            }
        }
    }

    /// No call failed, and each one has one record.
    fn check_nothing_failed(&self) {
        for (call, sides) in by_call(&self.phones) {
            let talked: Vec<&&Side> = sides.iter().filter(|side| side.answered.is_some()).collect();
            if talked.len() == 2 {
                self.check_ended_by_them(call, &talked);
            }
        }
        for side in self.phones.iter().flat_map(|phone| &phone.sides) {
            let is_again = |other: &&Side| other.is_caller && other.began == side.ended.unwrap_or(0);
            let was_again =
                side.retried && self.phones[side.phone].sides.iter().any(|other| is_again(&other));
            if side.is_caller && side.status >= 500 && side.hung_up.is_none() && !was_again {
                let name = self.phones[side.phone].name;
                self.complain(format!(
                    "a call of {name} at {:.3} failed: {}",
                    side.began as f64 / 1e6,
                    side.status
                ));
            }
        }
    }

    /// The end of the story: all hang up, somebody calls once more, and everything comes to rest.
    pub(crate) fn finish(&mut self) {
        let now = self.now;
        self.check_healed();
        for phone in &mut self.phones {
            phone.hang_up_all(now);
        }
        self.wake_phones();
        self.run_until(now + 5 * SECOND);
        self.probe();
        for phone in &mut self.phones {
            phone.register_for_good(self.now);
        }
        self.wake_phones();
        let end = self.now + REST;
        while self.now < end && !self.is_at_rest() {
            let next = (self.now + 2 * SECOND).min(end);
            self.run_until(next);
        }
        // What was answered is remembered for repeats (RFC 3261 section 17.2.2, timer J).
        let end = self.now + REMEMBERED;
        while self.now < end && !self.is_at_rest() && self.only_remembers() {
            let next = self.now + SECOND;
            self.run_until(next);
        }
        // Copies of calls that nobody can carry on wait for those who had them.
        let end = self.now + KEPT;
        while self.now < end && !self.is_at_rest() && self.only_keeps() {
            let next = self.now + 10 * SECOND;
            self.run_until(next);
        }
        self.check_rest();
    }

    /// Its proxy stays broken, and whoever had heard from that one where the telephone is has died since: it has to register again.
    fn is_unheard_of(&self, phone: usize) -> bool {
        let Some((home, _)) = self.proxy_of(phone) else { return false };
        let broken = self.plan.troubles.iter().filter(|trouble| trouble.end.is_none());
        let of_home = broken.filter(|trouble| match trouble.fault {
            Fault::Crash { node, .. } | Fault::Isolate(node) => node == home,
            _ => false,
        });
        of_home.map(|trouble| trouble.begin).min().is_some_and(|begin| {
            let mut processes =
                self.healthy().into_iter().filter_map(|node| self.machines[&node].process.as_ref());
            processes.all(|process| process.born() > begin)
        })
    }

    /// New calls succeed.
    fn probe(&mut self) {
        let healthy = self.healthy();
        let is_there = |role| healthy.iter().any(|node| self.machines[node].place.roles.has(role));
        if ![Role::Proxy, Role::As, Role::Relay].into_iter().all(is_there) {
            return;
        }
        let (caller, callee) = (0, 1);
        let answering = Behaviour { answer: Some(SECOND / 2), ..Behaviour::default() };
        self.phones[callee].incoming = answering;
        let before = self.phones[caller].sides.len();
        let behaviour = Behaviour { hang_up: Some(2 * SECOND), ..Behaviour::default() };
        self.dial(caller, callee, behaviour);
        self.run_until(self.now + 2 * SECOND);
        if let Some(call) = self.phones[caller].sides[before].call {
            let all = by_call(&self.phones);
            if let Some(sides) = all.get(&call).filter(|sides| is_conversation(sides)) {
                self.check_media(call, sides);
            }
        }
        self.run_until(self.now + 4 * SECOND);
        let side = &self.phones[caller].sides[before];
        if (side.answered.is_none() || side.status != 200) && !self.is_unheard_of(callee) {
            self.complain(format!("a new call fails: {} (answered {:?})", side.status, side.answered));
            for (node, machine) in &self.machines {
                if let Some(process) = &machine.process {
                    let located = process.switchboard.located(Aor::from_bits(callee as u32 + 1));
                    let of: Vec<(u16, i64)> = located.iter().map(|at| (at.home.0, at.stamp_us)).collect();
                    self.complain(format!("    node {} knows these places of the callee: {of:?}", node.0));
                }
            }
        }
    }
}

/// Two have heard of an answer before either of them ended.
fn has_talked(sides: &[&Side]) -> bool {
    let answered = || sides.iter().filter(|side| side.answered.is_some());
    let all_were_in = answered().filter_map(|side| side.answered).max();
    let one_was_out = answered().filter_map(|side| side.ended).min();
    answered().count() >= 2 && one_was_out.is_none_or(|out| all_were_in < Some(out))
}

fn is_conversation(sides: &[&Side]) -> bool {
    sides.len() >= 2 && sides.iter().filter(|side| side.is_talking()).count() == 2
}
