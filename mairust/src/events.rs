//! Events as they are written: what comes into being with a message, and what becomes of its recipients.

use mairust_core::{EventId, MessageId, ReversePath, Timestamp};
use mairust_hooks::event::{
    DeliveryResult, HookAlert, MessageAccepted, MessageFacts, MessageReceived, ReplyFacts, SendingLimited, SpamFacts,
};
use mairust_hooks::{EventKind, PolicyRequest, Score};
use mairust_store::{MessageRow, NewEvent, NewMessage, Placement, Spam, Suspension, User};
use serde::Serialize;

/// What became of one recipient.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) kind: EventKind,
    pub(crate) recipient: String,
    pub(crate) attempt: u32,
    pub(crate) host: Option<&'a str>,
    pub(crate) reply: Option<&'a mairust_core::Reply>,
    pub(crate) result: &'a str,
    pub(crate) next_attempt: Option<Timestamp>,
    pub(crate) notice: Option<MessageId>,
    /// Whether it became known after the recipient's server had taken the message.
    pub(crate) late: bool,
}

/// A message that came into a mailbox.
pub(crate) fn received(message: &NewMessage, place: &Placement) -> NewEvent {
    let data = MessageReceived {
        message: facts(message, place),
        mail_from: mail_from(&message.sender),
        recipient: place.address.to_string(),
        folder: place.folder.as_str().to_owned(),
        status: place.status.as_str().to_owned(),
        spam: message.spam.map(spam),
    };
    event(EventKind::MessageReceived, message.received_at, &data)
}

/// A message that was taken to be sent.
pub(crate) fn accepted<'a>(
    message: &NewMessage,
    place: &Placement,
    recipients: impl IntoIterator<Item = &'a mairust_core::EmailAddress>,
) -> NewEvent {
    let data = MessageAccepted {
        message: facts(message, place),
        mail_from: mail_from(&message.sender),
        recipients: recipients.into_iter().map(ToString::to_string).collect(),
        status: place.status.as_str().to_owned(),
    };
    event(EventKind::MessageAccepted, message.received_at, &data)
}

/// What became of a recipient of a message.
pub(crate) fn delivery(row: &MessageRow, told: Told<'_>, at: Timestamp) -> NewEvent {
    let data = DeliveryResult {
        message: MessageFacts {
            id: row.id.to_string(),
            mailbox_id: row.mailbox.to_string(),
            message_id: row.message_id.clone(),
            size: row.size,
        },
        mail_from: mail_from(&row.sender),
        recipient: told.recipient,
        attempt: told.attempt,
        host: told.host.map(str::to_owned),
        reply: told.reply.map(ReplyFacts::from),
        result: told.result.to_owned(),
        next_attempt_at: told.next_attempt.map(Timestamp::to_rfc3339),
        notice_id: told.notice.map(|notice| notice.to_string()),
        late: told.late,
    };
    event(told.kind, at, &data)
}

/// An account whose mail goes slowly, or is held.
pub(crate) fn slowed(request: &PolicyRequest, score: &Score, at: Timestamp) -> NewEvent {
    let data = SendingLimited {
        account: request.account.to_string(),
        user_id: request.user.map(|user| user.to_string()),
        reason: score.decision.reason().to_owned(),
        score: score.value,
        until: None,
    };
    event(EventKind::SendingSlowed, at, &data)
}

/// A user who sends nothing any more.
pub(crate) fn suspended(user: &User, suspension: &Suspension, score: f64) -> NewEvent {
    let data = SendingLimited {
        account: user.address.to_string(),
        user_id: Some(user.id.to_string()),
        reason: suspension.reason.clone(),
        score,
        until: suspension.until.map(Timestamp::to_rfc3339),
    };
    event(EventKind::SendingSuspended, suspension.since, &data)
}

/// Something about a hook that somebody is to look at.
pub(crate) fn alert(alert: &HookAlert, at: Timestamp) -> NewEvent {
    event(EventKind::HookAlert, at, alert)
}

fn facts(message: &NewMessage, place: &Placement) -> MessageFacts {
    MessageFacts {
        id: place.id.to_string(),
        mailbox_id: place.mailbox.to_string(),
        message_id: message.content.message_id.clone(),
        size: message.prefix.len() as u64 + message.body.len(),
    }
}

fn mail_from(sender: &ReversePath) -> Option<String> {
    sender.address().map(ToString::to_string)
}

fn spam(spam: Spam) -> SpamFacts {
    SpamFacts { score: spam.score, verdict: spam.verdict.as_str() }
}

fn event(kind: EventKind, at: Timestamp, data: &impl Serialize) -> NewEvent {
    NewEvent { id: EventId::new(at), kind: kind.as_str().to_owned(), at, data: serde_json::json!(data) }
}
