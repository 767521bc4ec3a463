//! Delivery status notifications (RFC 3464) in a multipart/report (RFC 6522), with what the sender
//! asked for (RFC 3461).

use std::io::Read;

use bytes::Bytes;
use mail_builder::MessageBuilder;
use mail_builder::headers::content_type::ContentType;
use mail_builder::mime::MimePart;
use mairust_core::{
    Body, Domain, EmailAddress, MessageDsn, MessageId, RecipientDsn, Reply, Return, Timestamp, TlsWish,
};

/// How much of the header section of a message goes into a notice about it.
const HEADER_LIMIT: usize = 64 << 10;

/// The largest message that goes back whole where the sender asks for that.
const FULL_LIMIT: u64 = 1 << 20;

/// What a notice is about.
#[derive(Debug)]
pub(crate) struct Notice {
    /// Our name.
    pub(crate) hostname: Domain,
    /// The id of the notice itself.
    pub(crate) id: MessageId,
    /// Who sent the message and gets the notice.
    pub(crate) sender: EmailAddress,
    /// When the message was taken.
    pub(crate) arrived: Timestamp,
    /// Now.
    pub(crate) now: Timestamp,
    /// What the sender asked for the whole message.
    pub(crate) dsn: MessageDsn,
    /// What the sender wants of TLS.
    pub(crate) tls: TlsWish,
    /// What became of the message for some of its recipients; at least one.
    pub(crate) reports: Vec<Report>,
    /// The message.
    pub(crate) original: Body,
}

/// What became of a message for one recipient.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) recipient: EmailAddress,
    /// What the sender asked for this recipient.
    pub(crate) dsn: RecipientDsn,
    pub(crate) action: Action,
    /// The host that answered, if there was one.
    pub(crate) host: Option<String>,
    /// Its reply, if there was one.
    pub(crate) reply: Option<Reply>,
    /// What went wrong or how it was taken, for people.
    pub(crate) detail: String,
}

/// What happened (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is late, and is tried until this time.
    Delayed(Timestamp),
    /// It is in its mailbox.
    Delivered,
    /// It will never be delivered.
    Failed,
    /// A host took it that sends no notices about success.
    Relayed,
}

impl Action {
    /// Whether the sender wants to hear of it; without a wish, of failures and delays (RFC 3461 §4.1).
    pub(crate) fn is_wanted(self, dsn: &RecipientDsn) -> bool {
        match self {
            Self::Delayed(_) => dsn.notify.is_none_or(|notify| notify.delay),
            Self::Failed => dsn.notify.is_none_or(|notify| notify.failure),
            Self::Delivered | Self::Relayed => dsn.notify.is_some_and(|notify| notify.success),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Delayed(_) => "delayed",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Relayed => "relayed",
        }
    }

    /// The class of status codes that fit it (RFC 3463 §2).
    fn class(self) -> u8 {
        match self {
            Self::Delayed(_) => 4,
            Self::Delivered | Self::Relayed => 2,
            Self::Failed => 5,
        }
    }
}

impl Notice {
    /// The notice as a message.
    ///
    /// # Errors
    /// When the original message can't be read.
    pub(crate) fn render(&self) -> std::io::Result<Bytes> {
        let report = ContentType::new("multipart/report").attribute("report-type", "delivery-status");
        let parts = vec![
            MimePart::new("text/plain", self.text()),
            // As text, so that no transfer encoding hides the fields (RFC 3464 §2.1 wants 7bit).
            MimePart::new("message/delivery-status", self.status()).transfer_encoding("7bit"),
            self.returned()?,
        ];
        let raw = MessageBuilder::new()
            .from(("Mail Delivery System", format!("postmaster@{}", self.hostname).as_str()))
            .to(self.sender.to_string())
            .subject(self.subject())
            .date(i64::try_from(self.now.to_unix().0).unwrap_or(0))
            .message_id(format!("{}@{}", self.id, self.hostname))
            // RFC 3834 §5: nobody is to answer this by machine.
            .header("Auto-Submitted", mail_builder::headers::raw::Raw::new("auto-replied"))
            .body(MimePart::new(report, parts))
            .write_to_vec()?;
        Ok(raw.into())
    }

    fn has_failures(&self) -> bool {
        self.reports.iter().any(|report| report.action == Action::Failed)
    }

    /// Until when what is late is tried, if anything is.
    fn tried_until(&self) -> Option<Timestamp> {
        self.reports.iter().find_map(|report| match report.action {
            Action::Delayed(until) => Some(until),
            _ => None,
        })
    }

