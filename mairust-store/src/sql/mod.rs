//! Storage in a database. SQLite and PostgreSQL share everything but how they are opened
//! ([`sqlite`], [`postgres`]) and the few statements that they write differently.

mod accept;
mod allowance;
mod audit;
mod backup;
mod changes;
mod codec;
mod consistency;
mod delivery;
mod directory;
pub(crate) mod driver;
mod event;
mod finish;
mod hook;
mod invariant;
mod lifecycle;
mod marks;
mod message;
mod migrations;
mod postgres;
mod queue;
mod queue_items;
mod registry;
mod search;
mod spool;
mod sqlite;
mod statement;
mod storage;
mod suppression;
#[cfg(test)]
mod tests;
pub(crate) mod transfer;
mod webhook;

pub use migrations::MigrationStatus;
pub use spool::{SpoolSettings, SpoolStatistics, WhenBodiesDown};
pub use storage::{BodyEncryption, SqlStatistics, SqlStorage, SqlStorageBuilder};
