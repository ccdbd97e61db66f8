//! A wire that loses datagrams, between a phone and the node. SIPp's own `-lost` will not do: it takes a repeat of what it
//! threw away for something that it has answered.
//!
//! In: the phone's address, a share, a seed. Out: an address that stands for the phone. Elsewhere: simulated networks with
//! reordering and duplicates (crates `sip` and `proxy`).

use crate::node::Node;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the wire looks whether its test is over.
const GLANCE: Duration = Duration::from_millis(20);

/// The wire; cut when dropped.
pub struct LossyWire {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LossyWire {
    /// Stands at host part `host` for `phone`: what the node sends there goes to the phone, what the phone answers goes to
    /// the node, but for `percent` of all that is no provisional response.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn lay(node: &Node, host: u8, phone: SocketAddr, percent: u32, seed: u64) -> LossyWire {
        let socket = UdpSocket::bind(node.place().sip(host)).expect("the place is ours alone");
        socket.set_read_timeout(Some(GLANCE)).expect("a time-out above zero");
        let over = Arc::new(AtomicBool::new(false));
        let (node, ending, mut rng) = (node.sip(), Arc::clone(&over), StdRng::seed_from_u64(seed));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !ending.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                // SIPp stops repeating its 200 when the INVITE is repeated, as it is when 180 and 200 were lost.
                let is_provisional = buffer[..length].starts_with(b"SIP/2.0 1");
                if is_provisional || rng.random_range(0..100) >= percent {
                    // A phone that has left is as good as a loss.
                    let _ = socket.send_to(&buffer[..length], if from == node { phone } else { node });
                }
            }
        });
        LossyWire { over, thread: Some(thread) }
    }
}

impl Drop for LossyWire {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
