//! Serves the REST API on a socket, with limits: what waits for a request that never comes must
//! not take the descriptors that mail needs.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long to wait when the system has no file or memory left for another connection.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Longest time from the head of a request to the head of its answer, body included: more than a
/// client that waits for mail may ask for, and enough for a large upload.
const REQUEST_DEADLINE: Duration = Duration::from_secs(300);

/// Limits of the REST API.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpLimits {
    /// Connections at a time; further ones wait until one ends. Default 500.
    pub max_connections: usize,
    /// Longest time for the head of a request, and for the next request on a connection; then it is
    /// closed. Default 10 seconds.
    pub header_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { max_connections: 500, header_timeout: Duration::from_secs(10) }
    }
}

/// Serves connections until `stop` is ready, and then those that are in the middle of a request.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &HttpLimits,
    stop: impl Future<Output = ()> + Send,
) {
    let (stop_connections, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut failing = false;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (stream, address) = accept(&listener, &mut failing), if connections.len() < limits.max_connections => {
                connections.spawn(connection(stream, address, router.clone(), limits.header_timeout, stopping.clone()));
            }
        }
    }
    drop(listener);
    stop_connections.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// The next connection; a system that has nothing left for one is given time, and it is said once.
async fn accept(listener: &TcpListener, failing: &mut bool) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                *failing = false;
                return accepted;
            }
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                if !std::mem::replace(failing, true) {
                    tracing::error!(component = "http", %error, "can't accept connections, trying again");
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// A connection that ended before it was accepted is nothing.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    header_timeout: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    // A client that is gone already shows when it is read from.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(router.clone(), address, request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let stop = async { stopping.wait_for(|stop| *stop).await.map(drop) };
    let served = tokio::select! {
        served = connection.as_mut() => served,
        _ = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(component = "http", peer = %address, %error, "connection lost");
    }
}

/// Tells the API who asks, and bounds the time.
async fn answer(router: Router, address: SocketAddr, mut request: Request<Incoming>) -> Result<Response, Infallible> {
    request.extensions_mut().insert(ConnectInfo(address));
    let answer = TowerToHyperService::new(router).call(request);
    tokio::time::timeout(REQUEST_DEADLINE, answer)
        .await
        .unwrap_or_else(|_| Ok(StatusCode::REQUEST_TIMEOUT.into_response()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Running {
        address: SocketAddr,
        /// Lets the answer to `/slow` go.
        slow: Arc<Notify>,
        asked: Arc<Notify>,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    async fn start(limits: HttpLimits) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (slow, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let wait = {
            let (slow, asked) = (slow.clone(), asked.clone());
            move || async move {
                asked.notify_one();
                slow.notified().await;
                "at last"
            }
        };
        let client = |ConnectInfo(address): ConnectInfo<SocketAddr>| async move { address.to_string() };
        let router = Router::new().route("/client", get(client)).route("/slow", get(wait));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap_or_default() };
        let task = tokio::spawn(async move { serve(listener, router, &limits, stopped).await });
        Running { address, slow, asked, stop, task }
    }

    async fn ask(server: &Running, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    /// Everything until the server closes the connection.
    async fn to_the_end(mut stream: TcpStream) -> String {
        let mut text = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    }

    #[tokio::test]
    async fn who_asks_nothing_is_closed() {
        let limits = HttpLimits { header_timeout: Duration::from_millis(50), ..HttpLimits::default() };
        let server = start(limits).await;
        let silent = TcpStream::connect(server.address).await.unwrap();
        assert!(!to_the_end(silent).await.contains("200"));
        let mut half = TcpStream::connect(server.address).await.unwrap();
        half.write_all(b"GET /client HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        assert!(!to_the_end(half).await.contains("200"));
        let kept = ask(&server, "/client").await;
        let address = kept.local_addr().unwrap().to_string();
        assert!(to_the_end(kept).await.ends_with(&address), "answered, and closed when no further request came");
    }

    #[tokio::test]
    async fn further_connections_wait_for_their_turn() {
        let server = start(HttpLimits { max_connections: 1, ..HttpLimits::default() }).await;
        let first = ask(&server, "/slow").await;
        tokio::time::timeout(PATIENCE, server.asked.notified()).await.unwrap();
        let mut second = ask(&server, "/client").await;
        drop(first);
        let mut start = [0; 15];
        tokio::time::timeout(PATIENCE, second.read_exact(&mut start)).await.unwrap().unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn stopping_lets_a_request_finish_and_closes_the_others() {
        let server = start(HttpLimits::default()).await;
        let idle = TcpStream::connect(server.address).await.unwrap();
        let busy = ask(&server, "/slow").await;
        tokio::time::timeout(PATIENCE, server.asked.notified()).await.unwrap();
        server.stop.send(()).unwrap();
        assert_eq!(to_the_end(idle).await, "");
        server.slow.notify_one();
        assert!(to_the_end(busy).await.ends_with("at last"));
        tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }
}
