//! What a message says about itself: header fields, text, attachments (RFC 5322, MIME).
//!
//! Reading is lenient, as mail in the wild demands: whatever the bytes are, a [`Content`] comes
//! out, and the bytes themselves are never changed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::html::html_to_text;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::parsers::MessageStream;
use mail_parser::{Address, Encoding, HeaderValue, Message, MessageParser, MimeHeaders, PartType};
use memchr::{memchr_iter, memmem};

use crate::clock::Timestamp;

mod parts;
mod searched;

pub use parts::{HeaderField, TextLeaf, header_fields, text_leaves};
pub use searched::{SEARCH_TEXT_BYTES, SearchText};

/// A name and an address as they stand in From or To; both may be missing or wrong in mail from
/// outside, so the address is a plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAddress {
    /// The display name, decoded.
    pub name: Option<String>,
    /// The address, as written.
    pub address: String,
}

/// What a message says about itself, decoded to UTF-8. A NUL character, which not every database
/// has, becomes U+FFFD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Content {
    /// All header fields in order, values unfolded and decoded (RFC 2047).
    pub headers: Vec<(String, String)>,
    /// Subject.
    pub subject: Option<String>,
    /// From.
    pub from: Vec<NamedAddress>,
    /// To.
    pub to: Vec<NamedAddress>,
    /// Cc.
    pub cc: Vec<NamedAddress>,
    /// Date.
    pub date: Option<Timestamp>,
    /// Message-ID without its angle brackets.
    pub message_id: Option<String>,
    /// The first of In-Reply-To, without its angle brackets.
    pub in_reply_to: Option<String>,
    /// References, oldest first, without angle brackets.
    pub references: Vec<String>,
    /// The beginning of the text, at most [`PREVIEW_BYTES`] octets of UTF-8, cut at a character.
    pub preview: String,
    /// What is attached, in order.
    pub attachments: Vec<Attachment>,
}

/// One attachment of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its file name, decoded.
    pub filename: Option<String>,
    /// Its media type in lower case, for example `application/pdf`.
    pub content_type: String,
    /// Its charset as the message says, for texts.
    pub charset: Option<String>,
    /// Its size in bytes after the transfer encoding is undone.
    pub size: u64,
}

/// The length limit of [`Content::preview`].
pub const PREVIEW_BYTES: usize = 4096;

/// Addresses that are kept of each field; the message itself has all.
pub const MAX_ADDRESSES: usize = 100;

/// References that are kept.
const MAX_REFERENCES: usize = 100;

/// Octets that are kept of a subject, a name, an address, an id or what an attachment is called.
const MAX_TEXT: usize = 2048;

impl Content {
    /// Reads a message.
    pub fn parse(raw: &[u8]) -> Self {
        with_message(raw, |message| Self {
            headers: headers(message),
            subject: message.subject().map(bounded),
            from: mailboxes(message.from()),
            to: mailboxes(message.to()),
            cc: mailboxes(message.cc()),
            date: message.date().map(|date| Timestamp::from_unix(date.to_timestamp())),
            message_id: message.message_id().map(bounded),
            in_reply_to: ids(message.in_reply_to()).into_iter().next(),
            references: ids(message.references()),
            preview: preview(message),
            attachments: attached(message).map(|part| attachment(part, raw)).collect(),
        })
        .unwrap_or_default()
    }

    /// The first header field of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The text of a message; HTML is reduced to text when there is nothing else.
pub fn text(raw: &[u8]) -> Option<String> {
    with_message(raw, |message| {
        let parts: Vec<_> = (0..message.text_body_count()).filter_map(|part| message.body_text(part)).collect();
        (!parts.is_empty()).then(|| parts.join("\n"))
    })
    .flatten()
}

/// All text parts of a message, decoded, one after the other; HTML both as it is written and reduced
/// to what a reader sees. What is attached as a message is left out.
pub fn searchable_text(raw: &[u8]) -> String {
    let join = |message: &Message<'_>| {
        let mut all = String::new();
        for part in &message.parts {
            match &part.body {
                PartType::Text(text) => all.push_str(text),
                PartType::Html(html) => {
                    all.push_str(html);
                    all.push('\n');
                    all.push_str(&html_to_text(html));
                }
                _ => continue,
            }
            all.push('\n');
        }
        all
    };
    with_message(raw, join).unwrap_or_default()
}

/// The bytes of the attachment with this index, its transfer encoding undone.
pub fn attachment_bytes(raw: &[u8], index: usize) -> Option<Vec<u8>> {
    with_message(raw, |message| attached(message).nth(index).map(|part| part_bytes(part, raw)))?
}

