//! Bindings of addresses-of-record (RFC 3261 section 10, RFC 3327 Path, RFC 5626 flows): the rules and the table.
//!
//! In: authenticated REGISTERs, bindings of an earlier run, time. Out: answers, changes for the durable log, bindings for
//! calls. Elsewhere: who may register (`auth`), when the answer leaves (`worker`), pings and expiry (`ping`).

mod date;
mod wish;

use crate::config::{Limits, RegistrarConfig};
use crate::ping::Watch;
use cluster::ids::NodeId;
use cluster::leg::Binding;
use dashmap::DashMap;
use dashmap::mapref::one::RefMut;
use model::{Aor, BindingRecord, FlowRecord};
use sip::draft::ResponseDraft;
use sip::flow::{ConnId, Flow, Transport};
use sip::uri::{Uri, UriBuf};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tracing::{debug, info};

use date::date;
use wish::ContactWish;
pub(crate) use wish::Wish;

/// Pings in a row that may stay unanswered before a binding counts as unreachable. It is kept and called all the same, for
/// the call may wake the device; only the patience with it is shorter.
const MISSES_MAX: u8 = 3;

/// A change of the bindings, as it must survive a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindingChange {
    /// A new or refreshed binding; it replaces the one with the same endpoint and contact.
    Bind(BindingRecord),
    /// A binding is gone.
    Unbind {
        /// The endpoint.
        aor: Aor,
        /// The contact's URI.
        contact: String,
    },
}

/// Told once whether a change is durable.
pub type Durable = Box<dyn FnOnce(bool) + Send>;

/// Where changes of bindings are kept.
pub trait BindingLog: Send + Sync + 'static {
    /// Appends a change, in order. `done` may run on any thread, before or after this returns, and is quick.
    fn append(&self, change: BindingChange, done: Durable);
}

/// What the registrars of other proxies of the same exchange have.
pub trait Elsewhere: Send + Sync + 'static {
    /// Contacts of an endpoint that are registered there and have not expired.
    fn contacts(&self, aor: Aor) -> Vec<BindingRecord>;
    /// A contact of an endpoint (`None`: all) is void with whoever else registered it before this time, in microseconds of Unix time.
    fn forget(&self, aor: Aor, contact: Option<&str>, before_us: i64);
}

impl BindingLog for store::Store {
    fn append(&self, change: BindingChange, done: Durable) {
        let record = match change {
            BindingChange::Bind(binding) => store::Record::Bind(binding),
            BindingChange::Unbind { aor, contact } => store::Record::Unbind { aor, contact },
        };
        store::Store::append(self, record, move |result| {
            if let Err(error) = &result {
                tracing::warn!(%error, "a binding was not stored");
            }
            done(result.is_ok());
        });
    }
}

/// All bindings of a proxy.
pub(crate) struct Registrar {
    aors: DashMap<Aor, Contacts>,
    config: RegistrarConfig,
    limits: Limits,
    count: AtomicUsize,
    unreachable: AtomicUsize,
    next: AtomicU64,
    keeper: mpsc::UnboundedSender<Watch>,
}

/// The bindings of one endpoint.
#[derive(Default)]
struct Contacts {
    entries: Vec<Entry>,
    /// Counts changes, so that an undo knows whether it still fits.
    version: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The same through all refreshes.
    id: u64,
    /// Grows with each registration: newest first among equals.
    newness: u64,
    record: BindingRecord,
    flow: Flow,
    /// A stream's contact that is reachable without its connection.
    direct: Option<SocketAddr>,
    misses: u8,
}

/// A telephone of an endpoint, as its registrations name it: by its instance (RFC 5626 section 4.1), or by its contact's URI.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) contact: String,
    pub(crate) instance: Option<String>,
}

impl Device {
    fn has(&self, record: &BindingRecord) -> bool {
        if self.instance.is_some() || record.instance.is_some() {
            return self.instance == record.instance;
        }
        let uris = (Uri::parse(self.contact.as_bytes()), Uri::parse(record.contact.as_bytes()));
        matches!(uris, (Ok(own), Ok(other)) if own.equivalent(&other))
    }
}