    fn subject(&self) -> &'static str {
        match (self.has_failures(), self.tried_until()) {
            (true, _) => "Undelivered Mail Returned to Sender",
            (false, Some(_)) => "Delayed Mail (still being tried)",
            (false, None) => "Successful Mail Delivery Report",
        }
    }

    fn text(&self) -> String {
        let mut text = format!("This is the mail system at {}.\r\n", self.hostname);
        let until = self.tried_until().map(Timestamp::to_rfc5322).unwrap_or_default();
        let delayed = format!(
            "Your message could not be delivered yet to the following recipients, and\r\n\
             is tried until {until}; you need not send it again"
        );
        let groups = [
            ("failed", "Your message could not be delivered to the following recipients,\r\nand is not tried any more"),
            ("delayed", delayed.as_str()),
            ("delivered", "Your message was delivered to the following recipients"),
            ("relayed", "Your message was passed on to hosts that report no deliveries, for the following recipients"),
        ];
        for (action, heading) in groups {
            let mut reports = self.reports.iter().filter(|report| report.action.as_str() == action).peekable();
            if reports.peek().is_some() {
                text.push_str(&format!("\r\n{heading}:\r\n"));
            }
            for report in reports {
                text.push_str(&format!("\r\n  {}\r\n    {}\r\n", report.recipient, printable(&report.detail)));
            }
        }
        text.push_str("\r\nWhat you sent is attached, the header fields at least.\r\n");
        text
    }

    /// The machine-readable part (RFC 3464 §2).
    fn status(&self) -> String {
        let mut status = String::new();
        if let Some(id) = &self.dsn.envelope_id {
            status.push_str(&format!("Original-Envelope-Id: {}\r\n", printable(&id.to_field())));
        }
        status.push_str(&format!("Reporting-MTA: dns; {}\r\n", self.hostname));
        status.push_str(&format!("Arrival-Date: {}\r\n", self.arrived.to_rfc5322()));
        for report in &self.reports {
            report.write_status(&mut status, self.now);
        }
        status
    }

    /// The message, or its header fields (RFC 3461 §4.3).
    fn returned(&self) -> std::io::Result<MimePart<'static>> {
        // RFC 8689 §5: RET=FULL means nothing beside REQUIRETLS.
        let may_be_whole = self.tls != TlsWish::Required && self.original.len() <= FULL_LIMIT;
        let whole = self.dsn.ret == Some(Return::Full) && self.has_failures() && may_be_whole;
        if whole {
            let bytes = self.original.read_all()?;
            // No transfer encoding may hide it (RFC 2046 §5.2.1), so it must hold lines.
            if has_lines(&bytes) {
                let encoding = if bytes.is_ascii() { "7bit" } else { "8bit" };
                return Ok(MimePart::new("message/rfc822", bytes.to_vec()).transfer_encoding(encoding));
            }
        }
        Ok(MimePart::new("text/rfc822-headers", header_section(&self.original)?))
    }
}

impl Report {
    /// The fields of one recipient (RFC 3464 §2.3).
    fn write_status(&self, status: &mut String, now: Timestamp) {
        status.push_str("\r\n");
        if let Some(original) = &self.dsn.original {
            status.push_str(&format!("Original-Recipient: {}\r\n", printable(&original.to_field())));
        }
        status.push_str(&format!("Final-Recipient: {}\r\n", typed_address(&self.recipient)));
        status.push_str(&format!("Action: {}\r\nStatus: {}\r\n", self.action.as_str(), self.status_code()));
        if let Some(host) = &self.host {
            status.push_str(&format!("Remote-MTA: dns; {}\r\n", printable(host)));
        }
        let (kind, text) = match &self.reply {
            Some(reply) => ("smtp", reply.to_string()),
            None => ("x-mairust", self.detail.clone()),
        };
        status.push_str(&format!("Diagnostic-Code: {kind}; {}\r\n", printable(&text)));
        status.push_str(&format!("Last-Attempt-Date: {}\r\n", now.to_rfc5322()));
        if let Action::Delayed(until) = self.action {
            status.push_str(&format!("Will-Retry-Until: {}\r\n", until.to_rfc5322()));
        }
    }

    /// The enhanced code of the reply, if its class fits the action (RFC 3463).
    fn status_code(&self) -> String {
        let class = self.action.class();
        let told = self.reply.as_ref().and_then(Reply::enhanced).filter(|code| code.0 == class);
        told.map_or_else(|| format!("{class}.0.0"), |code| code.to_string())
    }
}

/// An address with its type; one outside of ASCII in the form that 7-bit text can hold (RFC 6533 §3).
fn typed_address(address: &EmailAddress) -> String {
    let text = address.to_string();
    if text.is_ascii() {
        return format!("rfc822; {text}");
    }
    let escape = |character: char| match character {
        '!'..='~' if !matches!(character, '\\' | '+' | '=') => character.to_string(),
        other => format!("\\x{{{:X}}}", u32::from(other)),
    };
    format!("utf-8; {}", text.chars().map(escape).collect::<String>())
}

