//! What a switchboard tells its roles when nodes go and come back, as etcd and the links say it, in whatever order.
//!
//! Elsewhere: counters behind it (`counters::shell`), whole clusters (crate `simulation`).

use super::*;
use crate::media::tickets_of;
use crate::node::Roles;
use model::{Aor, FlowRecord};

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn say(&self, what: String) {
        self.0.lock().push(what);
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl MediaSink for Heard {
    fn reply(&self, _: CallId, _: u32, _: MediaReply) {}
    fn event(&self, call: CallId, event: MediaEvent) {
        self.say(format!("{call} {event:?}"));
    }
}

impl CallServer for Heard {
    fn told(&self, _: NodeId, _: ToCalls) {}
    fn proxy_lost(&self, proxy: NodeId) {
        self.say(format!("proxy {} lost", proxy.0));
    }
    fn proxy_gone(&self, proxy: NodeId) {
        self.say(format!("proxy {} gone", proxy.0));
    }
    fn proxy_left(&self, proxy: NodeId) {
        self.say(format!("proxy {} left", proxy.0));
    }
    fn proxy_back(&self, proxy: NodeId) {
        self.say(format!("proxy {} back", proxy.0));
    }
    fn relay_lost(&self, relay: NodeId) {
        self.say(format!("relay {} lost", relay.0));
    }
    fn relay_back(&self, relay: NodeId) {
        self.say(format!("relay {} back", relay.0));
    }
    fn relay_leaves(&self, _: NodeId) {}
    fn reserved(&self, _: CallId, _: u32, _: Verdict) {}
}

impl Media for Heard {
    fn submit(
        &self,
        _: NodeId,
        call: CallId,
        _: u32,
        command: MediaCommand,
        _: Signalling,
    ) -> Option<MediaReply> {
        self.say(format!("{call} {command:?}"));
        Some(MediaReply::Done)
    }
}

/// Takes what is said to nodes while they can be reached.
#[derive(Default)]
struct Ways {
    open: Mutex<BTreeSet<NodeId>>,
    said: Heard,
}

impl Ways {
    fn send(&self, node: NodeId, what: String) -> bool {
        let is_open = self.open.lock().contains(&node);
        if is_open {
            self.said.say(format!("to {}: {what}", node.0));
        }
        is_open
    }
}

impl Wire for Ways {
    fn to_calls(&self, node: NodeId, message: ToCalls) -> bool {
        self.send(node, format!("{message:?}"))
    }
    fn to_legs(&self, node: NodeId, message: ToLegs) -> bool {
        self.send(node, format!("{message:?}"))
    }
    fn to_relay(&self, node: NodeId, _: ToRelay) -> bool {
        self.send(node, "to its relay".to_owned())
    }
    fn of_relay(&self, node: NodeId, message: FromRelay) -> bool {
        let FromRelay::Event { call, event } = message else { return self.send(node, "reply".to_owned()) };
        self.send(node, format!("{call} {event:?}"))
    }
    fn directory(&self, node: NodeId, _: DirectoryItem) -> bool {
        self.send(node, "directory".to_owned())
    }
}

struct Desk {
    board: Arc<Switchboard>,
    heard: Arc<Heard>,
    relay: Arc<Heard>,
    ways: Arc<Ways>,
    now: Arc<Mutex<Instant>>,
}

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

fn view(nodes: &[(u16, u64)]) -> Arc<View> {
    let mut view = View::default();
    for (id, instance) in nodes {
        let node = NodeInfo {
            id: NodeId(*id),
            name: format!("n{id}"),
            instance: *instance,
            identity: u128::from(*id),
            roles: [Role::Proxy, Role::As, Role::Relay].into_iter().collect::<Roles>(),
            zone: String::new(),
            capacity: 100,
            peer: String::new(),
            sip: vec!["udp:192.0.2.1:5060".to_owned()],
            media: Vec::new(),
            release: "1".to_owned(),
            protocol: (1, 1),
            draining: false,
            calls: 0,
            started_ms: 0,
        };
        view.nodes.insert(NodeId(*id), Arc::new(node));
    }
    Arc::new(view)
}

impl Desk {
    fn new() -> Self {
        let now = Arc::new(Mutex::new(Instant::now()));
        let clock = Arc::clone(&now);
        let deps = Deps {
            me: ME,
            snapshot: Arc::default(),
            unix_us: Arc::new(|| 0),
            now: Arc::new(move || *clock.lock()),
            random: Arc::new(|| 7),
        };
        let (heard, relay, ways) = (Arc::<Heard>::default(), Arc::<Heard>::default(), Arc::<Ways>::default());
        let board = Switchboard::new(deps);
        board.set_server(Arc::clone(&heard) as _);
        board.set_relay(Arc::clone(&relay) as _);
        board.set_wire(Arc::clone(&ways) as _);
        Self { board, heard, relay, ways, now }
    }

    /// Both nodes are there and speak to each other.
    fn together() -> Self {
        let desk = Self::new();
        desk.ways.open.lock().insert(OTHER);
        desk.board.view_changed(view(&[(1, 11), (2, 12)]));
        desk.board.legs_back(OTHER);
        desk.heard.said();
        desk.ways.said.said();
        desk
    }

    fn waits(&self, seconds: u64) {
        *self.now.lock() += Duration::from_secs(seconds);
        self.board.tick();
    }
}

#[test]
fn a_relay_that_etcd_forgot_for_a_while_is_back_though_its_link_never_broke() {
    let desk = Desk::together();
    desk.board.view_changed(view(&[(1, 11)]));
    assert!(desk.board.relay_is_lost(OTHER));
    assert_eq!(desk.heard.said(), Vec::<String>::new());
    desk.board.view_changed(view(&[(1, 11), (2, 12)]));
    assert!(desk.heard.said().contains(&"relay 2 back".to_owned()));
}

#[test]
fn a_node_that_has_started_takes_what_there_was_none_for_once_it_says_that_it_may() {
    let desk = Desk::new();
    let mut starting = View::clone(&view(&[(1, 11), (2, 12)]));
    starting.nodes.values_mut().for_each(|node| Arc::make_mut(node).draining = node.id == OTHER);
    desk.board.view_changed(Arc::new(starting));
    desk.board.relay_back(OTHER);
    desk.board.legs_back(OTHER);
    desk.heard.said(); // there is nothing that it could take yet
    desk.board.view_changed(view(&[(1, 11), (2, 12)]));
    assert_eq!(desk.heard.said(), ["relay 2 back", "proxy 2 back"]);
}

#[test]
fn a_proxy_that_comes_back_as_another_process_is_gone_whatever_is_heard_first() {
    // Its record ended before anybody noticed that its link was dead, and it is back before that is noticed.
    let desk = Desk::together();
    desk.board.view_changed(view(&[(1, 11)]));
    assert_eq!(desk.heard.said(), Vec::<String>::new(), "its link may be alive");
    desk.board.view_changed(view(&[(1, 11), (2, 13)]));
    assert!(desk.heard.said().contains(&"proxy 2 gone".to_owned()));
    desk.board.view_changed(view(&[(1, 11)]));
    desk.board.view_changed(view(&[(1, 11), (2, 13)]));
    assert!(!desk.heard.said().contains(&"proxy 2 gone".to_owned()), "this time it is the same");
}

#[test]
fn names_of_legs_that_were_asked_for_in_vain_are_asked_for_again() {
    let desk = Desk::new();
    desk.board.view_changed(view(&[(1, 11), (2, 12)]));
    desk.board.legs_back(OTHER); // and is out of reach again, before it is told
    desk.ways.open.lock().insert(OTHER);
    desk.board.legs_back(OTHER);
    assert_eq!(desk.ways.said.said(), ["to 2: Names"]);
    // Asked, and lost on the way.
    desk.board.legs_back(OTHER);
    assert_eq!(desk.ways.said.said(), ["to 2: Names"]);
}

#[test]
fn of_two_servers_with_one_epoch_a_relay_obeys_the_one_that_custodians_obey() {
    let desk = Desk::together();
    let call = CallId::new(OTHER, 1);
    let submit = |node: NodeId, ticket: u32, command: MediaCommand| {
        let signalling = Signalling::default();
        desk.board.heard_relay(node, ToRelay::Submit { call, ticket, command, signalling });
        desk.relay.said().len()
    };
    let third = NodeId(3);
    assert_eq!(submit(OTHER, tickets_of(1), MediaCommand::Stop), 1);
    assert_eq!(submit(third, tickets_of(1), MediaCommand::Stop), 1, "its title is better");
    assert_eq!(submit(OTHER, tickets_of(1) + 1, MediaCommand::Close), 0, "however often it tries");
    assert_eq!(submit(OTHER, u32::MAX, MediaCommand::Close), 0);
    assert_eq!(submit(OTHER, tickets_of(2), MediaCommand::Stop), 1, "until it has another title");
}

#[test]
fn a_session_whose_server_is_lost_is_closed_when_nobody_has_its_call() {
    let desk = Desk::together();
    let [ours, left] = [1, 2].map(|number| CallId::new(OTHER, number));
    let submit = |call: CallId, ticket: u32| {
        let command = MediaCommand::Stop;
        ToRelay::Submit { call, ticket, command, signalling: Signalling::default() }
    };
    desk.board.heard_relay(OTHER, submit(ours, 1));
    desk.board.heard_relay(OTHER, submit(left, 1));
    desk.relay.said();
    desk.ways.said.said();
    desk.board.media_lost(OTHER);
    desk.waits(10);
    // Both servers are asked, this node's own among them; ours has the call and says so.
    assert_eq!(desk.heard.said(), [format!("{ours} Unclaimed"), format!("{left} Unclaimed")]);
    assert_eq!(desk.ways.said.said(), [format!("to 2: {ours} Unclaimed"), format!("to 2: {left} Unclaimed")]);
    desk.board.submit(ME, ours, tickets_of(1), MediaCommand::Stop, Signalling::default());
    desk.relay.said();
    desk.waits(5);
    assert_eq!(desk.relay.said(), [format!("{left} Close")]);
    desk.waits(60);
    assert_eq!(desk.relay.said(), Vec::<String>::new());
}

fn binding(nat: bool, transport: &str) -> BindingRecord {
    BindingRecord {
        aor: Aor::from_bits(4),
        contact: format!("sip:bob@192.0.2.77:{}", if nat { 5062 } else { 5060 }),
        instance: None,
        reg_id: None,
        call_id: format!("{nat} {transport}"),
        cseq: 1,
        q: 1000,
        expires_at: i64::MAX,
        path: Vec::new(),
        user_agent: String::new(),
        flow: FlowRecord {
            transport: transport.to_owned(),
            listener: 0,
            remote: ([198, 51, 100, 7], 5060).into(),
        },
        nat,
    }
}

#[test]
fn a_telephone_of_a_proxy_that_leaves_is_called_by_another_one_unless_a_nat_lets_only_that_one_in() {
    let desk = Desk::together();
    let home = |nat: bool, transport: &str, drains: bool| {
        let binding = binding(nat, transport);
        let bound = DirectoryItem::Bound(Box::new(Located { binding, home: OTHER, stamp_us: 1, conn: 0 }));
        desk.board.heard_directory(OTHER, &bound);
        let mut view = View::clone(&view(&[(1, 11), (2, 12)]));
        view.nodes.values_mut().for_each(|node| Arc::make_mut(node).draining = drains && node.id == OTHER);
        desk.board.view_changed(Arc::new(view));
        let all = desk.board.bindings(Aor::from_bits(4));
        let homes: Vec<NodeId> =
            all.iter().filter(|of| of.contact.ends_with("5062") == nat).map(|of| of.home).collect();
        assert_eq!(homes.len(), 1, "{homes:?}");
        homes[0]
    };
    assert_eq!([home(false, "UDP", false), home(false, "UDP", true)], [OTHER, ME]);
    assert_eq!([home(true, "UDP", false), home(true, "UDP", true)], [OTHER, OTHER]);
    assert_eq!([home(false, "TCP", false), home(false, "TCP", true)], [OTHER, OTHER]);
}

#[test]
fn a_node_that_etcd_forgot_for_a_while_hears_what_was_registered_meanwhile() {
    let desk = Desk::together();
    desk.board.directory_back(OTHER);
    desk.ways.said.said();
    desk.board.view_changed(view(&[(1, 11)]));
    desk.board.bound(binding(false, "UDP"));
    desk.ways.said.said(); // nobody is there, as far as is known
    desk.board.view_changed(view(&[(1, 11), (2, 12)]));
    assert_eq!(desk.ways.said.said(), ["to 2: directory"; 3], "the beginning, the binding, the end");
}
