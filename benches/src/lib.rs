//! What the measurements share: the shipped binary as a process, and a load of messages.

pub mod load;
pub mod process;
