//! Backups of a storage: its rows and bodies into an archive, and out of it.

mod restore;
mod write;
