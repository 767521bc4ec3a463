//! Tests of applications that embed MaiRust, and ours.
//!
//! * [`Dns`]: a table instead of DNS, for this process and, as a name server on loopback, for other programs.
//! * [`Sink`]: a mail server that follows a script; [`Fleet`]: several, found by DNS.

mod dns;
mod sink;

pub use self::dns::{Dns, DnsFailure, DnsServer};
pub use self::sink::{Act, Fleet, Sink, SinkBuilder, SinkMessage, SinkSession, SinkTls, Step};
