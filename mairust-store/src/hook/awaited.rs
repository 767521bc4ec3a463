//! Results that programs tell later.

use mairust_core::{HookId, JobId, MessageId, TenantId, Timestamp};
use serde_json::Value;

/// A call of a hook that a program has taken, to tell the result later.
#[derive(Debug, Clone, PartialEq)]
pub struct AwaitedResult {
    /// Whose mail it is about.
    pub tenant: TenantId,
    /// The job that waits for it.
    pub job: JobId,
    /// The binding of the program.
    pub hook: HookId,
    /// The message.
    pub message: MessageId,
    /// SHA-256 of the token that the program tells it with; no other call has the same.
    pub token_hash: [u8; 32],
    /// The number of the attempt, counted from 1.
    pub attempt: u32,
    /// When the program took the call.
    pub accepted_at: Timestamp,
    /// When the result has to be there.
    pub result_by: Timestamp,
    /// How far that can be put off.
    pub latest: Timestamp,
    /// Until when the token is good, whether or not the result is there.
    pub expires_at: Timestamp,
    /// The result, once it is there; opaque to the store.
    pub result: Option<Value>,
}
