//! One connection, for one request after the other.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

/// The longest head of an answer, in octets.
const MAX_HEAD: usize = 64 << 10;

/// A connection. Dropping it closes it, whatever is going on there.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// What reads and writes.
    _driver: JoinSet<hyper::Result<()>>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) struct SendError {
    /// What happened.
    pub(crate) error: hyper::Error,
    /// Whether nothing of the request was written.
    pub(crate) is_unsent: bool,
}

impl Connection {
    /// Speaks HTTP/1.1 over this stream.
    ///
    /// # Errors
    /// When that can't begin.
    pub(crate) async fn over<S>(stream: S) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self { sender, _driver: driver })
    }

    /// Sends a request, and waits for the head of the answer.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, SendError> {
        // A connection that was just made is ready as soon as its driver has run once.
        self.sender.ready().await.map_err(|error| SendError { error, is_unsent: true })?;
        let sent = self.sender.try_send_request(request).await;
        sent.map_err(|mut refused| SendError {
            is_unsent: refused.take_message().is_some(),
            error: refused.into_error(),
        })
    }

    /// Whether it is free for a request.
    pub(crate) fn is_free(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether no request gets through it any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}
