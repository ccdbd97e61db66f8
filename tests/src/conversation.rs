//! Alice and Bob talk through a cluster while a test does something to it.
//!
//! In: a cluster. Out: what both hear, and the one record of their call. Elsewhere: messages (`endpoint`), packets (`rtp`).

use crate::call::{Established, establish, establish_with, media_address, sdp};
use crate::cluster::Cluster;
use crate::endpoint::{Endpoint, body, target};
use crate::rtp::{RtpPort, Side, converse, greet};
use model::HungUpBy;
use std::net::SocketAddr;

/// Alice at one proxy, Bob at the other, in a conversation.
pub struct Conversation {
    /// Who called.
    pub alice: Endpoint,
    /// Who was called.
    pub bob: Endpoint,
    /// Their dialogs.
    pub call: Established,
    /// Their ports.
    pub audio: [RtpPort; 2],
}

impl Conversation {
    /// They register and talk.
    ///
    /// # Panics
    /// When they cannot.
    pub fn begin(cluster: &Cluster) -> Conversation {
        let (mut alice, mut bob) = (cluster.phone("p1", 8, "alice"), cluster.phone("p2", 9, "bob"));
        cluster.known(2, || {
            bob.register();
            alice.register();
        });
        let audio = [RtpPort::open(alice.ip(), 30_000), RtpPort::open(bob.ip(), 30_002)];
        let call = establish(&mut alice, &mut bob);
        // What a proxy knows of a dialog is elsewhere, too, a moment after the call is answered.
        cluster.who_says_so_often(&["a1", "a2"], "dialog is kept", 2);
        Conversation { alice, bob, call, audio }
    }

    /// Where the platform has the two send.
    pub fn to(&self) -> [SocketAddr; 2] {
        [media_address(&self.call.answer), media_address(&self.call.offer)]
    }

    /// Both hear each other.
    ///
    /// # Panics
    /// When one does not hear the other.
    pub fn talk(&self, numbers: std::ops::Range<u16>) {
        let [to_alice, to_bob] = self.to();
        let (alice, bob) =
            (Side { port: &self.audio[0], to: to_alice }, Side { port: &self.audio[1], to: to_bob });
        if numbers.start == 0 {
            greet(&alice, &bob);
        }
        converse(&alice, &bob, numbers.start.max(1)..numbers.end);
    }

    /// The caller hangs up, and the callee hears of it.
    ///
    /// # Panics
    /// When that is not answered.
    pub fn hang_up(&mut self) {
        self.alice.in_dialog(&mut self.call.caller, "BYE", "", "");
        self.bob.hung_up();
        self.alice.expect("200 BYE");
    }

    /// Neither telephone has anything that the test did not expect: both ask something, and the answer is the next thing that they hear.
    ///
    /// # Panics
    /// When one has.
    pub fn nobody_was_told_anything(&mut self) {
        self.alice.register();
        self.bob.register();
    }

    /// Her leg is at another proxy now: she hears where to send what she has to say.
    ///
    /// # Panics
    /// When she does not.
    pub fn alice_is_told_of(&mut self, proxy: SocketAddr) {
        let Conversation { alice, call, .. } = self;
        let told = alice.expect_of(&["INVITE", "UPDATE"]);
        alice.respond(&told, 200, "", "", &sdp(alice.ip(), 30_000));
        if told.method() == sip::msg::Method::Invite {
            alice.expect("ACK");
        }
        call.caller.target = target(&told);
        let host = call.caller.target.rsplit_once('@').map(|(_, host)| host.to_owned());
        assert_eq!(host.as_deref(), Some(proxy.to_string().as_str()), "{}", call.caller.target);
    }

    /// Both are offered another relay, and the old one serves them until they have moved.
    ///
    /// # Panics
    /// When they are not.
    pub fn move_to_another_relay(&mut self) {
        let requests = [&mut self.alice, &mut self.bob].map(|phone| phone.expect_of(&["INVITE", "UPDATE"]));
        self.talk(1..10);
        let ports = [30_000, 30_002];
        for ((phone, request), port) in [&mut self.alice, &mut self.bob].into_iter().zip(&requests).zip(ports)
        {
            phone.respond(request, 200, "", "", &sdp(phone.ip(), port));
            if request.method() == sip::msg::Method::Invite {
                phone.expect("ACK");
            }
        }
        [self.call.answer, self.call.offer] = requests.map(|request| body(&request));
        self.talk(0..10);
    }

    /// A leg is offered another relay: takes it. Where it has this side send from now on.
    ///
    /// # Panics
    /// When none is offered.
    pub fn moves(phone: &mut Endpoint, port: u16) -> SocketAddr {
        let request = phone.expect_of(&["INVITE", "UPDATE"]);
        let answer = sdp(phone.ip(), port);
        let is_invite = request.method() == sip::msg::Method::Invite;
        phone.respond(&request, 200, "", "", &answer);
        if is_invite {
            phone.expect("ACK");
        }
        media_address(&body(&request))
    }
}

/// One record, of an answered call that the caller ended.
///
/// # Panics
/// When there is another, or none.
pub fn one_record(cluster: Cluster) {
    let records = cluster.finish();
    assert_eq!(records.len(), 1, "one record for one call: {records:#?}");
    let record = &records[0];
    assert_eq!((record.cause.status, record.hung_up_by), (200, HungUpBy::Caller), "{record:#?}");
    assert!(record.answered_us.is_some_and(|answered| answered >= record.started_us), "{record:#?}");
}

/// Carol at one proxy, Dave at the other, who have short calls.
pub struct Pair {
    /// Whose proxy is p1; number 103.
    pub carol: Endpoint,
    /// Whose proxy is p2; number 104.
    pub dave: Endpoint,
}

impl Pair {
    /// They register.
    ///
    /// # Panics
    /// When they cannot.
    pub fn register(cluster: &Cluster) -> Pair {
        let (mut carol, mut dave) = (cluster.phone("p1", 10, "carol"), cluster.phone("p2", 11, "dave"));
        cluster.known(2, || {
            carol.register();
            dave.register();
        });
        Pair { carol, dave }
    }

    /// Carol calls, and hangs up.
    ///
    /// # Panics
    /// When anything goes wrong.
    pub fn call_and_hang_up(&mut self) {
        short_call(&mut self.carol, &mut self.dave, "104");
    }

    /// Dave calls, and hangs up.
    ///
    /// # Panics
    /// When anything goes wrong.
    pub fn call_back_and_hang_up(&mut self) {
        short_call(&mut self.dave, &mut self.carol, "103");
    }
}

fn short_call(caller: &mut Endpoint, callee: &mut Endpoint, number: &str) {
    let (offer, answer) = (sdp(caller.ip(), 30_000), sdp(callee.ip(), 30_002));
    let mut call = establish_with(caller, callee, number, &offer, &answer);
    caller.in_dialog(&mut call.caller, "BYE", "", "");
    callee.hung_up();
    caller.expect("200 BYE");
}
