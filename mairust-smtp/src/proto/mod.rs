//! SMTP without sockets, clocks or tasks: bytes in, events and bytes out.
//!
//! In reading order: [`session`] (what a server does), `command` and `line` (what a client says),
//! [`data`] and [`chunk`] (the octets of a message), [`sasl`] (AUTH), [`hold`] (mail for later),
//! [`extension`] (what EHLO announces); behind a proxy [`proxy`] and [`xclient`]; for a client [`reply`] and [`stuff`].
//!
//! Deliberately absent: time. Timeouts belong to whoever owns the socket and end in
//! [`session::Session::close`].

pub mod session;

mod command;
mod line;
mod scram;

pub mod chunk;
pub mod data;
pub mod extension;
pub mod hold;
pub mod proxy;
pub mod reply;
pub mod sasl;
pub mod stuff;
pub mod xclient;

pub use command::{BodyType, MailOptions, RcptOptions};
pub use hold::{FutureRelease, Hold};
pub use sasl::Credentials;
pub use session::{Activity, Event, LoginPolicy, Protocol, RcptTo, Session, SessionConfig, TlsPolicy, Transaction};
pub use xclient::ClientFacts;
