//! The client of rspamd against a server that says what a test wants.
#![expect(clippy::unwrap_used, reason = "these are tests; clippy knows only functions marked as such")]

mod rspamd;
