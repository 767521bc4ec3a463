//! One request to a webhook, and how it is kept.

use mairust_core::Timestamp;
use serde::{Deserialize, Serialize};

/// One request, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookAttempt {
    /// When it was made.
    pub at: Timestamp,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it failed, for people; `None` if it did not.
    pub error: Option<String>,
    /// The beginning of the body of the answer, as text.
    pub response: Option<String>,
}

/// An attempt as it stands in a column.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Microseconds since 1970.
    at: i64,
    status: Option<u16>,
    ms: u64,
    error: Option<String>,
    response: Option<String>,
}

impl WebhookAttempt {
    /// How attempts stand in a column.
    pub(crate) fn to_json(attempts: &[Self]) -> serde_json::Value {
        let kept = |attempt: &Self| Kept {
            at: attempt.at.as_micros(),
            status: attempt.status,
            ms: attempt.took_ms,
            error: attempt.error.clone(),
            response: attempt.response.clone(),
        };
        attempts.iter().map(|attempt| serde_json::json!(kept(attempt))).collect()
    }

    /// What [`to_json`](Self::to_json) wrote.
    pub(crate) fn from_json(value: &serde_json::Value) -> Option<Vec<Self>> {
        let kept = Vec::<Kept>::deserialize(value).ok()?;
        let attempt = |Kept { at, status, ms, error, response }: Kept| {
            let (at, took_ms) = (Timestamp::from_micros(at), ms);
            Self { at, status, took_ms, error, response }
        };
        Some(kept.into_iter().map(attempt).collect())
    }
}
