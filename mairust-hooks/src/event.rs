//! Events as they are told outside: what happened to a message, without what it says.
//!
//! [`EventBody`] is what webhooks get, and what the REST API shows. Fields may be added; what is there keeps its
//! meaning.

use mairust_core::{EventId, Reply, TenantId, Timestamp};
use serde::Serialize;
use serde_json::Value;

/// The version of the form.
const VERSION: u32 = 1;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $text:literal)*) => {
        /// What kinds of events there are.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EventKind { $($(#[$doc])* $name),* }

        impl EventKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As stored and shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

kinds! {
    /// Something about a hook is to be looked at: [`HookAlert`]. Told once an hour for each reason.
    HookAlert "hook.alert"
    /// A message was taken to be sent, from a user here or on behalf of an alias: [`MessageAccepted`].
    MessageAccepted "message.accepted"
    /// A recipient was not reached, and is not tried any more; or the message came back after it was taken:
    /// [`DeliveryResult`].
    MessageBounced "message.bounced"
    /// A recipient was not reached, and is tried again: [`DeliveryResult`].
    MessageDeferred "message.deferred"
    /// A recipient's server may have taken the message; the delivery is held until somebody decides:
    /// [`DeliveryResult`].
    MessageHeld "message.held"
    /// A message came into a mailbox: [`MessageReceived`].
    MessageReceived "message.received"
    /// A recipient's server took the message: [`DeliveryResult`].
    MessageSent "message.sent"
    /// Mail of an account is sent slowly, since it looks like abuse: [`SendingLimited`]. Told once an hour.
    SendingSlowed "sending.slowed"
    /// An account sends nothing any more, since its mail looks like abuse: [`SendingLimited`].
    SendingSuspended "sending.suspended"
    /// Somebody tests a webhook: [`WebhookTest`]. It goes to that one only.
    WebhookTest "webhook.test"
}

/// An event as it is told.
#[derive(Debug, Clone, Serialize)]
pub struct EventBody {
    /// The version of this form: 1.
    pub v: u32,
    /// The id of the event. Whoever gets it twice knows it by this.
    pub id: String,
    /// What kind of event.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened (RFC 3339).
    pub timestamp: String,
    /// Whose mail it is.
    pub tenant_id: String,
    /// What there is to tell; depends on the kind.
    pub data: Value,
}

/// Which message an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MessageFacts {
    /// Its id in the REST API.
    pub id: String,
    /// The mailbox that it is in.
    pub mailbox_id: String,
    /// The value of Message-ID, without angle brackets.
    pub message_id: Option<String>,
    /// Its size in octets, with the fields that MaiRust put in front.
    pub size: u64,
}

/// `hook.alert`: what is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HookAlert {
    /// The hook.
    pub hook_id: String,
    /// The name of the program.
    pub plugin_id: String,
    /// Where in the way of mail it was: `pre_receive`, `post_receive` or `pre_send`.
    pub point: String,
    /// Why: `auth`, `breaker_open`, `gone` or `verdict_denied`.
    pub reason: String,
    /// The same, for people.
    pub detail: String,
    /// The call that showed it, if it was one: `inv_…`.
    pub invocation_id: Option<String>,
}

/// `message.received`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MessageReceived {
    /// The message.
    pub message: MessageFacts,
    /// MAIL FROM; null for the null reverse-path.
    pub mail_from: Option<String>,
    /// The address that it was sent to.
    pub recipient: String,
    /// The folder that it came into.
    pub folder: String,
    /// What became of it: `stored` or `quarantined`.
    pub status: String,
    /// Whether it is spam, if it was looked at.
    pub spam: Option<SpamFacts>,
}

/// What was found out about spam.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SpamFacts {
    /// The higher, the more likely.
    pub score: f64,
    /// `ham` or `spam`.
    pub verdict: &'static str,
}

/// `message.accepted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MessageAccepted {
    /// The message.
    pub message: MessageFacts,
    /// MAIL FROM; null for the null reverse-path.
    pub mail_from: Option<String>,
    /// The addresses that it goes to.
    pub recipients: Vec<String>,
    /// What becomes of it: `queued`, `sent` if all recipients are here, or `captured` by the development server.
    pub status: String,
}

/// `message.sent`, `message.deferred`, `message.bounced` and `message.held`: what became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryResult {
    /// The message.
    pub message: MessageFacts,
    /// MAIL FROM; null for the null reverse-path.
    pub mail_from: Option<String>,
    /// The recipient.
    pub recipient: String,
    /// The number of the attempt, counted from 1.
    pub attempt: u32,
    /// The host that answered, or reported, if one was reached.
    pub host: Option<String>,
    /// What it answered.
    pub reply: Option<ReplyFacts>,
    /// What happened, for people.
    pub result: String,
    /// When it is tried again (RFC 3339), if it is.
    pub next_attempt_at: Option<String>,
    /// The notice that tells the sender, if there is one: its id in the REST API.
    pub notice_id: Option<String>,
    /// Whether the recipient's server had taken the message before, and it came back later. Then `host` is the one
    /// that reports it, and `attempt` the last one that was made.
    pub late: bool,
}

/// `sending.slowed` and `sending.suspended`: what the policy did about an account.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SendingLimited {
    /// The address of the user or, if it is nobody's, the sender.
    pub account: String,
    /// The user; null if it is nobody's address.
    pub user_id: Option<String>,
    /// Why, for people.
    pub reason: String,
    /// How likely it is that somebody abuses the account: from 0 to 1.
    pub score: f64,
    /// When it ends by itself (RFC 3339), if it does.
    pub until: Option<String>,
}

/// A reply of a mail server (RFC 5321 §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplyFacts {
    /// The three digits.
    pub code: u16,
    /// The enhanced status code (RFC 3463), if there is one.
    pub enhanced: Option<String>,
    /// The text.
    pub text: String,
}

/// `webhook.test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WebhookTest {
    /// The webhook that is tested.
    pub webhook_id: String,
}

impl EventKind {
    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

impl EventBody {
    /// An event as it is told; the data come from one of the types of this module.
    pub fn new(id: EventId, kind: &str, at: Timestamp, tenant: TenantId, data: Value) -> Self {
        Self {
            v: VERSION,
            id: id.to_string(),
            kind: kind.to_owned(),
            timestamp: at.to_rfc3339(),
            tenant_id: tenant.to_string(),
            data,
        }
    }

    /// As it is sent.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and JSON values always serialise")
    }
}

impl From<&Reply> for ReplyFacts {
    fn from(reply: &Reply) -> Self {
        let enhanced = reply.enhanced().map(|enhanced| enhanced.to_string());
        Self { code: reply.code(), enhanced, text: reply.lines().join("\n") }
    }
}

#[cfg(test)]
mod tests;