/// What a REGISTER came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Taken by whoever sends it later.
    pub(crate) answer: Option<ResponseDraft>,
    /// To be durable before the answer leaves; empty for a query.
    pub(crate) changes: Vec<BindingChange>,
    pub(crate) undo: Option<Undo>,
    pub(crate) void: Void,
}

/// What is void of contacts that are registered elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Void {
    #[default]
    Nothing,
    All,
    These(Vec<String>),
}

impl Void {
    /// A REGISTER speaks for its address-of-record, wherever contacts of it are (RFC 3261 section 10.3 steps 6 and 7).
    fn of(who: Registrant, wish: &Wish, elsewhere: &[BindingRecord]) -> Void {
        let is_alone = !who.multi_contact && wish.contacts.iter().any(|contact| contact.expires > 0);
        if elsewhere.is_empty() {
            return Void::Nothing;
        }
        if wish.star || is_alone {
            return Void::All;
        }
        let named =
            |record: &&BindingRecord| wish.contacts.iter().any(|contact| contact.replaces(Key::of(record)));
        let these: Vec<String> =
            elsewhere.iter().filter(named).map(|record| record.contact.clone()).collect();
        if these.is_empty() { Void::Nothing } else { Void::These(these) }
    }

    fn has(&self, record: &BindingRecord) -> bool {
        match self {
            Void::Nothing => false,
            Void::All => true,
            Void::These(contacts) => contacts.contains(&record.contact),
        }
    }
}

/// How it was before: put back when the change cannot be made durable.
#[derive(Debug)]
pub(crate) struct Undo {
    aor: Aor,
    version: u64,
    added: Vec<u64>,
    removed: Vec<Entry>,
}

/// Whose REGISTER it is and by which way it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registrant {
    pub(crate) aor: Aor,
    pub(crate) multi_contact: bool,
    pub(crate) flow: Flow,
}

impl Registrar {
    pub(crate) fn new(
        config: RegistrarConfig,
        limits: &Limits,
        keeper: mpsc::UnboundedSender<Watch>,
    ) -> Self {
        Self {
            aors: DashMap::new(),
            config,
            limits: limits.clone(),
            count: AtomicUsize::new(0),
            unreachable: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            keeper,
        }
    }

    pub(crate) fn config(&self) -> RegistrarConfig {
        self.config
    }

    /// Takes a binding of an earlier run. `listeners` are the transports of our listeners. `false`: it can no longer be
    /// used and should be forgotten.
    pub(crate) fn restore(&self, record: BindingRecord, listeners: &[Transport], now: i64) -> bool {
        let transport = Transport::from_token(&record.flow.transport);
        let listener = usize::from(record.flow.listener);
        let Some(transport) = transport.filter(|_| record.expires_at > now) else { return false };
        let fits = listeners.get(listener) == Some(&transport);
        let listener =
            if fits { Some(listener) } else { listeners.iter().position(|each| *each == transport) };
        let Some(listener) = listener.and_then(|index| u16::try_from(index).ok()) else { return false };
        let flow = Flow { transport, listener, remote: record.flow.remote, conn: ConnId(0) };
        let direct = direct_address(&record, flow);
        if transport.is_reliable() && direct.is_none() {
            return false; // its connection did not survive
        }
        let entry = Entry { id: self.number(), newness: self.number(), record, flow, direct, misses: 0 };
        let _ = self.keeper.send(Watch { aor: entry.record.aor, id: entry.id });
        self.count.fetch_add(1, Ordering::Relaxed);
        self.aors.entry(entry.record.aor).or_default().entries.push(entry);
        true
    }

    /// Carries out a REGISTER. `log` gets the changes while the address-of-record is locked, so that their order is that
    /// of the table.
    pub(crate) fn register(
        &self,
        who: Registrant,
        wish: &Wish,
        elsewhere: &[BindingRecord],
        now: i64,
        log: impl FnOnce(&mut Outcome),
    ) -> Result<Outcome, ResponseDraft> {
        if self.aors.get(&who.aor).is_none() && self.count.load(Ordering::Relaxed) >= self.limits.bindings {
            return Err(crate::policy::busy(60));
        }
        let mut contacts = self.aors.entry(who.aor).or_default();
        let mut outcome = self.change(&mut contacts, who, wish, elsewhere, now);
        if let Ok(outcome) = &mut outcome {
            log(outcome);
        }
        self.leave(who.aor, contacts);
        outcome
    }

