//! What hosts report about mail that they took: delivery status notifications (RFC 3464), as they come in.
//!
//! Deliberately absent: whether a report may be believed, and writing one.

use mail_parser::{Message, MimeHeaders, PartType};

use crate::address::EmailAddress;
use crate::content::with_message;
use crate::reply::{EnhancedCode, Reply};

/// A delivery status notification.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryReport {
    /// The host that reports (Reporting-MTA), without the type of its name.
    pub reporter: Option<String>,
    /// What it says about recipients, at least one and at most [`MAX_RECIPIENTS`].
    pub recipients: Vec<RecipientStatus>,
}

/// What a report says about one recipient (RFC 3464 §2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecipientStatus {
    /// The address as its sender wrote it (Original-Recipient), if it is a mail address.
    pub original: Option<EmailAddress>,
    /// The address that the host tried (Final-Recipient), if it is a mail address. It differs from the one that a
    /// message was sent to when mail is forwarded there.
    pub tried: Option<EmailAddress>,
    /// What happened.
    pub action: ReportedAction,
    /// The status code.
    pub status: EnhancedCode,
    /// The host that refused the message (Remote-MTA), without the type of its name.
    pub remote: Option<String>,
    /// What that host replied, if it spoke SMTP (Diagnostic-Code).
    pub reply: Option<Reply>,
    /// The reason as the report has it, on one line: the diagnostic code without its type.
    pub diagnostic: Option<String>,
}

/// What happened to mail for a recipient (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReportedAction {
    /// It is late, and still tried.
    Delayed,
    /// It is in its mailbox.
    Delivered,
    /// It was sent on to several others.
    Expanded,
    /// It is given up.
    Failed,
    /// It was passed to a host that reports nothing.
    Relayed,
}

/// How many octets of a message are looked at: what is reported stands before what is returned.
pub const READ_BYTES: usize = 256 << 10;

/// Recipients that are kept of a report.
pub const MAX_RECIPIENTS: usize = 100;

/// Octets that are kept of a text.
const MAX_TEXT: usize = 1_000;

impl DeliveryReport {
    /// Reads a message, as far as [`READ_BYTES`]; `None` if it is no delivery status notification or says nothing
    /// about anybody.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        with_message(&raw[..raw.len().min(READ_BYTES)], |message| status_fields(message).map(Self::read)).flatten()?
    }

    /// What the report says about mail for `recipient`, if it says that this has failed for good and nothing else.
    ///
    /// It is about one message to one recipient, whatever addresses it names: those that a host forwards mail to are
    /// not known to the sender. So one address that was reached, or may be, is enough for no failure.
    pub fn failure(&self, recipient: &EmailAddress) -> Option<&RecipientStatus> {
        if self.recipients.iter().any(|status| status.action != ReportedAction::Failed) {
            return None;
        }
        let wanted = recipient.lookup_key();
        let names = |address: &Option<EmailAddress>| address.as_ref().is_some_and(|known| known.lookup_key() == wanted);
        let about = self.recipients.iter().find(|status| names(&status.tried) || names(&status.original));
        about.or(self.recipients.first())
    }

    /// Reads the groups of fields of a report (RFC 3464 §2.1).
    fn read(fields: &[u8]) -> Option<Self> {
        let (mut reporter, mut recipients) = (None, Vec::new());
        for group in groups(fields) {
            reporter = reporter.or_else(|| field(&group, "Reporting-MTA").and_then(untyped));
            if recipients.len() < MAX_RECIPIENTS {
                recipients.extend(RecipientStatus::read(&group));
            }
        }
        (!recipients.is_empty()).then_some(Self { reporter, recipients })
    }
}

impl RecipientStatus {
    /// The most telling code: that of the host which refused the message if its reply is known, or the status.
    /// Some hosts report 5.0.0 for whatever they were told.
    pub fn code(&self) -> Option<EnhancedCode> {
        self.reply.as_ref().map_or(Some(self.status), Reply::enhanced)
    }

