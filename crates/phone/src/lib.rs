//! A softphone on Carillon's own `sip` and `rtp` cores: the demonstration's two users, and a tool for tests.
//!
//! [`Phone`] is one account on one port, [`PhoneCall`] one of its calls. Rooms: `agent` (what a phone says in SIP, without
//! socket and clock: phones of the test world are made of it, too), `ua` (the task around it), `wire` (UDP and TCP), `media` (audio of one
//! call), `audio` (sources, what was heard, WAV files), `trace` (messages for a ladder).

pub mod agent;
mod audio;
mod media;
mod trace;
mod ua;
mod wire;

pub use audio::{Heard, Source, WavError, read_wav, write_wav};
pub use trace::{Direction, Traced, ladder};

use agent::CallId;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use trace::Trace;
use ua::Order;

/// One account.
#[derive(Clone, Debug)]
pub struct PhoneConfig {
    /// User part and digest user name.
    pub username: String,
    /// Digest password.
    pub password: String,
    /// Domain of the address-of-record.
    pub domain: String,
    /// Where requests go: the proxy.
    pub server: SocketAddr,
    /// By TCP instead of UDP.
    pub tcp: bool,
    /// Local address of SIP and RTP; the ports are free ones.
    pub bind: IpAddr,
}

/// Why the phone could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PhoneError {
    /// The server refused, or did not answer (408, 503).
    #[error("{what}: {status} {reason}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// SIP status.
        status: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// No socket.
    #[error("no socket: {0}")]
    Socket(#[from] io::Error),
    /// The phone's task has ended.
    #[error("the phone is off")]
    Off,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEvent {
    /// The other side rings (or sends early media).
    Ringing {
        /// 180 to 189.
        status: u16,
    },
    /// Somebody answered, and audio may flow.
    Answered,
    /// The other side put the call on hold, or resumed it; `true`: it does not want to hear us.
    Held(bool),
    /// A telephone event of the other side (RFC 4733): the digit.
    Digit(char),
    /// It is over. The last event.
    Ended {
        /// 200 after a conversation, else why there was none.
        status: u16,
        /// The other side ended it.
        by_peer: bool,
    },
}

/// A registered softphone.
pub struct Phone {
    orders: mpsc::UnboundedSender<Order>,
    incoming: mpsc::UnboundedReceiver<PhoneCall>,
    trace: Arc<Trace>,
    address: SocketAddr,
}

/// One call of a phone. Dropping it hangs up.
pub struct PhoneCall {
    id: CallId,
    orders: mpsc::UnboundedSender<Order>,
    events: mpsc::UnboundedReceiver<CallEvent>,
    heard: Arc<Heard>,
    /// Number or name of the other side, as its From says; empty for calls that we make.
    pub caller: String,
}

impl Phone {
    /// A phone with a socket, not yet registered.
    ///
    /// # Errors
    /// No socket can be bound to `config.bind`.
    pub async fn start(config: PhoneConfig) -> Result<Self, PhoneError> {
        let trace = Arc::new(Trace::new(&config.username));
        let (orders, inbox) = mpsc::unbounded_channel();
        let (calls, incoming) = mpsc::unbounded_channel();
        let address = ua::start(config, inbox, orders.clone(), calls, Arc::clone(&trace)).await?;
        Ok(Self { orders, incoming, trace, address })
    }

    /// Registers for so many seconds and keeps the registration fresh; 0 removes it.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn register(&self, expires: u32) -> Result<(), PhoneError> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Register { expires, reply })?;
        answer.await.map_err(|_| PhoneError::Off)?
    }

    /// Calls a number of the own domain.
    ///
    /// # Errors
    /// No media socket; everything else comes as an event of the call.
    pub async fn call(&self, number: &str, play: Source) -> Result<PhoneCall, PhoneError> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Call { number: number.to_owned(), play, reply })?;
        answer.await.map_err(|_| PhoneError::Off)?
    }

    /// The next call that comes in; it rings already.
    pub async fn incoming(&mut self) -> Option<PhoneCall> {
        self.incoming.recv().await
    }

    /// Every message that this phone sent or received, oldest first; the oldest are forgotten when there are many.
    pub fn trace(&self) -> Vec<Traced> {
        self.trace.all()
    }

    /// The local SIP address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn order(&self, order: Order) -> Result<(), PhoneError> {
        self.orders.send(order).map_err(|_| PhoneError::Off)
    }
}

impl PhoneCall {
    /// What happens next; `None` after the end.
    pub async fn next(&mut self) -> Option<CallEvent> {
        self.events.recv().await
    }

    /// Waits for an event that `wanted` accepts; `None` when the call ended without it.
    pub async fn wait_for(&mut self, wanted: impl Fn(&CallEvent) -> bool) -> Option<CallEvent> {
        while let Some(event) = self.next().await {
            if wanted(&event) {
                return Some(event);
            }
        }
        None
    }

    /// Answers an incoming call and plays `play`.
    pub fn answer(&self, play: Source) {
        self.order(Order::Answer { call: self.id, play });
    }

    /// Refuses an incoming call.
    pub fn reject(&self, status: u16) {
        self.order(Order::Reject { call: self.id, status });
    }

    /// Hangs up, whatever the state.
    pub fn hang_up(&self) {
        self.order(Order::HangUp { call: self.id });
    }

    /// Puts the other side on hold, or resumes.
    pub fn hold(&self, hold: bool) {
        self.order(Order::Hold { call: self.id, hold });
    }

    /// Sends one digit as a telephone event (RFC 4733).
    pub fn digit(&self, digit: char) {
        self.order(Order::Digit { call: self.id, digit });
    }

    /// What came by RTP.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    fn order(&self, order: Order) {
        let _ = self.orders.send(order); // a phone that is off has no calls
    }
}

impl Drop for PhoneCall {
    fn drop(&mut self) {
        self.hang_up();
    }
}