    /// Puts back what a change replaced, unless something else changed since.
    pub(crate) fn undo(&self, undo: Undo) {
        let Some(mut aor) = self.aors.get_mut(&undo.aor) else { return };
        if aor.version != undo.version {
            return;
        }
        debug!(aor = %undo.aor, "bindings are as before: the change could not be stored");
        let (added, kept) = aor.entries.drain(..).partition(|entry| undo.added.contains(&entry.newness));
        aor.entries = kept;
        let added: Vec<Entry> = added;
        added.iter().for_each(|entry| self.forget(entry));
        for entry in undo.removed {
            self.count.fetch_add(1, Ordering::Relaxed);
            aor.entries.push(Entry { misses: 0, ..entry });
        }
        aor.version += 1;
    }

    /// The live bindings of an endpoint, best first.
    pub(crate) fn bindings(
        &self,
        aor: Aor,
        home: NodeId,
        now: i64,
        is_open: impl Fn(ConnId) -> bool,
    ) -> Vec<Binding> {
        let Some(aor) = self.aors.get(&aor) else { return Vec::new() };
        let mut live: Vec<(&Entry, Flow)> = aor
            .entries
            .iter()
            .filter(|entry| entry.record.expires_at > now)
            .filter_map(|entry| Some((entry, entry.way(&is_open)?)))
            .collect();
        live.sort_by_key(|(entry, _)| std::cmp::Reverse((entry.record.q, entry.newness)));
        // A device that keeps several flows is called by one of them, the newest (RFC 5626 section 7).
        let is_newest = |entry: &Entry| {
            let newer = |each: &Entry| each.is_device_of(entry) && each.newness > entry.newness;
            !live.iter().any(|(each, _)| newer(each))
        };
        let kept: Vec<bool> = live.iter().map(|(entry, _)| is_newest(entry)).collect();
        let mut kept = kept.into_iter();
        live.retain(|_| kept.next().unwrap_or(true));
        let binding = |(entry, flow): (&Entry, Flow)| Binding {
            contact: entry.record.contact.clone(),
            path: entry.record.path.clone(),
            flow,
            q: entry.record.q,
            newness: entry.newness,
            home,
        };
        live.into_iter().map(binding).collect()
    }

    /// The device that is registered by this connection, or else with this contact.
    pub(crate) fn device(&self, aor: Aor, conn: ConnId, contact: Option<&str>) -> Option<Box<Device>> {
        let aor = self.aors.get(&aor)?;
        let newest = |is_it: &dyn Fn(&&Entry) -> bool| {
            aor.entries.iter().filter(is_it).max_by_key(|entry| entry.newness)
        };
        let by_conn = newest(&|entry| conn != ConnId(0) && entry.flow.conn == conn);
        let entry = by_conn.or_else(|| newest(&|entry| contact == Some(&entry.record.contact)))?;
        let Entry { record, .. } = entry;
        Some(Box::new(Device { contact: record.contact.clone(), instance: record.instance.clone() }))
    }

    /// Another way to a device than this connection: by its newest registration. `None` while one of its registrations is by
    /// this connection and that is open, or when there is none at all.
    pub(crate) fn way(
        &self,
        aor: Aor,
        device: &Device,
        conn: ConnId,
        is_open: impl Fn(ConnId) -> bool,
    ) -> Option<Flow> {
        let aor = self.aors.get(&aor)?;
        let own = || aor.entries.iter().filter(|entry| device.has(&entry.record));
        if is_open(conn) && own().any(|entry| entry.flow.conn == conn) {
            return None;
        }
        own().max_by_key(|entry| entry.newness)?.way(is_open)
    }

    /// The newest way to this contact of an endpoint, if it is registered here.
    pub(crate) fn flow_to(&self, aor: Aor, contact: &str, is_open: impl Fn(ConnId) -> bool) -> Option<Flow> {
        let aor = self.aors.get(&aor)?;
        let entries = aor.entries.iter().filter(|entry| entry.record.contact == contact);
        entries.max_by_key(|entry| entry.newness)?.way(is_open)
    }

