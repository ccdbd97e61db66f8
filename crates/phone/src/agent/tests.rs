//! Two agents that call each other over a wire in memory, and one that registers with a registrar made of text.

use super::*;
use sip::msg::HeaderId;
use std::time::Duration;

const ALICE: usize = 0;
const BOB: usize = 1;

fn address(of: usize, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, if of == ALICE { 1 } else { 2 }], port))
}

fn agent(of: usize, server: SocketAddr) -> Agent {
    let name = if of == ALICE { "alice" } else { "bob" };
    let config = AgentConfig {
        login: Login::new(name, "secret"),
        domain: "example.com".to_owned(),
        server,
        tcp: false,
        local: address(of, 5060),
        user_agent: String::new(),
    };
    Agent::new(config, [if of == ALICE { 1 } else { 2 }; 32])
}

/// Each is the other's proxy.
struct Wire {
    agents: [Agent; 2],
    now: Instant,
    /// What went over the wire, first lines.
    log: Vec<String>,
    /// Changes a datagram; `None` loses it.
    weather: fn(Vec<u8>) -> Option<Vec<u8>>,
}

impl Wire {
    fn new() -> Self {
        let agents = [agent(ALICE, address(BOB, 5060)), agent(BOB, address(ALICE, 5060))];
        let now = Instant::now();
        Self { agents, now, log: Vec::new(), weather: Some }
    }

    fn deliver(&mut self) {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            for from in [ALICE, BOB] {
                while let Some(transmit) = self.agents[from].poll_transmit() {
                    quiet = false;
                    let text = String::from_utf8_lossy(&transmit.bytes);
                    self.log.push(text.lines().next().unwrap_or_default().to_owned());
                    assert_eq!(transmit.flow.remote, address(1 - from, 5060));
                    if let Some(bytes) = (self.weather)(transmit.bytes.to_vec()) {
                        let to = &mut self.agents[1 - from];
                        let flow = flow(Transport::Udp, address(from, 5060), ConnId(0));
                        to.handle_message(bytes.into(), flow, self.now).unwrap();
                    }
                }
            }
        }
    }

    /// Lets time pass, alarm by alarm.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.deliver();
        while let Some(next) =
            self.agents.iter().filter_map(Agent::poll_timeout).min().filter(|at| *at <= end)
        {
            self.now = self.now.max(next);
            self.agents.iter_mut().for_each(|agent| agent.handle_timeout(self.now));
            self.deliver();
        }
        self.now = end;
    }

    fn events(&mut self, of: usize) -> Vec<Event> {
        self.deliver();
        std::iter::from_fn(|| self.agents[of].poll_event()).collect()
    }

    /// Alice calls and Bob's phone knows it: her call and his.
    fn call(&mut self) -> (CallId, CallId) {
        let hers = self.agents[ALICE].dial("102", address(ALICE, 4000), self.now);
        let events = self.events(BOB);
        let [Event::Incoming { call: his, caller }] = &events[..] else { panic!("{events:?}") };
        assert_eq!(caller, "alice");
        (hers, *his)
    }

    fn talk(&mut self) -> (CallId, CallId) {
        let (hers, his) = self.call();
        self.agents[BOB].answer(his, address(BOB, 4002), self.now);
        self.deliver();
        self.events(ALICE);
        self.events(BOB);
        (hers, his)
    }
}

fn held(events: &[Event]) -> Option<bool> {
    events.iter().find_map(|event| if let Event::Held { held, .. } = event { Some(*held) } else { None })
}