    fn read(group: &[(String, String)]) -> Option<Self> {
        let address = |name| field(group, name).and_then(untyped).and_then(|text| EmailAddress::parse(&text).ok());
        let action = ReportedAction::parse(field(group, "Action")?)?;
        let status = EnhancedCode::parse(field(group, "Status")?.split([' ', '(']).next()?)?;
        let diagnostic = field(group, "Diagnostic-Code");
        let is_smtp = diagnostic.and_then(|text| text.split_once(';')).filter(|(kind, _)| {
            let kind = kind.trim();
            kind.eq_ignore_ascii_case("smtp") || kind.eq_ignore_ascii_case("X-SMTP")
        });
        Some(Self {
            original: address("Original-Recipient"),
            tried: address("Final-Recipient"),
            action,
            status,
            remote: field(group, "Remote-MTA").and_then(untyped),
            reply: is_smtp.and_then(|(_, text)| reply(text.trim())),
            diagnostic: diagnostic.and_then(untyped),
        })
    }
}

impl ReportedAction {
    /// Reads the value of Action, whatever its case; what stands behind the word is a comment.
    pub fn parse(text: &str) -> Option<Self> {
        let word = text.split([' ', '(']).next()?;
        [Self::Delayed, Self::Delivered, Self::Expanded, Self::Failed, Self::Relayed]
            .into_iter()
            .find(|action| action.as_str().eq_ignore_ascii_case(word))
    }

    /// As in the field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Expanded => "expanded",
            Self::Failed => "failed",
            Self::Relayed => "relayed",
        }
    }
}

/// The part of a report that machines read (RFC 3464 §2, RFC 6533 §3).
fn status_fields<'m>(message: &'m Message<'_>) -> Option<&'m [u8]> {
    let root = message.parts.first()?;
    let kind = root.content_type()?;
    let is_report = kind.ctype().eq_ignore_ascii_case("multipart")
        && kind.subtype().is_some_and(|subtype| subtype.eq_ignore_ascii_case("report"))
        && kind.attribute("report-type").is_none_or(|kind| kind.eq_ignore_ascii_case("delivery-status"));
    let PartType::Multipart(children) = &root.body else { return None };
    let status = |id: &mail_parser::MessagePartId| {
        let part = message.parts.get(*id as usize)?;
        let kind = part.content_type()?;
        let names_it = |subtype: &str| {
            ["delivery-status", "global-delivery-status"].iter().any(|known| known.eq_ignore_ascii_case(subtype))
        };
        let is_status = kind.ctype().eq_ignore_ascii_case("message") && kind.subtype().is_some_and(names_it);
        match &part.body {
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) if is_status => Some(&**bytes),
            _ => None,
        }
    };
    if is_report { children.iter().find_map(status) } else { None }
}

/// Groups of fields, with empty lines between them; each field unfolded.
fn groups(fields: &[u8]) -> Vec<Vec<(String, String)>> {
    let mut groups = vec![Vec::<(String, String)>::new()];
    for line in fields.split(|byte| *byte == b'\n') {
        // What is no text is shown as it is, and means nothing.
        let text = std::str::from_utf8(line).map_or_else(|_| line.escape_ascii().to_string(), str::to_owned);
        let text = text.trim_end();
        let (folded, group) = (text.starts_with([' ', '\t']), groups.last_mut().expect("there is one"));
        if text.is_empty() {
            groups.push(Vec::new());
        } else if let (true, Some((_, value))) = (folded, group.last_mut()) {
            value.push(' ');
            value.push_str(text.trim_start());
        } else if let Some((name, value)) = text.split_once(':') {
            group.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    groups
}

/// The first field of this name, whatever its case.
fn field<'g>(group: &'g [(String, String)], name: &str) -> Option<&'g str> {
    group.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// What stands behind the type of a value, on one line and bounded.
fn untyped(value: &str) -> Option<String> {
    let text = value.split_once(';').map_or(value, |(_, text)| text).trim();
    let text = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    (!shown.is_empty()).then_some(shown)
}

/// A reply as it stands in Diagnostic-Code: its lines may be joined into one.
fn reply(text: &str) -> Option<Reply> {
    let (digits, rest) = text.split_at_checked(3)?;
    let code = digits.parse::<u16>().ok().filter(|code| (400..600).contains(code))?;
    let rest = match rest.strip_prefix([' ', '-']) {
        Some(rest) => rest.trim_start(),
        None if rest.is_empty() => rest,
        None => return None,
    };
    let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let enhanced = EnhancedCode::parse(word).filter(|enhanced| u16::from(enhanced.0) == code / 100);
    Some(match enhanced {
        Some(enhanced) => Reply::new(code, enhanced, text),
        None => Reply::plain(code, rest),
    })
}

#[cfg(test)]
mod tests;
