//! SMTP as a library: a server session, a listener, a client for delivery, the authentication of
//! senders, and signing.
//!
//! A server is a handler and a listener. This one takes mail for one domain and prints it; it
//! already does all that RFC 5321 and its extensions demand of the protocol, refuses smuggled
//! messages, spools large ones to disk, and bounds what a client may cost.
//!
//! ```
//! # #[cfg(feature = "server")]
//! # mod example {
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use mairust_core::{Domain, EnhancedCode, ForwardPath, Rejection, Reply};
//! use mairust_smtp::server::{Grant, RcptOptions, Received, Server, ServerConfig, Service, SessionHandler, SessionInfo, bind};
//!
//! #[derive(Debug)]
//! struct Printer;
//!
//! #[async_trait]
//! impl SessionHandler for Printer {
//!     async fn recipient(&self, _: &SessionInfo, to: &ForwardPath, _: &RcptOptions) -> Result<Grant, Rejection> {
//!         match to {
//!             ForwardPath::Address(address) if address.domain().as_str() == "example.com" => Ok(Grant::none()),
//!             _ => Err(Rejection::new(550, EnhancedCode(5, 7, 1), "Relaying is not permitted")),
//!         }
//!     }
//!
//!     async fn message(&self, _: &SessionInfo, message: Received) -> Result<Reply, Rejection> {
//!         // With the reply, the responsibility for the message is ours.
//!         println!("{} octets from {}", message.body.len(), message.sender);
//!         Ok(Reply::new(250, EnhancedCode(2, 0, 0), "Printed"))
//!     }
//! }
//!
//! # pub
//! async fn serve(stop: impl Future<Output = ()> + Send) -> Result<(), Box<dyn std::error::Error>> {
//!     let config = ServerConfig::new(Domain::parse("mx.example.com")?);
//!     let listener = bind("127.0.0.1:0".parse()?)?;
//!     Ok(Server::new(config, Arc::new(Printer)).run(listener, Service::Mx, stop).await?)
//! }
//! # }
//! # #[cfg(feature = "server")]
//! # tokio::runtime::Runtime::new().unwrap().block_on(example::serve(async {})).unwrap();
//! ```
//!
//! * [`proto`] is pure: no sockets, no clock, no tokio. It is all that is left with
//!   `--no-default-features`.
//! * [`server`] (feature `server`) drives a session over TCP and asks a [`server::SessionHandler`].
//! * [`client`] (feature `client`) delivers one message to a relay or to the MX of a domain.
//! * [`verify`] (feature `verify`) finds out who a message really comes from: SPF, DKIM, DMARC, ARC.
//! * [`sign`] (feature `sign`) signs messages by DKIM.
//! * [`dns`] (features `client` and `verify`) is the DNS of both, behind a trait.
//!
//! Deliberately absent: storage, hooks, configuration files.

pub mod proto;

#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "client", feature = "verify"))]
pub mod dns;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "sign")]
pub mod sign;
#[cfg(any(feature = "client", feature = "server"))]
pub mod tls;
#[cfg(feature = "verify")]
pub mod verify;

#[cfg(feature = "server")]
mod certificates;
#[cfg(feature = "client")]
mod roots;
#[cfg(any(feature = "sign", feature = "verify"))]
#[cfg_attr(not(all(feature = "sign", feature = "verify")), allow(dead_code, reason = "each side needs a part of it"))]
mod signed;
#[cfg(any(feature = "client", feature = "server"))]
mod stream;