#[test]
fn a_call_from_the_first_ring_to_the_end() {
    let mut wire = Wire::new();
    let (hers, his) = wire.call();
    wire.agents[BOB].ring(his, wire.now);
    assert_eq!(wire.events(ALICE), [Event::Ringing { call: hers, status: 180 }]);
    wire.agents[BOB].answer(his, address(BOB, 4002), wire.now);
    for (of, call) in [(ALICE, hers), (BOB, his)] {
        let events = wire.events(of);
        let [Event::Agreed { agreed, .. }, Event::Answered { call: answered }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((agreed.remote, *answered), (Some(address(1 - of, 4000 + 2 * (1 - of) as u16)), call));
    }
    wire.agents[ALICE].hold(hers, true, wire.now);
    let events = wire.events(BOB);
    assert_eq!(held(&events), Some(true), "{events:?}");
    let events = wire.events(ALICE);
    let sends = |event: &Event| matches!(event, Event::Agreed { agreed, .. } if agreed.direction.sends());
    assert!(events.iter().any(sends) && held(&events).is_none(), "she may play music: {events:?}");
    wire.agents[ALICE].hold(hers, false, wire.now);
    let events = wire.events(BOB);
    assert_eq!(held(&events), Some(false), "{events:?}");
    wire.events(ALICE);
    wire.agents[BOB].hang_up(his, wire.now);
    assert_eq!(wire.events(BOB), [Event::Ended { call: his, status: 200, by_peer: false }]);
    assert_eq!(wire.events(ALICE), [Event::Ended { call: hers, status: 200, by_peer: true }]);
    wire.pass(Duration::from_secs(64));
    assert_eq!(wire.agents.iter().map(Agent::open).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(wire.agents[ALICE].poll_timeout(), None);
}

#[test]
fn what_is_lost_is_said_again() {
    let mut wire = Wire::new();
    let (hers, his) = wire.call();
    wire.weather = |_| None;
    wire.agents[BOB].answer(his, address(BOB, 4002), wire.now);
    wire.pass(Duration::from_secs(3));
    assert!(!wire.events(ALICE).contains(&Event::Answered { call: hers }));
    wire.weather = Some;
    wire.pass(Duration::from_secs(4));
    assert!(wire.events(ALICE).contains(&Event::Answered { call: hers }));
    assert!(wire.events(BOB).contains(&Event::Answered { call: his }));
}

#[test]
fn the_caller_gives_up() {
    let mut wire = Wire::new();
    let (hers, his) = wire.call();
    wire.agents[BOB].ring(his, wire.now);
    wire.events(ALICE);
    wire.agents[ALICE].hang_up(hers, wire.now);
    assert_eq!(wire.events(BOB), [Event::Ended { call: his, status: 487, by_peer: true }]);
    assert!(matches!(wire.events(ALICE)[..], [Event::Ended { status: 487, .. }]));
    // The answer comes too late, and says nothing more.
    wire.agents[BOB].answer(his, address(BOB, 4002), wire.now);
    assert_eq!(wire.events(BOB), []);
}

#[test]
fn the_callee_refuses() {
    let mut wire = Wire::new();
    let (hers, his) = wire.call();
    wire.agents[BOB].reject(his, 603, wire.now);
    assert_eq!(wire.events(ALICE), [Event::Ended { call: hers, status: 603, by_peer: true }]);
    assert_eq!(wire.events(BOB), [Event::Ended { call: his, status: 487, by_peer: false }]);
}

#[test]
fn an_offer_with_nothing_in_common_is_refused() {
    let mut wire = Wire::new();
    wire.weather = |bytes| Some(String::from_utf8(bytes).unwrap().replace("m=audio", "m=video").into());
    let (hers, his) = wire.call();
    wire.agents[BOB].answer(his, address(BOB, 4002), wire.now);
    assert_eq!(wire.events(ALICE), [Event::Ended { call: hers, status: 488, by_peer: true }]);
}

#[test]
fn one_call_too_many_is_busy() {
    let mut wire = Wire::new();
    for _ in 0..CALLS_MAX {
        wire.call();
    }
    let hers = wire.agents[ALICE].dial("102", address(ALICE, 4000), wire.now);
    wire.deliver();
    assert_eq!(wire.events(BOB), []);
    assert!(wire.events(ALICE).contains(&Event::Ended { call: hers, status: 486, by_peer: true }));
}

#[test]
fn one_seed_tells_one_story() {
    let story = || {
        let mut wire = Wire::new();
        let (_, his) = wire.talk();
        wire.agents[BOB].hang_up(his, wire.now);
        wire.deliver();
        let hers = wire.agents[ALICE].dial("102", address(ALICE, 4000), wire.now);
        let invite = wire.agents[ALICE].poll_transmit().unwrap().bytes;
        (wire.log, hers, invite)
    };
    assert_eq!(story(), story());
}

#[test]
fn what_is_no_sip_changes_nothing() {
    let mut wire = Wire::new();
    for bytes in [&b""[..], b"\r\n\r\n", b"INVITE sip:bob SIP/2.0\r\n\r\n", &[0xff; 900]] {
        let flow = flow(Transport::Udp, address(ALICE, 5060), ConnId(0));
        let handled = wire.agents[BOB].handle_message(Bytes::copy_from_slice(bytes), flow, wire.now);
        assert_eq!(handled, Err(NotSip));
    }
    assert_eq!((wire.agents[BOB].open(), wire.agents[BOB].poll_timeout()), (0, None));
    assert!(wire.agents[BOB].poll_transmit().is_none());
}

/// One agent and what a registrar gets from it.
struct Registering {
    agent: Agent,
    now: Instant,
    /// How answers come.
    flow: Flow,
}

impl Registering {
    fn new() -> Self {
        let flow = flow(Transport::Udp, address(BOB, 5060), ConnId(0));
        Self { agent: agent(ALICE, address(BOB, 5060)), now: Wire::new().now, flow }
    }

    /// The latest request; what came before it are repeats.
    fn request(&mut self) -> Option<Message> {
        let sent = std::iter::from_fn(|| self.agent.poll_transmit()).last()?;
        let message = Message::parse(sent.bytes).unwrap();
        assert!(message.method_is(&Method::Register));
        Some(message)
    }

    fn answer(&mut self, request: &Message, status: &str, lines: &str) -> Vec<Event> {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for (name, id) in [
            ("Via", HeaderId::Via),
            ("From", HeaderId::From),
            ("To", HeaderId::To),
            ("Call-ID", HeaderId::CallId),
            ("CSeq", HeaderId::CSeq),
        ] {
            text += &format!("{name}: {}\r\n", String::from_utf8_lossy(request.header(id).unwrap()));
        }
        text += &format!("{lines}Content-Length: 0\r\n\r\n");
        self.agent.handle_message(text.into(), self.flow, self.now).unwrap();
        std::iter::from_fn(|| self.agent.poll_event()).collect()
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(next) = self.agent.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(next);
            self.agent.handle_timeout(self.now);
        }
        self.now = end;
    }
}

#[test]
fn a_registration_answers_its_challenge_and_is_kept_fresh() {
    let mut registering = Registering::new();
    registering.agent.register(600, registering.now);
    let first = registering.request().unwrap();
    assert!(first.header(HeaderId::Authorization).is_none());
    let challenge = "WWW-Authenticate: Digest realm=\"example.com\", nonce=\"n\", qop=\"auth\"\r\n";
    assert_eq!(registering.answer(&first, "401 Unauthorized", challenge), []);
    let second = registering.request().unwrap();
    assert!(second.header(HeaderId::Authorization).is_some());
    assert_eq!(first.call_id(), second.call_id());
    // The account's other phone has the same port at another address.
    let bindings =
        "Contact: <sip:alice@192.0.2.9:5060>;expires=7, <sip:alice@192.0.2.1:5060>;expires=100\r\n";
    assert_eq!(registering.answer(&second, "200 OK", bindings), [Event::Registered]);
    registering.pass(89);
    assert!(registering.request().is_none(), "it is fresh for nine tenths of what was granted");
    registering.pass(2);
    let refresh = registering.request().unwrap();
    let refused = registering.answer(&refresh, "503 Service Unavailable", "");
    assert!(matches!(refused[..], [Event::RegistrationFailed { status: 503, .. }]), "{refused:?}");
    registering.pass(31);
    let again = registering.request().unwrap();
    assert_eq!(registering.answer(&again, "200 OK", bindings), [Event::Registered]);
    registering.agent.register(0, registering.now);
    let last = registering.request().unwrap();
    assert_eq!(last.header(HeaderId::Expires), Some(&b"0"[..]));
    assert_eq!(registering.answer(&last, "200 OK", ""), [Event::Registered]);
    registering.pass(3600);
    assert_eq!((registering.agent.open(), registering.agent.poll_timeout()), (0, None));
}

#[test]
fn a_wrong_password_and_a_silent_server_end_the_attempt() {
    let mut registering = Registering::new();
    let challenge = "WWW-Authenticate: Digest realm=\"example.com\", nonce=\"n\", qop=\"auth\"\r\n";
    registering.agent.register(600, registering.now);
    let first = registering.request().unwrap();
    registering.answer(&first, "401 Unauthorized", challenge);
    let second = registering.request().unwrap();
    let refused = registering.answer(&second, "401 Unauthorized", challenge);
    assert!(matches!(refused[..], [Event::RegistrationFailed { status: 401, .. }]), "{refused:?}");
    registering.agent.register(600, registering.now);
    registering.pass(40);
    let silent: Vec<_> = std::iter::from_fn(|| registering.agent.poll_event()).collect();
    assert!(matches!(silent[..], [Event::RegistrationFailed { status: 408, .. }]), "{silent:?}");
    registering.pass(3600);
    assert_eq!((registering.agent.open(), registering.agent.poll_timeout()), (0, None));
}

#[test]
fn a_broken_connection_to_the_server_is_a_reason_to_register_again() {
    let mut registering = Registering::new();
    registering.agent.config.tcp = true;
    registering.agent.register(600, registering.now);
    let sent = registering.agent.poll_transmit().unwrap();
    assert_eq!(sent.flow, flow(Transport::Tcp, address(BOB, 5060), ConnId(0)));
    let request = Message::parse(sent.bytes).unwrap();
    assert!(request.header(HeaderId::Via).unwrap().starts_with(b"SIP/2.0/TCP 192.0.2.1:5060;"));
    registering.flow = flow(Transport::Tcp, address(BOB, 5060), ConnId(1));
    let binding = "Contact: <sip:alice@192.0.2.1:5060>;expires=600\r\n";
    assert_eq!(registering.answer(&request, "200 OK", binding), [Event::Registered]);
    let elsewhere = flow(Transport::Tcp, address(BOB, 4999), ConnId(2));
    registering.agent.handle_transport_error(elsewhere, registering.now);
    registering.pass(60);
    assert!(registering.request().is_none(), "that one was not the server's");
    registering.agent.handle_transport_error(registering.flow, registering.now);
    registering.pass(31);
    assert!(registering.request().is_some());
}

#[test]
fn a_large_request_goes_by_tcp_and_by_udp_when_that_fails() {
    let mut wire = Wire::new();
    let number = "1".repeat(1300);
    let call = wire.agents[ALICE].dial(&number, address(ALICE, 4000), wire.now);
    let first = wire.agents[ALICE].poll_transmit().unwrap();
    assert_eq!(first.flow, flow(Transport::Tcp, address(BOB, 5060), ConnId(0)));
    wire.agents[ALICE].handle_transport_error(first.flow, wire.now);
    let second = wire.agents[ALICE].poll_transmit().unwrap();
    assert_eq!(second.flow, flow(Transport::Udp, address(BOB, 5060), ConnId(0)));
    wire.agents[ALICE].hang_up(call, wire.now);
}
