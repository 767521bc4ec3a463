//! Header fields, byte for byte.

use std::io::{self, BufRead, Read};

use super::READ_SIZE;

/// Octets of header fields that are kept.
pub(crate) const MAX_HEADER: usize = 256 << 10;

/// A header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Its name, in lower case.
    pub(crate) name: String,
    /// All of it, with its final line end.
    pub(crate) raw: Vec<u8>,
    /// Where it begins in the message.
    pub(crate) offset: u64,
}

impl Field {
    /// What stands behind the colon, as text.
    pub(crate) fn value(&self) -> String {
        let colon = self.raw.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
        String::from_utf8_lossy(&self.raw[colon..]).into_owned()
    }
}

/// Reads header fields one by one; of a very long one, only the beginning is kept.
#[derive(Debug)]
pub(crate) struct FieldReader<R> {
    reader: R,
    offset: u64,
    /// What was read of the field after the last one.
    next: Option<FoundField>,
    at_line_start: bool,
    /// The empty line has been read.
    at_end: bool,
}

/// A field as it was found.
#[derive(Debug)]
pub(crate) struct FoundField {
    pub(crate) field: Field,
    /// Its length in the message.
    pub(crate) length: u64,
}

impl FoundField {
    /// Whether all of it is in `raw`.
    pub(crate) fn is_whole(&self) -> bool {
        self.length == self.field.raw.len() as u64
    }
}

impl<R: BufRead> FieldReader<R> {
    /// Begins at the first octet of a message.
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, offset: 0, next: None, at_line_start: true, at_end: false }
    }

    /// The next field; `None` behind the empty line (blocking). What has no name is no field, and
    /// is passed over.
    pub(crate) fn next_field(&mut self) -> io::Result<Option<FoundField>> {
        let mut line = Vec::new();
        while !self.at_end {
            line.clear();
            self.reader.by_ref().take(READ_SIZE as u64).read_until(b'\n', &mut line)?;
            self.at_end = line.is_empty() || (self.at_line_start && matches!(line.as_slice(), b"\r\n" | b"\n"));
            let continues = !self.at_end && (!self.at_line_start || line.starts_with(b" ") || line.starts_with(b"\t"));
            let (offset, length) = (self.offset, line.len() as u64);
            self.offset += length;
            self.at_line_start = line.ends_with(b"\n");
            if continues {
                if let Some(FoundField { field, length: total }) = &mut self.next {
                    *total += length;
                    if field.raw.len() + line.len() <= MAX_HEADER {
                        field.raw.extend_from_slice(&line);
                    }
                }
                continue;
            }
            let raw = std::mem::take(&mut line);
            let field = Field { name: name(&raw).unwrap_or_default(), raw, offset };
            let found = self.next.replace(FoundField { field, length });
            if let Some(found) = found.filter(|found| !found.field.name.is_empty()) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The name of a field (RFC 5322 §2.2), in lower case; white space before the colon is let pass
/// (§4.5.8).
fn name(raw: &[u8]) -> Option<String> {
    let colon = raw.iter().position(|byte| *byte == b':')?;
    let name = raw[..colon].trim_ascii_end();
    let valid = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    valid.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}
