//! Mail exchangers that DNS leads to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mairust_core::{Clock, SystemClock};

use super::{Sink, SinkBuilder};
use crate::error::{Error, Result};
use crate::testkit::Dns;

/// Hosts on loopback addresses of their own and one common port, as mail exchangers are, entered into a [`Dns`].
///
/// A server under test has to find them at [`port`](Self::port) instead of 25. Needs a system where all of
/// 127.0.0.0/8 is this machine, as Linux.
#[derive(Debug)]
pub struct Fleet {
    dns: Dns,
    clock: Arc<dyn Clock>,
    /// Its first two numbers after 127; the hosts have the last one.
    network: [u8; 2],
    next_host: AtomicU8,
    port: u16,
    sinks: Mutex<Vec<Sink>>,
    /// Keeps the port; nobody asks for it.
    _reserved: TcpListener,
}

impl Fleet {
    /// A fleet without hosts, in a network and on a port that others hardly use.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn new(dns: &Dns) -> Result<Self> {
        // Not 127.0, where everything else is.
        let network = [rand::random_range(1..=254), rand::random()];
        let address = SocketAddr::from(([127, network[0], network[1], 1], 0));
        let failed = |error| Error::new(format_args!("no port of {} can be bound", address.ip())).with_source(error);
        let reserved = TcpListener::bind(address).map_err(failed)?;
        Ok(Self {
            dns: dns.clone(),
            clock: Arc::new(SystemClock),
            network,
            next_host: AtomicU8::new(2),
            port: reserved.local_addr().map_err(failed)?.port(),
            sinks: Mutex::default(),
            _reserved: reserved,
        })
    }

    /// Gives this clock to all hosts that are added from now on.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The port of all hosts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts a host, and enters its address into DNS. It runs as long as the fleet.
    ///
    /// # Errors
    /// When it can't be started.
    ///
    /// # Panics
    /// When there are more than 250 hosts.
    pub async fn host(&self, name: &str, sink: SinkBuilder) -> Result<Sink> {
        let address = self.next_address();
        let sink = sink.name(name).clock(self.clock.clone()).start_at((address, self.port).into()).await?;
        self.dns.add_address(name, address);
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).push(sink.clone());
        Ok(sink)
    }

    /// Enters a host into DNS that refuses connections.
    ///
    /// # Panics
    /// When there are more than 250 hosts.
    pub fn dead_host(&self, name: &str) -> IpAddr {
        let address = self.next_address();
        self.dns.add_address(name, address);
        address
    }

    /// Starts the only mail exchanger of a domain: `mx.` and the domain.
    ///
    /// # Errors
    /// When it can't be started.
    ///
    /// # Panics
    /// When there are more than 250 hosts.
    pub async fn domain(&self, domain: &str, sink: SinkBuilder) -> Result<Sink> {
        let host = format!("mx.{domain}");
        let sink = self.host(&host, sink).await?;
        self.dns.add_mx(domain, 10, &host);
        Ok(sink)
    }

    fn next_address(&self) -> IpAddr {
        let host = self.next_host.fetch_add(1, Ordering::Relaxed);
        assert!((2..=251).contains(&host), "a fleet has no more than 250 hosts");
        Ipv4Addr::new(127, self.network[0], self.network[1], host).into()
    }
}
