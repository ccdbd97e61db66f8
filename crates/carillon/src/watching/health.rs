//! Whether this node is alive (its loops answer) and ready (it may get calls), and why not.
//!
//! In: loops to ask for signs of life, conditions to test. Out: a [`Report`] each. Elsewhere: telling it by HTTP (`operate`) and by gRPC
//! (crate `api`, which has the reporter).

use super::Roles;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Loops are asked so often.
const LOOK: Duration = Duration::from_secs(1);
/// A loop that has not answered for so long is stuck: a turn takes a millisecond, and a machine may be busy.
const STUCK: Duration = Duration::from_secs(5);
/// Who looks is stuck himself when he has not for so long.
const BLIND: Duration = Duration::from_secs(10);
/// Port pairs of a call.
const PAIRS: usize = 2;
/// Services of gRPC whose health is told beside that of the whole.
const SERVICES: [&str; 4] = ["", "carillon.v1.Access", "carillon.v1.Configuration", "carillon.v1.Operation"];

/// Whether something was answered.
type Told = Box<dyn FnMut() -> bool + Send>;
type Knock = Box<dyn Fn() -> Vec<Told> + Send>;
type Test = Box<dyn Fn() -> Result<(), String> + Send>;

/// Loops of one kind.
struct Loops {
    name: &'static str,
    knock: Knock,
    /// Which have not answered yet, since when.
    waiting: Vec<(usize, Told)>,
    since: Instant,
}

struct Condition {
    name: &'static str,
    test: Test,
}

/// What is known of this node's health.
pub(crate) struct Health {
    loops: Mutex<Vec<Loops>>,
    /// Which are stuck, and when that was looked at.
    stuck: Mutex<(Vec<String>, Instant)>,
    conditions: Mutex<Vec<Condition>>,
    started: AtomicBool,
    draining: AtomicBool,
    reporter: HealthReporter,
}

/// An answer, line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report(Vec<(&'static str, Result<(), String>)>);

impl Report {
    /// Everything is as it should be.
    pub(crate) fn is_good(&self) -> bool {
        self.0.iter().all(|(_, result)| result.is_ok())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, result)| match result {
            Ok(()) => writeln!(f, "ok    {name}"),
            Err(why) => writeln!(f, "NOT   {name}: {why}"),
        })
    }
}

