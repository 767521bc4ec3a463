//! Backups: all rows and bodies of a storage in one file, which may come into a storage of another
//! kind.
//!
//! The file is an archive that `tar` reads. Its members, in this order:
//!
//! | member | what is in it |
//! |---|---|
//! | `mairust-backup.json` | the [`Manifest`]: form, versions, when |
//! | names of the caller's choice | further files, for example the configuration |
//! | `rows/<table>/<number>.jsonl` | the rows of a table as they were at one moment, a JSON object a line |
//! | `bodies/<key>` | bodies as the body store keeps them: what is encrypted stays so |
//! | `gone/<number>.jsonl` | keys of bodies whose messages were removed while the backup was made |
//! | `end.json` | how many there are of all, and the SHA-256 of everything before |
//!
//! The search index is not in it: it is made again from the messages. Nor are master keys, unless the caller
//! puts them in.

use mairust_core::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) mod archive;
pub(crate) mod read;
mod tar;

pub use read::verify;

/// What a backup is: its first member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// The form of the file: 1.
    pub format: u32,
    /// The version of MaiRust that made it.
    pub mairust: String,
    /// When: RFC 3339.
    pub made_at: String,
    /// The kind of the database that the rows come from: `postgres` or `sqlite`.
    pub database: String,
    /// The last migration of that database.
    pub schema: i64,
}

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupSummary {
    /// What it is.
    pub manifest: Manifest,
    /// How many rows there are in all tables together.
    pub rows: u64,
    /// How many of them are messages.
    pub messages: u64,
    /// How many bodies there are.
    pub bodies: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// A file that is put into a backup besides.
#[derive(Debug, Clone)]
pub struct FurtherFile {
    /// Its name in the backup: letters, digits, hyphens, dots; no folder.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// The last member: what must be there before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) rows: u64,
    pub(crate) messages: u64,
    pub(crate) bodies: u64,
    pub(crate) gone: u64,
    /// Of all octets in front of the header of this member, in hexadecimal digits.
    pub(crate) sha256: String,
}

/// The form of what is written, and the only one that is read.
const FORMAT: u32 = 1;
pub(crate) const MANIFEST: &str = "mairust-backup.json";
pub(crate) const END: &str = "end.json";
/// No member but a body is larger: it is held in memory.
const LARGEST_TEXT: u64 = 64 << 20;

impl Manifest {
    pub(crate) fn new(made_at: Timestamp, database: &str, schema: i64) -> Self {
        Self {
            format: FORMAT,
            mairust: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: made_at.to_rfc3339(),
            database: database.to_owned(),
            schema,
        }
    }
}
