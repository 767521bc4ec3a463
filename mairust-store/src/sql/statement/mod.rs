//! The texts of statements.
//!
//! Placeholders are `$1`, which SQLite and PostgreSQL both take; `RETURNING` works in both.

pub(crate) mod audit;
pub(crate) mod consistency;
pub(crate) mod directory;
pub(crate) mod event;
pub(crate) mod hook;
pub(crate) mod invariant;
pub(crate) mod lifecycle;
pub(crate) mod message;
pub(crate) mod policy;
pub(crate) mod queue;
pub(crate) mod registry;
pub(crate) mod search;
pub(crate) mod spool;
pub(crate) mod webhook;