impl Health {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            loops: Mutex::default(),
            stuck: Mutex::new((Vec::new(), Instant::now())),
            conditions: Mutex::default(),
            started: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            reporter: HealthReporter::new(),
        })
    }

    /// What gRPC tells.
    pub(crate) fn reporter(&self) -> HealthReporter {
        self.reporter.clone()
    }

    /// Loops of this kind must answer. `knock` asks each for a sign of life.
    pub(crate) fn watch(&self, name: &'static str, knock: impl Fn() -> Vec<Told> + Send + 'static) {
        let loops = Loops { name, knock: Box::new(knock), waiting: Vec::new(), since: Instant::now() };
        self.loops.lock().push(loops);
    }

    /// This must be so before the node may get calls. The test reads numbers and neither waits nor fails.
    pub(crate) fn require(&self, name: &'static str, test: impl Fn() -> Result<(), String> + Send + 'static) {
        self.conditions.lock().push(Condition { name, test: Box::new(test) });
    }

    /// All roles run.
    pub(super) fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// Asks nobody any more.
    pub(super) fn clear(&self) {
        self.loops.lock().clear();
        self.conditions.lock().clear();
    }

    /// The node takes no new calls, or does again.
    pub(crate) fn drain(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How many loops are stuck.
    pub(super) fn stuck(&self) -> usize {
        self.stuck.lock().0.len()
    }

    /// Whether the node lives. Restarting it would help where it does not.
    pub(crate) fn alive(&self) -> Report {
        Report(vec![("loops", self.loops_answer())])
    }

    fn loops_answer(&self) -> Result<(), String> {
        let (stuck, looked) = &*self.stuck.lock();
        if !stuck.is_empty() {
            return Err(format!("stuck for {} s or longer: {}", STUCK.as_secs(), stuck.join(", ")));
        }
        if looked.elapsed() > BLIND {
            return Err(format!("nobody has looked after them for {} s", looked.elapsed().as_secs()));
        }
        Ok(())
    }

    /// Whether the node may get calls.
    pub(crate) fn ready(&self) -> Report {
        let flag = |is_so: bool, why: &str| if is_so { Ok(()) } else { Err(why.to_owned()) };
        let mut lines = vec![
            ("started", flag(self.started.load(Ordering::Relaxed), "the roles are being started")),
            ("not draining", flag(!self.is_draining(), "no new calls are taken; wait, or undo it")),
            ("loops", self.loops_answer()),
        ];
        lines.extend(self.conditions.lock().iter().map(|condition| (condition.name, (condition.test)())));
        Report(lines)
    }

    /// Asks all loops that have answered, and finds those that have not for too long.
    fn look(&self, now: Instant) {
        let mut stuck = Vec::new();
        for loops in self.loops.lock().iter_mut() {
            loops.waiting.retain_mut(|(_, told)| !told());
            if loops.waiting.is_empty() {
                loops.waiting = (loops.knock)().into_iter().enumerate().collect();
                loops.since = now;
            } else if now.saturating_duration_since(loops.since) >= STUCK {
                stuck.extend(loops.waiting.iter().map(|(number, _)| format!("{} {number}", loops.name)));
            }
        }
        let mut before = self.stuck.lock();
        if before.0 != stuck {
            match stuck.is_empty() {
                true => tracing::warn!("all loops of this node answer again"),
                false => tracing::error!(loops = stuck.join(", "), "loops of this node do not answer"),
            }
        }
        *before = (stuck, now);
    }

    /// Looks after the loops for ever, and lets gRPC know whether the node is ready.
    pub(super) async fn keep_looking(&self) {
        let mut turns = tokio::time::interval(LOOK);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            turns.tick().await;
            self.look(Instant::now());
            let is_ready = self.ready().is_good();
            if told.replace(is_ready) != Some(is_ready) {
                self.tell(is_ready).await;
            }
        }
    }

    /// Lets gRPC know at once that the node takes no new calls, or does again.
    pub(crate) async fn tell_now(&self) {
        self.tell(self.ready().is_good()).await;
    }

    async fn tell(&self, is_ready: bool) {
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// What the roles of a node that stands alone must be like.
    pub(super) fn of_roles(&self, roles: &Roles<'_>) {
        let (proxy, calls, relay) =
            (roles.proxy.map(Arc::clone), roles.calls.map(Arc::clone), roles.relay.map(Arc::clone));
        if let Some(proxy) = proxy.clone() {
            self.watch("SIP worker", move || proxy.knock().into_iter().map(answered).collect());
        }
        if let Some(calls) = calls.clone() {
            self.watch("shard of calls", move || calls.knock().into_iter().map(answered).collect());
        }
        if let Some(relay) = relay.clone() {
            self.watch("media worker", move || {
                let told = |told: std::sync::mpsc::Receiver<()>| -> Told {
                    Box::new(move || told.try_recv().is_ok())
                };
                relay.knock().into_iter().map(told).collect()
            });
        }
        let store = roles.store.clone();
        let writer = calls.clone();
        self.require("store writable", move || {
            if !store.load().takes_records {
                return Err("the disk takes no records; see the log, and the space in node.data".to_owned());
            }
            match writer.as_ref().is_some_and(|calls| calls.stats().log_fails) {
                true => Err("a call's record could not be written and is tried again".to_owned()),
                false => Ok(()),
            }
        });
        if let Some(calls) = calls {
            self.require("room for calls", move || {
                let stats = calls.stats();
                within(stats.calls < stats.calls_max, "limits.max_calls", stats.calls, stats.calls_max)
            });
        }
        if let Some(proxy) = proxy {
            self.require("room for legs", move || {
                let stats = proxy.stats();
                let limit = "four times limits.max_calls";
                within(stats.legs + 2 <= stats.legs_max, limit, stats.legs, stats.legs_max)
            });
        }
        if let Some(relay) = relay {
            self.require("media ports", move || {
                let stats = relay.stats();
                let all = stats.ports_used + stats.ports_free;
                within(stats.ports_free >= PAIRS, "media.ports, in pairs", stats.ports_used, all)
            });
        }
        let (proxy, calls) = (roles.proxy.map(Arc::clone), roles.calls.map(Arc::clone));
        self.require("roles take calls", move || {
            if proxy.as_ref().is_some_and(|proxy| proxy.stats().draining) {
                return Err("the proxy drains".to_owned());
            }
            match calls.as_ref().is_some_and(|calls| calls.stats().draining) {
                true => Err("the application server drains".to_owned()),
                false => Ok(()),
            }
        });
    }
}

/// A loop answers with a word; one that only lets go of its end is gone.
fn answered(mut told: oneshot::Receiver<()>) -> Told {
    Box::new(move || told.try_recv().is_ok())
}

