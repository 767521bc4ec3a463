//! Tests of applications that embed MaiRust, and ours.
//!
//! * [`Dns`]: a table instead of DNS, for this process and, as a name server on loopback, for other programs.

mod dns;

pub use self::dns::{Dns, DnsFailure, DnsServer};
