//! Two ends of a link on a network that breaks connections, delays and restarts by a seed.
//!
//! Items say in which session they were sent and as which; so each end can tell what is missing, comes twice or is of another session.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// An item: the session it was sent in, and its number there.
type Item = (u64, u64);

fn settings() -> Settings {
    Settings {
        items_max: 50,
        octets_max: 5000,
        frame_items: 7,
        frame_octets: 400,
        ack_items: 5,
        ..Settings::default()
    }
}

/// splitmix64: the same for the same seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

struct End {
    link: Link<Item>,
    instance: u64,
    /// The session as this end knows it by its events.
    current: Option<u64>,
    sent: u64,
    got: u64,
    /// Sessions of all this end's lives: began, ended.
    began: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    /// Items received, by session.
    all: BTreeMap<u64, u64>,
}

impl End {
    fn new(instance: u64, now: Instant) -> End {
        End {
            link: Link::new(settings(), now),
            instance,
            current: None,
            sent: 0,
            got: 0,
            began: BTreeSet::new(),
            ended: BTreeSet::new(),
            all: BTreeMap::new(),
        }
    }

    fn restart(&mut self, instance: u64, now: Instant) {
        self.link = Link::new(settings(), now);
        self.instance = instance;
        self.ended.extend(self.current.take());
    }

    /// Takes the events; `true`: the connection is to be closed.
    fn events(&mut self) -> bool {
        let mut close = false;
        while let Some(event) = self.link.poll_event() {
            match event {
                Event::Back => {
                    assert_eq!(self.current, None, "a session begins while another one goes on");
                    self.current = self.link.session();
                    let id = self.current.expect("a session that began is there");
                    assert!(self.began.insert(id), "a session begins twice");
                    (self.sent, self.got) = (0, 0);
                }
                Event::Lost(_) => {
                    let id = self.current.take().expect("what is lost was there");
                    self.ended.insert(id);
                }
                Event::HangUp(_) => close = true,
            }
        }
        close
    }

    fn send(&mut self, octets: usize, now: Instant) {
        let Some(id) = self.current else {
            assert_eq!(self.link.send((0, 0), octets, now), Err(SendError::NoSession));
            return;
        };
        if self.link.send((id, self.sent + 1), octets, now).is_ok() {
            self.sent += 1;
        }
        let (items, all) = self.link.kept();
        assert!(items <= settings().items_max && all <= settings().octets_max, "memory is bounded");
    }

    fn take(&mut self, frame: Frame<Item>, now: Instant) {
        for (session, number) in self.link.handle_frame(frame, 100, now) {
            assert_eq!(Some(session), self.current, "an item of another session");
            assert_eq!(number, self.got + 1, "in order, each once, none missing");
            self.got = number;
            self.all.insert(session, number);
        }
    }
}

enum Parcel {
    Greeting(Greeting, u64),
    Answer(Answer, u64),
    Frame(Frame<Item>),
}

/// One connection: what is under way in both directions. The dialler has its own idea of whether it still exists, and so has the dialled side.
struct Wire {
    up: VecDeque<Parcel>,
    down: VecDeque<Parcel>,
    /// Nothing passes, and nobody is told.
    silent: bool,
    dialler_uses: bool,
    acceptor_uses: bool,
}

