//! Accepting one thing at a time, also for several tenants.

use mairust_store::{Acceptance, StorageBackend, StoreError};

/// What tenants get, each its own, as one step; `None` if there is nothing.
pub(crate) fn together(acceptances: Vec<Acceptance>) -> Option<Acceptance> {
    let mut acceptances = acceptances.into_iter();
    let first = acceptances.next()?;
    Some(Acceptance { others: acceptances.collect(), ..first })
}

/// Makes one acceptance durable.
///
/// # Errors
/// As [`MessageStore::accept`](mairust_store::MessageStore::accept).
pub(crate) async fn accept(storage: &dyn StorageBackend, acceptance: Acceptance) -> Result<(), StoreError> {
    let answer = storage.messages().accept(vec![acceptance]).await.pop();
    answer.unwrap_or_else(|| Err(crate::error::no_answer()))
}
