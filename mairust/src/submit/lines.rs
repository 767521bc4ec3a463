//! Lines that every server takes: at most 998 octets (RFC 5321 §4.5.3.1.6).
//!
//! A server on the way that cuts a longer line breaks the signature over it. So parts of a message that
//! have such lines are encoded, and long header fields are folded where they may be, before anything is
//! signed. What somebody else has signed or encrypted stays as it is, and so does a message in a message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mail_parser::{Encoding, Message, MessageParser, MessagePart, MimeHeaders, PartType};

use super::fix_up::without_fields;

/// The longest line, without its end.
const LONGEST: usize = 998;
/// The longest line of what is encoded (RFC 2045 §6.7, §6.8).
const ENCODED: usize = 76;

/// The message with shorter lines; `None` if they are short enough, or can't be made shorter.
pub(super) fn shortened(raw: &[u8]) -> Option<Bytes> {
    // What is not made of lines goes on by BDAT, where they don't matter.
    if !is_long(raw) || has_lone_line_ends(raw) {
        return None;
    }
    let message = MessageParser::default().parse(raw)?;
    let untouchable = sealed_parts(&message);
    let (mut short, mut done) = (Vec::with_capacity(raw.len() + raw.len() / 8), 0);
    for (id, part) in message.parts.iter().enumerate() {
        if untouchable.get(id).copied().unwrap_or(false) {
            continue;
        }
        let (start, body) = (part.offset_header as usize, part.offset_body as usize);
        let Some(header) = raw.get(start..body).filter(|_| start >= done) else { continue };
        let end = if is_leaf(part) { part.offset_end as usize } else { body };
        let Some(text) = raw.get(body..end) else { continue };
        short.extend_from_slice(&raw[done..start]);
        match is_long(text) {
            true => {
                encode(header, text, id == 0, matches!(part.body, PartType::Text(_) | PartType::Html(_)), &mut short)
            }
            false => {
                fold(header, &mut short);
                short.extend_from_slice(text);
            }
        }
        done = end;
    }
    short.extend_from_slice(&raw[done..]);
    (short != raw).then(|| short.into())
}

/// Whether a line is too long.
fn is_long(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| line.strip_suffix(b"\r").unwrap_or(line).len() > LONGEST)
}

fn has_lone_line_ends(bytes: &[u8]) -> bool {
    let mut before = 0;
    for byte in bytes {
        if (*byte == b'\n') != (before == b'\r') {
            return true;
        }
        before = *byte;
    }
    before == b'\r'
}

/// Whether it is a part whose text may be encoded, and is not yet.
fn is_leaf(part: &MessagePart<'_>) -> bool {
    let is_content = !matches!(part.body, PartType::Multipart(_) | PartType::Message(_));
    is_content && part.encoding == Encoding::None
}

/// For each part, whether it lies within a multipart that must not be changed.
fn sealed_parts(message: &Message<'_>) -> Vec<bool> {
    let mut sealed = vec![false; message.parts.len()];
    for (id, part) in message.parts.iter().enumerate() {
        let PartType::Multipart(children) = &part.body else { continue };
        let subtype = part.content_type().and_then(|kind| kind.c_subtype.as_deref()).unwrap_or_default();
        let is_seal = subtype.eq_ignore_ascii_case("signed") || subtype.eq_ignore_ascii_case("encrypted");
        // Children come behind their parents.
        let is_sealed = is_seal || sealed[id];
        for child in children {
            if let Some(child) = sealed.get_mut(*child as usize) {
                *child |= is_sealed;
            }
        }
    }
    sealed
}

/// Writes a part with another transfer encoding.
fn encode(header: &[u8], text: &[u8], is_message: bool, is_text: bool, output: &mut Vec<u8>) {
    let kept = without_fields(header, |name| name.eq_ignore_ascii_case(b"content-transfer-encoding"));
    let kept = kept.as_deref().unwrap_or(header);
    fold(kept.strip_suffix(b"\r\n").unwrap_or(kept), output);
    let has = |wanted: &[u8]| without_fields(header, |name| name.eq_ignore_ascii_case(wanted)).is_some();
    if is_message && !has(b"mime-version") {
        output.extend_from_slice(b"MIME-Version: 1.0\r\n");
    }
    let encoding = if is_text { "quoted-printable" } else { "base64" };
    output.extend_from_slice(format!("Content-Transfer-Encoding: {encoding}\r\n\r\n").as_bytes());
    if is_text { quoted_printable(text, output) } else { base64_lines(text, output) }
}