    /// Whether requests to this contact may go by TCP instead of UDP when they are large: it is where it says it is.
    pub(crate) fn may_use_stream(&self, aor: Aor, contact: &str) -> bool {
        self.aors.get(&aor).is_some_and(|aor| {
            aor.entries.iter().any(|entry| {
                entry.record.contact == contact
                    && !entry.record.nat
                    && entry.record.path.is_empty()
                    && entry.flow.transport == Transport::Udp
            })
        })
    }

    /// Whether this contact's device has left its last pings unanswered. That is no proof that it is gone.
    pub(crate) fn is_suspect(&self, aor: Aor, contact: &str) -> bool {
        self.unreachable() > 0
            && self.aors.get(&aor).is_some_and(|aor| {
                aor.entries.iter().any(|entry| entry.misses >= MISSES_MAX && entry.record.contact == contact)
            })
    }

    /// The bindings of an endpoint, for whoever lists them.
    pub(crate) fn records(&self, aor: Aor) -> Vec<BindingRecord> {
        let records = |aor: &Contacts| aor.entries.iter().map(|entry| entry.record.clone()).collect();
        self.aors.get(&aor).map(|aor| records(&aor)).unwrap_or_default()
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn unreachable(&self) -> usize {
        self.unreachable.load(Ordering::Relaxed)
    }

    /// What the keeper has to do about a binding.
    pub(crate) fn inspect(&self, watch: Watch, now: i64, is_open: impl Fn(ConnId) -> bool) -> Inspection {
        let Some(mut aor) = self.aors.get_mut(&watch.aor) else { return Inspection::Gone };
        let Some(entry) = aor.entries.iter().find(|entry| entry.id == watch.id) else {
            return Inspection::Gone;
        };
        let expires_in = entry.record.expires_at - now;
        if expires_in > 0 && entry.way(&is_open).is_some() {
            let ping = entry.record.nat && entry.flow.transport == Transport::Udp;
            return Inspection::Live {
                expires_in: expires_in.unsigned_abs(),
                ping: ping.then(|| (entry.record.contact.clone(), entry.record.path.clone(), entry.flow)),
            };
        }
        let over = |entry: &Entry| entry.record.expires_at <= now || entry.way(&is_open).is_none();
        let (expired, kept) = aor.entries.drain(..).partition(over);
        aor.entries = kept;
        let expired: Vec<Entry> = expired;
        for entry in &expired {
            self.forget(entry);
            let is_old = entry.record.expires_at <= now;
            entry.tell(if is_old { "expired" } else { "its connection is gone" }, 0);
        }
        // The log knows a contact by its URI, which another flow of the same device may share.
        let is_left = |contact: &str| aor.entries.iter().any(|entry| entry.record.contact == contact);
        let gone =
            expired.iter().filter(|entry| !is_left(&entry.record.contact)).map(Entry::unbind).collect();
        self.leave(watch.aor, aor);
        Inspection::Expired(gone)
    }

    /// Drops every binding of an endpoint; these changes are to be logged.
    pub(crate) fn drop_all(&self, aor: Aor) -> Vec<BindingChange> {
        let Some(mut contacts) = self.aors.get_mut(&aor) else { return Vec::new() };
        let gone: Vec<Entry> = contacts.entries.drain(..).collect();
        contacts.version += 1;
        for entry in &gone {
            self.forget(entry);
            entry.tell("its account changed", 0);
        }
        self.leave(aor, contacts);
        gone.iter().map(Entry::unbind).collect()
    }

    /// Drops the bindings of an endpoint with this contact; these changes are to be logged.
    pub(crate) fn drop_contact(&self, aor: Aor, contact: &str) -> Vec<BindingChange> {
        let Some(mut contacts) = self.aors.get_mut(&aor) else { return Vec::new() };
        let (gone, kept): (Vec<Entry>, _) =
            contacts.entries.drain(..).partition(|entry| entry.record.contact == contact);
        contacts.entries = kept;
        contacts.version += 1;
        for entry in &gone {
            self.forget(entry);
            entry.tell("an operator dropped it", 0);
        }
        self.leave(aor, contacts);
        gone.iter().map(Entry::unbind).collect()
    }

    /// A ping was answered, or not.
    pub(crate) fn pinged(&self, watch: Watch, answered: bool) {
        let Some(mut aor) = self.aors.get_mut(&watch.aor) else { return };
        let Some(entry) = aor.entries.iter_mut().find(|entry| entry.id == watch.id) else { return };
        let was_lost = entry.misses >= MISSES_MAX;
        entry.misses = if answered { 0 } else { entry.misses.saturating_add(1) };
        let is_lost = entry.misses >= MISSES_MAX;
        if is_lost && !was_lost {
            self.unreachable.fetch_add(1, Ordering::Relaxed);
            info!(aor = %watch.aor, misses = entry.misses, "a binding does not answer pings");
        } else if was_lost && !is_lost {
            self.unreachable.fetch_sub(1, Ordering::Relaxed);
            info!(aor = %watch.aor, "a binding answers pings again");
        }
    }

    /// Lets go of an address-of-record; an empty one takes no room.
    fn leave(&self, aor: Aor, contacts: RefMut<'_, Aor, Contacts>) {
        let is_empty = contacts.entries.is_empty();
        drop(contacts);
        if is_empty {
            self.aors.remove_if(&aor, |_, contacts| contacts.entries.is_empty());
        }
    }

    fn forget(&self, entry: &Entry) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        if entry.misses >= MISSES_MAX {
            self.unreachable.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// RFC 3261 section 10.3 steps 6 to 8. All or nothing.
    fn change(
        &self,
        aor: &mut Contacts,
        who: Registrant,
        wish: &Wish,
        elsewhere: &[BindingRecord],
        now: i64,
    ) -> Result<Outcome, ResponseDraft> {
        let is_over = |entry: &Entry| entry.record.expires_at <= now;
        let concerned = |entry: &Entry| wish.star || wish.contacts.iter().any(|contact| contact.names(entry));
        let out_of_order =
            |entry: &Entry| entry.record.call_id == wish.call_id && wish.cseq <= entry.record.cseq;
        if aor.entries.iter().any(|entry| !is_over(entry) && out_of_order(entry) && concerned(entry)) {
            return Err(reasoned(500, "CSeq Out Of Order"));
        }
        let mut wanted: Vec<&ContactWish> =
            wish.contacts.iter().filter(|contact| contact.expires > 0).collect();
        if !who.multi_contact && wanted.len() > 1 {
            wanted.drain(..wanted.len() - 1); // only the latest stays
        }
        let alone = !who.multi_contact && !wanted.is_empty();
        let may_stay = |entry: &Entry| !alone && !is_over(entry) && !concerned(entry);
        // Where there is no room those go that were refreshed longest ago: a telephone that comes back from a new port each
        // time would lock its owner out until its old contacts expire.
        let mut staying: Vec<u64> =
            aor.entries.iter().filter(|entry| may_stay(entry)).map(|entry| entry.newness).collect();
        staying.sort_unstable();
        let room = match wanted.len() {
            0 => staying.len(),
            wanted => self.limits.bindings_per_aor.saturating_sub(wanted),
        };
        let replaced = staying.len().saturating_sub(room);
        let stays = |entry: &Entry| may_stay(entry) && !staying[..replaced].contains(&entry.newness);
        let void = Void::of(who, wish, elsewhere);
        let answer = |aor: &Contacts| {
            let left = elsewhere.iter().filter(|record| !void.has(record));
            let own = aor.entries.iter().map(|entry| &entry.record);
            Some(Self::answer(own.chain(left), wish, now))
        };
        if wish.is_query() {
            return Ok(Outcome { answer: answer(aor), changes: Vec::new(), undo: None, void: Void::Nothing });
        }

        let (kept, removed): (Vec<Entry>, Vec<Entry>) = aor.entries.drain(..).partition(|entry| stays(entry));
        aor.entries = kept;
        let mut added = Vec::with_capacity(wanted.len());
        let mut changes: Vec<BindingChange> = Vec::new();
        for contact in wanted {
            let old = removed.iter().find(|entry| contact.names(entry));
            let entry = self.entry(who, wish, contact, old, now);
            // A refresh overwrites its record; only another spelling of the contact is another record.
            changes.push(BindingChange::Bind(entry.record.clone()));
            entry.tell(if old.is_some() { "refreshed" } else { "registered" }, contact.expires.into());
            added.push(entry.newness);
            aor.entries.push(entry);
        }
        for entry in &removed {
            self.forget(entry);
            if !aor.entries.iter().any(|each| each.id == entry.id) {
                let why = match (is_over(entry), concerned(entry)) {
                    (true, _) => "expired",
                    (false, true) => "unregistered",
                    (false, false) => "replaced by another",
                };
                entry.tell(why, 0);
            }
            if !aor.entries.iter().any(|each| each.record.contact == entry.record.contact) {
                changes.push(entry.unbind());
            }
        }
        self.count.fetch_add(added.len(), Ordering::Relaxed);
        aor.version += 1;
        let undo = Undo { aor: who.aor, version: aor.version, added, removed };
        Ok(Outcome { answer: answer(aor), changes, undo: Some(undo), void })
    }

    fn entry(
        &self,
        who: Registrant,
        wish: &Wish,
        contact: &ContactWish,
        old: Option<&Entry>,
        now: i64,
    ) -> Entry {
        let nat =
            wish.path.is_empty() && (contact.outbound || is_behind_nat(contact, wish.symmetric, who.flow));
        let mut record = BindingRecord {
            aor: who.aor,
            contact: contact.uri.clone(),
            instance: contact.instance.clone(),
            reg_id: contact.reg_id,
            call_id: wish.call_id.clone(),
            cseq: wish.cseq,
            q: contact.q,
            expires_at: now + i64::from(contact.expires),
            path: wish.path.clone(),
            user_agent: wish.user_agent.clone(),
            flow: FlowRecord {
                transport: who.flow.transport.via_token().to_owned(),
                listener: who.flow.listener,
                remote: who.flow.remote,
            },
            nat,
        };
        let direct = contact.address.filter(|_| !nat && wish.path.is_empty());
        let mut flow = who.flow;
        if let (Some(address), Transport::Udp) = (direct, flow.transport) {
            flow.remote = address;
            record.flow.remote = address;
        }
        let id = old.map_or_else(
            || {
                let id = self.number();
                let _ = self.keeper.send(Watch { aor: who.aor, id });
                id
            },
            |old| old.id,
        );
        Entry { id, newness: self.number(), record, flow, direct, misses: 0 }
    }

    /// Section 10.3 step 8: all current bindings, each with what is left of its time.
    fn answer<'a>(records: impl Iterator<Item = &'a BindingRecord>, wish: &Wish, now: i64) -> ResponseDraft {
        let mut draft = ResponseDraft::new(200);
        draft.headers.push("Date", date(now));
        for record in records.filter(|record| record.expires_at > now) {
            let mut value = format!("<{}>;expires={}", record.contact, record.expires_at - now);
            if record.q != 1000 {
                value.push_str(&format!(";q=0.{:03}", record.q));
            }
            if let Some(instance) = &record.instance {
                value.push_str(&format!(";+sip.instance=\"{instance}\""));
            }
            if let Some(reg_id) = record.reg_id {
                value.push_str(&format!(";reg-id={reg_id}"));
            }
            draft.headers.push("Contact", value);
        }
        for path in &wish.path {
            draft.headers.push("Path", path);
        }
        if wish.contacts.iter().any(|contact| contact.outbound && contact.expires > 0) {
            draft.headers.push("Require", "outbound"); // RFC 5626 section 6
        }
        draft
    }
}

/// What the keeper finds when it looks at a binding.
pub(crate) enum Inspection {
    /// It was removed or replaced.
    Gone,
    /// It has just been removed, its time or its connection being over; these changes are to be logged.
    Expired(Vec<BindingChange>),
    /// It lives.
    Live {
        /// Seconds.
        expires_in: u64,
        /// Contact, Path and flow to ping.
        ping: Option<(String, Vec<String>, Flow)>,
    },
}

impl Entry {
    fn unbind(&self) -> BindingChange {
        BindingChange::Unbind { aor: self.record.aor, contact: self.record.contact.clone() }
    }

