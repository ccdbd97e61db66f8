//! Work that takes its time: where it is done, and whose turn it is.
//!
//! In: whose work it is. Out: a turn, one for each tenant, so that nobody's changes wait behind all of somebody else's.
//! Elsewhere: the work itself (`live`, `list`).

use crate::live::NotKept;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::OwnedMutexGuard;

/// A brand, or a client of it.
pub type Tenant = (u32, Option<u32>);

/// Changes of one tenant that wait for each other.
const MOST_WAITING: usize = 64;

type Line = Arc<tokio::sync::Mutex<()>>;

/// Who makes changes, and who waits. Of each tenant one is among those who wait for the writer.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<Tenant, Line>>);

/// A turn until it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    tenant: Tenant,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the tenant's turn; none, the platform, has its turn at once.
    ///
    /// # Errors
    ///
    /// Too many of the tenant wait already.
    pub(crate) async fn take(&self, tenant: Option<Tenant>) -> Result<Option<Turn<'_>>, NotKept> {
        let Some(tenant) = tenant else { return Ok(None) };
        // Whoever stops waiting leaves, too.
        let (mut turn, line) = {
            let mut lines = self.0.lock();
            let line = lines.entry(tenant).or_default();
            // The map has one of them, each who waits or works another.
            if Arc::strong_count(line) > MOST_WAITING {
                return Err(NotKept::Away(format!("{MOST_WAITING} changes of yours are waiting already")));
            }
            (Turn { turns: self, tenant, held: None }, Arc::clone(line))
        };
        turn.held = Some(line.lock_owned().await);
        Ok(Some(turn))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held = None;
        let mut lines = self.turns.0.lock();
        if lines.get(&self.tenant).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.tenant);
        }
    }
}

/// Does work that may take long: what else is to be done on this thread goes on elsewhere meanwhile.
pub(crate) fn in_place<T>(work: impl FnOnce() -> T) -> T {
    let others = Handle::try_current().map(|handle| handle.runtime_flavor());
    match others {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenant_has_one_turn_at_a_time_and_others_have_theirs() {
        let turns = Turns::default();
        let (mine, other) = (Some((1, Some(1))), Some((1, Some(2))));
        let first = turns.take(mine).await.unwrap();
        tokio::select! {
            biased;
            _ = turns.take(mine) => panic!("two at a time"),
            () = tokio::task::yield_now() => {}
        }
        let second = turns.take(other).await.unwrap();
        assert!(turns.take(Some((1, None))).await.unwrap().is_some());
        assert!(turns.take(None).await.unwrap().is_none());
        drop(first);
        let again = turns.take(mine).await.unwrap();
        drop((again, second));
        assert!(turns.0.lock().is_empty(), "nothing is kept of who is done");
    }

    #[tokio::test]
    async fn a_line_has_an_end() {
        let turns = Arc::new(Turns::default());
        let held = turns.take(Some((1, None))).await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..MOST_WAITING + 10 {
            let turns = Arc::clone(&turns);
            waiting.spawn(async move { turns.take(Some((1, None))).await.is_ok() });
        }
        while turns.0.lock().values().all(|line| Arc::strong_count(line) <= MOST_WAITING) {
            tokio::task::yield_now().await;
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        drop(held);
        let had = waiting.join_all().await;
        assert_eq!(had.iter().filter(|had| **had).count(), MOST_WAITING - 1, "the first one counts");
        assert!(turns.0.lock().is_empty());
    }
}
