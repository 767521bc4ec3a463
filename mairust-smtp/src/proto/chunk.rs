//! Reads what follows BDAT: chunks of announced sizes, which together are one message (RFC 3030).
//!
//! Nothing ends a chunk but its size, so there are no dots and no forged ends. Unless the message
//! is binary, its lines still end in CRLF, wherever the chunks are cut.

use bytes::{Buf, BytesMut};

use super::command::BodyType;
use super::data::{Flaw, Progress};

/// Reads the chunks of one message.
#[derive(Debug)]
pub struct ChunkReader {
    body: BodyType,
    limit: u64,
    /// Octets of this chunk that are still to come.
    missing: u64,
    size: u64,
    /// Whether the last octet was a CR.
    after_cr: bool,
    flaw: Option<Flaw>,
}

impl ChunkReader {
    /// A reader for a message of at most `limit` octets, before its first chunk.
    pub fn new(limit: u64, body: BodyType) -> Self {
        Self { body, limit, missing: 0, size: 0, after_cr: false, flaw: None }
    }

    /// A chunk of this size comes next. A message that gets too large is flawed from here on.
    pub fn begin(&mut self, size: u64) {
        self.missing = size;
        if self.size.saturating_add(size) > self.limit {
            self.flaw.get_or_insert(Flaw::TooLarge);
        }
    }

    /// Takes octets of the chunk out of `input` and appends them to `output`; at the end of the
    /// chunk the rest of the input stays.
    ///
    /// Nothing is appended any more once the message is flawed.
    pub fn read(&mut self, input: &mut BytesMut, output: &mut Vec<u8>) -> Progress {
        let count = usize::try_from(self.missing).unwrap_or(usize::MAX).min(input.len());
        let octets = &input[..count];
        if self.body != BodyType::Binary {
            self.check_lines(octets);
        }
        self.size += count as u64;
        self.missing -= count as u64;
        if self.flaw.is_none() {
            output.extend_from_slice(octets);
        }
        input.advance(count);
        if self.missing == 0 { Progress::End } else { Progress::More }
    }

    /// No chunk follows: a CR at the very end is a lone one.
    pub fn finish(&mut self) {
        if self.after_cr {
            self.flaw.get_or_insert(Flaw::BareLineEnd);
        }
    }

    /// Number of octets so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The first flaw found so far.
    pub fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    /// Every CR must be followed by an LF, every LF must follow a CR.
    fn check_lines(&mut self, octets: &[u8]) {
        for &octet in octets {
            if self.after_cr != (octet == b'\n') {
                self.flaw.get_or_insert(Flaw::BareLineEnd);
            }
            self.after_cr = octet == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads chunks, cut into pieces of this length on the wire.
    fn read(chunks: &[&[u8]], piece: usize, body: BodyType) -> (Vec<u8>, Option<Flaw>) {
        let (mut reader, mut output) = (ChunkReader::new(20, body), Vec::new());
        for chunk in chunks {
            reader.begin(chunk.len() as u64);
            let mut buffer = BytesMut::new();
            for part in chunk.chunks(piece) {
                buffer.extend_from_slice(part);
                reader.read(&mut buffer, &mut output);
                assert!(buffer.is_empty());
            }
            buffer.extend_from_slice(b"NOOP");
            assert_eq!(reader.read(&mut buffer, &mut output), Progress::End);
            assert_eq!(&buffer[..], b"NOOP", "what comes behind a chunk stays");
        }
        reader.finish();
        (output, reader.flaw())
    }

    #[test]
    fn chunks_make_a_message_wherever_they_are_cut() {
        for piece in 1..6 {
            let (message, flaw) = read(&[b"a\r", b"\n.\r\n", b"", b"b"], piece, BodyType::EightBit);
            assert_eq!((&message[..], flaw), (&b"a\r\n.\r\nb"[..], None));
        }
    }

    #[test]
    fn lone_line_ends_are_flaws_unless_binary() {
        for text in [&b"a\nb"[..], b"a\rb", b"a\r\r\n", b"\n", b"a\r"] {
            assert_eq!(read(&[text], 2, BodyType::EightBit).1, Some(Flaw::BareLineEnd), "{}", text.escape_ascii());
            assert_eq!(read(&[text], 2, BodyType::Binary), (text.to_vec(), None));
        }
    }

    #[test]
    fn too_much_is_not_kept() {
        let (message, flaw) = read(&[b"0123456789", b"01234567890"], 3, BodyType::SevenBit);
        assert_eq!((message.len(), flaw), (10, Some(Flaw::TooLarge)));
        let mut reader = ChunkReader::new(20, BodyType::Binary);
        reader.begin(u64::MAX);
        assert_eq!(reader.flaw(), Some(Flaw::TooLarge));
    }
}