/// Whether every line ends in CRLF and is short enough for SMTP (RFC 5321 §4.5.3.1.6).
fn has_lines(bytes: &[u8]) -> bool {
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut lines = text.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let content = line.strip_suffix(b"\r");
        // Only the last line may have no end.
        if content.is_none() && (lines.peek().is_some() || text.len() < bytes.len()) {
            return false;
        }
        let content = content.unwrap_or(line);
        if content.len() > 998 || content.contains(&b'\r') || content.contains(&0) {
            return false;
        }
    }
    true
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
    use mairust_core::{Content, DeliveryReport, EnhancedCode, EnvelopeId, Notify, OriginalRecipient};

    use super::*;

    fn report(recipient: &str, action: Action, reply: Option<Reply>) -> Report {
        let detail = reply.as_ref().map_or_else(|| "connection\r\nrefused".to_owned(), Reply::to_string);
        Report {
            recipient: EmailAddress::parse(recipient).unwrap(),
            dsn: RecipientDsn::default(),
            action,
            host: reply.is_some().then(|| "mx.remote.example".to_owned()),
            reply,
            detail,
        }
    }

    fn notice(dsn: &MessageDsn, reports: &[Report], original: &[u8]) -> Notice {
        let now = Timestamp::from_unix(1_763_780_646);
        Notice {
            hostname: Domain::parse("mx.example.com").unwrap(),
            id: MessageId::new(now),
            sender: EmailAddress::parse("alice@example.com").unwrap(),
            arrived: now,
            now,
            dsn: dsn.clone(),
            tls: TlsWish::default(),
            reports: reports.to_vec(),
            original: Body::from(original.to_vec()),
        }
    }

    fn render(dsn: &MessageDsn, reports: &[Report], original: &[u8]) -> (String, Content) {
        let raw = notice(dsn, reports, original).render().unwrap();
        (String::from_utf8(raw.to_vec()).unwrap(), Content::parse(&raw))
    }

    const ORIGINAL: &[u8] = b"Subject: hello\r\nX-A: b\r\n\r\nsecret body\r\n";

    #[test]
    fn names_every_recipient_and_the_reply() {
        let refused = Reply::new(550, EnhancedCode(5, 1, 1), "no such user");
        let reports = [
            report("bob@remote.example", Action::Failed, Some(refused)),
            report("eve@gone.example", Action::Failed, None),
        ];
        let (text, content) = render(&MessageDsn::default(), &reports, ORIGINAL);
        assert!(text.contains("report-type=\"delivery-status\""), "{text}");
        assert!(text.contains("Final-Recipient: rfc822; bob@remote.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"));
        assert!(text.contains("Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"));
        assert!(text.contains("Diagnostic-Code: x-mairust; connection  refused\r\n"));
        assert!(text.contains("Subject: hello"));
        assert!(!text.contains("secret body"));
        assert_eq!(content.to[0].address, "alice@example.com");
        assert_eq!(content.header("auto-submitted"), Some("auto-replied"));
        let read = DeliveryReport::parse(text.as_bytes()).unwrap();
        assert_eq!((read.reporter.as_deref(), read.recipients.len()), (Some("mx.example.com"), 2));
        let of_bob = read.failure(&reports[0].recipient).unwrap();
        assert_eq!(
            (of_bob.reply.as_ref(), of_bob.remote.as_deref()),
            (reports[0].reply.as_ref(), Some("mx.remote.example"))
        );
        assert_eq!(read.recipients[1].diagnostic.as_deref(), Some("connection  refused"));
    }

    #[test]
    fn tells_what_the_sender_asked_for() {
        let dsn = MessageDsn { ret: Some(Return::Full), envelope_id: EnvelopeId::parse("QQ+2B1") };
        let mut failed = report("佐藤@例え.jp", Action::Failed, None);
        failed.dsn.original = OriginalRecipient::parse("rfc822;info+2Bx@example.com");
        let (text, _) = render(&dsn, &[failed], ORIGINAL);
        assert!(text.contains("Original-Envelope-Id: QQ+1\r\n"), "{text}");
        assert!(text.contains("Original-Recipient: rfc822;info+x@example.com\r\n"));
        assert!(text.contains("Final-Recipient: utf-8; \\x{4F50}\\x{85E4}@xn--r8jz45g.jp\r\n"));
        assert!(text.contains("Content-Type: message/rfc822") && text.contains("secret body"));
        let (binary, _) = render(&dsn, &[report("a@b.c", Action::Failed, None)], b"Subject: x\r\n\r\nsecret\nbody");
        assert!(!binary.contains("secret"), "what has no lines can't be attached whole");
    }

    /// RFC 8689 §5.
    #[test]
    fn what_was_to_go_under_tls_is_not_returned_whole() {
        let dsn = MessageDsn { ret: Some(Return::Full), envelope_id: None };
        let mut notice = notice(&dsn, &[report("a@b.c", Action::Failed, None)], ORIGINAL);
        notice.tls = TlsWish::Required;
        let text = String::from_utf8(notice.render().unwrap().to_vec()).unwrap();
        assert!(text.contains("Subject: hello") && !text.contains("secret body"), "{text}");
    }

    #[test]
    fn lines_end_in_crlf() {
        for lines in [&b""[..], b"a", b"a\r\n", b"a\r\n\r\nb"] {
            assert!(has_lines(lines), "{}", lines.escape_ascii());
        }
        for none in [&b"a\nb"[..], b"a\n", b"a\rb\r\n", b"a\0", &[b'a'; 999]] {
            assert!(!has_lines(none), "{}", none.escape_ascii());
        }
    }

    #[test]
    fn success_is_reported_without_the_message() {
        let dsn = MessageDsn { ret: Some(Return::Full), envelope_id: None };
        let taken = Reply::new(250, EnhancedCode(2, 0, 0), "queued");
        let reports = [report("a@b.c", Action::Relayed, Some(taken)), report("d@example.com", Action::Delivered, None)];
        let (text, content) = render(&dsn, &reports, ORIGINAL);
        assert_eq!(content.subject.as_deref(), Some("Successful Mail Delivery Report"));
        assert!(text.contains("Action: relayed\r\nStatus: 2.0.0\r\n") && text.contains("Action: delivered\r\n"));
        assert!(!text.contains("secret body"));
    }

    #[test]
    fn what_is_late_is_tried_further() {
        let until = Timestamp::from_unix(1_764_212_646);
        let busy = Reply::new(451, EnhancedCode(4, 3, 2), "busy");
        let late = [
            report("bob@remote.example", Action::Delayed(until), Some(busy)),
            report("eve@gone.example", Action::Delayed(until), None),
        ];
        let dsn = MessageDsn { ret: Some(Return::Full), envelope_id: None };
        let (text, content) = render(&dsn, &late, ORIGINAL);
        assert_eq!(content.subject.as_deref(), Some("Delayed Mail (still being tried)"));
        assert!(text.contains("rfc822; bob@remote.example\r\nAction: delayed\r\nStatus: 4.3.2\r\n"), "{text}");
        assert!(text.contains("rfc822; eve@gone.example\r\nAction: delayed\r\nStatus: 4.0.0\r\n"));
        let date = "Thu, 27 Nov 2025 03:04:06 +0000";
        assert_eq!(text.matches(&format!("Will-Retry-Until: {date}\r\n")).count(), 2);
        assert!(text.contains(&format!("tried until {date};")) && !text.contains("not tried any more"));
        assert!(!text.contains("secret body"), "a whole message goes back with failures only (RFC 3461 §4.3)");
        let refused = Reply::new(550, EnhancedCode(5, 1, 1), "no such user");
        let both = [late[0].clone(), report("no@remote.example", Action::Failed, Some(refused))];
        let (text, content) = render(&dsn, &both, ORIGINAL);
        assert_eq!(content.subject.as_deref(), Some("Undelivered Mail Returned to Sender"));
        assert!(text.contains("not tried any more:\r\n\r\n  no@remote.example"), "{text}");
        assert!(text.contains("not be delivered yet") && text.contains("Action: delayed"));
    }

    #[test]
    fn nobody_is_told_who_does_not_want_to_hear() {
        let wish = |text| RecipientDsn { notify: Notify::parse(text), original: None };
        for (action, notify, wanted) in [
            (Action::Failed, "NEVER", false),
            (Action::Failed, "SUCCESS", false),
            (Action::Failed, "FAILURE", true),
            (Action::Relayed, "FAILURE", false),
            (Action::Delivered, "SUCCESS,DELAY", true),
            (Action::Delayed(Timestamp::default()), "SUCCESS,FAILURE", false),
            (Action::Delayed(Timestamp::default()), "NEVER", false),
            (Action::Delayed(Timestamp::default()), "FAILURE,DELAY", true),
        ] {
            assert_eq!(action.is_wanted(&wish(notify)), wanted, "{action:?} {notify}");
        }
        assert!(Action::Failed.is_wanted(&RecipientDsn::default()));
        assert!(Action::Delayed(Timestamp::default()).is_wanted(&RecipientDsn::default()));
        assert!(!Action::Relayed.is_wanted(&RecipientDsn::default()));
    }
}
