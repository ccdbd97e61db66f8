//! Which metrics this node has. Names and labels are for those who page people: they stay.
//!
//! In: the roles. Out: sources of the registry, which read plain counters when somebody asks. Elsewhere: forms (crate `telemetry`).

use super::legs::LegWatch;
use super::tap::Ears;
use super::{Health, Roles};
use crate::clustered::Cluster;
use cluster::node::Role;
use mesh::etcd::Standing;
use mesh::peer::Way;
use model::{Cdr, HungUpBy};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use telemetry::{Page, Registry, Tracer};

/// What became of a call, for people who look at numbers of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Outcome {
    Answered,
    /// The caller gave up.
    Cancelled,
    Busy,
    /// It rang until its time was over.
    NoAnswer,
    /// Nobody is registered there, or the device said nothing.
    Unreachable,
    /// Refused for another reason that is the caller's or the callee's.
    Rejected,
    /// By our own fault, or for want of room.
    Failed,
}

const OUTCOMES: [Outcome; 7] = [
    Outcome::Answered,
    Outcome::Cancelled,
    Outcome::Busy,
    Outcome::NoAnswer,
    Outcome::Unreachable,
    Outcome::Rejected,
    Outcome::Failed,
];

impl Outcome {
    pub(super) fn of(cdr: &Cdr) -> Self {
        match (cdr.answered_us, cdr.cause.status, cdr.hung_up_by) {
            (Some(_), ..) => Outcome::Answered,
            (None, 487, _) => Outcome::Cancelled,
            (None, 486 | 600, _) => Outcome::Busy,
            (None, 480, HungUpBy::Platform) if cdr.cause.text == "No answer" => Outcome::NoAnswer,
            (None, 408 | 480, HungUpBy::Platform) => Outcome::Unreachable,
            (None, 500..=599, _) => Outcome::Failed,
            (None, ..) => Outcome::Rejected,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Cancelled => "cancelled",
            Outcome::Busy => "busy",
            Outcome::NoAnswer => "no_answer",
            Outcome::Unreachable => "unreachable",
            Outcome::Rejected => "rejected",
            Outcome::Failed => "failed",
        }
    }
}

/// Calls that have ended, and their records.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    ended: [AtomicU64; OUTCOMES.len()],
    failed_records: AtomicU64,
}

