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
use cluster::switchboard::Switchboard;
use jiff::Timestamp;
use model::{BindingRecord, Client, Id, OpenCall, Snapshot, Terminal};
use proxy::Proxy;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic_health::server::HealthReporter;

/// This node.
pub(crate) struct Living {
    /// Its roles, as far as it has them.
    proxy: Option<Arc<Proxy>>,
    calls: Option<Arc<AppServer>>,
    /// Where it is one of many.
    switchboard: Option<Arc<Switchboard>>,
    live: Arc<Live>,
    node: u16,
    since: Instant,
    health: Arc<Health>,
}

impl Living {
    pub(crate) fn new(
        proxy: Option<Arc<Proxy>>,
        calls: Option<Arc<AppServer>>,
        switchboard: Option<Arc<Switchboard>>,
        live: Arc<Live>,
        node: u16,
        health: Arc<Health>,
    ) -> Self {
        Self { proxy, calls, switchboard, live, node, since: Instant::now(), health }
    }

    /// What is registered for an endpoint, wherever it registered.
    fn bindings(&self, terminal: Id<Terminal>) -> Vec<BindingRecord> {
        match (&self.switchboard, &self.proxy) {
            (Some(switchboard), _) => {
                switchboard.located(terminal).into_iter().map(|located| located.binding).collect()
            }
            (None, Some(proxy)) => proxy.registrations(terminal),
            (None, None) => Vec::new(),
        }
    }

    async fn open_calls(&self) -> Vec<OpenCall> {
        match &self.calls {
            Some(calls) => calls.open_calls().await,
            None => Vec::new(),
        }
    }

    fn count(&self) -> usize {
        self.calls.as_ref().map_or(0, |calls| calls.stats().calls)
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
        let bindings = self.bindings(terminal).into_iter();
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
            calls: self.count(),
            bindings: self.proxy.as_ref().map_or(0, |proxy| proxy.stats().bindings),
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
        Ok(self.open_calls().await.into_iter().map(told).collect())
    }

    async fn hang_up(&self, call: &str) -> Result<bool, NotHere> {
        let open = self.open_calls().await.iter().any(|open| open.call == call);
        let Some(id) = call.parse::<CallId>().ok().filter(|_| open) else { return Ok(false) };
        if let Some(calls) = &self.calls {
            calls.hang_up(id);
        }
        Ok(true)
    }

    async fn remove_registrations(
        &self,
        user: &str,
        domain: &str,
        contact: Option<&str>,
    ) -> Result<usize, NotHere> {
        let terminal = self.terminal(user, domain);
        let dropped =
            terminal.zip(self.proxy.as_ref()).map(|(terminal, proxy)| proxy.unbind(terminal, contact));
        Ok(dropped.unwrap_or(0))
    }

    async fn calls(&self, of: CallsOf) -> CallCount {
        let rows = self.live.rows();
        // Calls stay within a client here: none comes from outside or goes there.
        let calls_of = |client| self.calls.as_ref().map_or(0, |calls| calls.calls_of(client));
        let internal = match (of.company, of.brand) {
            (Some(company), _) => calls_of(Id::new(company)),
            (None, Some(brand)) => rows.of::<Client>("brand", brand).map(|client| calls_of(client.id)).sum(),
            (None, None) => u32::try_from(self.count()).unwrap_or(u32::MAX),
        };
        CallCount { internal, ..CallCount::default() }
    }
}
