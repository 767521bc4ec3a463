//! Mail from the API: a draft becomes a message and takes the way of all submissions.

use std::sync::Arc;

use async_trait::async_trait;
use mail_builder::MessageBuilder;
use mail_builder::headers::HeaderType;
use mail_builder::headers::address::Address;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::text::Text;
use mail_builder::mime::MimePart;
use mairust_core::{
    EmailAddress, Envelope, MessageDsn, MessageId, Origin, Rejection, ReversePath, TenantId, Timestamp,
};
use mairust_http::{
    Draft, DraftAddress, DraftAttachment, Preview, PreviewedRecipient, Principal, SubmitError,
    Submitted as ApiSubmitted, SubmittedRecipient, Submitter,
};
use mairust_smtp::server::HangUp;

use super::{Author, Previewed, Submission, SubmissionError, Submissions};
use crate::distribution::Destination;
use crate::hooks::Way;

/// Submits what the API was given.
#[derive(Debug)]
pub(crate) struct ApiSubmitter(pub(crate) Arc<Submissions>);

#[async_trait]
impl Submitter for ApiSubmitter {
    async fn submit(&self, principal: &Principal, draft: Draft) -> Result<ApiSubmitted, SubmitError> {
        let submission = self.submission(principal, draft).await?;
        let taken = self.0.submit(submission).await.map_err(refused)?;
        let recipient =
            |(address, status): (_, &str)| SubmittedRecipient { address, status: status.to_owned(), code: None };
        Ok(ApiSubmitted {
            id: taken.id,
            message_id: taken.message_id,
            status: taken.status,
            send_at: taken.send_at,
            recipients: taken.recipients.into_iter().map(recipient).collect(),
        })
    }

    async fn preview(&self, principal: &Principal, draft: Draft) -> Result<Preview, SubmitError> {
        let submission = self.submission(principal, draft).await?;
        let recipients = submission.destinations.iter().map(|to| previewed(to, principal.tenant)).collect();
        let Previewed { message_id, raw, send_at, policy } = self.0.preview(submission).await.map_err(refused)?;
        let raw = String::from_utf8(raw).map_err(|error| SubmitError::Unprocessable(error.to_string()))?;
        Ok(Preview { message_id, raw, send_at, policy, recipients })
    }
}

impl ApiSubmitter {
    /// The draft as a message on its way.
    async fn submission(&self, principal: &Principal, draft: Draft) -> Result<Submission, SubmitError> {
        let (now, send_at) = (self.0.clock.now(), draft.send_at);
        self.0.check_send_at(send_at, now).map_err(SubmitError::SendAt)?;
        let author = Author { tenant: principal.tenant, user: None };
        let sender = draft.from.address.clone();
        self.0.check_sender(&author, &sender).await.map_err(|rejection| refused(rejection.into()))?;
        let recipients = recipients(&draft);
        let mut destinations = Vec::with_capacity(recipients.len());
        for address in &recipients {
            let found = self.0.destination(address.clone()).await;
            destinations.push(found.map_err(|rejection| refused_recipient(address, rejection))?);
        }
        let suppressed = self.0.suppressed(author.tenant, &recipients).await?;
        if !suppressed.is_empty() {
            return Err(SubmitError::RecipientSuppressed(suppressed));
        }
        let message_id = format!("{}@{}", MessageId::new(now), self.0.hostname);
        // RFC 5322 §3.6.1: the date is when the message is ready to go.
        let raw = compose(draft, send_at.unwrap_or(now), message_id)
            .map_err(|error| SubmitError::Unprocessable(error.to_string()))?;
        let origin = Origin { user: Some(format!("API key {}", principal.key_id)), ..Origin::default() };
        Ok(Submission {
            author,
            envelope: Envelope { sender: ReversePath::Address(sender), recipients },
            destinations,
            session: crate::timeline::request(&origin),
            origin,
            way: Way::api(send_at.is_some()),
            protocol: "HTTP",
            send_at,
            dsn: MessageDsn::default(),
            require_tls: false,
            body: raw.into(),
            hang_up: HangUp::never(),
            fingerprint: None,
        })
    }
}

/// Where a message would go; what aliases of other tenants lead to is their business.
pub(crate) fn previewed(to: &Destination, tenant: TenantId) -> PreviewedRecipient {
    let (kept, sent_to) = match to.local() {
        None => (false, vec![to.address().clone()]),
        Some(local) if local.tenant != tenant => (true, Vec::new()),
        Some(local) => {
            let forwards = local.forwards.as_ref().map(|(_, to)| to.clone());
            (!local.mailboxes.is_empty(), forwards.unwrap_or_default())
        }
    };
    PreviewedRecipient { address: to.address().clone(), kept, sent_to }
}

/// A refusal in the words of the API.
fn refused(error: SubmissionError) -> SubmitError {
    match error {
        SubmissionError::Denied { rejection, retry_after } => {
            let text = rejection.reply().lines().join(" ");
            match retry_after {
                Some(retry_after) => SubmitError::RateLimited { text, retry_after },
                None => SubmitError::PolicyDenied(text),
            }
        }
        SubmissionError::HookUnavailable(rejection) => {
            SubmitError::HookUnavailable(rejection.reply().lines().join(" "))
        }
        SubmissionError::Screened(rejection) if rejection.reply().code() < 500 => {
            SubmitError::PolicyDeferred(rejection.reply().lines().join(" "))
        }
        SubmissionError::Screened(rejection) => SubmitError::PolicyDenied(rejection.reply().lines().join(" ")),
        SubmissionError::Refused(rejection) => {
            let text = rejection.reply().lines().join(" ");
            match rejection.reply().code() {
                553 => SubmitError::SenderNotAllowed(text),
                code if code < 500 => SubmitError::Store(mairust_store::StoreError::new(
                    mairust_store::StoreErrorKind::Unavailable,
                    "submit",
                    rejection.reason(),
                )),
                _ => SubmitError::Unprocessable(text),
            }
        }
        SubmissionError::Store(error) => SubmitError::Store(error),
    }
}

