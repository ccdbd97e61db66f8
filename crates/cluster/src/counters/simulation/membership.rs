//! Membership as small as it can be: a lease, a record, claims, on the etcd in memory.
//!
//! In: ticks, answers. Out: what etcd shows, who is certain of what. Elsewhere: the real one ([`crate::member`]).

use super::*;

pub(super) fn node_key(slot: usize) -> String {
    format!("nodes/{slot}")
}

pub(super) fn owner_key(partition: u16) -> String {
    format!("owners/{partition}")
}

pub(super) fn seen(etcd: &Etcd, slot: usize) -> Seen {
    let (mut view, mut lease) = (View { revision: etcd.revision(), ..View::default() }, 0);
    for entry in etcd.keys().values() {
        let value = String::from_utf8(entry.value.clone()).unwrap();
        let numbers: Vec<u64> = value.split(' ').map(|number| number.parse().unwrap()).collect();
        let (kind, key) = entry.key.split_once('/').unwrap();
        let key: u32 = key.parse().unwrap();
        if kind == "owners" {
            let (node, fence) = (NodeId(numbers[0] as u16), Fence(entry.modified));
            view.owners.insert((Kind::CLIENTS, key), Owner { node, instance: numbers[1], fence });
            continue;
        }
        if key as usize == slot {
            lease = entry.lease;
        }
        let id = NodeId(key as u16 + 1);
        let info = NodeInfo {
            id,
            name: String::new(),
            instance: numbers[0],
            identity: 0,
            roles: Roles::ALL,
            zone: String::new(),
            capacity: 100,
            peer: String::new(),
            sip: Vec::new(),
            media: Vec::new(),
            release: String::new(),
            protocol: (1, 1),
            draining: numbers[1] == 1,
            calls: 0,
            started_ms: 0,
        };
        view.nodes.insert(id, Arc::new(info));
    }
    Seen { view: Arc::new(view), lease }
}

impl World {
    pub(super) fn restart(&mut self, slot: usize) {
        let instance = self.rng.random_range(1..u64::MAX);
        let count = self.processes.len();
        let process = &mut self.processes[slot];
        if process.counters.is_some() {
            return;
        }
        let mut counters = Counters::new(NodeId(slot as u16 + 1), instance);
        (counters.keeper.fault, counters.asker.fault) = (self.fault, self.fault);
        process.at.1 += 1;
        process.instance = instance;
        process.counters = Some(counters);
        process.seen = Seen::default();
        (process.lease, process.shown, process.told) = (None, (0, self.now), (0, BTreeMap::new()));
        (process.giving_up, process.claimed) = (BTreeSet::new(), BTreeMap::new());
        process.waiting.clear();
        for other in (0..count).filter(|other| *other != slot) {
            self.drop_link(slot, other);
        }
        self.after(0, Act::Tick(slot));
    }

    pub(super) fn etcd(&mut self, slot: usize, request: Request) {
        let (at, delay) = (self.processes[slot].at, self.delay());
        if self.processes[slot].etcd_cut == 0 {
            self.after(delay, Act::ToEtcd(at, request));
        }
    }

