//! Getting a request there, and the answer back.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use mairust_core::is_this_machine;
use mairust_hooks::{FailureKind, HookError};

use super::letter::Letter;
use super::pool::Kept;
use super::{HttpTransport, Reply};
use crate::error::chain;
use crate::outgoing_http::{ConnectError, DialError, SendError};

/// Time to connect to another machine.
const REMOTE: Duration = Duration::from_secs(1);

/// Time to connect to this machine, or half of the time of the call if that is less.
const LOCAL: Duration = Duration::from_millis(500);

/// Why there is no reply.
struct Failed {
    error: HookError,
    /// Whether the hook knows nothing of the request, so that it may be sent once more.
    may_repeat: bool,
}

impl HttpTransport {
    /// Sends a request and reads the reply. If the hook can't have seen anything of it and half of its time is left,
    /// it is sent once more, over a new connection.
    pub(super) async fn send(&self, letter: &Letter<'_>) -> Result<Reply, HookError> {
        let kept = self.pool.take();
        match self.try_send(letter, kept).await {
            Err(Failed { may_repeat: true, .. }) if letter.has_half_of_its_time() => {
                self.try_send(letter, None).await.map_err(|failed| failed.error)
            }
            sent => sent.map_err(|failed| failed.error),
        }
    }

    async fn try_send(&self, letter: &Letter<'_>, kept: Option<Kept>) -> Result<Reply, Failed> {
        let is_kept = kept.is_some();
        let mut kept = match kept {
            Some(kept) => kept,
            None => self.connect(letter).await?,
        };
        // A new time and a new signature each time.
        let at = self.clock.now();
        if self.hook.live_keys(at).next().is_none() {
            return Err(Failed::new(FailureKind::Auth, "the keys that sign requests to it are not used any more"));
        }
        let request = letter.request(&self.hook, at).map_err(|error| Failed::new(FailureKind::Crash, chain(&error)))?;
        let response = kept.connection.send(request).await.map_err(|failed| Failed::sending(&failed, is_kept))?;
        let (head, body) = response.into_parts();
        let counts =
            matches!(head.status, StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::GONE);
        let mut reply = Reply { status: head.status, headers: head.headers, body: Vec::new(), at };
        let is_over = body.is_end_stream();
        if counts {
            reply.body = read(body, letter.max_answer).await?;
        }
        if counts || is_over {
            self.pool.put(kept);
        }
        Ok(reply)
    }

    async fn connect(&self, letter: &Letter<'_>) -> Result<Kept, Failed> {
        let time = letter.deadline.saturating_duration_since(letter.begun);
        let patience = |address: IpAddr| if is_this_machine(address) { LOCAL.min(time / 2) } else { REMOTE };
        let connected = self.http.connect(letter.url, self.hook.allow_private, patience).await;
        connected.map(Kept::new).map_err(|error| Failed::connecting(&error))
    }
}

impl Failed {
    fn new(kind: FailureKind, text: impl std::fmt::Display) -> Self {
        Self { error: HookError::of(kind, text), may_repeat: false }
    }

    /// The texts name no address: tenants see them, and need not know where names lead in our network.
    fn connecting(error: &ConnectError) -> Self {
        let text = match error {
            ConnectError::Dial(DialError::Refused { error, .. }) => format!("it can't be connected to: {error}"),
            ConnectError::Dial(DialError::Silent { .. }) => "it does not take connections in time".to_owned(),
            ConnectError::Tls(error) => format!("TLS: {error}"),
            other => chain(other),
        };
        let may_repeat = match error {
            ConnectError::Dial(DialError::Refused { error, .. }) | ConnectError::Tls(error) => {
                matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset)
            }
            _ => false,
        };
        Self { may_repeat, ..Self::new(FailureKind::Connect, text) }
    }

    /// A connection that was kept may have been closed while the request was on its way: who closes it does not read
    /// on, so nothing of the request was seen.
    fn sending(failed: &SendError, is_kept: bool) -> Self {
        let error = &failed.error;
        if error.is_parse() {
            return Self::new(FailureKind::Protocol, format_args!("it does not speak HTTP: {}", chain(error)));
        }
        let may_repeat = failed.is_unsent || (is_kept && has_broken_off(error));
        Self { may_repeat, ..Self::new(FailureKind::Connect, format_args!("no answer: {}", chain(error))) }
    }
}

/// Reads a body.
async fn read(mut body: Incoming, limit: usize) -> Result<Vec<u8>, Failed> {
    let too_long = || Failed::new(FailureKind::Protocol, format_args!("its answer has more than {limit} octets"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long());
    }
    let mut octets = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let kind = if has_broken_off(&error) { FailureKind::Connect } else { FailureKind::Protocol };
            Failed::new(kind, format_args!("its answer does not end: {}", chain(&error)))
        })?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        if octets.len() + data.len() > limit {
            return Err(too_long());
        }
        octets.extend_from_slice(data);
    }
    Ok(octets)
}

/// Whether the connection ended, rather than something wrong came through it.
fn has_broken_off(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_broken = |cause: &io::Error| {
        matches!(
            cause.kind(),
            ErrorKind::BrokenPipe
                | ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionReset
                | ErrorKind::NotConnected
                | ErrorKind::UnexpectedEof
        )
    };
    error.is_incomplete_message() || error.is_closed() || error.is_canceled() || cause.is_some_and(is_broken)
}