/// The refusal of one recipient; it says of which.
fn refused_recipient(address: &EmailAddress, rejection: Rejection) -> SubmitError {
    match refused(rejection.into()) {
        SubmitError::Unprocessable(text) => SubmitError::Unprocessable(format!("{text}: {address}")),
        other => other,
    }
}

/// To, Cc and Bcc, each address once.
fn recipients(draft: &Draft) -> Vec<EmailAddress> {
    let mut recipients: Vec<EmailAddress> = Vec::new();
    for entry in draft.to.iter().chain(&draft.cc).chain(&draft.bcc) {
        if recipients.iter().all(|known| known.lookup_key() != entry.address.lookup_key()) {
            recipients.push(entry.address.clone());
        }
    }
    recipients
}

/// The message, without Bcc.
fn compose(draft: Draft, now: Timestamp, message_id: String) -> std::io::Result<Vec<u8>> {
    let mut message = MessageBuilder::new().from(address(draft.from)).subject(draft.subject);
    for (name, list) in [("To", draft.to), ("Cc", draft.cc), ("Reply-To", draft.reply_to)] {
        if !list.is_empty() {
            message = message.header(name, addresses(list));
        }
    }
    for (name, value) in draft.headers {
        message = message.header(name, Text::new(value));
    }
    if let Some(id) = draft.in_reply_to {
        message = message.in_reply_to(id);
    }
    if !draft.references.is_empty() {
        message = message.references(draft.references);
    }
    if let Some(text) = draft.text {
        message = message.text_body(text);
    }
    if let Some(html) = draft.html {
        message = message.html_body(html);
    }
    for entry in draft.attachments {
        message.attachments.get_or_insert_default().push(attachment(entry));
    }
    let date = i64::try_from(now.to_unix().0).unwrap_or(0);
    let mut raw = message.date(date).message_id(message_id).write_to_vec()?;
    if !raw.ends_with(b"\r\n") {
        raw.extend_from_slice(b"\r\n");
    }
    Ok(raw)
}

fn address(entry: DraftAddress) -> Address<'static> {
    Address::new_address(entry.name, entry.address.to_string())
}

fn addresses(list: Vec<DraftAddress>) -> HeaderType<'static> {
    HeaderType::Address(Address::new_list(list.into_iter().map(address).collect()))
}

fn attachment(entry: DraftAttachment) -> MimePart<'static> {
    let mut part = MimePart::new(entry.content_type, entry.content);
    if entry.inline {
        let disposition = ContentType::new("inline").attribute("filename", entry.filename);
        part = part.header("Content-Disposition", disposition);
    } else {
        part = part.attachment(entry.filename);
    }
    match entry.content_id {
        Some(id) => part.cid(id),
        None => part,
    }
}

#[cfg(test)]
mod tests {
    use mairust_core::Content;

    use super::*;

    fn entry(name: Option<&str>, address: &str) -> DraftAddress {
        DraftAddress { name: name.map(str::to_owned), address: EmailAddress::parse(address).unwrap() }
    }

    #[test]
    fn a_draft_becomes_a_message_without_bcc() {
        let draft = Draft {
            from: entry(Some("佐藤"), "a@example.com"),
            to: vec![entry(None, "b@remote.example")],
            cc: vec![entry(Some("C, D"), "c@remote.example")],
            bcc: vec![entry(None, "secret@remote.example"), entry(None, "B@remote.example")],
            reply_to: Vec::new(),
            subject: "請求書".to_owned(),
            text: Some("one\ntwo\n.\n".to_owned()),
            html: Some("<p>three</p>".to_owned()),
            headers: vec![("X-Kind".to_owned(), "テスト".to_owned())],
            attachments: vec![DraftAttachment {
                filename: "請求書.pdf".to_owned(),
                content_type: "application/pdf".to_owned(),
                content: vec![0, 13, 255],
                content_id: None,
                inline: false,
            }],
            in_reply_to: Some("r@x".to_owned()),
            references: vec!["q@x".to_owned(), "r@x".to_owned()],
            send_at: None,
        };
        assert_eq!(recipients(&draft).len(), 3, "b and B are the same address");
        let raw = compose(draft, Timestamp::from_unix(1_763_780_646), "id@mx".to_owned()).unwrap();
        let bare = raw.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r');
        assert!(!bare, "{}", raw.escape_ascii());
        assert!(!raw.windows(6).any(|window| window == b"secret"));
        let content = Content::parse(&raw);
        assert_eq!(content.subject.as_deref(), Some("請求書"));
        assert_eq!(content.from[0].name.as_deref(), Some("佐藤"));
        assert_eq!(content.cc[0].name.as_deref(), Some("C, D"));
        assert_eq!(content.header("x-kind"), Some("テスト"));
        assert_eq!(content.message_id.as_deref(), Some("id@mx"));
        assert_eq!(content.references, ["q@x", "r@x"]);
        assert_eq!(content.attachments[0].filename.as_deref(), Some("請求書.pdf"));
        assert_eq!(mairust_core::content::attachment_bytes(&raw, 0), Some(vec![0, 13, 255]));
    }
}
