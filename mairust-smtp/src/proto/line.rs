//! Cuts input into command lines (RFC 5321 §2.3.8, §4.5.3.1.4).
//!
//! Only CRLF ends a line. A lone CR or LF makes the line malformed, but never ends it: what
//! follows it is never taken for a command.

use bytes::{Buf, BytesMut};
use zeroize::Zeroizing;

/// The longest command line in octets, CRLF included. RFC 5321 §4.5.3.1.4 demands 512, extensions
/// more.
pub(crate) const COMMAND_LIMIT: usize = 2_048;

/// The longest line of an AUTH exchange in octets, CRLF included (RFC 4954 §4).
pub(crate) const AUTH_LIMIT: usize = 12_288;

/// What stood before a CRLF.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, without its CRLF; it may hold a password.
    Complete(Zeroizing<Vec<u8>>),
    /// A line with a lone CR or LF in it.
    Malformed,
    /// A line over the limit; it is dropped.
    TooLong,
}

/// Finds the lines of a buffer, at any fragmentation.
#[derive(Debug, Default)]
pub(crate) struct LineReader {
    /// How much of the buffer is known to hold no CRLF.
    scanned: usize,
    /// Whether the start of this line was dropped already.
    draining: bool,
}

impl LineReader {
    /// Takes the next line out of `input`; `None` while its CRLF is missing.
    pub(crate) fn next(&mut self, input: &mut BytesMut, limit: usize) -> Option<Line> {
        // The CR may be the last octet that was looked at.
        let from = self.scanned.saturating_sub(1).min(input.len());
        let Some(offset) = input[from..].windows(2).position(|pair| pair == b"\r\n") else {
            self.scanned = input.len();
            if self.draining || input.len() > limit {
                self.drop_seen(input);
            }
            return None;
        };
        let end = from + offset;
        let too_long = self.draining || end + 2 > limit;
        *self = Self::default();
        if too_long {
            input.advance(end + 2);
            return Some(Line::TooLong);
        }
        let line = Zeroizing::new(input[..end].to_vec());
        input.advance(end + 2);
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return Some(Line::Malformed);
        }
        Some(Line::Complete(line))
    }

    /// Drops the start of a line that is too long, but keeps a CR whose LF may come next.
    fn drop_seen(&mut self, input: &mut BytesMut) {
        let keep = usize::from(input.last() == Some(&b'\r'));
        input.advance(input.len() - keep);
        self.scanned = keep;
        self.draining = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], chunk: usize, limit: usize) -> Vec<Line> {
        let (mut reader, mut buffer, mut found) = (LineReader::default(), BytesMut::new(), Vec::new());
        for part in input.chunks(chunk) {
            buffer.extend_from_slice(part);
            while let Some(line) = reader.next(&mut buffer, limit) {
                found.push(line);
            }
            assert!(buffer.len() <= limit.max(chunk));
        }
        found
    }

    fn complete(text: &str) -> Line {
        Line::Complete(Zeroizing::new(text.into()))
    }

    #[test]
    fn only_crlf_ends_a_line() {
        for chunk in 1..12 {
            let found = lines(b"NOOP\r\nNOOP\nQUIT\r\n\r\nA\rB\r\nA\r\r\nC\r\n", chunk, 100);
            let expected =
                [complete("NOOP"), Line::Malformed, complete(""), Line::Malformed, Line::Malformed, complete("C")];
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_long_line_is_dropped_to_its_end() {
        for chunk in 1..40 {
            assert_eq!(lines(b"0123456789\r0123456789\r\nok\r\n", chunk, 8), [Line::TooLong, complete("ok")]);
            assert_eq!(lines(b"012345\r\n0123456\r\n", chunk, 8), [complete("012345"), Line::TooLong]);
        }
    }
}
