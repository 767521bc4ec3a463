//! What the measurements share: the shipped binary as a process, a load of messages by SMTP, requests to the
//! REST API, and messages as people write them.

pub mod http;
pub mod load;
pub mod process;
pub mod text;
