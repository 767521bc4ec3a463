//! Accepts connections and runs a session for each.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use mairust_core::{Clock, SessionId, SystemClock};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use super::acceptor::{Acceptor, Arrival};
use super::admission::{Admission, Seat};
use super::config::{ListenerConfig, ProxyProtocol, ServerConfig, Service};
use super::connection;
use super::handler::{Peer, SessionHandler};
use super::observer::{NoObserver, Observer, Refusal};
use super::proxied::{Endpoints, announced};

/// Connections that the system holds for us until we accept them.
const BACKLOG: i32 = 1_024;

/// An SMTP server. Cheap to clone; clones share the limits of sessions and of clients.
#[derive(Debug, Clone)]
pub struct Server {
    pub(super) config: Arc<ServerConfig>,
    pub(super) handler: Arc<dyn SessionHandler>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) clock: Arc<dyn Clock>,
    admission: Arc<Admission>,
}

impl Server {
    /// A server that asks this handler, counts nothing and uses the system's clock.
    pub fn new(config: ServerConfig, handler: Arc<dyn SessionHandler>) -> Self {
        let admission = Admission::new(config.admission.clone());
        let (observer, clock) = (Arc::new(NoObserver), Arc::new(SystemClock));
        Self { config: Arc::new(config), handler, observer, clock, admission }
    }

    /// Tells this observer what happens.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Takes the time of session ids and of rates from this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Serves a listener until `stop` is ready, and then until its last session has ended.
    ///
    /// After `stop` no connection is accepted; idle sessions end with 421, a session in the
    /// middle of a message may finish it. The caller bounds the time: dropping the future ends
    /// all sessions at once.
    ///
    /// # Errors
    /// When the service is [`Service::Submissions`] and there are no TLS settings.
    pub async fn run<F>(&self, socket: TcpListener, listener: impl Into<ListenerConfig>, stop: F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send,
    {
        let listener = listener.into();
        if listener.service == Service::Submissions && self.config.tls.is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "implicit TLS needs a certificate"));
        }
        let (stop_sessions, stopping) = watch::channel(false);
        let mut acceptor = Acceptor::new(socket);
        let mut sessions = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(ended) = sessions.join_next() => report(ended),
                arrival = acceptor.accept() => match arrival {
                    Arrival::Client(stream, address) => {
                        self.begin(&mut sessions, stream, address, listener, &stopping);
                    }
                    Arrival::Surplus(stream, address) => {
                        self.send_away(stream, address, listener.service, Refusal::NoDescriptor);
                        acceptor.restock();
                    }
                },
            }
        }
        drop(acceptor);
        stop_sessions.send_replace(true);
        while let Some(ended) = sessions.join_next().await {
            report(ended);
        }
        Ok(())
    }

    /// Gives a connection its place and a task.
    fn begin(
        &self,
        sessions: &mut JoinSet<()>,
        stream: TcpStream,
        address: SocketAddr,
        listener: ListenerConfig,
        stopping: &watch::Receiver<bool>,
    ) {
        let full = sessions.len() >= self.config.admission.max_sessions_per_listener;
        let seat = if full { Err(Refusal::ListenerFull) } else { self.admission.seat() };
        match seat {
            Ok(seat) => {
                sessions.spawn(self.clone().serve(stream, address, listener, seat, stopping.clone()));
            }
            Err(refusal) => self.send_away(stream, address, listener.service, refusal),
        }
    }

    /// Finds out whose connection it is, and whether that client may have a session; then runs it.
    async fn serve(
        self,
        mut stream: TcpStream,
        address: SocketAddr,
        listener: ListenerConfig,
        mut seat: Seat,
        mut stopping: watch::Receiver<bool>,
    ) {
        // A client that is gone already shows when it is read from.
        let _ = stream.set_nodelay(true);
        let service = listener.service;
        let own = Endpoints { client: address, local: stream.local_addr().unwrap_or(address) };
        let ends = match listener.proxy_protocol {
            ProxyProtocol::Never => Ok(own),
            ProxyProtocol::Required => tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return,
                ends = self.behind_proxy(&mut stream, own) => ends,
            },
        };
        let ends = match ends {
            Ok(ends) => ends,
            Err(error) => {
                tracing::warn!(component = "smtp", peer = %address, %error, "not from a proxy, connection dropped");
                return self.observer.session_refused(service, Refusal::Proxy);
            }
        };
        if let Err(refusal) = seat.admit(ends.client.ip(), self.clock.now()) {
            return self.send_away(stream, ends.client, service, refusal);
        }
        let peer = Peer { session: SessionId::new(self.clock.now()), address: ends.client, local: ends.local, service };
        let span = tracing::info_span!("session", component = "smtp", session_id = %peer.session, peer = %peer.address);
        connection::run(self, stream, peer, seat, stopping).instrument(span).await;
    }

    async fn behind_proxy(&self, stream: &mut TcpStream, own: Endpoints) -> io::Result<Endpoints> {
        if !self.config.proxies.iter().any(|proxy| proxy.contains(own.client.ip())) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "this address is not in the list of proxies"));
        }
        announced(stream, own, self.config.handshake_timeout).await
    }

    /// Says why there is no session. Under implicit TLS nothing can be said before a handshake,
    /// which a server that is full has no time for.
    fn send_away(&self, stream: TcpStream, address: SocketAddr, service: Service, refusal: Refusal) {
        self.observer.session_refused(service, refusal);
        tracing::info!(component = "smtp", peer = %address, reason = refusal.as_str(), "client sent away");
        if service == Service::Submissions {
            return;
        }
        // The buffer of a new connection has room for one line, so this does not block.
        if let Ok(mut stream) = stream.into_std() {
            let _ = stream.write_all(&refusal.reply().to_wire());
        }
    }
}

/// A listener with a backlog that outlasts a burst of connections. Port 0 takes any free port.
///
/// # Errors
/// When the address can't be bound.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(component = "smtp", %error, "a session ended abnormally");
    }
}
