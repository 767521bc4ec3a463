//! Accepting one thing at a time.

use mairust_store::{Acceptance, StorageBackend, StoreError};

/// Makes one acceptance durable.
///
/// # Errors
/// As [`MessageStore::accept`](mairust_store::MessageStore::accept).
pub(crate) async fn accept(storage: &dyn StorageBackend, acceptance: Acceptance) -> Result<(), StoreError> {
    let answer = storage.messages().accept(vec![acceptance]).await.pop();
    answer.unwrap_or_else(|| Err(crate::error::no_answer()))
}
