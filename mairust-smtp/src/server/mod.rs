//! A server: listeners on TCP that ask a [`SessionHandler`].
//!
//! Implement [`SessionHandler`], make a [`Server`] and [`run`](Server::run) it on a listener that
//! is already bound. One server may run on several listeners.
//!
//! Deliberately absent: what happens to mail. That is the handler's business.

mod acceptor;
mod admission;
mod config;
mod connection;
mod handler;
mod hang_up;
mod listener;
mod login;
mod message;
mod observer;
mod proxied;
mod spool;

pub use crate::proto::{BodyType, Credentials, MailOptions, RcptOptions};
pub use config::{AdmissionConfig, EarlyTalkers, ListenerConfig, ProxyProtocol, ServerConfig, Service};
pub use handler::{Grant, Identity, Peer, Received, Recipient, SessionHandler, SessionInfo};
pub use hang_up::HangUp;
pub use listener::{Server, bind};
pub use observer::{NoObserver, Observer, Refusal};