/// Runs `read` over the bytes of each attachment, in order, their transfer encoding undone; the
/// message is parsed once.
pub fn map_attachments<T>(raw: &[u8], mut read: impl FnMut(&[u8]) -> T) -> Vec<T> {
    let each = |message: &Message<'_>| attached(message).map(|part| read(&part_bytes(part, raw))).collect();
    with_message(raw, each).unwrap_or_default()
}

/// Whether a message is read as a whole. Of one with over 256 KiB of header fields, or over 2,000
/// parts, only the beginning of the header section is.
pub fn is_readable(raw: &[u8]) -> bool {
    readable(raw) == raw.len()
}

/// How many bytes from the front are read.
fn readable(raw: &[u8]) -> usize {
    const HEADER_LIMIT: usize = 256 << 10;
    const PARTS_LIMIT: usize = 2_000;
    const FIELD: &[u8] = b"content-type";
    let front = &raw[..raw.len().min(HEADER_LIMIT)];
    let header =
        memmem::find(front, b"\r\n\r\n").map(|end| end + 4).or_else(|| front.starts_with(b"\r\n").then_some(2));
    match header {
        None if raw.len() > HEADER_LIMIT => HEADER_LIMIT,
        // Each part that holds others has a Content-Type, so this bounds the depth, too.
        Some(end) if parts(raw, FIELD) > PARTS_LIMIT => end.min(HEADER_LIMIT),
        None if parts(raw, FIELD) > PARTS_LIMIT => 0,
        _ => raw.len(),
    }
}

/// How often a name occurs, whatever its case.
fn parts(raw: &[u8], name: &[u8]) -> usize {
    let at = |hyphen: usize| hyphen.checked_sub(7).and_then(|start| raw.get(start..start + name.len()));
    memchr_iter(b'-', raw).filter(|hyphen| at(*hyphen).is_some_and(|found| found.eq_ignore_ascii_case(name))).count()
}

/// Runs `read` over the parsed message; `None` if the parser finds no message or fails.
pub(crate) fn with_message<T>(raw: &[u8], read: impl FnOnce(&Message<'_>) -> T) -> Option<T> {
    // What would take the parser too deep or too long is read as far as it is harmless.
    let raw = &raw[..readable(raw)];
    // The parser is fed by strangers: a fault in it must not take the session down.
    catch_unwind(AssertUnwindSafe(|| MessageParser::default().parse(raw).map(|message| read(&message)))).ok().flatten()
}

fn headers(message: &Message<'_>) -> Vec<(String, String)> {
    let fields = message.headers().iter().filter_map(|header| field(message, header));
    fields.map(|(name, value, _)| (name, value)).collect()
}

/// The name of a header field, its value decoded, and the octets of its value up to the end of its line.
fn field<'m>(message: &'m Message<'_>, header: &mail_parser::Header<'_>) -> Option<(String, String, &'m [u8])> {
    let start = usize::try_from(header.offset_start).ok()?;
    let end = usize::try_from(header.offset_end).ok()?;
    let raw = message.raw_message.get(start..end)?;
    let value = match MessageStream::new(raw).parse_unstructured() {
        HeaderValue::Text(text) => text.into_owned(),
        _ => String::new(),
    };
    Some((header.name.as_str().to_owned(), value, raw))
}

fn mailboxes(address: Option<&Address<'_>>) -> Vec<NamedAddress> {
    let Some(address) = address else { return Vec::new() };
    address
        .iter()
        .take(MAX_ADDRESSES)
        .map(|entry| NamedAddress {
            name: entry.name().map(bounded),
            address: bounded(entry.address().unwrap_or_default()),
        })
        .collect()
}

/// What strangers write is kept up to a bound, for every list shows it.
fn bounded(text: &str) -> String {
    beginning(text, MAX_TEXT)
}

/// Cuts before it copies: a string keeps the room that it once had.
fn beginning(text: &str, octets: usize) -> String {
    let text = &text[..text.floor_char_boundary(octets)];
    // Three octets take the place of one.
    if text.contains('\0') { beginning(&text.replace('\0', "\u{fffd}"), octets) } else { text.to_owned() }
}

fn ids(value: &HeaderValue<'_>) -> Vec<String> {
    match value {
        HeaderValue::Text(id) => vec![bounded(id)],
        // The last ones are the nearest.
        HeaderValue::TextList(ids) => {
            ids.iter().skip(ids.len().saturating_sub(MAX_REFERENCES)).map(|id| bounded(id)).collect()
        }
        _ => Vec::new(),
    }
}

