//! Reads what a server answers (RFC 5321 §4.2, RFC 2034).

use bytes::{Buf, BytesMut};
use mairust_core::{EnhancedCode, Reply};

/// The longest line of a reply in octets. RFC 5321 §4.5.3.1.5 allows 512; servers send more.
const LINE_LIMIT: usize = 4_096;

/// The most lines of one reply.
const LINES_LIMIT: usize = 128;

/// Why what a server sent is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// A line that does not begin with a code, or lines with different codes.
    #[error("the server sent something that is no SMTP reply")]
    Garbage,
    /// A line or a reply without end.
    #[error("the server sent a reply that is too long")]
    TooLong,
}

/// Puts replies together from input, at any fragmentation.
#[derive(Debug, Default)]
pub struct ReplyReader {
    code: Option<u16>,
    lines: Vec<String>,
}

impl ReplyReader {
    /// Takes the next reply out of `input`; `None` while its end is missing.
    ///
    /// # Errors
    /// When the input is no reply. The connection is of no use any more then.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        while let Some(end) = input.iter().position(|&byte| byte == b'\n') {
            if end > LINE_LIMIT || self.lines.len() >= LINES_LIMIT {
                return Err(ReplyError::TooLong);
            }
            let line = &input[..end];
            let (code, last, text) = split_line(line.strip_suffix(b"\r").unwrap_or(line))?;
            input.advance(end + 1);
            if *self.code.get_or_insert(code) != code {
                return Err(ReplyError::Garbage);
            }
            self.lines.push(text);
            if last {
                self.code = None;
                return Ok(Some(assemble(code, &std::mem::take(&mut self.lines))));
            }
        }
        if input.len() > LINE_LIMIT { Err(ReplyError::TooLong) } else { Ok(None) }
    }
}

/// Code, whether this is the last line, and text.
fn split_line(line: &[u8]) -> Result<(u16, bool, String), ReplyError> {
    let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::Garbage)?;
    let valid = matches!(digits[0], b'2'..=b'5') && digits.iter().all(u8::is_ascii_digit);
    let (last, text) = match rest.split_first() {
        None => (true, rest),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return Err(ReplyError::Garbage),
    };
    if !valid {
        return Err(ReplyError::Garbage);
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let text = text.iter().map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' }).collect();
    Ok((code, last, text))
}

/// A reply whose enhanced code, if all is well with it, stands apart from the text.
fn assemble(code: u16, lines: &[String]) -> Reply {
    let first = lines.first().and_then(|line| split_enhanced(code, line)).map(|(enhanced, _)| enhanced);
    let enhanced = first.filter(|_| code / 100 != 3);
    let mut text = String::new();
    for line in lines {
        text.push_str(match split_enhanced(code, line) {
            Some((same, rest)) if Some(same) == enhanced => rest,
            _ => line,
        });
        // Each line has an end, or one without text would be lost behind the others.
        text.push('\n');
    }
    match enhanced {
        Some(enhanced) => Reply::new(code, enhanced, text),
        None => Reply::plain(code, text),
    }
}

/// The enhanced code at the start of a text, if it agrees with the code, and the text behind it.
fn split_enhanced(code: u16, line: &str) -> Option<(EnhancedCode, &str)> {
    let (word, text) = line.split_once(' ').unwrap_or((line, ""));
    let enhanced = EnhancedCode::parse(word).filter(|enhanced| u16::from(enhanced.0) == code / 100)?;
    Some((enhanced, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], chunk: usize) -> Result<Vec<Reply>, ReplyError> {
        let (mut reader, mut buffer, mut replies) = (ReplyReader::default(), BytesMut::new(), Vec::new());
        for part in input.chunks(chunk) {
            buffer.extend_from_slice(part);
            while let Some(reply) = reader.next(&mut buffer)? {
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    #[test]
    fn reads_replies_of_all_forms() {
        let wire =
            b"220 mx ESMTP\r\n250-mx\r\n250-SIZE 5\r\n250 HELP\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n250\r\n\
            354 5.1.1 go\r\n450 2.0.0 odd\n550-5.1.1 no\r\n550 \r\n";
        for chunk in [1, 2, 7, 4_096] {
            let expected = [
                Reply::plain(220, "mx ESMTP"),
                Reply::plain(250, "mx\nSIZE 5\nHELP"),
                Reply::new(550, EnhancedCode(5, 1, 1), "no\nsuch user"),
                Reply::plain(250, ""),
                Reply::plain(354, "5.1.1 go"),
                Reply::plain(450, "2.0.0 odd"),
                Reply::new(550, EnhancedCode(5, 1, 1), "no\n\n"),
            ];
            assert_eq!(read(wire, chunk).unwrap(), expected);
        }
    }

    #[test]
    fn refuses_garbage_and_endless_replies() {
        for garbage in [&b"HTTP/1.1 400\r\n"[..], b"\r\n", b"25\r\n", b"250_x\r\n", b"199 x\r\n", b"250-a\r\n550 b\r\n"]
        {
            assert_eq!(read(garbage, 3), Err(ReplyError::Garbage), "{}", garbage.escape_ascii());
        }
        assert_eq!(read(&[b'2'; 10_000], 512), Err(ReplyError::TooLong));
        assert_eq!(read(&b"250-x\r\n".repeat(1_000), 512), Err(ReplyError::TooLong));
    }
}
