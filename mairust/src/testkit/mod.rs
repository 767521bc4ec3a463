//! Tests of applications that embed MaiRust, and ours.
//!
//! * [`Server`]: a whole server in a few lines, whose time, DNS and storage are in the hands of a test.
//! * [`Clock`]: time that only a test moves. Jobs, with their retries and notices, wait for it: five days pass in
//!   milliseconds.
//! * [`Dns`]: a table instead of DNS, for this process and, as a name server on loopback, for other programs.
//! * [`Sink`]: a mail server that follows a script; [`Fleet`]: several, found by DNS.
//! * [`Mishaps`]: what goes wrong with calls to a storage ([`UnreliableStorage`], [`UnreliableBodies`]).
//!
//! What goes by real time all the same: the deadlines of sessions, which are there for peers that hang, pauses after
//! a fault of the storage, and the rounds in which the server looks for what to purge and to index.
//!
//! The guide is `docs/testing.md`.

mod client;
mod dns;
mod server;
mod sink;

pub use self::dns::{Dns, DnsFailure, DnsServer};
pub use self::server::{Server, ServerSetup, StoredMessage};
pub use self::sink::{Act, Fleet, Sink, SinkBuilder, SinkMessage, SinkSession, SinkTls, Step};

pub use mairust_core::ManualClock as Clock;
pub use mairust_store::{Folder, Mishap, Mishaps, StoreErrorKind, UnreliableBodies, UnreliableStorage};
