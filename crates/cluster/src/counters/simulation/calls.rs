//! Calls that ask, count, end, and go on at other servers.
//!
//! In: turns, verdicts. Out: what servers do with their counters, and who relies on which limit. Elsewhere: links and troubles.

use super::*;

impl World {
    pub(super) fn call(&mut self, slot: usize) {
        let pause = self.rng.random_range(40 * MILLI..700 * MILLI);
        self.after(pause, Act::Call(slot));
        let process = &self.processes[slot];
        if self.now > QUIET || process.counters.is_none() || process.paused > 0 || process.draining {
            return;
        }
        let partition = self.rng.random_range(0..PARTS);
        let mut claims = vec![self.claim(partition)];
        match self.rng.random_range(0..6) {
            0 => Claim::add(&mut claims, Claim { limit: 0, ..self.claim(partition) }),
            1 => {
                let other = self.rng.random_range(0..PARTS);
                Claim::add(&mut claims, self.claim(other));
            }
            _ => {}
        }
        let call = self.ask(slot, claims);
        let length = if self.rng.random_bool(0.2) { 9 * SECOND } else { 1500 * MILLI };
        let length = self.rng.random_range(0..length);
        self.after(length, Act::End(call));
    }

    pub(super) fn claim(&mut self, partition: u16) -> Claim {
        let counted = key(partition, self.rng.random_range(0..KEYS));
        Claim { partition, counted, limit: self.limits[&counted] }
    }

    pub(super) fn ask(&mut self, slot: usize, claims: Vec<Claim>) -> CallId {
        self.next_call += 1;
        let call = CallId::new(NodeId(slot as u16 + 1), self.next_call);
        let at = self.processes[slot].at;
        self.owners.insert(call, (at, 0));
        self.processes[slot].asking.insert((call, 1), (0, claims.clone()));
        let title = Title { call, epoch: 0 };
        self.with(slot, |counters, sure, now| counters.reserve(title, 1, &claims, sure, now));
        call
    }

    pub(super) fn verdict(&mut self, slot: usize, call: CallId, number: u32, verdict: Verdict) {
        let now = self.now;
        let process = &mut self.processes[slot];
        let at = process.at;
        let Some((epoch, claims)) = process.asking.remove(&(call, number)) else { return };
        match verdict {
            Verdict::Granted => {
                self.seen.granted += 1;
                self.changed = true;
                // A server that is not certain is told nothing of the kind, unless it makes a mistake.
                let stint = process.stint(now).or(process.lease.map(|(id, ..)| id as u64)).unwrap_or(0);
                for claim in claims.iter().filter(|claim| claim.limit > 0) {
                    let calls = self.beliefs.entry(claim.counted).or_default();
                    calls.entry(call).or_default().push((at, stint));
                }
                process.calls.insert(call, (epoch, claims));
                self.probes.remove(&call);
            }
            Verdict::Full(_) => self.seen.full += 1,
            Verdict::Unknown => self.seen.unknown += 1,
        }
    }

    pub(super) fn disbelieve(&mut self, call: CallId, at: Option<Address>) {
        for calls in self.beliefs.values_mut() {
            if let Some(believers) = calls.get_mut(&call) {
                believers.retain(|(who, _)| at.is_some_and(|at| *who != at));
                // An empty list says that the call was limited once.
                if at.is_none() {
                    calls.remove(&call);
                }
            }
        }
    }

    pub(super) fn end_call(&mut self, at: Address, call: CallId) {
        let process = &mut self.processes[at.0];
        if process.at != at || process.counters.is_none() {
            return;
        }
        if process.paused > 0 {
            return self.after(400 * MILLI, Act::End(call));
        }
        let held = process.calls.remove(&call).or_else(|| process.asking.remove(&(call, 1)));
        self.owners.remove(&call);
        self.disbelieve(call, None);
        if let Some((_, claims)) = held {
            self.with(at.0, |counters, sure, now| counters.release(call, &claims, sure, now));
        }
    }

    /// Others carry on calls of a server that is lost, or that they take for lost.
    pub(super) fn give_away(&mut self, slot: usize, from: Time) {
        let calls: Vec<(CallId, u32)> =
            self.processes[slot].calls.iter().map(|(call, (epoch, _))| (*call, *epoch)).collect();
        for (call, epoch) in calls {
            if self.rng.random_bool(0.85) {
                let by = self.rng.random_range(0..self.processes.len());
                let delay = from + self.rng.random_range(0..2800 * MILLI);
                self.after(delay, Act::Adopt(call, epoch + 1, by));
            }
        }
    }

    pub(super) fn adopt(&mut self, call: CallId, epoch: u32, by: usize) {
        let Some((old, known)) = self.owners.get(&call).copied() else { return };
        let process = &self.processes[by];
        if known >= epoch || process.counters.is_none() || process.paused > 0 || self.now > QUIET {
            return;
        }
        let left = self.left.get(&call).or_else(|| self.processes[old.0].calls.get(&call));
        let Some((_, claims)) = left.cloned() else { return };
        let at = process.at;
        if old == at {
            return;
        }
        self.owners.insert(call, (at, epoch));
        self.processes[by].calls.insert(call, (epoch, claims.clone()));
        // Where the owner is this very node it hears of it at once.
        let before: Vec<bool> = claims.iter().map(|claim| self.is_kept(by, claim.partition, call)).collect();
        let title = Title { call, epoch };
        self.with(by, |counters, sure, now| counters.adopt(title, &claims, sure, now));
        for (claim, was_counted) in claims.iter().zip(before) {
            let own = NodeId(by as u16 + 1);
            if was_counted && self.holders(by, claim.partition, call).contains(&own) {
                self.adoption_told((at, epoch), call, [claim.counted].into_iter(), true);
            }
        }
        let delay = self.rng.random_range(0..2 * SECOND);
        self.after(delay, Act::LetGo(old, call));
        let length = self.rng.random_range(0..6 * SECOND);
        self.after(length, Act::End(call));
    }

    pub(super) fn probe(&mut self) {
        for slot in 0..self.processes.len() {
            for partition in 0..PARTS {
                let counted = Counted::Brand(Id::new(u32::from(partition) * 100 + slot as u32 + 1));
                let call = self.ask(slot, vec![Claim { partition, counted, limit: 1 }]);
                if !self.processes[slot].calls.contains_key(&call) {
                    self.probes.insert(call);
                }
            }
        }
    }
}
