//! What a signature covers of a message: header fields byte for byte, their canonical forms, and the
//! hash of the body. Whoever signs and whoever verifies see the same octets here.

mod body;
mod canonical;
mod field;

#[cfg(feature = "verify")]
pub(crate) use body::HashedBody;
pub(crate) use body::{BodyHasher, each_chunk};
pub(crate) use canonical::Canonicalization;
#[cfg(feature = "verify")]
pub(crate) use field::MAX_HEADER;
pub(crate) use field::{Field, FieldReader};

/// How much is read at a time.
pub(crate) const READ_SIZE: usize = 64 << 10;
