//! Asks an rspamd server (`POST /checkv2`).
//!
//! Plain HTTP over TCP or a UNIX socket, a connection for each message: rspamd stands on the same
//! machine or in the same private network. Deliberately absent: TLS, proxies, redirects, and a pool
//! of connections, whose stale ones would fail at the worst time.

mod answer;
mod endpoint;
mod request;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use mairust_core::{Clock, ScanAction, ScanReport, Secret, SystemClock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use self::answer::Answer;
use super::circuit::{CallResult, Circuit};
use super::{ScanError, ScanRequest, Scanner};

pub use self::endpoint::{RspamdEndpoint, RspamdEndpointError};

/// The name of this scanner.
const NAME: &str = "rspamd";

/// An answer is a few kilobytes; one above this is no answer.
const MAX_ANSWER: usize = 1 << 20;

/// How an rspamd server is asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RspamdSettings {
    /// Where its normal worker listens.
    pub endpoint: RspamdEndpoint,
    /// The password, where the server wants one. It crosses the network as it is.
    pub password: Option<Secret<String>>,
    /// How long one message may take, from connecting to the last byte of the answer. Default 10 s.
    pub timeout: Duration,
    /// What `add header` and `rewrite subject` mean. Default [`ScanAction::Junk`].
    pub marked: ScanAction,
    /// What `reject` means. Default [`ScanAction::Reject`].
    pub rejected: ScanAction,
    /// The name of the receiving server, for the header fields that rspamd writes.
    pub hostname: Option<String>,
}

/// Asks an rspamd server. After three failures in a row it is left alone for a while, 15 s first
/// and 4 min at most, and its calls fail at once.
#[derive(Debug)]
pub struct Rspamd {
    settings: RspamdSettings,
    circuit: Circuit,
    clock: Arc<dyn Clock>,
}

impl RspamdSettings {
    /// The defaults for a server there.
    pub fn new(endpoint: RspamdEndpoint) -> Self {
        Self {
            endpoint,
            password: None,
            timeout: Duration::from_secs(10),
            marked: ScanAction::Junk,
            rejected: ScanAction::Reject,
            hostname: None,
        }
    }
}

impl Rspamd {
    /// A client. It connects when there is something to scan.
    pub fn new(settings: RspamdSettings) -> Self {
        Self::with_clock(settings, Arc::new(SystemClock))
    }

    /// A client that rests by this clock.
    pub fn with_clock(settings: RspamdSettings, clock: Arc<dyn Clock>) -> Self {
        Self { settings, circuit: Circuit::new(), clock }
    }

    /// Asks within the time that one message may take.
    async fn ask(&self, request: &ScanRequest) -> Result<ScanReport, ScanError> {
        let time = self.settings.timeout;
        let asked = Box::pin(tokio::time::timeout(time, self.exchange(request)));
        let answer = asked.await.map_err(|_| ScanError::Timeout(time))??;
        Ok(answer.report(&self.settings))
    }

    async fn exchange(&self, request: &ScanRequest) -> Result<Answer, ScanError> {
        let unreachable = |error: std::io::Error| ScanError::Connection(error.to_string());
        match &self.settings.endpoint {
            RspamdEndpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                self.talk(stream, request).await
            }
            RspamdEndpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                self.talk(stream, request).await
            }
        }
    }

    async fn talk<S>(&self, stream: S, request: &ScanRequest) -> Result<Answer, ScanError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with this call, however the call ends.
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        let response = sender.send_request(request::check(&self.settings, &request.mail)).await.map_err(broken)?;
        read(response).await
    }
}

#[async_trait]
impl Scanner for Rspamd {
    fn name(&self) -> &str {
        NAME
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanReport, ScanError> {
        let permit = self.circuit.try_acquire(self.clock.now()).ok_or(ScanError::Open)?;
        let report = self.ask(request).await;
        let result = if report.is_ok() { CallResult::Success } else { CallResult::Failure };
        permit.record(result, self.clock.now());
        report
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, ScanError> {
    let status = response.status();
    if status != StatusCode::OK {
        return Err(ScanError::Http(status.as_u16()));
    }
    let collected = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            ScanError::Answer(format!("it has over {MAX_ANSWER} bytes"))
        } else {
            ScanError::Connection(error.to_string())
        }
    })?;
    Answer::parse(&collected.to_bytes())
}

#[expect(clippy::needless_pass_by_value, reason = "map_err gives it away")]
fn broken(error: hyper::Error) -> ScanError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    ScanError::Connection(text)
}