struct World {
    random: Random,
    now: Instant,
    dialler: End,
    acceptor: End,
    wires: Vec<Wire>,
    attempts: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let now = Instant::now();
        let mut random = Random(seed);
        let (a, b) = (random.next(), random.next());
        World {
            random,
            now,
            dialler: End::new(a, now),
            acceptor: End::new(b, now),
            wires: Vec::new(),
            attempts: 0,
        }
    }

    fn dial(&mut self) {
        if self.wires.iter().any(|wire| wire.dialler_uses) {
            return;
        }
        self.attempts += 1;
        let greeting = self.dialler.link.greet(self.random.next(), self.attempts);
        let up = VecDeque::from([Parcel::Greeting(greeting, self.dialler.instance)]);
        self.wires.push(Wire {
            up,
            down: VecDeque::new(),
            silent: false,
            dialler_uses: true,
            acceptor_uses: false,
        });
    }

    /// The dialler, or the dialled side, is done with its connection; the other one is told unless the wire is silent.
    fn hang_up(&mut self, at: usize, by_dialler: bool) {
        let wire = &mut self.wires[at];
        if by_dialler || !wire.silent {
            if wire.dialler_uses {
                self.dialler.link.disconnected(self.now);
            }
            wire.dialler_uses = false;
        }
        if !by_dialler || !wire.silent {
            if wire.acceptor_uses {
                self.acceptor.link.disconnected(self.now);
            }
            wire.acceptor_uses = false;
        }
    }

    /// Delivers the oldest parcel of one direction of a wire.
    fn deliver(&mut self, at: usize, upwards: bool) {
        if self.wires[at].silent {
            return;
        }
        let now = self.now;
        if upwards {
            match self.wires[at].up.pop_front() {
                Some(Parcel::Greeting(greeting, instance)) => {
                    // Also one whose dialler has left: its greeting may be in a buffer still.
                    if let Ok(answer) = self.acceptor.link.accept(greeting, instance, now) {
                        self.wires.iter_mut().for_each(|wire| wire.acceptor_uses = false);
                        self.wires[at].acceptor_uses = true;
                        let instance = self.acceptor.instance;
                        self.wires[at].down.push_back(Parcel::Answer(answer, instance));
                        if !self.wires[at].dialler_uses {
                            // The end of the connection comes behind what was under way.
                            self.settle();
                            self.hang_up(at, true);
                        }
                    } else {
                        self.hang_up(at, false);
                    }
                }
                Some(Parcel::Frame(frame)) if self.wires[at].acceptor_uses => self.acceptor.take(frame, now),
                _ => {}
            }
        } else {
            match self.wires[at].down.pop_front() {
                Some(Parcel::Answer(answer, instance))
                    if self.wires[at].dialler_uses
                        && self.dialler.link.answered(answer, instance, now).is_err() =>
                {
                    self.hang_up(at, true);
                }
                Some(Parcel::Frame(frame)) if self.wires[at].dialler_uses => self.dialler.take(frame, now),
                _ => {}
            }
        }
        self.settle();
    }

    /// What owners do after each call.
    fn settle(&mut self) {
        let now = self.now;
        for by_dialler in [true, false] {
            let end = if by_dialler { &mut self.dialler } else { &mut self.acceptor };
            let close = end.events();
            let at = self
                .wires
                .iter()
                .position(|wire| if by_dialler { wire.dialler_uses } else { wire.acceptor_uses });
            if let Some(at) = at {
                if close {
                    self.hang_up(at, by_dialler);
                } else {
                    let wire = &mut self.wires[at];
                    let way = if by_dialler { &mut wire.up } else { &mut wire.down };
                    // A sender that waits for its reader makes no frames.
                    while way.len() < 4
                        && let Some(frame) = end.link.poll_frame(now)
                    {
                        way.push_back(Parcel::Frame(frame));
                    }
                }
            }
        }
    }

    fn sweep(&mut self) {
        self.wires.retain(|wire| wire.dialler_uses || wire.acceptor_uses || !wire.up.is_empty());
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.dialler.link.handle_timeout(self.now);
        self.acceptor.link.handle_timeout(self.now);
        self.settle();
    }

    fn step(&mut self) {
        let wires = self.wires.len() as u64;
        match self.random.below(100) {
            0..30 => {
                let octets = self.random.below(200) as usize;
                let now = self.now;
                let end = if self.random.below(2) == 0 { &mut self.dialler } else { &mut self.acceptor };
                end.send(octets, now);
            }
            30..75 if wires > 0 => {
                let at = self.random.below(wires) as usize;
                let upwards = self.random.below(2) == 0;
                self.deliver(at, upwards);
            }
            75..88 => {
                let most = [20, 200, 1500][self.random.below(3) as usize];
                let time = Duration::from_millis(self.random.below(most));
                self.pass(time);
            }
            88..95 => self.dial(),
            95..97 if wires > 0 => {
                let at = self.random.below(wires) as usize;
                let by_dialler = self.random.below(2) == 0;
                self.hang_up(at, by_dialler);
            }
            97..98 if wires > 0 => {
                let at = self.random.below(wires) as usize;
                self.wires[at].silent = true;
            }
            98..99 if self.random.below(4) == 0 => {
                let (instance, now) = (self.random.next(), self.now);
                if self.random.below(2) == 0 {
                    self.dialler.restart(instance, now);
                    self.wires.iter_mut().for_each(|wire| wire.dialler_uses = false);
                } else {
                    self.acceptor.restart(instance, now);
                    self.wires.iter_mut().for_each(|wire| wire.acceptor_uses = false);
                    self.wires.retain(|wire| wire.dialler_uses);
                }
            }
            _ => {}
        }
        self.settle();
        self.sweep();
    }

    /// The network is well again: what is under way arrives.
    fn heal(&mut self) {
        // Who waits for an answer gives up after a while.
        for at in 0..self.wires.len() {
            if self.wires[at].silent && !self.dialler.link.is_up() {
                self.hang_up(at, true);
            }
        }
        for round in 0..400 {
            if round % 20 == 0 {
                self.dial();
            }
            for at in (0..self.wires.len()).rev() {
                for upwards in [true, false] {
                    self.deliver(at, upwards);
                }
            }
            self.sweep();
            self.pass(Duration::from_millis(50));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn whatever_breaks_each_item_comes_once_and_in_order_and_both_ends_agree(seed in any::<u64>(), steps in 10..1500usize) {
        let mut world = World::new(seed);
        for _ in 0..steps {
            world.step();
        }
        world.heal();
        let (dialler, acceptor) = (&world.dialler, &world.acceptor);
        let current = dialler.current;
        prop_assert!(current.is_some(), "a network that is well has a session");
        prop_assert_eq!(current, acceptor.current, "both ends are in the same session");
        prop_assert_eq!(dialler.link.kept().0 + acceptor.link.kept().0, 0, "all is acknowledged");
        prop_assert_eq!((dialler.got, acceptor.got), (acceptor.sent, dialler.sent), "all has arrived");
        for end in [dialler, acceptor] {
            let over: BTreeSet<u64> = end.began.iter().copied().filter(|id| Some(*id) != current).collect();
            prop_assert_eq!(&over, &end.ended, "every other session ended, and its owner was told");
        }
    }
}

/// A pair with a session, and the time.
fn pair() -> (Link<u32>, Link<u32>, Instant) {
    let now = Instant::now();
    let (mut dialler, mut acceptor) = (Link::new(settings(), now), Link::new(settings(), now));
    connect(&mut dialler, &mut acceptor, 1, now);
    assert_eq!((dialler.poll_event(), acceptor.poll_event()), (Some(Event::Back), Some(Event::Back)));
    (dialler, acceptor, now)
}

fn connect(dialler: &mut Link<u32>, acceptor: &mut Link<u32>, attempt: u64, now: Instant) {
    let greeting = dialler.greet(1000 + attempt, attempt);
    let answer = acceptor.accept(greeting, 7, now).expect("a new connection");
    dialler.answered(answer, 8, now).expect("an answer that fits");
}

fn carry(from: &mut Link<u32>, to: &mut Link<u32>, now: Instant) -> Vec<u32> {
    let mut items = Vec::new();
    while let Some(frame) = from.poll_frame(now) {
        items.extend(to.handle_frame(frame, 10, now));
    }
    items
}

#[test]
fn nothing_is_taken_before_the_owner_knows_of_the_session() {
    let now = Instant::now();
    let mut link: Link<u32> = Link::new(settings(), now);
    assert_eq!(link.send(1, 1, now), Err(SendError::NoSession));
    let greeting = Greeting { resume: 0, fresh: 5, received: 0, attempt: 1 };
    assert_eq!(link.accept(greeting, 7, now), Ok(Answer { session: 5, received: 0 }));
    assert_eq!(link.send(1, 1, now), Err(SendError::NoSession));
    assert_eq!(link.poll_event(), Some(Event::Back));
    assert_eq!(link.send(1, 1, now), Ok(()));
}

#[test]
fn what_was_under_way_when_the_connection_broke_is_sent_again() {
    let (mut dialler, mut acceptor, now) = pair();
    (1..=3).for_each(|item| dialler.send(item, 10, now).unwrap());
    assert_eq!(carry(&mut dialler, &mut acceptor, now), [1, 2, 3]);
    (4..=5).for_each(|item| dialler.send(item, 10, now).unwrap());
    assert_eq!(dialler.poll_frame(now).unwrap().items, [4, 5]);
    dialler.disconnected(now);
    acceptor.disconnected(now);
    dialler.send(6, 10, now).unwrap();
    connect(&mut dialler, &mut acceptor, 2, now);
    assert_eq!(carry(&mut dialler, &mut acceptor, now), [4, 5, 6]);
    assert_eq!((dialler.poll_event(), acceptor.poll_event()), (None, None));
    let counts = dialler.counts();
    assert_eq!((counts.items_sent, counts.items_resent, counts.resumed, counts.lost), (6, 2, 1, 0));
}

#[test]
fn acknowledgements_wait_for_company_and_not_for_ever() {
    let (mut dialler, mut acceptor, now) = pair();
    dialler.send(1, 10, now).unwrap();
    carry(&mut dialler, &mut acceptor, now);
    assert_eq!(acceptor.poll_frame(now), None);
    let due = acceptor.poll_timeout().unwrap();
    assert_eq!(due, now + settings().ack_after);
    carry(&mut acceptor, &mut dialler, due);
    assert_eq!(dialler.kept(), (0, 0));
    // Many items at once do not wait.
    (0..5).for_each(|item| dialler.send(item, 10, due).unwrap());
    carry(&mut dialler, &mut acceptor, due);
    assert_eq!(acceptor.poll_frame(due).unwrap().received, 6);
}

#[test]
fn frames_are_bounded_save_for_an_item_that_is_larger() {
    let (mut dialler, _, now) = pair();
    for (item, octets) in [(1, 300), (2, 200), (3, 1000), (4, 1)] {
        dialler.send(item, octets, now).unwrap();
    }
    let mut frames = Vec::new();
    while let Some(frame) = dialler.poll_frame(now) {
        frames.push(frame.items);
    }
    assert_eq!(frames, [vec![1], vec![2], vec![3], vec![4]]);
}

#[test]
fn an_idle_link_speaks_at_times_and_silence_breaks_it() {
    let (mut dialler, mut acceptor, now) = pair();
    let (beat_at, lost_after) = (now + settings().heartbeat, settings().lost_after);
    assert_eq!(dialler.poll_frame(beat_at - Duration::from_millis(1)), None);
    let beat = dialler.poll_frame(beat_at).unwrap();
    assert_eq!((beat.items.len(), beat.received), (0, 0));
    acceptor.handle_frame(beat, 0, beat_at);
    // The acceptor heard something meanwhile, the dialler never.
    let silent = now + settings().silence;
    dialler.handle_timeout(silent);
    acceptor.handle_timeout(silent);
    assert_eq!(dialler.poll_event(), Some(Event::HangUp(HangUp::Silence)));
    assert_eq!(acceptor.poll_event(), None);
    dialler.handle_timeout(silent + lost_after - Duration::from_millis(1));
    assert_eq!(dialler.poll_event(), None);
    dialler.handle_timeout(silent + lost_after);
    assert_eq!(dialler.poll_event(), Some(Event::Lost(Lost::Down)));
    assert_eq!(dialler.send(1, 1, silent), Err(SendError::NoSession));
}

#[test]
fn a_process_that_is_gone_is_not_waited_for() {
    let (mut dialler, mut acceptor, now) = pair();
    // What is found while there is a connection counts when it breaks...
    dialler.gone(now);
    assert_eq!(dialler.poll_event(), None);
    dialler.disconnected(now);
    assert_eq!(dialler.poll_event(), Some(Event::Lost(Lost::Gone)));
    // ... unless something came by it since.
    acceptor.gone(now);
    acceptor.handle_frame(Frame { first: 1, items: vec![1u32], received: 0 }, 10, now);
    acceptor.disconnected(now);
    assert_eq!(acceptor.poll_event(), None, "it may be back at once");
    acceptor.gone(now);
    assert_eq!(acceptor.poll_event(), Some(Event::Lost(Lost::Gone)));
    // The next process there begins anew.
    connect(&mut dialler, &mut acceptor, 2, now);
    assert_eq!((dialler.poll_event(), acceptor.poll_event()), (Some(Event::Back), Some(Event::Back)));
    dialler.disconnected(now);
    assert_eq!(dialler.poll_event(), None);
}

#[test]
fn a_side_that_gave_up_ends_the_session_of_the_other() {
    let (mut dialler, mut acceptor, now) = pair();
    dialler.send(1, 10, now).unwrap();
    dialler.disconnected(now);
    acceptor.disconnected(now);
    let late = now + Duration::from_secs(2);
    acceptor.handle_timeout(late);
    assert_eq!(acceptor.poll_event(), Some(Event::Lost(Lost::Down)));
    // The dialler has not looked at the clock yet.
    connect(&mut dialler, &mut acceptor, 2, late);
    assert_eq!(dialler.poll_event(), Some(Event::Lost(Lost::GivenUp)));
    assert_eq!((dialler.poll_event(), acceptor.poll_event()), (Some(Event::Back), Some(Event::Back)));
    assert_eq!(carry(&mut dialler, &mut acceptor, late), [0u32; 0]);
    assert_eq!(dialler.session(), acceptor.session());
}

#[test]
fn a_node_that_takes_nothing_is_lost_when_the_memory_for_it_is_full() {
    let (mut dialler, mut acceptor, now) = pair();
    (0..50).for_each(|item| dialler.send(item, 10, now).unwrap());
    assert_eq!(dialler.send(50, 10, now), Err(SendError::Full));
    assert_eq!(dialler.kept(), (0, 0));
    assert_eq!(dialler.poll_event(), Some(Event::Lost(Lost::Full)));
    assert_eq!(dialler.poll_event(), Some(Event::HangUp(HangUp::SessionOver)));
    connect(&mut dialler, &mut acceptor, 2, now);
    assert_eq!(acceptor.poll_event(), Some(Event::Lost(Lost::GivenUp)));
    assert_eq!(acceptor.poll_event(), Some(Event::Back));
}

#[test]
fn a_process_that_came_back_is_another_one() {
    let (_, mut acceptor, now) = pair();
    let again = Greeting { resume: 0, fresh: 77, received: 0, attempt: 1 };
    assert_eq!(acceptor.accept(again, 9, now), Ok(Answer { session: 77, received: 0 }));
    assert_eq!(acceptor.poll_event(), Some(Event::Lost(Lost::OtherInstance)));
    assert_eq!(acceptor.poll_event(), Some(Event::Back));
    assert_eq!(acceptor.poll_event(), None, "the connection that says so stays");
}

#[test]
fn a_node_that_has_left_is_lost_as_soon_as_it_has_no_connection() {
    let (mut dialler, mut acceptor, now) = pair();
    dialler.left(true, now);
    assert_eq!(dialler.poll_event(), None, "what it says to the end is heard");
    dialler.send(1, 10, now).expect("it is still there");
    dialler.disconnected(now);
    assert_eq!(dialler.poll_event(), Some(Event::Lost(Lost::Left)));
    acceptor.disconnected(now);
    acceptor.left(true, now);
    assert_eq!(acceptor.poll_event(), Some(Event::Lost(Lost::Left)));
    // The next process of that node is here before others say so.
    let next = Greeting { resume: 0, fresh: 77, received: 0, attempt: 1 };
    assert!(acceptor.accept(next, 9, now).is_ok());
    assert_eq!(acceptor.poll_event(), Some(Event::Back));
    acceptor.disconnected(now);
    assert_eq!(acceptor.poll_event(), None, "it may be back at once");
}

#[test]
fn a_connection_that_comes_late_does_not_take_the_place_of_a_newer_one() {
    let (mut dialler, mut acceptor, now) = pair();
    let late = dialler.greet(50, 2);
    dialler.disconnected(now);
    connect(&mut dialler, &mut acceptor, 3, now);
    assert_eq!(acceptor.accept(late, 7, now), Err(Stale));
    dialler.send(1, 1, now).unwrap();
    assert_eq!(carry(&mut dialler, &mut acceptor, now), [1]);
}

#[test]
fn who_breaks_the_rules_is_lost() {
    let cases = [
        (Frame { first: 2, items: vec![1], received: 0 }, Broken::OutOfOrder),
        (Frame { first: 0, items: vec![1], received: 0 }, Broken::OutOfOrder),
        (Frame { first: u64::MAX, items: vec![1], received: 0 }, Broken::OutOfOrder),
        (Frame { first: 1, items: vec![], received: 1 }, Broken::Acknowledged),
        (Frame { first: 1, items: vec![1], received: u64::MAX }, Broken::Acknowledged),
    ];
    for (frame, broken) in cases {
        let (_, mut acceptor, now) = pair();
        assert!(acceptor.handle_frame(frame, 10, now).is_empty());
        assert_eq!(acceptor.poll_event(), Some(Event::Lost(Lost::Broken(broken))));
        assert_eq!(acceptor.poll_event(), Some(Event::HangUp(HangUp::SessionOver)));
    }
    let (mut dialler, _, now) = pair();
    dialler.disconnected(now);
    dialler.greet(50, 2);
    assert_eq!(dialler.answered(Answer { session: 51, received: 0 }, 8, now), Err(Stale));
    assert_eq!(dialler.poll_event(), Some(Event::Lost(Lost::Broken(Broken::Session))));
}