impl Outcomes {
    /// A call's record is on the disk, or is not: then it will come again.
    pub(super) fn count(&self, outcome: Outcome, durable: bool) {
        let counter = if durable { &self.ended[outcome as usize] } else { &self.failed_records };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn of_outcomes(registry: &Registry, outcomes: &Arc<Outcomes>) {
    let outcomes = Arc::clone(outcomes);
    registry.add(move |page| {
        let mut written = 0;
        for outcome in OUTCOMES {
            let count = outcomes.ended[outcome as usize].load(Ordering::Relaxed);
            written += count;
            page.counter_of(
                "carillon_calls_ended_total",
                "Calls that have ended and whose record is durable, by what became of them.",
                &[("outcome", outcome.name())],
                count,
            );
        }
        let failed = outcomes.failed_records.load(Ordering::Relaxed);
        for (result, count) in [("written", written), ("failed", failed)] {
            page.counter_of(
                "carillon_call_records_total",
                "Attempts to write a call record; one that failed is made again.",
                &[("result", result)],
                count,
            );
        }
    });
}

pub(super) fn of_node(registry: &Registry, health: &Arc<Health>) {
    let (began, health) = (Instant::now(), Arc::clone(health));
    registry.add(move |page| {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        page.gauge_of(
            "carillon_build_info",
            "The program that runs; always 1.",
            &[("version", env!("CARGO_PKG_VERSION")), ("profile", profile)],
            1.0,
        );
        page.gauge("carillon_uptime_seconds", "Since the start.", began.elapsed().as_secs_f64());
        page.flag(
            "carillon_ready",
            "Whether the node may get calls, as /readyz says.",
            health.ready().is_good(),
        );
        page.flag("carillon_draining", "Whether the node takes no new calls.", health.is_draining());
        page.count("carillon_stuck_loops", "Workers and shards that do not answer.", health.stuck());
    });
    registry.add(telemetry::process);
}

pub(super) fn of_ears(registry: &Registry, ears: &Arc<Ears>) {
    let ears = Arc::clone(ears);
    registry.add(move |page| {
        page.histogram(
            "carillon_sip_turn_lag_seconds",
            "How long the oldest datagram of a SIP worker's turn had been on this machine.",
            &[],
            &ears.lag,
        );
        let Some(hep) = &ears.hep else { return };
        for (result, count) in [("sent", hep.sent()), ("dropped", hep.dropped())] {
            page.counter_of(
                "carillon_hep_messages_total",
                "SIP messages for the collector of telemetry.hep.",
                &[("result", result)],
                count,
            );
        }
    });
}

pub(super) fn of_set_up(registry: &Registry, legs: &Arc<LegWatch>) {
    let legs = Arc::clone(legs);
    registry.add(move |page| {
        for (to, histogram) in [("ringing", &legs.to_ringing), ("answer", &legs.to_answer)] {
            page.histogram(
                "carillon_call_setup_seconds",
                "From a caller's INVITE to the first 180 to 189 and to the answer that he gets.",
                &[("to", to)],
                histogram,
            );
        }
    });
}

pub(super) fn of_spans(registry: &Registry, tracer: &Arc<Tracer>) {
    let tracer = Arc::clone(tracer);
    registry.add(move |page| {
        for (result, count) in [("exported", tracer.exported()), ("dropped", tracer.dropped())] {
            page.counter_of(
                "carillon_spans_total",
                "Spans of traced calls for the collector of telemetry.otlp.",
                &[("result", result)],
                count,
            );
        }
    });
}

/// The figures of the roles of a node.
pub(super) fn of_roles(registry: &Registry, roles: &Roles<'_>) {
    if let Some(calls) = roles.calls.map(Arc::clone) {
        registry.add(move |page| of_calls(page, &calls.stats()));
    }
    if let Some(proxy) = roles.proxy.map(Arc::clone) {
        registry.add(move |page| {
            of_proxy(page, &proxy.stats());
            of_trunks(page, &proxy.trunk_states());
        });
    }
    if let Some(relay) = roles.relay.map(Arc::clone) {
        registry.add(move |page| of_relay(page, &relay.stats()));
    }
    let store = roles.store.clone();
    registry.add(move |page| {
        let load = store.load();
        page.flag("carillon_store_writable", "Whether the disk takes records.", load.takes_records);
        page.count("carillon_store_waiting_records", "Records that wait for the disk.", load.waiting);
        page.count("carillon_store_waiting_bytes", "Bytes that wait for the disk.", load.waiting_bytes);
        let behind = load.unapplied as f64;
        page.gauge("carillon_store_unapplied_records", "Records that only the journal has.", behind);
        page.flag(
            "carillon_store_tables_current",
            "Whether the tables could be brought up to date the last time.",
            load.tables_are_fine,
        );
    });
    let (live, taken) = (Arc::clone(roles.live), Arc::new(Mutex::new(Instant::now())));
    let taking = Arc::clone(&taken);
    live.follow(Box::new(move |_, _| *taking.lock() = Instant::now()));
    registry.add(move |page| {
        let revision = live.rows().revision as f64;
        page.gauge("carillon_configuration_revision", "The revision that calls are routed by.", revision);
        page.gauge(
            "carillon_configuration_age_seconds",
            "Since this node took that revision over, or started with it.",
            taken.lock().elapsed().as_secs_f64(),
        );
    });
    let kept = Arc::clone(roles.kept);
    registry.add(move |page| {
        page.flag(
            "carillon_database_reachable",
            "Whether the place of the configuration is there: a file always is.",
            kept.is_reachable(),
        );
    });
}

/// The figures of a node that is one of many.
pub(super) fn of_cluster(registry: &Registry, cluster: &Cluster) {
    let (switchboard, membership) = (Arc::clone(&cluster.switchboard), cluster.membership.clone());
    registry.add(move |page| {
        let figures = switchboard.figures();
        page.count(
            "carillon_custody_calls",
            "Calls of which this node keeps what another one needs.",
            figures.calls,
        );
        page.count(
            "carillon_custody_unowned",
            "Of these, those that no application server serves at the moment.",
            figures.unowned,
        );
        page.counter(
            "carillon_custody_offers_total",
            "Offers of calls whose application server was lost.",
            figures.offers,
        );
        page.counter(
            "carillon_custody_superseded_total",
            "Orders refused because another application server has the call.",
            figures.superseded,
        );
        page.count(
            "carillon_locations",
            "Registered contacts that this node knows, of all nodes.",
            switchboard.locations(),
        );
        let view = membership.view();
        for role in Role::ALL {
            let ready = view.ready(role).count();
            let help = "Nodes of the cluster that may get something new, by role.";
            page.gauge_of("carillon_cluster_nodes", help, &[("role", role.name())], ready as f64);
        }
        let is_certain = matches!(&*membership.standing().borrow(), Standing::Joined(_));
        page.flag(
            "carillon_cluster_lease_certain",
            "Whether this node's lease in etcd is certain.",
            is_certain,
        );
    });
    let peers = cluster.peers();
    registry.add(move |page| {
        let Some(peers) = peers.upgrade() else { return };
        let links = peers.links();
        for way in [Way::Calls, Way::Legs, Way::Relay, Way::Media, Way::Directory] {
            let of_way = || links.iter().filter(|link| link.way == way);
            let labels = [("way", way.name())];
            let up = of_way().filter(|link| link.session && link.connected).count();
            page.gauge_of("carillon_links_up", "Links to other nodes that are up.", &labels, up as f64);
            let waiting: usize = of_way().map(|link| link.waiting_items).sum();
            let help = "Items to other nodes that are not acknowledged.";
            page.gauge_of("carillon_links_waiting_items", help, &labels, waiting as f64);
        }
    });
}

fn of_calls(page: &mut Page, stats: &appserver::Stats) {
    page.count("carillon_calls", "Calls that go on now.", stats.calls);
    page.count("carillon_calls_max", "Calls that may go on at the same time.", stats.calls_max);
    page.counter("carillon_calls_begun_total", "Calls that were taken.", stats.calls_total);
    page.counter(
        "carillon_calls_crashed_total",
        "Calls that failed by a mistake of ours.",
        stats.crashed_total,
    );
    page.counter("carillon_calls_adopted_total", "Calls taken over from other nodes.", stats.adopted_total);
    page.counter("carillon_calls_let_go_total", "Calls that went on at other nodes.", stats.let_go_total);
}

fn of_relay(page: &mut Page, stats: &relay::RelayStats) {
    page.count("carillon_relay_sessions", "Calls with media.", stats.sessions);
    for (state, count) in [("used", stats.ports_used), ("free", stats.ports_free)] {
        page.gauge_of(
            "carillon_relay_port_pairs",
            "Pairs of media ports; a call takes two or more.",
            &[("state", state)],
            count as f64,
        );
    }
    page.counter("carillon_relay_packets_total", "Media packets sent on.", stats.packets_forwarded);
}

fn of_proxy(page: &mut Page, stats: &proxy::ProxyStats) {
    page.count("carillon_legs", "SIP dialogs of calls now.", stats.legs);
    page.count(
        "carillon_legs_max",
        "SIP dialogs of calls that there may be at the same time.",
        stats.legs_max,
    );
    page.counter("carillon_legs_begun_total", "SIP dialogs of calls.", stats.legs_begun);
    page.counter(
        "carillon_legs_lost_total",
        "SIP dialogs that failed by a mistake of ours.",
        stats.legs_lost,
    );
    page.counter(
        "carillon_legs_revived_total",
        "SIP dialogs carried on from other proxies.",
        stats.legs_revived,
    );
    page.count("carillon_registrations", "Contacts that are registered now.", stats.bindings);
    page.count(
        "carillon_registrations_unreachable",
        "Of these, those that leave pings unanswered.",
        stats.unreachable,
    );
    page.counter("carillon_registered_total", "REGISTER requests that were carried out.", stats.registered);
    for (worker, (transactions, queued)) in stats.transactions.iter().zip(&stats.queued).enumerate() {
        let worker = worker.to_string();
        let labels = [("worker", worker.as_str())];
        let help = "Open SIP transactions, as of a worker's last turn.";
        page.gauge_of("carillon_sip_transactions", help, &labels, *transactions as f64);
        let help = "Messages and commands that wait, as of a worker's last turn.";
        page.gauge_of("carillon_sip_queue", help, &labels, *queued as f64);
    }
    page.count("carillon_sip_connections", "Open SIP connections.", stats.connections);
    page.counter("carillon_sip_received_total", "SIP messages received.", stats.received);
    for (cause, count) in &stats.refused {
        page.counter_of(
            "carillon_sip_refused_total",
            "Requests refused and messages dropped, by cause.",
            &[("cause", cause.name())],
            *count,
        );
    }
    page.counter("carillon_sip_pings_total", "OPTIONS sent to telephones behind NAT.", stats.pings);
    page.counter(
        "carillon_sip_pings_missed_total",
        "Of these, those that nobody answered.",
        stats.pings_missed,
    );
}

fn of_trunks(page: &mut Page, states: &proxy::TrunkStates) {
    use proxy::{RegistrationState, ServerState};
    for state in [ServerState::Unknown, ServerState::Up, ServerState::Down] {
        let help = "Servers of carriers, by whether they answer.";
        let count = states.servers_in(state) as f64;
        page.gauge_of("carillon_trunk_servers", help, &[("state", state.name())], count);
    }
    let all = [
        RegistrationState::Elsewhere,
        RegistrationState::Trying,
        RegistrationState::Registered,
        RegistrationState::Failed,
    ];
    for state in all {
        let help = "Registrations at DDI providers, by how they stand; elsewhere: another node keeps it.";
        let count = states.registrations_in(state) as f64;
        page.gauge_of("carillon_trunk_registrations", help, &[("state", state.name())], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Cause, Id, Party};

    #[test]
    fn a_call_has_one_outcome() {
        let ended = |status: u16, text: &str, by: HungUpBy, answered_us: Option<i64>| {
            Outcome::of(&Cdr {
                call: "c1".to_owned(),
                brand: Id::new(1),
                client: Id::new(1),
                caller: Party::default(),
                callee: Party::default(),
                dialed: "102".to_owned(),
                started_us: 0,
                answered_us,
                ended_us: 1,
                hung_up_by: by,
                cause: Cause { status, text: text.to_owned() },
                legs: Vec::new(),
                externals: Vec::new(),
                node: 1,
                relay: None,
            })
            .name()
        };
        use HungUpBy::{Callee, Caller, Platform};
        for (status, text, by, name) in [
            (487, "Cancelled", Caller, "cancelled"),
            (486, "Busy Here", Callee, "busy"),
            (486, "Call waiting limit reached", Platform, "busy"),
            (480, "No answer", Platform, "no_answer"),
            (480, "Not registered", Platform, "unreachable"),
            (480, "Unreachable", Platform, "unreachable"),
            (480, "Temporarily Unavailable", Callee, "rejected"),
            (603, "Decline", Callee, "rejected"),
            (404, "No such extension", Platform, "rejected"),
            (503, "No media port free", Platform, "failed"),
        ] {
            assert_eq!(ended(status, text, by, None), name, "{status} {text}");
        }
        assert_eq!(ended(503, "Shutting down", Platform, Some(1)), "answered");
    }

    #[test]
    fn trunks_are_counted_by_state_and_nobody_is_named() {
        use proxy::{RegistrationState, RegistrationStatus, ServerState, ServerStatus, TrunkStates};
        let server = |number, state| ServerStatus {
            server: Id::new(number),
            carrier: Id::new(1),
            state,
            since: 0,
            targets: Vec::new(),
        };
        let registration = RegistrationStatus {
            registration: Id::new(1),
            state: RegistrationState::Failed,
            since: 0,
            in_progress: false,
            last_status: Some(403),
            expires_at: None,
            next_at: None,
            problem: None,
        };
        let states = TrunkStates {
            servers: vec![
                server(1, ServerState::Up),
                server(2, ServerState::Up),
                server(3, ServerState::Down),
            ],
            registrations: vec![registration],
        };
        let registry = Registry::default();
        registry.add(move |page| of_trunks(page, &states));
        let text = registry.page().to_string();
        for line in [
            "carillon_trunk_servers{state=\"up\"} 2",
            "carillon_trunk_servers{state=\"down\"} 1",
            "carillon_trunk_servers{state=\"unknown\"} 0",
            "carillon_trunk_registrations{state=\"failed\"} 1",
            "carillon_trunk_registrations{state=\"registered\"} 0",
        ] {
            assert!(text.lines().any(|each| each == line), "{line} in {text}");
        }
    }
}
