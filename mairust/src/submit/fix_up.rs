//! What a submission server adds, removes and changes (RFC 6409 §8): a missing Date or Message-ID is
//! added, Bcc is removed, and lines are made short enough for every server.

use bytes::Bytes;
use mairust_core::{Body, Content, Domain, EmailAddress, EnhancedCode, MessageId, Rejection, Timestamp};

use super::addresses::authors;
use super::lines;

/// A message that is fit to be sent.
#[derive(Debug)]
pub(crate) struct FixedUp {
    /// Header fields to put in front.
    pub(crate) added: String,
    /// The message, without Bcc, in lines that are not too long.
    pub(crate) body: Body,
    /// What it says about itself.
    pub(crate) content: Content,
    /// The addresses of From and Sender.
    pub(crate) authors: Vec<EmailAddress>,
    /// Message-ID without angle brackets.
    pub(crate) message_id: String,
}

/// Makes a message fit to be sent; reads it into memory.
pub(crate) async fn fix_up(
    body: &Body,
    hostname: &Domain,
    id: MessageId,
    now: Timestamp,
) -> Result<FixedUp, Rejection> {
    let (body, hostname) = (body.clone(), hostname.clone());
    tokio::task::spawn_blocking(move || {
        let raw = body.read_all().map_err(Rejection::unavailable)?;
        apply(&raw, &hostname, id, now)
    })
    .await
    .map_err(Rejection::unavailable)?
}

fn apply(raw: &Bytes, hostname: &Domain, id: MessageId, now: Timestamp) -> Result<FixedUp, Rejection> {
    if !mairust_core::content::is_readable(raw) {
        return Err(Rejection::new(550, EnhancedCode(5, 6, 0), "The header section is too large"));
    }
    let body = without_fields(raw, is_bcc).unwrap_or_else(|| raw.clone());
    let body = lines::shortened(&body).unwrap_or(body);
    let content = Content::parse(&body);
    if content.headers.is_empty() {
        return Err(Rejection::new(550, EnhancedCode(5, 6, 0), "The message has no header section"));
    }
    let authors = authors(&body)?;
    let mut added = String::new();
    if content.header("date").is_none() {
        added.push_str(&format!("Date: {}\r\n", now.to_rfc5322()));
    }
    let message_id = content.message_id.clone().unwrap_or_else(|| {
        let made = format!("{id}@{hostname}");
        added.push_str(&format!("Message-ID: <{made}>\r\n"));
        made
    });
    Ok(FixedUp { added, body: body.into(), content, authors, message_id })
}

/// A message or header section without the fields of some names; `None` if it has none.
pub(super) fn without_fields(raw: &[u8], is_unwanted: impl Fn(&[u8]) -> bool) -> Option<Bytes> {
    let mut kept = Vec::new();
    let mut dropping = false;
    let mut found = false;
    let mut rest = raw;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (line, after) = rest.split_at(end + 2);
        if line == b"\r\n" {
            break;
        }
        // A line that begins with white space belongs to the field before it (RFC 5322 §2.2.3).
        if !matches!(line[0], b' ' | b'\t') {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            dropping = is_unwanted(name.trim_ascii_end());
            found |= dropping;
        }
        if !dropping {
            kept.extend_from_slice(line);
        }
        rest = after;
    }
    kept.extend_from_slice(rest);
    found.then(|| kept.into())
}

fn is_bcc(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"bcc") || name.eq_ignore_ascii_case(b"resent-bcc")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(raw: &str) -> FixedUp {
        let hostname = Domain::parse("mx.example.com").unwrap();
        let now = Timestamp::from_unix(1_763_780_646);
        apply(&Bytes::from(raw.to_owned()), &hostname, MessageId::new(now), now).unwrap()
    }

    #[test]
    fn adds_what_is_missing() {
        let fixed = fixed("From: a@b.c\r\n\r\nhi\r\n");
        assert!(fixed.added.starts_with("Date: Sat, 22 Nov 2025 03:04:06 +0000\r\nMessage-ID: <"));
        assert!(fixed.message_id.ends_with("@mx.example.com"));
        assert_eq!(fixed.body.in_memory().unwrap().as_ref(), b"From: a@b.c\r\n\r\nhi\r\n");
    }

    #[test]
    fn leaves_alone_what_is_there() {
        let raw =
            "From: a@b.c\r\nDate: Sat, 22 Nov 2025 03:04:06 +0000\r\nMessage-ID: <x@y>\r\n\r\nBcc: in the text\r\n";
        let fixed = fixed(raw);
        assert_eq!((fixed.added.as_str(), fixed.message_id.as_str()), ("", "x@y"));
        assert_eq!(fixed.body.in_memory().unwrap().as_ref(), raw.as_bytes());
    }

    #[test]
    fn removes_bcc_with_its_continuation_lines() {
        let fixed = fixed("From: a@b.c\r\nBCC: one@x,\r\n two@x\r\nSubject: s\r\nbcc : three@x\r\n\r\nbody\r\n");
        assert_eq!(fixed.body.in_memory().unwrap().as_ref(), b"From: a@b.c\r\nSubject: s\r\n\r\nbody\r\n");
    }

    #[test]
    fn refuses_what_is_no_message() {
        let hostname = Domain::parse("mx").unwrap();
        let now = Timestamp::default();
        assert!(apply(&Bytes::new(), &hostname, MessageId::new(now), now).is_err());
    }
}
