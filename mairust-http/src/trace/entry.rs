//! The entries of a timeline.

use mairust_core::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::facts::{HookCall, HostFacts, PolicyFacts, ScanFacts, SessionFacts};

/// What happened to a message.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Trace {
    /// The message.
    pub id: String,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// What became of it so far.
    pub status: &'static str,
    /// The oldest first; what is still to come stands at the end.
    pub entries: Vec<TraceEntry>,
}

/// One thing that happened, or is to happen.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TraceEntry {
    /// When (RFC 3339).
    #[serde(serialize_with = "rfc3339")]
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: TraceEvent,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TraceEvent {
    /// The session that brought it.
    Received(SessionFacts),
    /// What was found out about the sender.
    Authentication {
        /// SPF, DKIM, DMARC and others by name.
        #[schema(value_type = Object)]
        results: serde_json::Value,
    },
    /// A scanner looked at it.
    Scan {
        /// The higher, the more likely it is spam.
        score: f64,
        /// `ham` or `spam`.
        verdict: &'static str,
        /// What else it said; absent if that was not recorded.
        #[serde(flatten)]
        facts: Option<ScanFacts>,
    },
    /// The policy was asked whether it may be sent.
    Policy(PolicyFacts),
    /// A hook was called before it was taken.
    Hook(HookCall),
    /// It was kept, and 250 or 202 was said.
    Stored {
        /// The mailbox.
        mailbox_id: String,
        /// The folder.
        folder: &'static str,
        /// Its size, in bytes.
        size: u64,
    },
    /// It was put into the queue.
    Queued {
        /// For whom.
        recipients: Vec<String>,
        /// When it was to be sent; absent if at once.
        #[serde(skip_serializing_if = "Option::is_none")]
        send_at: Option<String>,
    },
    /// One try to bring it to one recipient, or the report of a host that it could not be delivered after all.
    Attempt {
        /// The recipient.
        recipient: String,
        /// `begun`, `cancelled`, `deferred`, `delivered`, `failed`, `in_doubt`, or `reported` if the message came back
        /// after a host had taken it.
        outcome: &'static str,
        /// The host that answered, or reported.
        host: Option<String>,
        /// Its reply, or the error.
        result: String,
        /// What else was known; absent if nothing was recorded.
        #[serde(skip_serializing_if = "Option::is_none")]
        facts: Option<HostFacts>,
    },
    /// The sender was sent a notice.
    Notice {
        /// The notice, a message of its own.
        message_id: String,
        /// What it tells of whom.
        about: Vec<NoticeAbout>,
    },
    /// Every recipient is settled.
    Settled {
        /// What became of it.
        status: &'static str,
    },
    /// It was deleted.
    Deleted,
    /// Why it is still here: recipients who wait. `at` is when they are tried next, at the earliest.
    NextAttempt {
        /// Who waits.
        recipients: Vec<String>,
        /// Their domain.
        destination: String,
        /// `waiting` until `at`, `ready` when it is due, `leased` while it is being done, `held` until it is
        /// released, whatever `at` says, `buried` if it was given up for a fault of the server, `missing` if there
        /// is nothing in the queue for it.
        state: &'static str,
        /// Why it is held: `hook`, `operator`, `paused`, `policy` or `in_doubt`.
        #[serde(skip_serializing_if = "Option::is_none")]
        held_because: Option<&'static str>,
        /// How often it was begun.
        attempts: u32,
        /// Why they have to wait: the last answer or error; null before the first attempt.
        reason: Option<String>,
    },
}

/// What a notice tells of a recipient.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NoticeAbout {
    /// The recipient.
    pub recipient: String,
    /// `delay`, `failure` or `success`.
    pub what: &'static str,
}

fn rfc3339<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339())
}
