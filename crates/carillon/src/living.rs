//! What the API is told of the living system: registrations and calls of this node, and ending them.
//!
//! Elsewhere: who asks (crate `api`); rating, trunks, invoices, faxes and mail are not asked here yet.

use crate::watching::Health;
use api::live::Live;
use api::outside::{
    ActiveCall, CallCount, CallsOf, LogFilter, NodeState, NotChanged, NotHere, Outside, Registration,
};
use appserver::AppServer;
use async_trait::async_trait;
use cluster::ids::CallId;
use jiff::Timestamp;
use model::{Client, Id, OpenCall, Snapshot, Terminal};
use proxy::Proxy;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic_health::server::HealthReporter;

/// This node.
pub(crate) struct Living {
    proxy: Arc<Proxy>,
    calls: Arc<AppServer>,
    live: Arc<Live>,
    node: u16,
    since: Instant,
    health: Arc<Health>,
}

impl Living {
    pub(crate) fn new(
        proxy: Arc<Proxy>,
        calls: Arc<AppServer>,
        live: Arc<Live>,
        node: u16,
        health: Arc<Health>,
    ) -> Self {
        Self { proxy, calls, live, node, since: Instant::now(), health }
    }

    /// The terminal with this address of record.
    fn terminal(&self, user: &str, domain: &str) -> Option<Id<Terminal>> {
        let snapshot = Snapshot::new((*self.live.rows()).clone());
        let client = snapshot.client_by_domain(domain)?;
        snapshot.endpoint(client.id, user).map(|endpoint| endpoint.terminal.id)
    }
}

#[async_trait]
impl Outside for Living {
    async fn registrations(&self, user: &str, domain: &str) -> Vec<Registration> {
        let Some(terminal) = self.terminal(user, domain) else { return Vec::new() };
        let bindings = self.proxy.registrations(terminal).into_iter();
        let told = bindings.map(|binding| Registration {
            received: if binding.nat { format!("sip:{}", binding.flow.remote) } else { String::new() },
            expires: Timestamp::from_second(binding.expires_at).unwrap_or(Timestamp::UNIX_EPOCH),
            user_agent: binding.user_agent,
            contact: binding.contact,
        });
        told.collect()
    }

    async fn node(&self) -> Result<NodeState, NotHere> {
        Ok(NodeState {
            node: self.node,
            uptime: self.since.elapsed(),
            calls: self.calls.stats().calls,
            bindings: self.proxy.stats().bindings,
        })
    }

    fn health(&self) -> Option<HealthReporter> {
        Some(self.health.reporter())
    }

    async fn log_filter(&self) -> Result<LogFilter, NotHere> {
        crate::logging::filter().ok_or_else(|| NotHere("this node writes no log".to_owned()))
    }

    async fn set_log_filter(
        &self,
        filter: Option<&str>,
        lasts: Option<Duration>,
    ) -> Result<LogFilter, NotChanged> {
        crate::logging::set_filter(filter, lasts)
    }

    async fn active_calls(&self) -> Result<Vec<ActiveCall>, NotHere> {
        let told = |call: OpenCall| ActiveCall {
            id: call.call,
            brand: call.brand.get(),
            company: call.client.get(),
            caller: (call.caller.number, call.caller.name),
            callee: (call.callee.number, call.callee.name),
            dialled: call.dialed,
            started_us: call.started_us,
            answered_us: call.answered_us,
        };
        Ok(self.calls.open_calls().await.into_iter().map(told).collect())
    }

    async fn hang_up(&self, call: &str) -> Result<bool, NotHere> {
        let open = self.calls.open_calls().await.iter().any(|open| open.call == call);
        let Some(id) = call.parse::<CallId>().ok().filter(|_| open) else { return Ok(false) };
        self.calls.hang_up(id);
        Ok(true)
    }

    async fn remove_registrations(
        &self,
        user: &str,
        domain: &str,
        contact: Option<&str>,
    ) -> Result<usize, NotHere> {
        let terminal = self.terminal(user, domain);
        Ok(terminal.map_or(0, |terminal| self.proxy.unbind(terminal, contact)))
    }

    async fn calls(&self, of: CallsOf) -> CallCount {
        let rows = self.live.rows();
        // Calls stay within a client here: none comes from outside or goes there.
        let internal = match (of.company, of.brand) {
            (Some(company), _) => self.calls.calls_of(Id::new(company)),
            (None, Some(brand)) => {
                rows.of::<Client>("brand", brand).map(|client| self.calls.calls_of(client.id)).sum()
            }
            (None, None) => u32::try_from(self.calls.stats().calls).unwrap_or(u32::MAX),
        };
        CallCount { internal, ..CallCount::default() }
    }
}
