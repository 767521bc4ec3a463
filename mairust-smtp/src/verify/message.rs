//! A message as verification reads it: its header fields byte for byte, and hashes of its body.
//!
//! The body is streamed, and the header section is kept up to a bound, so that a hostile message
//! costs no more memory than a friendly one.

use std::io::{self, BufRead, BufReader};

use mairust_core::Body;

use super::tags::Tags;
use crate::signed::{BodyHasher, Canonicalization, Field, FieldReader, HashedBody, MAX_HEADER, READ_SIZE, each_chunk};

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

impl Message {
    /// Reads a message (blocking).
    pub(super) fn read(body: &Body) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(READ_SIZE, body.reader());
        let header = Header::read(&mut reader)?;
        let wanted: Vec<Canonicalization> = header.fields.iter().filter_map(body_form).collect();
        let hasher = |form| wanted.contains(&form).then(|| BodyHasher::new(form));
        let (mut simple, mut relaxed) = (hasher(Canonicalization::Simple), hasher(Canonicalization::Relaxed));
        if simple.is_some() || relaxed.is_some() {
            each_chunk(&mut reader, |chunk| {
                for hasher in simple.iter_mut().chain(&mut relaxed) {
                    hasher.add(chunk);
                }
            })?;
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

/// The form of the body that a signature asks for.
fn body_form(field: &Field) -> Option<Canonicalization> {
    matches!(field.name.as_str(), "dkim-signature" | "arc-message-signature").then_some(())?;
    let tags = Tags::parse(&field.value()).ok()?;
    Some(Canonicalization::parse_pair(tags.get("c"))?.1)
}

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
