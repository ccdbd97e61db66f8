//! Appends that wait together become one transaction: a sync of the disk, or a round of messages, for all of them.
//!
//! In: prepared appends. Out: groups of them, and for each its ids, or its own token when nobody knows. Elsewhere: the
//! transaction (`file`, `postgres`), whose turn it is to make it (`store`).

use super::batch::{Batch, Outcome};
use super::error::ConfigError;
use super::token::Token;
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::sync::{MutexGuard, oneshot};

/// Records of one transaction, so that those who wait do not wait for too many others.
const RECORDS_MAX: usize = 2000;

type Answer = Result<Vec<u32>, ConfigError>;

/// Those who wait.
#[derive(Default)]
pub(super) struct Appends {
    waiting: Mutex<VecDeque<(Batch, oneshot::Sender<Answer>)>>,
    turn: tokio::sync::Mutex<()>,
}

/// Those whose records are one transaction.
pub(super) struct Group {
    pub(super) batch: Batch,
    tellers: Vec<(Token, usize, oneshot::Sender<Answer>)>,
}

impl Appends {
    /// Waits for somebody to keep the records; that may be whoever waits himself.
    pub(super) fn wait(&self, batch: Batch) -> oneshot::Receiver<Answer> {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().push_back((batch, tell));
        told
    }

    /// Whoever has it commits for all who wait.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Those who wait now, or as many of them as are wholesome.
    pub(super) fn group(&self) -> Option<Group> {
        let (mut batches, mut tellers, mut count) = (Vec::new(), Vec::new(), 0);
        let mut waiting = self.waiting.lock();
        while count < RECORDS_MAX
            && let Some((batch, tell)) = waiting.pop_front()
        {
            count += batch.items.len();
            tellers.push((batch.token, batch.items.len(), tell));
            batches.push(batch);
        }
        Some(Group { batch: Batch::joined(batches)?, tellers })
    }
}

impl Group {
    /// Tells each what became of his. Who does not wait any more has his records kept all the same.
    pub(super) fn tell(self, outcome: &Result<Outcome, ConfigError>) {
        let mut records = match outcome {
            Ok(Outcome::Done { records, .. }) => records.iter().copied(),
            _ => [].iter().copied(),
        };
        for (token, count, tell) in self.tellers {
            let _ = tell.send(match outcome {
                Ok(Outcome::Done { .. }) => Ok(records.by_ref().take(count).collect()),
                Ok(Outcome::Conflict { .. }) => Err(ConfigError::Closed),
                Err(ConfigError::OutcomeUnknown { source, .. }) => {
                    Err(ConfigError::OutcomeUnknown { token, source: source.clone() })
                }
                Err(error) => Err(error.clone()),
            });
        }
    }
}
