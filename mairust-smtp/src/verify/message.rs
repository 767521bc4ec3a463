//! A message as verification reads it: its header fields byte for byte, and hashes of its body.
//!
//! The body is streamed, and the header section is kept up to a bound, so that a hostile message
//! costs no more memory than a friendly one.

use std::io::{self, BufRead, BufReader, Read};

use aws_lc_rs::digest::{Context, SHA256};
use mairust_core::Body;

use super::canonical::{BodyForm, Canonicalization};
use super::tags::Tags;

/// Octets of header fields that are kept.
const MAX_HEADER: usize = 256 << 10;

/// Header fields that are kept.
const MAX_FIELDS: usize = 2_000;

/// What verification knows of a message.
#[derive(Debug)]
pub(super) struct Message {
    /// The header fields, first one first.
    pub(super) fields: Vec<Field>,
    /// Whether all of them are there; when there are too many, only the From fields of the rest are.
    pub(super) is_whole: bool,
    simple: Option<HashedBody>,
    relaxed: Option<HashedBody>,
}

/// A header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name, in lower case.
    pub(super) name: String,
    /// All of it, with its final line end.
    pub(super) raw: Vec<u8>,
    /// Where it begins in the message.
    pub(super) offset: u64,
}

/// A body in one canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HashedBody {
    /// Its SHA-256.
    pub(super) hash: Vec<u8>,
    /// Its length in that form.
    pub(super) length: u64,
}

impl Message {
    /// Reads a message (blocking).
    pub(super) fn read(body: &Body) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(READ_SIZE, body.reader());
        let header = Header::read(&mut reader)?;
        let wanted: Vec<Canonicalization> = header.fields.iter().filter_map(body_form).collect();
        let hasher = |form| wanted.contains(&form).then(|| BodyHasher::new(form));
        let (mut simple, mut relaxed) = (hasher(Canonicalization::Simple), hasher(Canonicalization::Relaxed));
        if simple.is_some() || relaxed.is_some() {
            loop {
                let chunk = reader.fill_buf()?;
                if chunk.is_empty() {
                    break;
                }
                for hasher in simple.iter_mut().chain(&mut relaxed) {
                    hasher.add(chunk);
                }
                let length = chunk.len();
                reader.consume(length);
            }
        }
        Ok(Self {
            fields: header.fields,
            is_whole: header.is_whole,
            simple: simple.map(BodyHasher::finish),
            relaxed: relaxed.map(BodyHasher::finish),
        })
    }

    /// The body in this form; `None` if no signature asked for it.
    pub(super) fn body(&self, form: Canonicalization) -> Option<&HashedBody> {
        match form {
            Canonicalization::Relaxed => self.relaxed.as_ref(),
            Canonicalization::Simple => self.simple.as_ref(),
        }
    }

    /// The fields of this name, in their order, with their positions.
    pub(super) fn named<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = (usize, &'a Field)> {
        self.fields.iter().enumerate().filter(move |(_, field)| field.name == name)
    }

    /// How many octets of header fields there are.
    pub(super) fn header_size(&self) -> usize {
        self.fields.iter().map(|field| field.raw.len()).sum()
    }
}

impl Field {
    /// What stands behind the colon, as text.
    pub(super) fn value(&self) -> String {
        let colon = self.raw.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
        String::from_utf8_lossy(&self.raw[colon..]).into_owned()
    }
}

/// The form of the body that a signature asks for.
fn body_form(field: &Field) -> Option<Canonicalization> {
    matches!(field.name.as_str(), "dkim-signature" | "arc-message-signature").then_some(())?;
    let tags = Tags::parse(&field.value()).ok()?;
    Some(Canonicalization::parse_pair(tags.get("c"))?.1)
}

/// How much is read at a time.
const READ_SIZE: usize = 64 << 10;

/// A header section.
#[derive(Debug)]
struct Header {
    fields: Vec<Field>,
    is_whole: bool,
}

