//! SMTP as a library: a server session, a listener, and a client for delivery.
//!
//! * [`proto`] is pure: no sockets, no clock, no tokio. It is all that is left with
//!   `--no-default-features`.
//! * [`server`] (feature `server`) drives a session over TCP and asks a [`server::SessionHandler`].
//! * [`client`] (feature `client`) delivers one message to a relay or to the MX of a domain.
//!
//! Deliberately absent: storage, hooks, configuration files.

pub mod proto;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "client", feature = "server"))]
pub mod tls;

#[cfg(feature = "server")]
mod certificates;
#[cfg(any(feature = "client", feature = "server"))]
mod stream;
