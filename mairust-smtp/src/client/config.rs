//! Settings of a client.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use mairust_core::Domain;

use crate::tls::Roots;

/// Settings of a client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The argument of EHLO. A mail exchanger of this name is this host.
    pub hostname: Domain,
    /// Time to connect to one address. Default 30 s.
    pub connect_timeout: Duration,
    /// Time for each reply before DATA. Default 5 minutes (RFC 5321 §4.5.3.2).
    pub command_timeout: Duration,
    /// Time for the reply to the final dot. Default 10 minutes (RFC 5321 §4.5.3.2.6).
    pub final_dot_timeout: Duration,
    /// Addresses and ports that this host takes mail at; `0.0.0.0` and `[::]` stand for all of its
    /// addresses. A mail exchanger there is this host. Default none.
    pub own_addresses: Vec<SocketAddr>,
    /// Whether mail exchangers may be at loopback addresses, as in tests. Default no.
    pub allow_loopback: bool,
    /// Addresses of this host that connections come from, one of the right family at random for
    /// each; where there is none, the operating system picks one. Default none.
    pub source_addresses: Vec<IpAddr>,
    /// Connections to one address and port at a time; who finds so many waits. Default 20.
    pub max_connections_per_host: usize,
    /// Messages that go over one connection. Default 100.
    pub max_transactions: u32,
    /// How long a connection is kept for another message; zero to keep none. Default 5 s.
    pub idle_time: Duration,
    /// Whose certificates are believed where TLS has to be verified. Default: the built-in roots.
    pub roots: Roots,
}

impl ClientConfig {
    /// The defaults, under this host name.
    pub fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(300),
            final_dot_timeout: Duration::from_secs(600),
            own_addresses: Vec::new(),
            allow_loopback: false,
            source_addresses: Vec::new(),
            max_connections_per_host: 20,
            max_transactions: 100,
            idle_time: Duration::from_secs(5),
            roots: Roots::built_in(),
        }
    }

    /// Whether mail that goes there comes back to this host.
    pub(super) fn listens_at(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.own_addresses.iter().any(|own| {
            own.port() == address.port()
                && (own.ip().to_canonical() == ip || (own.ip().is_unspecified() && is_local(ip)))
        })
    }
}

/// Whether an address is one of this machine: only those can be bound.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}
