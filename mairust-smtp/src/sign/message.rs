//! A message as it is signed.

use std::io::{BufReader, Read};

use mairust_core::Body;

use super::SignError;
use crate::signed::{BodyHasher, Canonicalization, Field, FieldReader, READ_SIZE, each_chunk};

/// Fields that one signature covers; nobody writes more.
const MAX_FIELDS: usize = 500;

/// Header fields that are signed where they are (RFC 6376 §5.4.1), and how: those of the first list also
/// against being added.
const GUARDED: &[&str] = &[
    "from",
    "reply-to",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
];

/// Others may add one of these to a message that has none: mailing lists, and who sends it again.
const COVERED: &[&str] = &[
    "sender",
    "content-id",
    "content-description",
    "content-disposition",
    "content-language",
    "resent-date",
    "resent-from",
    "resent-sender",
    "resent-to",
    "resent-cc",
    "resent-message-id",
    "list-id",
    "list-help",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-subscribe",
    "list-post",
    "list-owner",
    "list-archive",
    "auto-submitted",
    "autocrypt",
    "openpgp",
];

/// What is signed of a message: some of its header fields, and the hash of its body.
#[derive(Debug, Clone)]
pub struct Signable {
    fields: Vec<Field>,
    body_hash: Vec<u8>,
}

impl Signable {
    /// Reads a message (blocking): `prefix` are whole header fields that stand in front of `body`.
    ///
    /// # Errors
    /// [`SignError::Read`], and [`SignError::HeaderTooLarge`] when there is more to be signed than a
    /// verifier would read.
    pub fn read(prefix: &[u8], body: &Body) -> Result<Self, SignError> {
        let mut reader = BufReader::with_capacity(READ_SIZE, prefix.chain(body.reader()));
        let mut fields = Vec::new();
        let mut found = FieldReader::new(&mut reader);
        while let Some(next) = found.next_field()? {
            let name = next.field.name.as_str();
            if !GUARDED.contains(&name) && !COVERED.contains(&name) {
                continue;
            }
            if !next.is_whole() || fields.len() == MAX_FIELDS {
                return Err(SignError::HeaderTooLarge);
            }
            fields.push(next.field);
        }
        let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
        each_chunk(&mut reader, |chunk| hasher.add(chunk))?;
        Ok(Self { fields, body_hash: hasher.finish().hash })
    }

    /// The SHA-256 of the body.
    pub(super) fn body_hash(&self) -> &[u8] {
        &self.body_hash
    }

    /// What stands in `h=`: a name for each field that is signed, and one more for each that must not be
    /// added.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for (list, extra) in [(GUARDED, 1), (COVERED, 0)] {
            for name in list {
                let count = self.named(name).count() + extra;
                names.extend(std::iter::repeat_n(*name, count));
            }
        }
        names
    }

    /// The fields in the order of [`names`](Self::names), in canonical form: of several with one name, the
    /// last one first (§5.4.2).
    pub(super) fn signed_fields(&self) -> Vec<u8> {
        let mut signed = Vec::new();
        for name in GUARDED.iter().chain(COVERED) {
            for field in self.named(name).rev() {
                Canonicalization::Relaxed.add_field(&field.raw, &mut signed);
            }
        }
        signed
    }

    fn named<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a Field> {
        self.fields.iter().filter(move |field| field.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(prefix: &str, text: &str) -> Signable {
        Signable::read(prefix.as_bytes(), &Body::from(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn fields_are_signed_from_the_bottom_up() {
        let message = read("Date: now\r\n", "Received: x\r\nTo: a\r\nFrom: f\r\nTO :  b\r\n\r\nTo: c\r\n");
        let signed = message.signed_fields();
        assert_eq!(signed, b"from:f\r\nto:b\r\nto:a\r\ndate:now\r\n");
        let names = message.names();
        assert_eq!(names.iter().filter(|name| **name == "to").count(), 3);
        assert_eq!(names.iter().filter(|name| **name == "reply-to").count(), 1, "so that none is added");
        assert!(!names.contains(&"sender") && !names.contains(&"received"));
    }

    #[test]
    fn too_much_is_refused() {
        for header in ["To: a@b.c\r\n".repeat(501), format!("To: {}\r\n", "a\r\n ".repeat(300_000))] {
            let message = Body::from(format!("{header}\r\n").into_bytes());
            assert!(matches!(Signable::read(b"", &message), Err(SignError::HeaderTooLarge)));
        }
    }
}
