//! Reading what a client of a sink sends.

use bytes::BytesMut;

/// A command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The command in upper case.
    pub(super) word: String,
    pub(super) rest: &'a str,
}

pub(super) fn split_line(line: &str) -> Line<'_> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    Line { word: word.to_ascii_uppercase(), rest: rest.trim() }
}

/// The address between the angle brackets of MAIL or RCPT; quoted local parts may hold any.
pub(super) fn path(rest: &str) -> Option<String> {
    let (_, inner) = rest.split_once('<')?;
    let mut in_quotes = false;
    let mut escaped = false;
    for (index, character) in inner.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if in_quotes => escaped = true,
            '"' => in_quotes = !in_quotes,
            '>' if !in_quotes => return Some(inner[..index].to_owned()),
            _ => {}
        }
    }
    None
}

/// Takes a message with its final dot from what came after DATA (RFC 5321 §4.5.2), if all of it is there.
pub(super) fn message_of_data(input: &mut BytesMut) -> Option<Vec<u8>> {
    let end = if input.starts_with(b".\r\n") { 0 } else { input.windows(5).position(|five| five == b"\r\n.\r\n")? + 2 };
    let stuffed = input.split_to(end);
    drop(input.split_to(3));
    let mut body = Vec::with_capacity(stuffed.len());
    let mut at_start = true;
    for &octet in stuffed.iter() {
        let is_added = octet == b'.' && at_start;
        at_start = octet == b'\n' && body.ends_with(b"\r");
        if !is_added {
            body.push(octet);
        }
    }
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address() {
        for (rest, address) in [
            ("FROM:<>", Some("")),
            ("FROM:<a@b.example> SIZE=3", Some("a@b.example")),
            (r#"TO:<"a>\"b"@c.example>"#, Some(r#""a>\"b"@c.example"#)),
            ("TO:a@b.example", None),
            ("TO:<a@b.example", None),
        ] {
            assert_eq!(path(rest).as_deref(), address, "{rest}");
        }
    }

    #[test]
    fn a_message_ends_with_its_dot() {
        let mut input = BytesMut::from(&b"..a\r\n.\n.\r\n..\r\n.\r\nQUIT\r\n"[..]);
        assert_eq!(message_of_data(&mut input).unwrap(), b".a\r\n\n.\r\n.\r\n");
        assert_eq!(&input[..], b"QUIT\r\n");
        let mut input = BytesMut::from(&b".\r\n"[..]);
        assert_eq!(message_of_data(&mut input).unwrap(), b"");
        let mut input = BytesMut::from(&b"a\r\n.\r"[..]);
        assert_eq!(message_of_data(&mut input), None);
        assert_eq!(input.len(), 5, "the rest may come");
    }
}