fn preview(message: &Message<'_>) -> String {
    let text = message.body_text(0).unwrap_or_default();
    beginning(text.trim(), PREVIEW_BYTES)
}

/// What is attached. For messages in messages whose ends are missing, the parser takes parts for
/// attached that hold others which are attached, too: a short message would hold much.
fn attached<'m>(message: &'m Message<'m>) -> impl Iterator<Item = &'m mail_parser::MessagePart<'m>> {
    message.attachments().filter(|part| !matches!(part.body, PartType::Multipart(_)))
}

fn attachment(part: &mail_parser::MessagePart<'_>, raw: &[u8]) -> Attachment {
    let content_type = match part.content_type() {
        Some(kind) => format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("octet-stream")),
        None if part.is_message() => "message/rfc822".to_owned(),
        None => "application/octet-stream".to_owned(),
    };
    Attachment {
        filename: part.attachment_name().map(bounded),
        content_type: bounded(&content_type.to_ascii_lowercase()),
        charset: part.content_type().and_then(|kind| kind.attribute("charset")).map(bounded),
        size: match &part.body {
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => bytes.len(),
            _ => part_bytes(part, raw).len(),
        } as u64,
    }
}

/// The bytes of a part as they were attached. The parser decodes text to UTF-8, which is not what
/// somebody attached, and takes the message around it for the bytes of an attached message, so both
/// are taken from the raw message again.
fn part_bytes(part: &mail_parser::MessagePart<'_>, raw: &[u8]) -> Vec<u8> {
    match &part.body {
        PartType::Binary(bytes) | PartType::InlineBinary(bytes) => bytes.to_vec(),
        PartType::Message(inner) if part.encoding != Encoding::None => inner.raw_message.to_vec(),
        PartType::Message(_) | PartType::Text(_) | PartType::Html(_) | PartType::Multipart(_) => {
            let range = part.offset_body as usize..part.offset_end as usize;
            let encoded = raw.get(range).unwrap_or_default();
            let decoded = match part.encoding {
                Encoding::None => None,
                Encoding::QuotedPrintable => quoted_printable_decode(encoded),
                Encoding::Base64 => base64_decode(encoded),
            };
            decoded.unwrap_or_else(|| encoded.to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MULTIPART: &[u8] = b"From: =?ISO-2022-JP?B?GyRCOjRGIxsoQg==?= <a@sender.example>\r\n\
        To: alice@example.com, Bob <bob@example.com>\r\n\
        Subject: =?ISO-2022-JP?B?GyRCQEE1YT1xGyhC?=\r\n\
        X-Folded: one\r\n two\r\n\
        Message-ID: <x@sender.example>\r\nReferences: <r1@x> <r2@x>\r\n\
        Date: Sat, 22 Nov 2025 03:04:06 +0000\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$B@A5a=q\x1b(B\r\n\
        --b\r\nContent-Type: application/pdf; name=\"a.pdf\"\r\n\
        Content-Disposition: attachment; filename=\"a.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC/w==\r\n--b--\r\n";

    #[test]
    fn nul_characters_are_replaced() {
        let raw = format!("Subject: a\0b\r\n\r\n{}", "\0".repeat(PREVIEW_BYTES));
        let content = Content::parse(raw.as_bytes());
        assert_eq!(content.subject.as_deref(), Some("a\u{fffd}b"));
        assert!(content.preview.len() <= PREVIEW_BYTES && content.preview.chars().all(|c| c == '\u{fffd}'));
    }

    #[test]
    fn decodes_headers_text_and_attachments() {
        let content = Content::parse(MULTIPART);
        assert_eq!(content.subject.as_deref(), Some("請求書"));
        assert_eq!(content.from[0].name.as_deref(), Some("佐藤"));
        assert_eq!(content.to.len(), 2);
        assert_eq!(content.header("subject"), Some("請求書"));
        assert_eq!(content.header("x-folded"), Some("one two"));
        assert_eq!(content.references, ["r1@x", "r2@x"]);
        assert_eq!(content.date, Some(Timestamp::from_unix(1_763_780_646)));
        assert_eq!(content.preview, "請求書");
        assert_eq!(content.attachments.len(), 1);
        assert_eq!(content.attachments[0].size, 4);
        assert_eq!(content.attachments[0].content_type, "application/pdf");
        assert_eq!(attachment_bytes(MULTIPART, 0), Some(vec![0, 1, 2, 255]));
        assert_eq!(attachment_bytes(MULTIPART, 1), None);
        assert_eq!(map_attachments(MULTIPART, <[u8]>::to_vec), [[0, 1, 2, 255]]);
        assert_eq!(text(MULTIPART).as_deref().map(str::trim), Some("請求書"));
    }

    #[test]
    fn a_text_attachment_keeps_its_charset() {
        let part = |encoding: &str, body: &str| {
            format!(
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n--b\r\n\
                 Content-Type: text/plain; charset=shift_jis\r\nContent-Disposition: attachment\r\n\
                 Content-Transfer-Encoding: {encoding}\r\n\r\n{body}\r\n--b--\r\n"
            )
        };
        for (encoding, body) in [("base64", "k/qWew=="), ("quoted-printable", "=93=FA=96=7B")] {
            let raw = part(encoding, body);
            assert_eq!(attachment_bytes(raw.as_bytes(), 0).as_deref(), Some(&b"\x93\xfa\x96\x7b"[..]), "{encoding}");
            let attachment = Content::parse(raw.as_bytes()).attachments.remove(0);
            assert_eq!((attachment.size, attachment.charset.as_deref()), (4, Some("shift_jis")));
        }
        let seven_bit = part("7bit", "plain");
        assert_eq!(attachment_bytes(seven_bit.as_bytes(), 0).as_deref(), Some(&b"plain"[..]));
    }

    #[test]
    fn an_attached_message_is_not_the_message_around_it() {
        for (encoding, body) in
            [("7bit", "Subject: inner\r\n\r\nhello"), ("base64", "U3ViamVjdDogaW5uZXINCg0KaGVsbG8=")]
        {
            let raw = format!(
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n--b\r\n\
                 Content-Type: message/rfc822\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}\r\n--b--\r\n"
            );
            let inner = b"Subject: inner\r\n\r\nhello";
            assert_eq!(attachment_bytes(raw.as_bytes(), 0).as_deref(), Some(&inner[..]), "{encoding}");
            assert_eq!(Content::parse(raw.as_bytes()).attachments[0].size, inner.len() as u64);
        }
    }

    #[test]
    fn no_attachment_holds_others() {
        let message = "Content-Type: message/rfc822\n\n";
        let raw = format!(
            "Content-Type: multipart/mixed; boundary=o\n\n\
             --o\n{message}{message}\n--o\n{message}c\n\n--o\n{message}x: y\n\nz\n--o--"
        );
        assert_eq!(map_attachments(raw.as_bytes(), <[u8]>::to_vec), [b"x: y\n\nz"]);
    }

    #[test]
    fn a_bomb_is_read_as_far_as_it_is_harmless() {
        for bomb in [
            "Content-Type: message/rfc822\r\n\r\n".repeat(34_000),
            format!("Subject: x\r\n{}\r\nbody", "a:\r\n".repeat(500_000)),
            format!(
                "Content-Type: text/plain{}\r\n\r\nx",
                (0..200_000).map(|n| format!(";a*{n}=b")).collect::<String>()
            ),
        ] {
            assert!(!is_readable(bomb.as_bytes()));
            assert!(!Content::parse(bomb.as_bytes()).headers.is_empty());
        }
        assert!(is_readable(MULTIPART) && is_readable(b"") && is_readable(b"\r\nno header"));
    }

    #[test]
    fn text_is_searched_in_every_part() {
        let raw = b"Content-Type: multipart/alternative; boundary=b\r\n\r\n\
            --b\r\nContent-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$B@A5a=q\x1b(B\r\n\
            --b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n\
            PGEgaHJlZj0iaHR0cDovL3gudGVzdCI+Y2w8Yj5pPC9iPmNrPC9hPg==\r\n--b--\r\n";
        let text = searchable_text(raw);
        for part in ["\u{8acb}\u{6c42}\u{66f8}", "http://x.test", "click"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(searchable_text(b""), "");
    }

    #[test]
    fn takes_whatever_comes() {
        assert_eq!(Content::parse(b""), Content::default());
        let long = format!("Subject: x\r\n\r\n{}", "あ".repeat(2000));
        let preview = Content::parse(long.as_bytes()).preview;
        assert!(preview.len() <= PREVIEW_BYTES && preview.len() > PREVIEW_BYTES - 3);
        assert!(preview.capacity() <= PREVIEW_BYTES, "a preview holds no memory beyond itself");
    }
}