    /// The log's line of what became of it; the contact's URI may name a person.
    fn tell(&self, what: &'static str, expires_secs: u64) {
        let Entry { id, record, flow, .. } = self;
        let transport = flow.transport.via_token();
        debug!(aor = %record.aor, binding = id, remote = %flow.remote, transport, expires_secs, what, "binding");
    }

    fn is_device_of(&self, other: &Entry) -> bool {
        self.record.instance.is_some() && self.record.instance == other.record.instance
    }

    fn key(&self) -> Key<'_> {
        Key::of(&self.record)
    }

    /// The way to the device now; `None` when its connection is gone and nothing else leads there.
    fn way(&self, is_open: impl Fn(ConnId) -> bool) -> Option<Flow> {
        if !self.flow.transport.is_reliable() || is_open(self.flow.conn) {
            return Some(self.flow);
        }
        self.direct.map(|remote| Flow { remote, conn: ConnId(0), ..self.flow })
    }
}

/// What tells one binding of an address-of-record from another.
#[derive(Clone, Copy)]
struct Key<'a> {
    uri: &'a str,
    instance: Option<&'a str>,
    reg_id: Option<u32>,
}

impl<'a> Key<'a> {
    fn of(record: &'a BindingRecord) -> Self {
        Self { uri: &record.contact, instance: record.instance.as_deref(), reg_id: record.reg_id }
    }
}

