//! What a program elsewhere is sent about a message.
//!
//! A part that it may not see is left out and named in [`MailView::redacted`]; a part that is left out and not
//! named there does not exist at this hook. Empty lists and texts are really empty, and null is a value that there is
//! none of. Programs have to pass over fields that they do not know.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::grants::Grants;
use super::invocation::InvocationId;
use crate::handler::HookPoint;

mod message;

pub use message::{AttachmentView, BodyFacts, BodyView, HeaderView, MessageView, RawView};

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HookRequest {
    /// The version of the protocol: 1.
    #[cfg_attr(test, schemars(extend("const" = super::VERSION)))]
    pub v: u32,
    /// The id of the call; the same however often it is tried.
    pub invocation_id: InvocationId,
    /// Where in the way of the message it is called.
    pub hook: HookPoint,
    /// What becomes of the answer.
    pub mode: Mode,
    /// The number of the attempt, counted from 1.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub attempt: u32,
    /// When the message came to this hook (RFC 3339).
    pub occurred_at: String,
    /// How many milliseconds are left for the answer.
    pub deadline_ms: u64,
    /// Who is called.
    pub plugin: Plugin,
    /// Whose mail it is.
    pub tenant: Tenant,
    /// What the program may see and do.
    pub granted: Grants,
    /// The message, as far as the program may see it.
    #[serde(flatten)]
    pub view: MailView,
    /// How to ask for more, and to tell more; null if there is no such way.
    pub callback: Option<Callback>,
}

/// How to ask for more, and to tell more: the callback API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Callback {
    /// The base of the API, without a final `/`.
    pub base: String,
    /// The token to send as `Authorization: Bearer …`. It is good for this call only.
    pub token: String,
    /// Until when it is good (RFC 3339).
    pub expires_at: String,
}

/// A message with all that is told about it, as far as a program may see it: [`View::under`](super::View::under) makes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MailView {
    /// What is left out because the program may not see it.
    pub redacted: Vec<String>,
    /// How the message came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// Who sends to whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<EnvelopeView>,
    /// Who the message really comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_results: Option<AuthView>,
    /// What the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The message.
    pub message: MessageView,
    /// The mailbox that the message is in: `post_receive` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<MailboxView>,
    /// The flags of the message: `post_receive` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// The tags of the message: `post_receive` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
}

/// What becomes of an answer. Unless something is said about it, it is recorded, and nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mode {
    /// The message was taken while the program did not answer. Refusing it comes too late: it goes into quarantine
    /// instead. What is to be done is done.
    CatchUp,
    /// It is done.
    Enforce,
    /// The message is an old one.
    Replay,
    /// The program is on trial.
    Shadow,
    /// Somebody tests the program.
    Test,
}

/// The program that is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Plugin {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The number of its settings; another one means other settings.
    pub config_rev: u64,
    /// Its settings.
    pub config: Map<String, Value>,
}

/// An organisation that owns domains, users and settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tenant {
    /// Its id in the REST API.
    pub id: String,
}

/// How a message came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Session {
    /// By which way.
    pub origin: SessionOrigin,
    /// The listener that took it.
    pub listener: Option<String>,
    /// Who connected.
    pub client: Option<Client>,
    /// The argument of EHLO or HELO.
    pub helo: Option<String>,
    /// What was agreed on by TLS; null for plain text.
    pub tls: Option<Tls>,
    /// Who logged in.
    pub auth_user: Option<AuthUser>,
}

/// By which way a message came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SessionOrigin {
    /// From an application, over the REST API.
    Api,
    /// From this server itself, as a notice about deliveries.
    Internal,
    /// From a user or an application, written before and sent at its time.
    Scheduled,
    /// From another server.
    Smtp,
    /// From a user who logged in.
    Submission,
}

/// Who connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Client {
    /// Its address.
    pub ip: IpAddr,
    /// Its port, if it is known.
    pub port: Option<u16>,
    /// Its name, if it leads back to its address.
    pub ptr: Option<String>,
}

/// What was agreed on by a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tls {
    /// For example `TLSv1.3`.
    pub version: String,
    /// For example `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
}

/// Who logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AuthUser {
    /// The user's id in the REST API.
    pub user_id: String,
    /// The user's address.
    pub address: String,
}

/// The SMTP envelope (RFC 5321 §2.3.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EnvelopeView {
    /// MAIL FROM; null for the null reverse-path.
    pub mail_from: Option<String>,
    /// RCPT TO, as far as it is the tenant's. When mail is sent, recipients are among them that no header field
    /// names; of a stored message, it is the owner of the mailbox.
    pub rcpt_to: Vec<RecipientView>,
    /// Whether SMTPUTF8 was asked for (RFC 6531); null if that is not known.
    pub smtputf8: Option<bool>,
    /// The parameter BODY (RFC 6152, RFC 3030), if there was one.
    pub body: Option<BodyType>,
}

/// A recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RecipientView {
    /// The address.
    pub address: String,
}

/// The parameter BODY of MAIL FROM (RFC 6152, RFC 3030).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
pub enum BodyType {
    /// ASCII in lines.
    #[serde(rename = "7BIT")]
    SevenBit,
    /// Any octets, in lines.
    #[serde(rename = "8BITMIME")]
    EightBitMime,
    /// Any octets.
    #[serde(rename = "BINARYMIME")]
    BinaryMime,
}

/// What SPF, DKIM and DMARC found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AuthView {
    /// SPF for MAIL FROM or, for the null reverse-path, for the argument of EHLO (RFC 7208 §2.4).
    pub spf: Option<SpfView>,
    /// One for each signature that was looked at, in the order of the header section.
    pub dkim: Vec<DkimView>,
    /// DMARC for the domain of From.
    pub dmarc: Option<DmarcView>,
}

/// What SPF found (RFC 7208).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SpfView {
    /// How it ended, in the words of RFC 8601 §2.7.
    pub result: String,
    /// The domain whose record was asked.
    pub domain: String,
}

/// What was found for one DKIM signature (RFC 6376).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DkimView {
    /// How it ended, in the words of RFC 8601 §2.7.
    pub result: String,
    /// Who signed.
    pub domain: String,
    /// By which key.
    pub selector: String,
}

/// What DMARC found (RFC 9989).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DmarcView {
    /// How it ended, in the words of RFC 8601 §2.7.
    pub result: String,
    /// The policy that the domain publishes: `none`, `quarantine` or `reject`.
    pub policy: Option<String>,
    /// The domain of From.
    pub domain: Option<String>,
}

/// What the policy says about a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Policy {
    /// What is done: `allow`, `hold`, `slow` and so on.
    pub decision: String,
    /// How likely it is that somebody abuses an account, or how much the message looks like spam.
    pub score: f64,
    /// From what this was concluded.
    pub reasons: Vec<String>,
    /// How much the sender has sent: `pre_send` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<PolicyRate>,
}

/// How much a sender has sent, and how much it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PolicyRate {
    /// In how many seconds.
    pub window_s: u64,
    /// How much it has sent.
    pub used: u64,
    /// How much it may send.
    pub limit: u64,
}

/// The mailbox that a message is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MailboxView {
    /// Its id in the REST API.
    pub id: String,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

impl Mode {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CatchUp => "catch_up",
            Self::Enforce => "enforce",
            Self::Replay => "replay",
            Self::Shadow => "shadow",
            Self::Test => "test",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::CatchUp, Self::Enforce, Self::Replay, Self::Shadow, Self::Test]
            .into_iter()
            .find(|mode| mode.as_str() == name)
    }
}