    /// The lease, the record, the claims; and the counters hear of it.
    pub(super) fn tick(&mut self, slot: usize) {
        let now = self.now;
        let process = &mut self.processes[slot];
        if process.counters.is_none() {
            return;
        }
        let local = process.local(now);
        let me = NodeId(slot as u16 + 1);
        let sure = process.sure(now);
        let mut requests = Vec::new();
        match &mut process.lease {
            None => requests.push(Request::Grant { seconds: LEASE }),
            Some((id, _, next)) if *next <= local => {
                *next = local + Duration::from_millis(u64::from(LEASE) * 250);
                requests.push(Request::KeepAlive { lease: *id });
            }
            Some(_) => {}
        }
        let own = process.seen.view.node(me).cloned();
        if let Some((lease, ..)) = process.lease {
            let is_right = own
                .as_ref()
                .is_some_and(|own| own.instance == process.instance && own.draining == process.draining);
            let value = format!("{} {}", process.instance, u8::from(process.draining));
            if !is_right || process.seen.lease != lease {
                let put = Op::Put { key: node_key(slot), value, lease: Some(lease) };
                requests.push(Request::Txn(Txn { when: Vec::new(), then: vec![put] }));
            }
            if process.wished.0 != process.seen.view.revision {
                let wished = partitions(&process.seen.view, me, Kind::CLIENTS, PARTS.into(), Role::As);
                process.wished = (process.seen.view.revision, wished);
            }
            let wished = &process.wished.1;
            for partition in 0..PARTS {
                let owner = process.seen.view.owner(Kind::CLIENTS, partition.into()).copied();
                let is_wished = wished.contains(&partition.into());
                let key = owner_key(partition);
                let is_due = process.claimed.get(&partition).is_none_or(|at| *at <= local);
                let txn = match owner {
                    None if is_wished && sure.stint.is_some() && is_due => {
                        let value = format!("{} {}", me.0, process.instance);
                        let put = Op::Put { key: key.clone(), value, lease: Some(lease) };
                        Txn { when: vec![Compare::Absent(key)], then: vec![put] }
                    }
                    Some(owner) if owner.instance == process.instance && !is_wished && is_due => {
                        process.giving_up.insert((partition, owner.fence.0));
                        let when = vec![Compare::Modified(key.clone(), owner.fence.0)];
                        Txn { when, then: vec![Op::Delete { key }] }
                    }
                    _ => continue,
                };
                process.claimed.insert(partition, local + Duration::from_millis(700));
                requests.push(Request::Txn(txn));
            }
        }
        requests.into_iter().for_each(|request| self.etcd(slot, request));
        let process = &mut self.processes[slot];
        let owned = process.sure(now).owned;
        if process.told != (process.seen.view.revision, owned.clone()) {
            process.told = (process.seen.view.revision, owned.clone());
            let owned = owned.into_iter();
            let owned = owned.map(|(key, fence)| ((Kind::CLIENTS, u32::from(key)), fence)).collect();
            let view = Arc::clone(&process.seen.view);
            self.with(slot, |counters, sure, now| counters.changed(&owned, &view, sure, now));
        }
        self.with(slot, |counters, sure, now| {
            if counters.poll_timeout().is_some_and(|at| at <= now) {
                counters.handle_timeout(sure, now);
            }
        });
    }

    pub(super) fn answered(&mut self, slot: usize, request: &Request, response: Response) {
        let now = self.now;
        self.changed = true;
        let process = &mut self.processes[slot];
        let local = process.local(now);
        match (request, response) {
            // From when it was asked for: a keep-alive's delay is bounded by the slowest link, which is left off here.
            (_, Response::Granted { lease, seconds }) => {
                let life = Duration::from_secs(seconds.unsigned_abs());
                process.lease = Some((lease, local + life * 3 / 10, local + life / 4));
            }
            (Request::KeepAlive { lease }, Response::Alive { seconds }) => {
                if process.lease.is_none_or(|(id, ..)| id != *lease) {
                    return;
                }
                if seconds == 0 {
                    process.lease = None;
                } else if let Some((_, until, _)) = &mut process.lease {
                    let life = Duration::from_secs(seconds.unsigned_abs());
                    *until = (*until).max(local + life * 3 / 10);
                }
            }
            _ => {}
        }
        self.tick(slot);
    }

    /// What stands in etcd is shown to all who can hear it, in order.
    pub(super) fn show(&mut self) {
        for slot in 0..self.processes.len() {
            let process = &self.processes[slot];
            if process.counters.is_none() || process.etcd_cut > 0 || process.shown.0 == self.etcd.revision() {
                continue;
            }
            let seen = Box::new(seen(&self.etcd, slot));
            let at = (self.now + self.delay()).max(self.processes[slot].shown.1 + 1);
            self.processes[slot].shown = (self.etcd.revision(), at);
            let (to, delay) = (self.processes[slot].at, at - self.now);
            self.after(delay, Act::View(to, seen));
        }
    }
}
