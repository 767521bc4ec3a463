//! Takes connections from a socket, and outlasts a system that has nothing left for them.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// The process has no file descriptor left; the same number on all systems of the Unix family.
const EMFILE: i32 = 24;

/// The system has none left.
const ENFILE: i32 = 23;

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A listening socket with a file descriptor in reserve: by it a client can be told that there
/// are no others. Without the reserve nobody is served.
#[derive(Debug)]
pub(super) struct Acceptor {
    listener: TcpListener,
    reserve: Option<File>,
    trouble: Option<Trouble>,
}

/// A connection.
#[derive(Debug)]
pub(super) enum Arrival {
    /// One that can be served.
    Client(TcpStream, SocketAddr),
    /// One that took the last descriptor, and must give it back at once.
    Surplus(TcpStream, SocketAddr),
}

/// Failures without a success between them.
#[derive(Debug)]
struct Trouble {
    failures: u32,
    retry_at: Instant,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, reserve: reserve(), trouble: None }
    }

    /// The next connection. Nothing is lost when the future is dropped.
    pub(super) async fn accept(&mut self) -> Arrival {
        loop {
            if let Some(trouble) = &self.trouble {
                sleep_until(trouble.retry_at).await;
            }
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    self.restock();
                    if self.reserve.is_none() {
                        return Arrival::Surplus(stream, address);
                    }
                    self.recovered();
                    return Arrival::Client(stream, address);
                }
                // A connection that ended before it was accepted is nothing.
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    if let Some(arrival) = self.failed(error).await {
                        return arrival;
                    }
                }
            }
        }
    }

    /// Says once that there is trouble, and gives the reserve for one connection.
    async fn failed(&mut self, error: io::Error) -> Option<Arrival> {
        if self.trouble.is_none() {
            tracing::error!(component = "smtp", %error, "can't accept connections, trying again");
        }
        let failures = self.trouble.take().map_or(0, |trouble| trouble.failures) + 1;
        let accepted = if is_exhausted(&error) { self.accept_by_reserve().await } else { Err(error) };
        // With the reserve this goes no faster than clients come.
        let wait = if accepted.is_ok() { Duration::ZERO } else { pause(failures) };
        self.trouble = Some(Trouble { failures, retry_at: Instant::now() + wait });
        accepted.ok().flatten().map(|(stream, address)| Arrival::Surplus(stream, address))
    }

    /// Takes a connection in place of the reserve, if there is one: the system says that it has
    /// nothing left even when nobody is there.
    async fn accept_by_reserve(&mut self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        drop(self.reserve.take());
        let accepted = poll_fn(|context| match self.listener.poll_accept(context) {
            Poll::Ready(accepted) => Poll::Ready(accepted.map(Some)),
            Poll::Pending => Poll::Ready(Ok(None)),
        });
        let accepted = accepted.await;
        if !matches!(accepted, Ok(Some(_))) {
            self.restock();
        }
        accepted
    }

    /// Takes a new reserve, once what a surplus connection took is given back.
    pub(super) fn restock(&mut self) {
        if self.reserve.is_none() {
            self.reserve = reserve();
        }
    }

    fn recovered(&mut self) {
        if let Some(trouble) = self.trouble.take() {
            tracing::warn!(component = "smtp", failures = trouble.failures, "connections are accepted again");
        }
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// How long to wait after so many failures.
fn pause(failures: u32) -> Duration {
    let (first, longest) = PAUSES;
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let millis = [1, 2, 3, 7, 8, 100, u32::MAX].map(|failures| pause(failures).as_millis());
        assert_eq!(millis, [10, 20, 40, 640, 1_000, 1_000, 1_000]);
    }

    #[tokio::test]
    async fn the_reserve_takes_one_client() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut acceptor = Acceptor::new(listener);
        let client = TcpStream::connect(address).await.unwrap();
        let exhausted = || io::Error::from_raw_os_error(EMFILE);
        let arrival = acceptor.failed(exhausted()).await;
        assert!(matches!(arrival, Some(Arrival::Surplus(_, peer)) if peer == client.local_addr().unwrap()));
        assert!(acceptor.reserve.is_none());
        acceptor.restock();
        assert!(acceptor.failed(exhausted()).await.is_none(), "nobody is there");
        assert!(acceptor.reserve.is_some(), "nobody took it");
        let _next = TcpStream::connect(address).await.unwrap();
        assert!(matches!(acceptor.accept().await, Arrival::Client(..)));
        assert!(acceptor.trouble.is_none() && acceptor.reserve.is_some());
    }
}
