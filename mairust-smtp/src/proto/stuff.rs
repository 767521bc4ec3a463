//! Writes a message for DATA (RFC 5321 §2.3.8, §4.5.2).
//!
//! Whatever the source of a message, no lone CR or LF and no dot that could end the message early
//! leaves through here.

/// Turns the chunks of a message into what is sent after 354.
#[derive(Debug)]
pub struct DotStuffer {
    line_start: bool,
    after_cr: bool,
}

impl DotStuffer {
    /// For one message.
    pub fn new() -> Self {
        Self { line_start: true, after_cr: false }
    }

    /// Appends a chunk: every CR, LF or CRLF becomes CRLF, a dot at the start of a line two dots.
    pub fn encode(&mut self, chunk: &[u8], output: &mut Vec<u8>) {
        output.reserve(chunk.len() + chunk.len() / 32 + 2);
        let mut rest = chunk;
        while let Some(&byte) = rest.first() {
            let used = match byte {
                b'\r' | b'\n' => {
                    self.line_end(byte, output);
                    1
                }
                _ => {
                    if self.line_start && byte == b'.' {
                        output.push(b'.');
                    }
                    let run = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
                    output.extend_from_slice(&rest[..run]);
                    self.line_start = false;
                    self.after_cr = false;
                    run
                }
            };
            rest = &rest[used..];
        }
    }

    /// Appends what ends the message: a CRLF where it is missing, a dot and CRLF.
    pub fn finish(self, output: &mut Vec<u8>) {
        if !self.line_start {
            output.extend_from_slice(b"\r\n");
        }
        output.extend_from_slice(b".\r\n");
    }

    fn line_end(&mut self, byte: u8, output: &mut Vec<u8>) {
        // The CRLF was written when its CR was seen.
        let second_half = byte == b'\n' && self.after_cr;
        if !second_half {
            output.extend_from_slice(b"\r\n");
        }
        self.after_cr = byte == b'\r';
        self.line_start = true;
    }
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::proto::data::{DataReader, Progress};

    fn encoded(input: &[u8], chunk: usize) -> Vec<u8> {
        let (mut stuffer, mut output) = (DotStuffer::new(), Vec::new());
        for part in input.chunks(chunk) {
            stuffer.encode(part, &mut output);
        }
        stuffer.finish(&mut output);
        output
    }

    #[test]
    fn normalises_and_stuffs() {
        for chunk in 1..8 {
            assert_eq!(encoded(b"", chunk), b".\r\n");
            assert_eq!(encoded(b".a\r\n.\r\n", chunk), b"..a\r\n..\r\n.\r\n");
            assert_eq!(encoded(b"a\nb\rc\r\r\n\n.d", chunk), b"a\r\nb\r\nc\r\n\r\n\r\n..d\r\n.\r\n");
        }
    }

    #[test]
    fn our_own_reader_takes_back_whatever_is_sent() {
        // All texts of up to seven octets over the dangerous alphabet.
        for length in 0..=7_u32 {
            for number in 0..4_usize.pow(length) {
                let input: Vec<u8> = (0..length).map(|digit| b"\r\n.a"[number / 4_usize.pow(digit) % 4]).collect();
                let mut wire = BytesMut::from(&encoded(&input, 2)[..]);
                let (mut reader, mut body) = (DataReader::new(1_000), Vec::new());
                let shown = input.escape_ascii();
                assert_eq!(reader.read(&mut wire, &mut body), Progress::End, "{shown}");
                assert!(wire.is_empty(), "{shown}");
                assert_eq!(reader.flaw(), None, "{shown}");
            }
        }
    }
}
