//! The API as clients see it, against the storage in memory.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod cases;
