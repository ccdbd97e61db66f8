//! What the external calls of each client have cost today (manual 12.6): kept in the client, so that routing refuses what comes after the
//! limit.
//!
//! In: clients whose calls came into the lists, the lists, midnights of the brands. Out: `currentDayUsage` of clients. Elsewhere: refusing
//! (crate `routing`), hanging up (room `limit`).

use api::live::{ChangeError, Live, NotKept, Who};
use jiff::Timestamp;
use jiff::civil::Date;
use model::define::Entity as _;
use model::define::choices::Direction;
use model::draft::Draft;
use model::entities::{BillableCall, Brand, Company};
use model::rows::{Row, Rows};
use model::rules::Refusal;
use model::{Id, checks};
use parking_lot::Mutex;
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::config::{ConfigError, ConfigStore, RecordQuery};
use tracing::{error, info, warn};

/// How often a client's usage is written while it is on one side of the limit: each time is an entry of the change log.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// A client's calls are summed up again after so long for each: reading one takes a fiftieth of that, or less.
const REST: Duration = Duration::from_micros(500);
/// The most that the field takes.
const MOST: Decimal = Decimal::from_parts(999_999, 0, 0, false, 0);

/// Why usages are not what they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSettled {
    #[error(transparent)]
    Lists(#[from] ConfigError),
    #[error(transparent)]
    Clients(#[from] NotKept),
}

/// The usages of all clients, as far as they have to be looked at.
#[derive(Default)]
pub(crate) struct DayUsage {
    /// Clients whose usage may be another now.
    charged: BTreeSet<Id<Company>>,
    /// The day of each brand.
    days: BTreeMap<Id<Brand>, Date>,
    rests: BTreeMap<Id<Company>, Rest>,
}

/// When a client may be looked at again, and when it was written.
#[derive(Clone, Copy)]
struct Rest {
    until: Instant,
    kept: Option<Instant>,
}

impl DayUsage {
    /// These came into the lists.
    pub(crate) fn note(&mut self, rows: &[Row]) {
        let calls = rows.iter().filter_map(|row| row.cast::<BillableCall>());
        self.charged.extend(calls.filter(|call| is_charged(call)).filter_map(|call| call.company));
    }

    /// Sums up what has changed, and keeps it in the clients. How many clients that changed. `begun` is the same moment as `now`.
    pub(crate) async fn settle(
        &mut self,
        lists: &ConfigStore,
        live: &Live,
        now: Timestamp,
        begun: Instant,
    ) -> Result<usize, NotSettled> {
        let rows = live.rows();
        let midnights = self.begin_days(&rows, now);
        let is_due = |rest: Option<&Rest>| rest.is_none_or(|rest| rest.until <= begun);
        let due: Vec<_> =
            self.charged.iter().copied().filter(|client| is_due(self.rests.get(client))).collect();
        let mut sums = BTreeMap::new();
        for id in due {
            let from = rows.get(id).and_then(|client| midnights.get(&client.brand));
            let (Some(client), Some(from)) = (rows.get(id), from) else {
                self.charged.remove(&id);
                continue;
            };
            let (sum, count) = spent(lists, id, *from).await?;
            let rest = self.rests.entry(id).or_insert(Rest { until: begun, kept: None });
            rest.until = begun + REST * count;
            let kept_lately = rest.kept.is_some_and(|kept| begun < kept + KEEP_EVERY);
            if client.current_day_usage.unwrap_or_default() == sum {
                self.charged.remove(&id);
            } else if !kept_lately
                || client.has_reached_daily_limit() != with(client, sum).has_reached_daily_limit()
            {
                sums.insert(id, sum);
            }
        }
        self.keep(&rows, sums, live, begun).await
    }

    /// When the day of each brand began. Where that is another day than the last time, or there is no last time, all its clients are to be
    /// looked at.
    fn begin_days(&mut self, rows: &Rows, now: Timestamp) -> BTreeMap<Id<Brand>, Timestamp> {
        let mut midnights = BTreeMap::new();
        for brand in rows.each::<Brand>() {
            let today = now.to_zoned(checks::zone(rows, None, Some(brand.id)));
            let Ok(begun) = today.start_of_day() else { continue };
            midnights.insert(brand.id, begun.timestamp());
            if self.days.insert(brand.id, today.date()) != Some(today.date()) {
                let clients = rows.of::<Company>("brand", brand.id.get()).map(|client| client.id);
                for client in clients {
                    self.charged.insert(client);
                    self.rests.remove(&client);
                }
            }
        }
        midnights
    }

    async fn keep(
        &mut self,
        rows: &Rows,
        sums: BTreeMap<Id<Company>, Decimal>,
        live: &Live,
        now: Instant,
    ) -> Result<usize, NotSettled> {
        if sums.is_empty() {
            return Ok(0);
        }
        let kept = match change(live, &sums).await {
            Ok(()) => sums,
            Err(ChangeError::NotKept(error)) => return Err(error.into()),
            // One that the rules refuse holds up no other.
            Err(ChangeError::Refused(_)) => {
                let mut kept = BTreeMap::new();
                for (client, sum) in sums {
                    match change(live, &BTreeMap::from([(client, sum)])).await {
                        Ok(()) => drop(kept.insert(client, sum)),
                        Err(ChangeError::NotKept(error)) => return Err(error.into()),
                        Err(ChangeError::Refused(error)) => {
                            self.charged.remove(&client);
                            error!(client = client.get(), %error, "a client does not take its usage of the day");
                        }
                    }
                }
                kept
            }
        };
        for (id, sum) in &kept {
            self.charged.remove(id);
            if let Some(rest) = self.rests.get_mut(id) {
                rest.kept = Some(now);
            }
            let Some(client) = rows.get(*id) else { continue };
            let (was, is) = (client.has_reached_daily_limit(), with(client, *sum).has_reached_daily_limit());
            let (client, limit) = (id.get(), client.max_daily_usage);
            match (was, is) {
                (false, true) => {
                    warn!(client, %sum, limit, "a client has spent what it may in one day; it makes no external calls until midnight");
                }
                (true, false) => info!(client, %sum, limit, "a client may make external calls again"),
                (true, true) | (false, false) => {}
            }
        }
        Ok(kept.len())
    }
}

/// A client that has spent this.
fn with(client: &Company, sum: Decimal) -> Company {
    Company { current_day_usage: Some(sum), ..client.clone() }
}

fn is_charged(call: &BillableCall) -> bool {
    matches!(call.direction, Direction::Outbound) && call.price.is_some()
}

async fn change(live: &Live, sums: &BTreeMap<Id<Company>, Decimal>) -> Result<(), ChangeError> {
    let make = |draft: &mut Draft<'_>| -> Result<(), Refusal> {
        for (client, sum) in sums {
            if draft.get(*client).is_some() {
                draft.change(*client, |row| row.current_day_usage = Some(*sum))?;
            }
        }
        Ok(())
    };
    live.change(None, &Who::system(), make).await.map(drop)
}

/// What the calls that a client made from this moment on cost, and how many of its calls were read for that.
async fn spent(
    lists: &ConfigStore,
    client: Id<Company>,
    from: Timestamp,
) -> Result<(Decimal, u32), ConfigError> {
    let sum = Arc::new(Mutex::new((Decimal::ZERO, 0_u32)));
    let adding = Arc::clone(&sum);
    let calls = RecordQuery {
        reference: Some(("company", client.get())),
        from: Some(from),
        // Each is read, and none is kept: there may be many.
        filter: Some(Arc::new(move |record| {
            let (sum, count) = &mut *adding.lock();
            *count = count.saturating_add(1);
            if let Some(call) = record.cast::<BillableCall>().filter(|call| is_charged(call)) {
                *sum = sum.saturating_add(call.price.unwrap_or_default());
            }
            false
        })),
        limit: 0,
        ..RecordQuery::new(BillableCall::definition())
    };
    lists.query(&calls).await?;
    let (sum, count) = *sum.lock();
    Ok((sum.clamp(Decimal::ZERO, MOST), count))
}