/// Writes header fields; lines that are too long are folded at white space, if they have any.
fn fold(header: &[u8], output: &mut Vec<u8>) {
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        let mut rest = line;
        while rest.len() > LONGEST + 2 {
            let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
            // Behind some text, so that no line is empty but for a name.
            let value = match rest.first().is_some_and(is_space) {
                true => 0,
                false => rest.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1),
            };
            let text =
                rest[value..].iter().position(|byte| !is_space(byte)).map_or(rest.len(), |spaces| value + spaces);
            let Some(at) = rest[..=LONGEST].iter().rposition(is_space).filter(|at| *at > text) else { break };
            output.extend_from_slice(&rest[..at]);
            output.extend_from_slice(b"\r\n");
            rest = &rest[at..];
        }
        output.extend_from_slice(rest);
    }
}

fn base64_lines(bytes: &[u8], output: &mut Vec<u8>) {
    for (index, line) in bytes.chunks(ENCODED / 4 * 3).enumerate() {
        if index > 0 {
            output.extend_from_slice(b"\r\n");
        }
        output.extend_from_slice(STANDARD.encode(line).as_bytes());
    }
    if bytes.ends_with(b"\r\n") {
        output.extend_from_slice(b"\r\n");
    }
}

/// RFC 2045 §6.7. Line ends stay line ends.
fn quoted_printable(text: &[u8], output: &mut Vec<u8>) {
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (content, end) = line.strip_suffix(b"\r\n").map_or((line, &b""[..]), |content| (content, b"\r\n"));
        let mut width = 0;
        for (index, byte) in content.iter().enumerate() {
            let is_last = index + 1 == content.len();
            let is_plain = match byte {
                b' ' | b'\t' => !is_last,
                b'=' => false,
                // A dot alone on a line, or `From ` at its start, might be changed on the way.
                b'.' | b'F' if width == 0 => false,
                byte => byte.is_ascii_graphic(),
            };
            let size = if is_plain { 1 } else { 3 };
            if width + size > ENCODED - 1 {
                output.extend_from_slice(b"=\r\n");
                width = 0;
            }
            match is_plain {
                true => output.push(*byte),
                false => output.extend_from_slice(format!("={byte:02X}").as_bytes()),
            }
            width += size;
        }
        output.extend_from_slice(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(raw: &str) -> String {
        let short = shortened(raw.as_bytes()).unwrap();
        assert!(!is_long(&short), "{}", short.escape_ascii());
        String::from_utf8(short.to_vec()).unwrap()
    }

    fn text_of(raw: &str, part: u32) -> Vec<u8> {
        let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
        message.part(part).unwrap().contents().to_vec()
    }

    #[test]
    fn short_lines_stay_as_they_are() {
        for raw in ["From: a@b.c\r\n\r\nx\r\n", &format!("A: b\r\n\r\n{}\r\n", "x".repeat(998))] {
            assert_eq!(shortened(raw.as_bytes()), None);
        }
        let binary = format!("A: b\r\n\r\n{}\n\r\n", "x".repeat(2_000));
        assert_eq!(shortened(binary.as_bytes()), None, "no lines");
    }

    #[test]
    fn a_plain_message_becomes_quoted_printable() {
        let text = format!("{} é=\t \r\n.\r\nFrom here\r\nend", "long word ".repeat(200));
        let raw = format!("From: a@b.c\r\nContent-Transfer-Encoding: 8bit\r\nSubject: s\r\n\r\n{text}");
        let short = short(&raw);
        assert!(short.starts_with(
            "From: a@b.c\r\nSubject: s\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nlong"
        ));
        assert_eq!(text_of(&short, 0), text.as_bytes());
        assert!(short.split("\r\n").all(|line| line.len() <= 76));
    }

    #[test]
    fn parts_are_encoded_each_for_itself() {
        let long = "0123456789".repeat(120);
        let signed = format!("Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n{long}\r\n--s--\r\n");
        let raw = format!(
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nshort\r\n\
             --b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<p>{long}é</p>\r\n\
             --b\r\nContent-Type: application/json\r\n\r\n\"{long}\"\r\n--b--\r\n"
        );
        let short = short(&raw);
        assert!(short.contains("--b\r\n\r\nshort\r\n--b\r\n"));
        assert!(short.contains("charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>"));
        assert!(short.contains("json\r\nContent-Transfer-Encoding: base64\r\n\r\n"));
        assert_eq!(text_of(&short, 2), format!("<p>{long}é</p>").as_bytes());
        assert_eq!(text_of(&short, 3), format!("\"{long}\"").as_bytes());
        assert_eq!(shortened(signed.as_bytes()), None, "somebody else's signature is over it");
    }

    #[test]
    fn long_fields_are_folded_where_they_may_be() {
        let list = vec!["<somebody@somewhere.example>"; 100].join(" ");
        let raw = format!("References: {list}\r\nSubject: s\r\n\r\nx\r\n");
        let short = short(&raw);
        assert_eq!(short.replace("\r\n <", " <"), raw);
        assert_eq!(shortened(format!("X: {}\r\n\r\nx\r\n", "y".repeat(1_200)).as_bytes()), None);
    }
}
