//! Mail that a client sends: what the API has checked, and who takes it on from there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{EmailAddress, MessageId, Timestamp};
use mairust_store::{MessageStatus, StoreError};

use crate::auth::Principal;
use crate::trace::PolicyFacts;

/// A message to be sent, checked as far as its form goes: no text holds control characters
/// (except `text` and `html`), names of header fields are legal, all addresses parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// From.
    pub from: DraftAddress,
    /// To.
    pub to: Vec<DraftAddress>,
    /// Cc.
    pub cc: Vec<DraftAddress>,
    /// Recipients that no header field names. To, Cc and Bcc hold 1 to 100 addresses together.
    pub bcc: Vec<DraftAddress>,
    /// Reply-To; may be empty.
    pub reply_to: Vec<DraftAddress>,
    /// Subject; may be empty.
    pub subject: String,
    /// The plain text. There is at least one of text, HTML and an attachment.
    pub text: Option<String>,
    /// The HTML.
    pub html: Option<String>,
    /// Further header fields, sorted by name; never one that MaiRust writes itself.
    pub headers: Vec<(String, String)>,
    /// What is attached, in order.
    pub attachments: Vec<DraftAttachment>,
    /// In-Reply-To, without angle brackets.
    pub in_reply_to: Option<String>,
    /// References, oldest first, without angle brackets.
    pub references: Vec<String>,
    /// When it is to be sent; at once without it.
    pub send_at: Option<Timestamp>,
}

/// An address of a [`Draft`] and the name to show with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftAddress {
    /// The display name.
    pub name: Option<String>,
    /// The address.
    pub address: EmailAddress,
}

/// An attachment of a [`Draft`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftAttachment {
    /// Its file name.
    pub filename: String,
    /// Its media type, for example `application/pdf`, perhaps with parameters.
    pub content_type: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Content-ID without angle brackets, for references from the HTML.
    pub content_id: Option<String>,
    /// Whether it is to be shown within the message.
    pub inline: bool,
}

/// What became of a [`Draft`] that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The outbound message.
    pub id: MessageId,
    /// Its Message-ID, without angle brackets.
    pub message_id: String,
    /// Its status now.
    pub status: MessageStatus,
    /// When it is to be sent, if it is not at once.
    pub send_at: Option<Timestamp>,
    /// Each recipient once.
    pub recipients: Vec<SubmittedRecipient>,
}

/// One recipient of a message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmittedRecipient {
    /// Who.
    pub address: EmailAddress,
    /// A delivery state as shown, for example `pending`.
    pub status: String,
    /// Why, as a stable word, where the status alone doesn't say it.
    pub code: Option<String>,
}

/// What would become of a [`Draft`].
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// The Message-ID that it would have, without angle brackets, unless one is made for each try.
    pub message_id: String,
    /// The message as it would be sent: with all fields, and signed.
    pub raw: String,
    /// When it would be sent, if not at once.
    pub send_at: Option<Timestamp>,
    /// What the policy says. What it refuses is no preview, but an error.
    pub policy: PolicyFacts,
    /// Each recipient once.
    pub recipients: Vec<PreviewedRecipient>,
}

/// Where a message would go for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewedRecipient {
    /// Who.
    pub address: EmailAddress,
    /// Whether it stays here.
    pub kept: bool,
    /// Addresses elsewhere that it would be sent to: this one, or those that an alias of the tenant leads to.
    pub sent_to: Vec<EmailAddress>,
}

/// Why a [`Draft`] was not taken. The texts are shown to the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// A hook that no mail is to pass without has no answer.
    #[error("a hook has no answer: {0}")]
    HookUnavailable(String),
    /// A hook said that the message is not to be taken now.
    #[error("policy deferred: {0}")]
    PolicyDeferred(String),
    /// A policy or a hook said no.
    #[error("policy denied: {0}")]
    PolicyDenied(String),
    /// There was too much mail lately.
    #[error("rate limited: {text}")]
    RateLimited {
        /// How much there may be.
        text: String,
        /// When the client may come again.
        retry_after: Duration,
    },
    /// Nothing is sent to these recipients.
    #[error("recipients are suppressed: {0:?}")]
    RecipientSuppressed(Vec<EmailAddress>),
    /// The key may not send as this address.
    #[error("sender not allowed: {0}")]
    SenderNotAllowed(String),
    /// It can't be sent at the time that the draft names.
    #[error("not at this time: {0}")]
    SendAt(String),
    /// The store failed.
    #[error("the message could not be stored")]
    Store(#[from] StoreError),
    /// No message can be made of it.
    #[error("unprocessable: {0}")]
    Unprocessable(String),
}

/// Takes mail that clients send.
#[async_trait]
pub trait Submitter: fmt::Debug + Send + Sync + 'static {
    /// Takes a message. On `Ok` it is durable and every recipient will end in exactly one state;
    /// on `Err` nothing of it was kept. Not idempotent. If the future is dropped, the message is
    /// taken whole or not at all.
    ///
    /// # Errors
    /// As listed at [`SubmitError`].
    async fn submit(&self, principal: &Principal, draft: Draft) -> Result<Submitted, SubmitError>;

    /// What [`submit`](Self::submit) would do at this moment, without doing it: nothing is kept, counted or sent.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit).
    async fn preview(&self, principal: &Principal, draft: Draft) -> Result<Preview, SubmitError>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Submitter + ?Sized> Submitter for Arc<T> {
    async fn submit(&self, principal: &Principal, draft: Draft) -> Result<Submitted, SubmitError> {
        (**self).submit(principal, draft).await
    }
    async fn preview(&self, principal: &Principal, draft: Draft) -> Result<Preview, SubmitError> {
        (**self).preview(principal, draft).await
    }
}
