//! What SQL dialects share: the text of statements, and how values are written in columns.
//!
//! Placeholders are `$1`, which SQLite and PostgreSQL both take; `RETURNING` works in both.

pub(crate) mod codec;
pub(crate) mod directory;
pub(crate) mod message;
pub(crate) mod queue;
