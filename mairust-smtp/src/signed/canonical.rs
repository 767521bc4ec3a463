//! Canonical forms of header fields and bodies (RFC 6376 §3.4).
//!
//! Only CRLF ends a line: a bare CR or LF is an octet like any other, so that nothing is signed
//! that was not sent.

/// How much change on the way a signature forgives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Canonicalization {
    /// White space may change.
    Relaxed,
    /// Almost none.
    Simple,
}

impl Canonicalization {
    /// The forms of header and body that a `c=` tag names; both simple without one.
    pub(crate) fn parse_pair(tag: Option<&str>) -> Option<(Self, Self)> {
        let Some(tag) = tag else { return Some((Self::Simple, Self::Simple)) };
        let (header, body) = tag.split_once('/').unwrap_or((tag, "simple"));
        Some((Self::parse(header)?, Self::parse(body)?))
    }

    fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "relaxed" => Some(Self::Relaxed),
            "simple" => Some(Self::Simple),
            _ => None,
        }
    }

    /// Adds a header field, given with its final CRLF, to what is signed.
    pub(crate) fn add_field(self, raw: &[u8], target: &mut Vec<u8>) {
        match self {
            Self::Simple => target.extend_from_slice(raw),
            Self::Relaxed => {
                let colon = raw.iter().position(|byte| *byte == b':').unwrap_or(raw.len());
                let name = raw[..colon].trim_ascii_end();
                target.extend(name.iter().map(u8::to_ascii_lowercase));
                target.push(b':');
                add_relaxed_value(raw.get(colon + 1..).unwrap_or_default(), target);
                target.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// Unfolded, runs of white space as one space, none at either end.
fn add_relaxed_value(value: &[u8], target: &mut Vec<u8>) {
    let mut space = false;
    let start = target.len();
    let mut rest = value;
    while let Some((byte, behind)) = rest.split_first() {
        let is_line_end = rest.starts_with(b"\r\n");
        if is_line_end {
            rest = &rest[2..];
            continue;
        }
        if matches!(byte, b' ' | b'\t') {
            space = true;
        } else {
            if space && target.len() > start {
                target.push(b' ');
            }
            space = false;
            target.push(*byte);
        }
        rest = behind;
    }
}

/// A body on its way into a canonical form, chunk by chunk.
#[derive(Debug)]
pub(crate) struct BodyForm {
    form: Canonicalization,
    /// Line ends that are not written yet: at the end of the body they may count for nothing.
    line_ends: u64,
    /// White space that is not written yet.
    space: bool,
    /// The last chunk ended in CR.
    carriage_return: bool,
    is_empty: bool,
}

impl BodyForm {
    pub(crate) fn new(form: Canonicalization) -> Self {
        Self { form, line_ends: 0, space: false, carriage_return: false, is_empty: true }
    }

    /// Takes a chunk and writes what is certain.
    pub(crate) fn add(&mut self, chunk: &[u8], write: &mut impl FnMut(&[u8])) {
        let mut rest = chunk;
        if self.carriage_return && !rest.is_empty() {
            self.carriage_return = false;
            match rest.strip_prefix(b"\n") {
                Some(behind) => {
                    self.line_end();
                    rest = behind;
                }
                None => self.text(b"\r", write),
            }
        }
        while let Some(position) = rest.iter().position(|byte| *byte == b'\r') {
            self.text(&rest[..position], write);
            match rest.get(position + 1) {
                None => {
                    self.carriage_return = true;
                    return;
                }
                Some(b'\n') => {
                    self.line_end();
                    rest = &rest[position + 2..];
                }
                Some(_) => {
                    self.text(b"\r", write);
                    rest = &rest[position + 1..];
                }
            }
        }
        self.text(rest, write);
    }

    /// Writes the end.
    pub(crate) fn finish(mut self, write: &mut impl FnMut(&[u8])) {
        if self.carriage_return {
            self.text(b"\r", write);
        }
        // §3.4.3: an empty body is one CRLF; §3.4.4: or nothing at all.
        if self.form == Canonicalization::Simple || !self.is_empty {
            write(b"\r\n");
        }
    }

    fn line_end(&mut self) {
        self.line_ends += 1;
        // White space at the end of a line counts for nothing.
        self.space = false;
    }

    fn text(&mut self, text: &[u8], write: &mut impl FnMut(&[u8])) {
        match self.form {
            Canonicalization::Simple => self.write(text, write),
            Canonicalization::Relaxed => {
                let mut rest = text;
                while let Some(byte) = rest.first() {
                    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
                    let same = |other: &u8| is_space(other) == is_space(byte);
                    let (run, behind) = rest.split_at(rest.iter().position(|b| !same(b)).unwrap_or(rest.len()));
                    if is_space(byte) {
                        self.space = true;
                    } else {
                        self.write(run, write);
                    }
                    rest = behind;
                }
            }
        }
    }

    fn write(&mut self, text: &[u8], write: &mut impl FnMut(&[u8])) {
        if text.is_empty() {
            return;
        }
        for _ in 0..std::mem::take(&mut self.line_ends) {
            write(b"\r\n");
        }
        if std::mem::take(&mut self.space) {
            write(b" ");
        }
        write(text);
        self.is_empty = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canonical form at every chunk size.
    fn body(form: Canonicalization, text: &str) -> String {
        let at = |size: usize| {
            let (mut canonical, mut written) = (BodyForm::new(form), Vec::new());
            for chunk in text.as_bytes().chunks(size) {
                canonical.add(chunk, &mut |bytes| written.extend_from_slice(bytes));
            }
            canonical.finish(&mut |bytes| written.extend_from_slice(bytes));
            String::from_utf8(written).unwrap()
        };
        let whole = at(4096);
        for size in [1, 2, 3, 7] {
            assert_eq!(at(size), whole, "{text:?} in chunks of {size}");
        }
        whole
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 6376 §3.4.5.
        let text = " C \r\nD \t E\r\n\r\n\r\n";
        assert_eq!(body(Canonicalization::Relaxed, text), " C\r\nD E\r\n");
        assert_eq!(body(Canonicalization::Simple, text), " C \r\nD \t E\r\n");
        let (mut relaxed, mut simple) = (Vec::new(), Vec::new());
        for field in [&b"A: X\r\n"[..], b"B : Y\t\r\n\tZ  \r\n"] {
            Canonicalization::Relaxed.add_field(field, &mut relaxed);
            Canonicalization::Simple.add_field(field, &mut simple);
        }
        assert_eq!(relaxed, b"a:X\r\nb:Y Z\r\n");
        assert_eq!(simple, b"A: X\r\nB : Y\t\r\n\tZ  \r\n");
    }

    #[test]
    fn empty_lines_at_the_end_count_for_nothing() {
        for text in ["a", "a\r\n", "a\r\n\r\n\r\n"] {
            assert_eq!(body(Canonicalization::Simple, text), "a\r\n");
            assert_eq!(body(Canonicalization::Relaxed, text), "a\r\n");
        }
        assert_eq!(body(Canonicalization::Relaxed, "a\r\n \r\n\t\r\n"), "a\r\n");
        assert_eq!(body(Canonicalization::Simple, "a\r\n \r\n\t\r\n"), "a\r\n \r\n\t\r\n");
        assert_eq!(body(Canonicalization::Simple, ""), "\r\n");
        assert_eq!(body(Canonicalization::Relaxed, ""), "");
        assert_eq!(body(Canonicalization::Relaxed, " \r\n\r\n"), "");
        assert_eq!(body(Canonicalization::Relaxed, "\r\n\r\na"), "\r\n\r\na\r\n");
    }

    #[test]
    fn bare_line_ends_are_octets() {
        assert_eq!(body(Canonicalization::Simple, "a\rb\nc\r"), "a\rb\nc\r\r\n");
        assert_eq!(body(Canonicalization::Relaxed, "a\n\n"), "a\n\n\r\n");
        assert_eq!(body(Canonicalization::Simple, "a\r\r\n"), "a\r\r\n");
    }

    #[test]
    fn reads_the_tag() {
        use Canonicalization::{Relaxed, Simple};
        assert_eq!(Canonicalization::parse_pair(None), Some((Simple, Simple)));
        assert_eq!(Canonicalization::parse_pair(Some("relaxed")), Some((Relaxed, Simple)));
        assert_eq!(Canonicalization::parse_pair(Some("simple/Relaxed")), Some((Simple, Relaxed)));
        assert_eq!(Canonicalization::parse_pair(Some("nowsp")), None);
    }
}