impl Header {
    /// Reads up to and with the empty line (blocking).
    fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        let mut header = Self { fields: Vec::new(), is_whole: true };
        let mut kept = 0;
        let mut fields = FieldReader::new(reader);
        while let Some(found) = fields.next_field()? {
            let size = found.field.raw.len();
            let fits = kept + size <= MAX_HEADER && header.fields.len() < MAX_FIELDS && found.is_whole();
            // Who the message claims to be from must not be hidden behind other fields.
            let is_needed =
                found.field.name == "from" && header.fields.len() < 2 * MAX_FIELDS && kept <= 2 * MAX_HEADER;
            if fits || is_needed {
                kept += size;
                header.fields.push(found.field);
            }
            header.is_whole &= fits;
        }
        Ok(header)
    }
}

/// Reads header fields one by one; of a very long one, only the beginning is kept.
#[derive(Debug)]
pub(super) struct FieldReader<R> {
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
pub(super) struct FoundField {
    pub(super) field: Field,
    /// Its length in the message.
    pub(super) length: u64,
}

impl FoundField {
    fn is_whole(&self) -> bool {
        self.length == self.field.raw.len() as u64
    }
}

impl<R: BufRead> FieldReader<R> {
    /// Begins at the first octet of a message.
    pub(super) fn new(reader: R) -> Self {
        Self { reader, offset: 0, next: None, at_line_start: true, at_end: false }
    }

    /// The next field; `None` behind the empty line (blocking). What has no name is no field, and
    /// is passed over.
    pub(super) fn next_field(&mut self) -> io::Result<Option<FoundField>> {
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

struct BodyHasher {
    form: BodyForm,
    context: Context,
    length: u64,
}

impl BodyHasher {
    fn new(form: Canonicalization) -> Self {
        Self { form: BodyForm::new(form), context: Context::new(&SHA256), length: 0 }
    }

    fn add(&mut self, chunk: &[u8]) {
        let Self { form, context, length } = self;
        form.add(chunk, &mut |bytes| {
            context.update(bytes);
            *length += bytes.len() as u64;
        });
    }

    fn finish(self) -> HashedBody {
        let Self { form, mut context, mut length } = self;
        form.finish(&mut |bytes| {
            context.update(bytes);
            length += bytes.len() as u64;
        });
        HashedBody { hash: context.finish().as_ref().to_vec(), length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Message {
        Message::read(&Body::from(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn keeps_fields_byte_for_byte() {
        let message = read("From: a@b\r\nSubject : x\r\n  y\r\nno field\r\n\r\nFrom: body\r\n");
        let names: Vec<_> = message.fields.iter().map(|field| (field.name.as_str(), field.offset)).collect();
        assert_eq!(names, [("from", 0), ("subject", 11)]);
        assert_eq!(message.fields[1].raw, b"Subject : x\r\n  y\r\n");
        assert!(message.is_whole);
        assert_eq!(message.body(Canonicalization::Simple), None, "nobody asked");
        assert_eq!(read("").fields, []);
        assert_eq!(read("\r\nFrom: body").fields, []);
        assert_eq!(read("From: a@b").fields.len(), 1);
    }

    #[test]
    fn hides_no_author_behind_a_wall_of_fields() {
        let wall = |line: &str, count: usize| format!("{}From: a@b\r\n\r\nx", line.repeat(count));
        for text in [wall("X: y\r\n", 5_000), wall(&format!("X: {}\r\n", "y".repeat(70_000)), 10)] {
            let message = read(&text);
            assert!(!message.is_whole);
            assert_eq!(message.named("from").count(), 1);
            assert!(message.fields.len() <= MAX_FIELDS + 1 && message.header_size() <= MAX_HEADER + 100);
        }
        let folded = format!("X: {}\r\nFrom: a@b\r\n\r\n", "y\r\n ".repeat(300_000));
        assert_eq!(read(&folded).named("from").count(), 1);
        let many = "From: a@b\r\n".repeat(100_000);
        assert!(read(&many).fields.len() <= 2 * MAX_FIELDS);
    }

    #[test]
    fn hashes_the_body_in_the_forms_that_are_asked_for() {
        let text = "DKIM-Signature: v=1; c=relaxed/relaxed\r\nDKIM-Signature: v=1\r\n\r\na  b \r\n\r\n";
        let message = read(text);
        assert_eq!(message.body(Canonicalization::Relaxed).unwrap().length, 5);
        assert_eq!(message.body(Canonicalization::Simple).unwrap().length, 7);
    }
}
