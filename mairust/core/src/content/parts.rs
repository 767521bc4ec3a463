//! Parts of a message one by one, for programs elsewhere that are to see some of them and not others.

use mail_parser::decoders::html::html_to_text;
use mail_parser::{Message, MessagePart, MimeHeaders, PartType};

use super::{bounded, field, part_bytes, with_message};

/// A header field as it stands in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderField {
    /// Its name.
    pub name: String,
    /// Its value as in [`Content::headers`](super::Content::headers): unfolded and decoded (RFC 2047).
    pub value: String,
    /// The octets of its value: what stands behind the colon, with its folds, without white space around it.
    pub octets: Vec<u8>,
}

/// A text that is part of what a reader sees: a leaf of the message that is not attached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextLeaf {
    /// Its media type in lower case, for example `text/plain`.
    pub media_type: String,
    /// Its charset as the message says, in lower case.
    pub charset: Option<String>,
    /// The text, decoded; HTML as it is written.
    pub text: String,
    /// Whether something could not be decoded, and is shown as U+FFFD.
    pub lossy: bool,
}

/// All header fields of a message, in order.
pub fn header_fields(raw: &[u8]) -> Vec<HeaderField> {
    let read = |message: &Message<'_>| {
        let fields = message.headers().iter().filter_map(|header| {
            let (name, value, octets) = field(message, header)?;
            Some(HeaderField { name, value, octets: octets.trim_ascii().to_vec() })
        });
        fields.collect()
    };
    with_message(raw, read).unwrap_or_default()
}

/// All texts of a message, in order. What is attached, and what messages in it say, is left out.
pub fn text_leaves(raw: &[u8]) -> Vec<TextLeaf> {
    let read = |message: &Message<'_>| {
        let mut ids: Vec<u32> = message.text_body.iter().chain(&message.html_body).copied().collect();
        ids.retain(|id| !message.attachments.contains(id));
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().filter_map(|id| leaf(message.parts.get(id as usize)?, raw)).collect()
    };
    with_message(raw, read).unwrap_or_default()
}

impl TextLeaf {
    /// Whether it is HTML.
    pub fn is_html(&self) -> bool {
        self.media_type == "text/html"
    }

    /// What a reader sees: HTML is reduced to text.
    pub fn into_shown(self) -> String {
        if self.is_html() { html_to_text(&self.text) } else { self.text }
    }
}

fn leaf(part: &MessagePart<'_>, raw: &[u8]) -> Option<TextLeaf> {
    let (PartType::Text(text) | PartType::Html(text)) = &part.body else { return None };
    let kind = part.content_type();
    let media_type = match kind.and_then(|kind| Some((kind.ctype(), kind.subtype()?))) {
        _ if part.is_text_html() => "text/html".to_owned(),
        Some((kind, subtype)) => bounded(&format!("{kind}/{subtype}").to_ascii_lowercase()),
        None => "text/plain".to_owned(),
    };
    Some(TextLeaf {
        media_type,
        charset: kind.and_then(|kind| kind.attribute("charset")).map(|name| bounded(&name.to_ascii_lowercase())),
        text: text.to_string(),
        lossy: text.contains('\u{fffd}') && !contains_replacement(&part_bytes(part, raw)),
    })
}

/// Whether U+FFFD is what somebody wrote, in UTF-8.
fn contains_replacement(octets: &[u8]) -> bool {
    memchr::memmem::find(octets, "\u{fffd}".as_bytes()).is_some() && std::str::from_utf8(octets).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &[u8] = b"Subject: =?ISO-2022-JP?B?GyRCQEE1YT1xGyhC?=\r\n\
        X-Folded: one\r\n two\r\nX-Odd: \x93\xfa \r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n\
        --a\r\nContent-Type: text/plain; charset=Shift_JIS\r\n\r\n\x93\xfa\x96\x7b\r\n\
        --a\r\nContent-Type: text/html\r\n\r\n<p>caf\xe9</p>\r\n--a--\r\n\
        --b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nattached\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nof another\r\n--b--\r\n";

    #[test]
    fn header_fields_keep_their_octets() {
        let fields = header_fields(MIXED);
        let field = |name: &str| fields.iter().find(|field| field.name == name).unwrap();
        assert_eq!(field("Subject").value, "請求書");
        assert_eq!(field("Subject").octets, b"=?ISO-2022-JP?B?GyRCQEE1YT1xGyhC?=");
        assert_eq!((field("X-Folded").value.as_str(), &*field("X-Folded").octets), ("one two", &b"one\r\n two"[..]));
        assert_eq!(field("X-Odd").octets, b"\x93\xfa");
        let names: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["Subject", "X-Folded", "X-Odd", "Content-Type"]);
        assert_eq!(header_fields(b""), []);
    }

    #[test]
    fn texts_are_what_a_reader_sees() {
        let leaves = text_leaves(MIXED);
        let seen: Vec<_> =
            leaves.iter().map(|leaf| (leaf.media_type.as_str(), leaf.charset.as_deref(), leaf.lossy)).collect();
        assert_eq!(seen, [("text/plain", Some("shift_jis"), false), ("text/html", None, true)]);
        let shown: Vec<_> = leaves.into_iter().map(|leaf| leaf.into_shown().trim().to_owned()).collect();
        assert_eq!(shown, ["日本", "caf\u{fffd}"]);
    }

    #[test]
    fn a_replacement_that_was_written_is_no_loss() {
        assert!(!text_leaves("Subject: x\r\n\r\na\u{fffd}b".as_bytes())[0].lossy);
        assert!(text_leaves(b"Subject: x\r\n\r\na\xffb")[0].lossy);
        let plain = text_leaves(b"Subject: x\r\n\r\nhello").remove(0);
        assert_eq!((plain.media_type.as_str(), plain.charset, plain.lossy), ("text/plain", None, false));
    }
}