fn within(is_so: bool, limit: &str, used: usize, most: usize) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(format!("{used} of {most} are taken ({limit})")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Loops whose answers a test gives.
    fn loops(health: &Health, count: usize) -> mpsc::Receiver<Vec<oneshot::Sender<()>>> {
        let (hand, handed) = mpsc::channel();
        health.watch("loop", move || {
            let (tellers, told): (Vec<_>, Vec<_>) = (0..count).map(|_| oneshot::channel()).unzip();
            hand.send(tellers).unwrap();
            told.into_iter().map(answered).collect()
        });
        handed
    }

    #[test]
    fn a_loop_that_does_not_answer_is_named_until_it_does_and_is_asked_once() {
        let health = Health::new();
        let asked = loops(&health, 2);
        let now = Instant::now();
        health.look(now);
        let mut tellers = asked.try_recv().unwrap();
        tellers.remove(0).send(()).unwrap();
        health.look(now + STUCK - LOOK);
        assert!(health.alive().is_good(), "it may be busy");
        health.look(now + STUCK);
        assert_eq!(health.alive().to_string(), "NOT   loops: stuck for 5 s or longer: loop 1\n");
        assert!(asked.try_recv().is_err(), "what is stuck is not asked again and again");
        assert_eq!(health.stuck(), 1);
        tellers.remove(0).send(()).unwrap();
        health.look(now + STUCK + LOOK);
        assert!(health.alive().is_good() && asked.try_recv().is_ok());
    }

    #[test]
    fn a_node_is_ready_when_every_condition_is_met_and_names_each() {
        let health = Health::new();
        assert!(health.ready().to_string().starts_with("NOT   started: "));
        health.started();
        let full = Arc::new(AtomicBool::new(false));
        let test = Arc::clone(&full);
        health.require("room", move || within(!test.load(Ordering::Relaxed), "limits.rooms", 3, 3));
        assert_eq!(
            health.ready().to_string(),
            "ok    started\nok    not draining\nok    loops\nok    room\n"
        );
        full.store(true, Ordering::Relaxed);
        assert!(health.ready().to_string().ends_with("NOT   room: 3 of 3 are taken (limits.rooms)\n"));
        full.store(false, Ordering::Relaxed);
        health.drain(true);
        assert!(!health.ready().is_good() && health.alive().is_good(), "who drains is alive");
        health.drain(false);
        assert!(health.ready().is_good());
    }

    /// Keeps no changes.
    struct NoLog;

    impl proxy::BindingLog for NoLog {
        fn append(&self, _: proxy::BindingChange, done: proxy::Durable) {
            done(true);
        }
    }

    /// Says that a message came, and then waits for a word.
    struct Holding {
        came: mpsc::Sender<()>,
        go: Mutex<mpsc::Receiver<()>>,
    }

    impl proxy::Tap for Holding {
        fn seen(&self, direction: proxy::Direction, _: sip::flow::Flow, _: &bytes::Bytes) {
            if direction == proxy::Direction::In {
                let _ = self.came.send(());
                let _ = self.go.lock().recv();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_sip_worker_that_hangs_makes_the_node_look_dead_until_it_goes_on() {
        let ((came, comes), (go, word)) = (mpsc::channel(), mpsc::channel());
        let snapshot = model::Snapshot::new(model::rows::Rows::default());
        let deps = proxy::Deps {
            router: Arc::new(arc_swap::ArcSwap::from_pointee(routing::Router::new(snapshot))),
            log: Arc::new(NoLog),
            bindings: Vec::new(),
            network: proxy::Network::Os,
            unix_time: None,
            seed: None,
            tap: Some(Arc::new(Holding { came, go: Mutex::new(word) })),
        };
        let listener = proxy::Listener::new(sip::flow::Transport::Udp, "127.0.0.1:0".parse().unwrap());
        let config =
            proxy::ProxyConfig { listeners: vec![listener], workers: 2, ..proxy::ProxyConfig::default() };
        let proxy = proxy::Proxy::start(config, deps).await.unwrap();
        let health = Health::new();
        let own = Arc::clone(&proxy);
        health.watch("SIP worker", move || own.knock().into_iter().map(answered).collect());
        let now = Instant::now();
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(b"OPTIONS sip:a SIP/2.0\r\n\r\n", proxy.listeners()[0].1).unwrap();
        tokio::task::spawn_blocking(move || comes.recv()).await.unwrap().unwrap();
        health.look(now);
        // The other one answers, sooner or later.
        let mut later = now + STUCK;
        while !health
            .alive()
            .to_string()
            .lines()
            .any(|line| line.contains(": SIP worker ") && !line.contains(','))
        {
            health.look(later);
            later += LOOK;
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        while !health.alive().is_good() {
            health.look(later);
            later += LOOK;
            tokio::task::yield_now().await;
        }
        drop(go); // whatever else comes is not held
        proxy.stop().await;
        // Workers that are gone are no better than those that hang.
        for _ in 0..2 {
            later += STUCK;
            health.look(later);
        }
        assert!(health.alive().to_string().ends_with(": SIP worker 0, SIP worker 1\n"), "{}", health.alive());
    }
}
