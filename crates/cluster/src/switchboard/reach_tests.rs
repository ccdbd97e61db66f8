//! Whom a switchboard counts as there when etcd and its links do not say the same.
//!
//! Elsewhere: what its roles are told when nodes go and come back (`tests`).

use super::*;
use crate::node::Roles;

/// What its application server hears of proxies.
#[derive(Default)]
struct Server(Mutex<Vec<&'static str>>);

impl MediaSink for Server {
    fn reply(&self, _: CallId, _: u32, _: MediaReply) {}
    fn event(&self, _: CallId, _: MediaEvent) {}
}

impl CallServer for Server {
    fn told(&self, _: NodeId, _: ToCalls) {}
    fn proxy_lost(&self, _: NodeId) {}
    fn proxy_gone(&self, _: NodeId) {
        self.0.lock().push("gone");
    }
    fn proxy_left(&self, _: NodeId) {
        self.0.lock().push("left");
    }
    fn proxy_back(&self, _: NodeId) {}
    fn relay_lost(&self, _: NodeId) {}
    fn relay_back(&self, _: NodeId) {}
    fn relay_leaves(&self, _: NodeId) {}
    fn reserved(&self, _: CallId, _: u32, _: Verdict) {}
}

const PROXY: NodeId = NodeId(2);

fn board() -> (Arc<Switchboard>, Arc<Server>) {
    let now = Instant::now();
    let board = Switchboard::new(Deps {
        me: NodeId(1),
        snapshot: Arc::default(),
        unix_us: Arc::new(|| 0),
        now: Arc::new(move || now),
        random: Arc::new(|| 7),
    });
    let server = Arc::new(Server::default());
    board.set_server(Arc::clone(&server) as _);
    (board, server)
}

/// The proxy, and whether it is about to leave; none: etcd does not know it.
fn view(draining: Option<bool>) -> Arc<View> {
    let mut view = View::default();
    if let Some(draining) = draining {
        let node = NodeInfo {
            id: PROXY,
            name: String::new(),
            instance: 5,
            identity: 0,
            roles: Roles::default().with(Role::Proxy),
            zone: String::new(),
            capacity: 100,
            peer: String::new(),
            sip: vec!["udp:192.0.2.2:5060".to_owned()],
            media: Vec::new(),
            release: String::new(),
            protocol: (1, 1),
            draining,
            calls: 0,
            started_ms: 0,
        };
        view.nodes.insert(PROXY, Arc::new(node));
    }
    Arc::new(view)
}

#[test]
fn a_proxy_that_only_etcd_has_lost_is_reached_until_its_link_is_lost_too() {
    let (board, server) = board();
    board.view_changed(view(Some(false)));
    board.legs_back(PROXY);
    assert!(Legs::can_reach(&*board, PROXY));
    board.view_changed(view(None));
    assert!(Legs::can_reach(&*board, PROXY) && !Legs::is_gone(&*board, PROXY));
    assert!(server.0.lock().is_empty());
    board.legs_lost(PROXY);
    assert!(!Legs::can_reach(&*board, PROXY) && Legs::is_gone(&*board, PROXY));
    assert_eq!(*server.0.lock(), ["gone"]);
    // Where etcd does not know it, a new link does not bring it back.
    board.legs_back(PROXY);
    assert!(!Legs::can_reach(&*board, PROXY));
    board.view_changed(view(Some(false)));
    assert!(Legs::can_reach(&*board, PROXY) && !Legs::is_gone(&*board, PROXY));
}

#[test]
fn a_proxy_that_meant_to_leave_has_left_when_etcd_says_so() {
    let (board, server) = board();
    board.view_changed(view(Some(false)));
    board.view_changed(view(Some(true)));
    board.view_changed(view(None));
    assert!(!Legs::can_reach(&*board, PROXY) && Legs::is_gone(&*board, PROXY));
    board.legs_lost(PROXY);
    assert_eq!(*server.0.lock(), ["left"]);
}

#[test]
fn a_proxy_that_was_out_of_reach_before_is_gone_when_etcd_says_so() {
    for draining in [false, true] {
        let (board, server) = board();
        board.view_changed(view(Some(draining)));
        board.legs_lost(PROXY);
        assert!(server.0.lock().is_empty(), "etcd knows it: it may come back");
        board.view_changed(view(None));
        assert!(!Legs::can_reach(&*board, PROXY) && Legs::is_gone(&*board, PROXY));
        assert_eq!(*server.0.lock(), ["gone"]);
    }
}
