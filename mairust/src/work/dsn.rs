//! Failure notices: delivery status notifications (RFC 3464) in a multipart/report (RFC 6522).

use std::io::Read;

use bytes::Bytes;
use mail_builder::MessageBuilder;
use mail_builder::headers::content_type::ContentType;
use mail_builder::mime::MimePart;
use mairust_core::{Body, Domain, EmailAddress, MessageId, Reply, Timestamp};

/// How much of the header section of the failed message goes into the notice.
const HEADER_LIMIT: usize = 64 << 10;

/// What a notice is about.
#[derive(Debug)]
pub(crate) struct Notice<'a> {
    /// Our name.
    pub(crate) hostname: &'a Domain,
    /// The id of the notice itself.
    pub(crate) id: MessageId,
    /// Who sent the failed message and gets the notice.
    pub(crate) sender: &'a EmailAddress,
    /// When the failed message was taken.
    pub(crate) arrived: Timestamp,
    /// Now.
    pub(crate) now: Timestamp,
    /// The recipients that were not reached; at least one.
    pub(crate) failures: &'a [Failure],
    /// The failed message.
    pub(crate) original: &'a Body,
}

/// A recipient that was not reached.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) recipient: EmailAddress,
    /// The host that refused, if there was one.
    pub(crate) host: Option<String>,
    /// Its reply, if there was one.
    pub(crate) reply: Option<Reply>,
    /// What went wrong, for people.
    pub(crate) detail: String,
}

impl Notice<'_> {
    /// The notice as a message.
    ///
    /// # Errors
    /// When the failed message can't be read.
    pub(crate) fn render(&self) -> std::io::Result<Bytes> {
        let report = ContentType::new("multipart/report").attribute("report-type", "delivery-status");
        let parts = vec![
            MimePart::new("text/plain", self.text()),
            // As text, so that no transfer encoding hides the fields (RFC 3464 §2.1 wants 7bit).
            MimePart::new("message/delivery-status", self.status()).transfer_encoding("7bit"),
            MimePart::new("text/rfc822-headers", header_section(self.original)?),
        ];
        let raw = MessageBuilder::new()
            .from(("Mail Delivery System", format!("postmaster@{}", self.hostname).as_str()))
            .to(self.sender.to_string())
            .subject("Undelivered Mail Returned to Sender")
            .date(i64::try_from(self.now.to_unix().0).unwrap_or(0))
            .message_id(format!("{}@{}", self.id, self.hostname))
            // RFC 3834 §5: nobody is to answer this by machine.
            .header("Auto-Submitted", mail_builder::headers::raw::Raw::new("auto-replied"))
            .body(MimePart::new(report, parts))
            .write_to_vec()?;
        Ok(raw.into())
    }

    fn text(&self) -> String {
        let mut text = format!(
            "This is the mail system at {}.\r\n\r\nYour message could not be delivered to the following recipients:\r\n",
            self.hostname
        );
        for failure in self.failures {
            text.push_str(&format!("\r\n  {}\r\n    {}\r\n", failure.recipient, printable(&failure.detail)));
        }
        text.push_str("\r\nThe message is not tried any more. Its header fields are attached.\r\n");
        text
    }

    /// The machine-readable part (RFC 3464 §2).
    fn status(&self) -> String {
        let mut status =
            format!("Reporting-MTA: dns; {}\r\nArrival-Date: {}\r\n", self.hostname, self.arrived.to_rfc5322());
        for failure in self.failures {
            let enhanced = failure.reply.as_ref().and_then(Reply::enhanced).filter(|code| code.0 == 5);
            let code = enhanced.map_or_else(|| "5.0.0".to_owned(), |code| code.to_string());
            status.push_str(&format!(
                "\r\nFinal-Recipient: rfc822; {}\r\nAction: failed\r\nStatus: {code}\r\n",
                failure.recipient
            ));
            if let Some(host) = &failure.host {
                status.push_str(&format!("Remote-MTA: dns; {}\r\n", printable(host)));
            }
            let (kind, text) = match &failure.reply {
                Some(reply) => ("smtp", reply.to_string()),
                None => ("x-mairust", failure.detail.clone()),
            };
            status.push_str(&format!("Diagnostic-Code: {kind}; {}\r\n", printable(&text)));
            status.push_str(&format!("Last-Attempt-Date: {}\r\n", self.now.to_rfc5322()));
        }
        status
    }
}

/// The header section of a message, up to its empty line, bounded.
fn header_section(original: &Body) -> std::io::Result<Vec<u8>> {
    let mut section = Vec::new();
    original.reader().take(HEADER_LIMIT as u64).read_to_end(&mut section)?;
    if let Some(end) = section.windows(4).position(|window| window == b"\r\n\r\n") {
        section.truncate(end + 2);
    }
    Ok(section)
}

/// One line of printable ASCII, short enough for a header field.
fn printable(text: &str) -> String {
    text.chars().take(800).map(|c| if matches!(c, ' '..='~') { c } else { ' ' }).collect()
}

#[cfg(test)]
mod tests {
    use mairust_core::{Content, EnhancedCode};

    use super::*;

    #[test]
    fn names_every_recipient_and_the_reply() {
        let now = Timestamp::from_unix(1_763_780_646);
        let sender = EmailAddress::parse("alice@example.com").unwrap();
        let failures = [
            Failure {
                recipient: EmailAddress::parse("bob@remote.example").unwrap(),
                host: Some("mx.remote.example".to_owned()),
                reply: Some(Reply::new(550, EnhancedCode(5, 1, 1), "no such user")),
                detail: "550 5.1.1 no such user".to_owned(),
            },
            Failure {
                recipient: EmailAddress::parse("eve@gone.example").unwrap(),
                host: None,
                reply: None,
                detail: "given up after 5d: connection\r\nrefused".to_owned(),
            },
        ];
        let original = Body::from(b"Subject: hello\r\nX-A: b\r\n\r\nsecret body\r\n".to_vec());
        let hostname = Domain::parse("mx.example.com").unwrap();
        let notice = Notice {
            hostname: &hostname,
            id: MessageId::new(now),
            sender: &sender,
            arrived: now,
            now,
            failures: &failures,
            original: &original,
        };
        let raw = notice.render().unwrap();
        let text = String::from_utf8(raw.to_vec()).unwrap();
        assert!(text.contains("report-type=\"delivery-status\""), "{text}");
        assert!(text.contains("Final-Recipient: rfc822; bob@remote.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"));
        assert!(text.contains("Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"));
        assert!(text.contains("Diagnostic-Code: x-mairust; given up after 5d: connection  refused\r\n"));
        assert!(text.contains("Subject: hello"));
        assert!(!text.contains("secret body"));
        let content = Content::parse(&raw);
        assert_eq!(content.to[0].address, "alice@example.com");
        assert_eq!(content.header("auto-submitted"), Some("auto-replied"));
    }
}
