//! The hash of a body in a canonical form.

use std::io::{self, BufRead};

use aws_lc_rs::digest::{Context, SHA256};

use super::canonical::{BodyForm, Canonicalization};

/// A body in one canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HashedBody {
    /// Its SHA-256.
    pub(crate) hash: Vec<u8>,
    /// Its length in that form.
    pub(crate) length: u64,
}

/// Hashes a body, chunk by chunk.
pub(crate) struct BodyHasher {
    form: BodyForm,
    context: Context,
    length: u64,
}

impl BodyHasher {
    pub(crate) fn new(form: Canonicalization) -> Self {
        Self { form: BodyForm::new(form), context: Context::new(&SHA256), length: 0 }
    }

    pub(crate) fn add(&mut self, chunk: &[u8]) {
        let Self { form, context, length } = self;
        form.add(chunk, &mut |bytes| {
            context.update(bytes);
            *length += bytes.len() as u64;
        });
    }

    pub(crate) fn finish(self) -> HashedBody {
        let Self { form, mut context, mut length } = self;
        form.finish(&mut |bytes| {
            context.update(bytes);
            length += bytes.len() as u64;
        });
        HashedBody { hash: context.finish().as_ref().to_vec(), length }
    }
}

/// Gives what is left of a reader to `take`, chunk by chunk (blocking).
pub(crate) fn each_chunk(reader: &mut impl BufRead, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(());
        }
        take(chunk);
        let length = chunk.len();
        reader.consume(length);
    }
}
