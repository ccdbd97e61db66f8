//! The task of a phone: its sockets and the audio of its calls around an [`Agent`].
//!
//! In: orders of the [`crate::Phone`] handle, datagrams, time. Out: datagrams, events of calls. Elsewhere: what the phone says
//! in SIP (`agent`), sockets (`wire`), audio (`media`).

use crate::agent::{Agent, AgentConfig, CallId, Event};
use crate::audio::Source;
use crate::media::Media;
use crate::trace::{Direction, Trace};
use crate::wire::{Arrival, Wire};
use crate::{CallEvent, PhoneCall, PhoneConfig, PhoneError};
use sip::digest::Login;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

/// What the handles want.
pub(crate) enum Order {
    Register { expires: u32, reply: oneshot::Sender<Result<(), PhoneError>> },
    Call { number: String, play: Source, reply: oneshot::Sender<Result<PhoneCall, PhoneError>> },
    Answer { call: CallId, play: Source },
    Reject { call: CallId, status: u16 },
    HangUp { call: CallId },
    Hold { call: CallId, hold: bool },
    Digit { call: CallId, digit: char },
}

struct Ua {
    agent: Agent,
    bind: IpAddr,
    wire: Wire,
    orders: mpsc::UnboundedSender<Order>,
    incoming: mpsc::UnboundedSender<PhoneCall>,
    trace: Arc<Trace>,
    registering: Option<oneshot::Sender<Result<(), PhoneError>>>,
    lines: BTreeMap<CallId, Line>,
}

/// What the user has of one call.
struct Line {
    events: mpsc::UnboundedSender<CallEvent>,
    media: Media,
}

/// Binds the sockets and starts the task; it ends when the last handle is dropped.
pub(crate) async fn start(
    config: PhoneConfig,
    inbox: mpsc::UnboundedReceiver<Order>,
    orders: mpsc::UnboundedSender<Order>,
    incoming: mpsc::UnboundedSender<PhoneCall>,
    trace: Arc<Trace>,
) -> io::Result<SocketAddr> {
    let wire = Wire::open(config.bind).await?;
    let local = wire.local();
    let bind = config.bind;
    let config = AgentConfig {
        login: Login::new(config.username, config.password),
        domain: config.domain,
        server: config.server,
        tcp: config.tcp,
        local,
        user_agent: concat!("Carillon-Phone/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let agent = Agent::new(config, rand::random());
    let (registering, lines) = (None, BTreeMap::new());
    tokio::spawn(Ua { agent, bind, wire, orders, incoming, trace, registering, lines }.run(inbox));
    Ok(local)
}

impl Ua {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        loop {
            self.settle().await;
            if self.incoming.is_closed() && self.agent.open() == 0 {
                return;
            }
            let deadline = self.agent.poll_timeout().map(Instant::from_std);
            let wake = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                arrival = self.wire.next() => self.arrived(arrival),
                () = sleep_until(wake) => self.agent.handle_timeout(now()),
            }
        }
    }

    fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Message(bytes, flow) => {
                self.trace.note(Direction::Received, &bytes);
                if let Err(error) = self.agent.handle_message(bytes, flow, now()) {
                    debug!(from = %flow.remote, %error, "dropped");
                }
            }
            Arrival::Gone(flow) => self.agent.handle_transport_error(flow, now()),
        }
    }

    /// Drains the agent; what cannot be sent is news for it again.
    async fn settle(&mut self) {
        loop {
            if let Some(event) = self.agent.poll_event() {
                self.agent_event(event);
            } else if let Some(transmit) = self.agent.poll_transmit() {
                self.trace.note(Direction::Sent, &transmit.bytes);
                if let Err(flow) = self.wire.send(transmit).await {
                    self.agent.handle_transport_error(flow, now());
                }
            } else {
                return;
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Register { expires, reply } => {
                self.registering = Some(reply);
                self.agent.register(expires, now());
            }
            Order::Call { number, play, reply } => {
                let _ = reply.send(self.dial(&number, play)); // nobody waits: dropping the call hangs up
            }
            Order::Answer { call, play } => {
                if let Some(line) = self.lines.get_mut(&call) {
                    line.media.play(play);
                    self.agent.answer(call, line.media.address(), now());
                }
            }
            Order::Reject { call, status } => self.agent.reject(call, status, now()),
            Order::HangUp { call } => self.agent.hang_up(call, now()),
            Order::Hold { call, hold } => self.agent.hold(call, hold, now()),
            Order::Digit { call, digit } => {
                if let Some(line) = self.lines.get(&call) {
                    line.media.digit(digit);
                }
            }
        }
    }

    fn dial(&mut self, number: &str, play: Source) -> Result<PhoneCall, PhoneError> {
        let (events, receiver) = mpsc::unbounded_channel();
        let mut media = Media::open(self.bind, events.clone())?;
        media.play(play);
        let call = self.agent.dial(number, media.address(), now());
        Ok(self.add_line(call, Line { events, media }, receiver, String::new()))
    }

    fn ring(&mut self, call: CallId, caller: String) {
        let (events, receiver) = mpsc::unbounded_channel();
        match Media::open(self.bind, events.clone()) {
            Ok(media) => {
                self.agent.ring(call, now());
                let call = self.add_line(call, Line { events, media }, receiver, caller);
                let _ = self.incoming.send(call); // nobody listens: dropping the call refuses it
            }
            Err(error) => {
                debug!(%error, "no socket for the audio");
                self.agent.reject(call, 503, now());
            }
        }
    }

    fn add_line(
        &mut self,
        id: CallId,
        line: Line,
        events: mpsc::UnboundedReceiver<CallEvent>,
        caller: String,
    ) -> PhoneCall {
        let heard = line.media.heard();
        self.lines.insert(id, line);
        PhoneCall { id, orders: self.orders.clone(), events, heard, caller }
    }

    fn agent_event(&mut self, event: Event) {
        match event {
            Event::Registered => self.registered(Ok(())),
            Event::RegistrationFailed { status, reason } => {
                self.registered(Err(PhoneError::Refused { what: "REGISTER", status, reason }));
            }
            Event::Incoming { call, caller } => self.ring(call, caller),
            Event::Ringing { call, status } => self.tell(call, CallEvent::Ringing { status }),
            Event::Answered { call } => self.tell(call, CallEvent::Answered),
            Event::Agreed { call, agreed } => {
                if let Some(line) = self.lines.get(&call) {
                    line.media.agree(agreed);
                }
            }
            Event::Held { call, held } => self.tell(call, CallEvent::Held(held)),
            Event::Ended { call, status, by_peer } => {
                self.tell(call, CallEvent::Ended { status, by_peer });
                self.lines.remove(&call);
            }
        }
    }

    fn registered(&mut self, outcome: Result<(), PhoneError>) {
        match (self.registering.take(), outcome) {
            (Some(reply), outcome) => {
                let _ = reply.send(outcome); // nobody waits any more
            }
            (None, Err(error)) => debug!(%error, "not refreshed"), // the agent tries again
            (None, Ok(())) => {}
        }
    }

    fn tell(&self, call: CallId, event: CallEvent) {
        if let Some(line) = self.lines.get(&call) {
            let _ = line.events.send(event); // nobody listens: the handle is gone and the call is being hung up
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