impl ContactWish {
    fn key(&self) -> Key<'_> {
        Key { uri: &self.uri, instance: self.instance.as_deref(), reg_id: self.reg_id }
    }

    /// Whether this contact takes the place of another: it is the same device by the same of its flows (RFC 5626 section 6,
    /// where the URI does not count), or the same URI (RFC 3261 section 19.1.4).
    fn replaces(&self, other: Key<'_>) -> bool {
        let own = self.key();
        let same_device = own.instance.is_some() && own.instance == other.instance;
        if same_device && own.reg_id == other.reg_id {
            return true;
        }
        if same_device && own.reg_id.is_some() && other.reg_id.is_some() {
            return false;
        }
        if own.uri == other.uri {
            return true;
        }
        let uris = (Uri::parse(own.uri.as_bytes()), Uri::parse(other.uri.as_bytes()));
        matches!(uris, (Ok(own), Ok(other)) if own.equivalent(&other))
    }

    fn names(&self, entry: &Entry) -> bool {
        self.replaces(entry.key())
    }
}

/// Behind NAT the contact's address is not where the REGISTER came from. A port that differs tells the same for UDP,
/// unless the client does not answer where it sends from (no `rport` in its Via, RFC 3581 section 3).
fn is_behind_nat(contact: &ContactWish, symmetric: bool, flow: Flow) -> bool {
    if contact.host != Some(flow.remote.ip()) {
        return true;
    }
    flow.transport == Transport::Udp && symmetric && contact.port != flow.remote.port()
}

/// Where the contact of an earlier run says it is, if that can be believed.
fn direct_address(record: &BindingRecord, flow: Flow) -> Option<SocketAddr> {
    if record.nat || !record.path.is_empty() {
        return None;
    }
    stated_address(&UriBuf::parse(&record.contact).ok()?.as_uri(), flow)
}

/// Where a contact's URI says it is, if that can be used without DNS.
fn stated_address(uri: &Uri<'_>, flow: Flow) -> Option<SocketAddr> {
    let transport = uri.transport_param().unwrap_or(Transport::Udp);
    // A contact without transport parameter, registered by TCP, listens on UDP: not where this flow could be rebuilt.
    let fits = transport == flow.transport;
    let address = SocketAddr::new(uri.host.ip()?, uri.port.unwrap_or(5060));
    (fits && address.is_ipv4() == flow.remote.is_ipv4() && uri.param("maddr").is_none()).then_some(address)
}

fn reasoned(status: u16, reason: &str) -> ResponseDraft {
    ResponseDraft { reason: Some(reason.to_owned()), ..ResponseDraft::new(status) }
}

#[cfg(test)]
mod tests;
