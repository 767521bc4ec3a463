//! Ending leases: those who end one at the same time share one transaction, and so one wait for the
//! disk. As in [`GroupCommit`](crate::GroupCommit), a lone one is not delayed.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, oneshot};

use super::changes::Change;
use super::driver::{Query, Scope, failed};
use super::storage::Parts;
use crate::error::{StoreError, StoreErrorKind};

/// Those who wait to end a lease.
#[derive(Debug, Default)]
pub(super) struct Finishing {
    waiting: Mutex<Vec<Waiting>>,
    /// Of whoever ends the leases of all who wait.
    turn: Turn<()>,
}

#[derive(Debug)]
struct Waiting {
    query: Query,
    ending: Ending,
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

/// What becomes of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It comes again, and whoever waits for jobs is to be told.
    GivenBack,
    /// It does not.
    Over,
}

/// How many leases are ended by one transaction.
const AT_ONCE: usize = 256;

impl Parts {
    /// Runs a statement that does something only if a lease was not lost, together with those of all
    /// who wait. If the future of whoever does it for all is dropped, nothing was changed, and the
    /// others are told that the database did not answer.
    pub(super) async fn finish(
        &self,
        operation: &'static str,
        query: Query,
        ending: Ending,
    ) -> Result<bool, StoreError> {
        let (answer, mut answered) = oneshot::channel();
        self.finishing.lock().push(Waiting { query, ending, answer });
        // Another one may do it for this one meanwhile, or leave it behind a full group.
        loop {
            let turn = self.finishing.turn.lock().await;
            match answered.try_recv() {
                Ok(done) => return done,
                Err(oneshot::error::TryRecvError::Empty) => self.finish_some(operation).await,
                Err(oneshot::error::TryRecvError::Closed) => {
                    let context = "whoever did it for all was interrupted";
                    return Err(StoreError::new(StoreErrorKind::Unavailable, operation, context));
                }
            }
            drop(turn);
        }
    }

    async fn finish_some(&self, operation: &'static str) {
        let group: Vec<_> = {
            let mut waiting = self.finishing.lock();
            let count = waiting.len().min(AT_ONCE);
            waiting.drain(..count).collect()
        };
        let (queries, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|Waiting { query, ending, answer }| ((query, ending), answer)).unzip();
        let results = match self.finish_all(operation, queries).await {
            Ok(held) => held.into_iter().map(Ok).collect(),
            Err(error) => {
                let failed = || StoreError::new(error.kind(), operation, format!("the group failed: {error}"));
                answers.iter().map(|_| Err(failed())).collect::<Vec<_>>()
            }
        };
        for (answer, result) in answers.into_iter().zip(results) {
            // Whoever went away needs no answer.
            drop(answer.send(result));
        }
    }

    /// Which of the leases were not lost.
    async fn finish_all(
        &self,
        operation: &'static str,
        queries: Vec<(Query, Ending)>,
    ) -> Result<Vec<bool>, StoreError> {
        let mut transaction = self.database.begin(Scope::All).await.map_err(failed(operation, "begin"))?;
        let (mut held, mut given_back) = (Vec::with_capacity(queries.len()), false);
        for (query, ending) in queries {
            let done = transaction.execute(query).await.map_err(failed(operation, "end leases"))? > 0;
            held.push(done);
            given_back |= done && ending == Ending::GivenBack;
        }
        if given_back {
            self.changes.tell(&mut transaction, Change::Queue).await.map_err(failed(operation, "notify"))?;
        }
        transaction.commit().await.map_err(failed(operation, "commit"))?;
        if given_back {
            self.changes.announce(Change::Queue);
        }
        Ok(held)
    }
}

impl Finishing {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
