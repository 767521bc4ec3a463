//! Accepts connections and runs a session for each.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{Clock, EnhancedCode, Reply, SessionId, SystemClock};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use super::config::{ServerConfig, Service};
use super::connection;
use super::handler::{Peer, SessionHandler};
use super::observer::{NoObserver, Observer};

/// Connections that the system holds for us until we accept them.
const BACKLOG: i32 = 1_024;

/// How long to wait when the system has no file or memory left for another connection.
const BACK_OFF: Duration = Duration::from_millis(100);

/// An SMTP server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    pub(super) config: Arc<ServerConfig>,
    pub(super) handler: Arc<dyn SessionHandler>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Server {
    /// A server that asks this handler, counts nothing and uses the system's clock.
    pub fn new(config: ServerConfig, handler: Arc<dyn SessionHandler>) -> Self {
        Self { config: Arc::new(config), handler, observer: Arc::new(NoObserver), clock: Arc::new(SystemClock) }
    }

    /// Tells this observer what happens.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Takes the time of session ids from this clock.
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
    pub async fn run<F>(&self, listener: TcpListener, service: Service, stop: F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send,
    {
        if service == Service::Submissions && self.config.tls.is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "implicit TLS needs a certificate"));
        }
        let (stop_sessions, stopping) = watch::channel(false);
        let mut sessions = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(ended) = sessions.join_next() => report(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) if sessions.len() >= self.config.max_sessions => {
                        self.send_away(stream, address, service);
                    }
                    Ok((stream, address)) => self.begin(&mut sessions, stream, address, service, &stopping),
                    Err(error) => back_off(&error).await,
                },
            }
        }
        drop(listener);
        stop_sessions.send_replace(true);
        while let Some(ended) = sessions.join_next().await {
            report(ended);
        }
        Ok(())
    }

    fn begin(
        &self,
        sessions: &mut JoinSet<()>,
        stream: TcpStream,
        address: SocketAddr,
        service: Service,
        stopping: &watch::Receiver<bool>,
    ) {
        // A client that is gone already shows when it is read from.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(address);
        let peer = Peer { session: SessionId::new(self.clock.now()), address, local, service };
        let span = tracing::info_span!("session", component = "smtp", session_id = %peer.session, peer = %address);
        sessions.spawn(connection::run(self.clone(), stream, peer, stopping.clone()).instrument(span));
    }

    /// Says that there are too many sessions, without a session. Under implicit TLS nothing can
    /// be said before the handshake.
    fn send_away(&self, stream: TcpStream, address: SocketAddr, service: Service) {
        self.observer.session_refused(service);
        tracing::warn!(component = "smtp", peer = %address, "too many sessions, client sent away");
        if service == Service::Submissions {
            return;
        }
        let reply = Reply::new(421, EnhancedCode(4, 3, 2), "Too many sessions, please try again later");
        // The buffer of a new connection has room for one line, so this does not block.
        if let Ok(mut stream) = stream.into_std() {
            let _ = stream.write_all(&reply.to_wire());
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

/// A connection that ended before it was accepted is nothing; everything else would come again
/// at once.
async fn back_off(error: &io::Error) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    tracing::warn!(component = "smtp", %error, "can't accept connections");
    tokio::time::sleep(BACK_OFF).await;
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(component = "smtp", %error, "a session ended abnormally");
    }
}
