//! Reads what follows DATA, up to its real end (RFC 5321 §4.1.1.4, §4.5.2).
//!
//! Only `CRLF . CRLF` ends a message. Servers that took anything else for the end let one sender
//! forge mail of another (CVE-2023-51764), so a lone CR or LF makes the message flawed, and the
//! rest of it is read and dropped.

use bytes::{Buf, BytesMut};
use memchr::memchr2;

/// Why a message must be refused once its end is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// A CR without LF, or an LF without CR.
    BareLineEnd,
    /// More octets than the limit.
    TooLarge,
}

/// Whether the end of the message was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All of the input was used, and more is needed.
    More,
    /// The message ended; what is left of the input comes after it.
    End,
}

/// Finds the end of one message and takes off the stuffed dots.
#[derive(Debug)]
pub struct DataReader {
    state: State,
    limit: u64,
    size: u64,
    flaw: Option<Flaw>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Behind a CR.
    Cr,
    /// Behind a dot at the start of a line; the dot is not part of the message.
    Dot,
    /// Behind such a dot and a CR.
    DotCr,
    /// Inside a line.
    Inside,
    /// At the start of a line. A message begins here: the CRLF of DATA counts.
    LineStart,
}

impl DataReader {
    /// A reader for a message of at most `limit` octets, counted without stuffed dots.
    pub fn new(limit: u64) -> Self {
        Self { state: State::LineStart, limit, size: 0, flaw: None }
    }

    /// Takes message octets out of `input` and appends them to `output`.
    ///
    /// Nothing is appended any more once the message is flawed.
    pub fn read(&mut self, input: &mut BytesMut, output: &mut Vec<u8>) -> Progress {
        let mut used = 0;
        let mut progress = Progress::More;
        while used < input.len() {
            if self.state == State::Inside {
                let rest = &input[used..];
                let run = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                self.emit(&rest[..run], output);
                used += run;
                if used == input.len() {
                    break;
                }
            }
            let byte = input[used];
            used += 1;
            if self.step(byte, output) {
                progress = Progress::End;
                break;
            }
        }
        input.advance(used);
        progress
    }

    /// Number of octets so far, without stuffed dots and without the end mark.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The first flaw found so far.
    pub fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    /// Looks at one octet; true at the end of the message.
    fn step(&mut self, byte: u8, output: &mut Vec<u8>) -> bool {
        use State::{Cr, Dot, DotCr, Inside, LineStart};
        self.state = match (self.state, byte) {
            (DotCr, b'\n') => return true,
            (Cr, b'\n') => {
                self.emit(b"\r\n", output);
                LineStart
            }
            (Cr | DotCr, b'\r') => {
                self.emit_bare(b'\r', output);
                Cr
            }
            (Cr | DotCr, _) => {
                self.emit_bare(b'\r', output);
                self.emit(&[byte], output);
                Inside
            }
            (LineStart, b'.') => Dot,
            (Dot, b'\r') => DotCr,
            (LineStart | Inside, b'\r') => Cr,
            (LineStart | Inside | Dot, b'\n') => {
                self.emit_bare(b'\n', output);
                Inside
            }
            (LineStart | Inside | Dot, _) => {
                self.emit(&[byte], output);
                Inside
            }
        };
        false
    }

    fn emit_bare(&mut self, byte: u8, output: &mut Vec<u8>) {
        self.flaw.get_or_insert(Flaw::BareLineEnd);
        self.emit(&[byte], output);
    }

    fn emit(&mut self, bytes: &[u8], output: &mut Vec<u8>) {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.limit {
            self.flaw.get_or_insert(Flaw::TooLarge);
        }
        if self.flaw.is_none() {
            output.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `input` in chunks of the given lengths, in turn.
    fn read(input: &[u8], lengths: &[usize], limit: u64) -> (Progress, Vec<u8>, Option<Flaw>, Vec<u8>) {
        let (mut reader, mut output, mut buffer) = (DataReader::new(limit), Vec::new(), BytesMut::new());
        let (mut rest, mut turn) = (input, 0);
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(lengths[turn % lengths.len()].min(rest.len()));
            (rest, turn) = (tail, turn + 1);
            buffer.extend_from_slice(chunk);
            if reader.read(&mut buffer, &mut output) == Progress::End {
                let after = [&buffer[..], rest].concat();
                return (Progress::End, output, reader.flaw(), after);
            }
            assert!(buffer.is_empty(), "a reader that needs more has used all there is");
        }
        (Progress::More, output, reader.flaw(), Vec::new())
    }

    /// A small generator (xorshift), so that failures repeat.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).unwrap() % bound
        }
    }

    #[test]
    fn agrees_with_the_oracle_on_random_input() {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut ended = 0;
        for case in 0..60_000 {
            let mut input = Vec::new();
            for _ in 0..random.below(24) {
                let part: &[u8] = [&b"\r"[..], b"\n", b".", b"a", b"\r\n", b"\r\n."][random.below(6)];
                input.extend_from_slice(part);
            }
            let lengths: Vec<usize> = (0..4).map(|_| 1 + random.below(9)).collect();
            let (progress, output, flaw, rest) = read(&input, &lengths, u64::MAX);
            match oracle::message(&input) {
                None => assert_eq!(progress, Progress::More, "case {case}: {:?}", input.escape_ascii().to_string()),
                Some(oracle::Message { body, flawed, rest: after }) => {
                    ended += 1;
                    let shown = input.escape_ascii().to_string();
                    assert_eq!(progress, Progress::End, "case {case}: {shown}");
                    assert_eq!(rest, after, "case {case}: {shown}");
                    assert_eq!(flaw.is_some(), flawed, "case {case}: {shown}");
                    if !flawed {
                        assert_eq!(output, body, "case {case}: {shown}");
                    }
                }
            }
        }
        assert!(ended > 5_000, "only {ended} cases had an end");
    }

    #[test]
    fn every_forged_end_is_a_flaw() {
        for forged in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r\n.\r\r\n", "\r.\r\n", "\r.\r"] {
            let input = format!("a{forged}MAIL FROM:<x@y.z>\r\n.\r\nrest");
            let (progress, _, flaw, rest) = read(input.as_bytes(), &[3], 1_000);
            assert_eq!(
                (progress, flaw, &rest[..]),
                (Progress::End, Some(Flaw::BareLineEnd), &b"rest"[..]),
                "{forged:?}"
            );
        }
    }

    #[test]
    fn counts_what_the_message_holds() {
        let (progress, output, flaw, _) = read(b"..ab\r\n.\r\n", &[4], 5);
        assert_eq!((progress, flaw, &output[..]), (Progress::End, None, &b".ab\r\n"[..]));
        let (progress, output, flaw, rest) = read(b"..ab\r\nmore\r\n.\r\nQUIT", &[4], 4);
        assert_eq!((progress, flaw, &rest[..]), (Progress::End, Some(Flaw::TooLarge), &b"QUIT"[..]));
        assert!(output.len() <= 4);
    }
}
