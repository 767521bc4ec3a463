//! SMTP without sockets, clocks or tasks: bytes in, events and bytes out.
//!
//! In reading order: [`session`] (what a server does), `command` and `line` (what a client says),
//! [`data`] (the end of a message), [`sasl`] (AUTH), [`extension`] (what EHLO announces);
//! for a client [`reply`] and [`stuff`].
//!
//! Deliberately absent: time. Timeouts belong to whoever owns the socket and end in
//! [`session::Session::close`].

pub mod session;

mod command;
mod line;

pub mod data;
pub mod extension;
pub mod reply;
pub mod sasl;
pub mod stuff;

pub use command::MailOptions;
pub use sasl::Credentials;
pub use session::{Activity, Event, LoginPolicy, Session, SessionConfig, TlsPolicy, Transaction};
