//! What the API is told of the living system: registrations and calls of this node.
//!
//! Elsewhere: who asks (crate `api`); rating, trunks, invoices, faxes and mail are not asked here yet.

use api::live::Live;
use api::outside::{CallCount, CallsOf, Outside, Registration};
use appserver::AppServer;
use async_trait::async_trait;
use jiff::Timestamp;
use model::Snapshot;
use proxy::Proxy;
use std::sync::Arc;

/// This node.
pub(crate) struct Living {
    proxy: Arc<Proxy>,
    calls: Arc<AppServer>,
    live: Arc<Live>,
}

impl Living {
    pub(crate) fn new(proxy: Arc<Proxy>, calls: Arc<AppServer>, live: Arc<Live>) -> Self {
        Self { proxy, calls, live }
    }
}

#[async_trait]
impl Outside for Living {
    async fn registrations(&self, user: &str, domain: &str) -> Vec<Registration> {
        let snapshot = Snapshot::new((*self.live.rows()).clone());
        let client = snapshot.client_by_domain(domain);
        let endpoint = client.and_then(|client| snapshot.endpoint(client.id, user));
        let Some(terminal) = endpoint.map(|endpoint| endpoint.terminal.id) else { return Vec::new() };
        let of = self.proxy.registrations().into_iter().filter(|binding| binding.terminal == terminal);
        of.map(|binding| Registration {
            received: if binding.nat { format!("sip:{}", binding.flow.remote) } else { String::new() },
            expires: Timestamp::from_second(binding.expires_at).unwrap_or(Timestamp::UNIX_EPOCH),
            user_agent: binding.user_agent,
            contact: binding.contact,
        })
        .collect()
    }

    async fn calls(&self, _: CallsOf) -> CallCount {
        // Calls stay within a client here: none comes from outside or goes there.
        let _ = self.calls.stats();
        CallCount::default()
    }
}
