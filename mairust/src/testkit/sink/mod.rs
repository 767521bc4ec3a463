//! Mail servers that follow a script.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mairust_core::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::error::{Error, Result};

mod fleet;
mod log;
mod script;
mod session;
mod tls;
mod wire;

pub use self::fleet::Fleet;
pub use self::log::{SinkMessage, SinkSession};
pub use self::script::{Act, Step};
pub use self::tls::SinkTls;

use self::log::{Log, Seen};
use self::script::Script;
use self::tls::Tls;

/// How long is waited for something before it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mail server that takes all mail and keeps it in memory, apart from what it is told to do otherwise at any
/// [`Step`]. Clones are the same server; it ends with the last of them.
///
/// ```
/// use mairust::testkit::{Act, Sink, Step};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mairust::Result<()> {
/// let sink = Sink::builder()
///     .on(Step::RcptTo("nobody@example.org".to_owned()), "550 5.1.1 No such user")
///     .on(Step::Mail, Act::reply("451 4.3.0 Try again later").times(2))
///     .on(Step::Message, Act::lose_reply().times(1))
///     .start()
///     .await?;
/// assert!(sink.messages().is_empty(), "nobody sent anything to {}", sink.address());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Sink(Arc<Running>);

/// Says what a [`Sink`] is to do.
#[derive(Debug, Clone)]
#[must_use = "a sink does nothing until it is started"]
pub struct SinkBuilder {
    name: String,
    extensions: Vec<String>,
    script: Script,
    tls: SinkTls,
    implicit_tls: bool,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// What all sessions of a sink share.
#[derive(Debug)]
struct Shared {
    name: String,
    extensions: Vec<String>,
    script: Mutex<Script>,
    tls: Tls,
    implicit_tls: bool,
    clock: Arc<dyn Clock>,
    log: Log,
}

impl Sink {
    /// Begins to say what a sink is to do.
    pub fn builder() -> SinkBuilder {
        SinkBuilder {
            name: "sink.test".to_owned(),
            extensions: ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"].map(str::to_owned).to_vec(),
            script: Script::default(),
            tls: SinkTls::Off,
            implicit_tls: false,
            clock: Arc::new(SystemClock),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Says what to do at a step from now on, after what was said before has been done.
    pub fn on(&self, step: Step, act: impl Into<Act>) {
        self.0.shared.script().add(step, act.into());
    }

    /// Forgets what was said for all steps: from now on, all mail is taken.
    pub fn clear(&self) {
        self.0.shared.script().clear();
    }

    /// The messages that were taken so far.
    pub fn messages(&self) -> Vec<SinkMessage> {
        self.0.shared.log.look(|seen| seen.messages.clone())
    }

    /// The sessions so far, also those that are not over.
    pub fn sessions(&self) -> Vec<SinkSession> {
        self.0.shared.log.look(|seen| seen.sessions.clone())
    }

    /// The messages, as soon as there are so many.
    ///
    /// # Panics
    /// When it takes longer than 30 seconds.
    pub async fn wait_for(&self, count: usize) -> Vec<SinkMessage> {
        let enough = |seen: &Seen| (seen.messages.len() >= count).then(|| seen.messages.clone());
        self.wait(enough, format_args!("{count} messages")).await
    }

    /// The sessions, as soon as so many are over.
    ///
    /// # Panics
    /// When it takes longer than 30 seconds.
    pub async fn wait_for_sessions(&self, count: usize) -> Vec<SinkSession> {
        let is_enough = |seen: &Seen| seen.sessions.iter().filter(|session| session.ended).count() >= count;
        let enough = |seen: &Seen| is_enough(seen).then(|| seen.sessions.clone());
        self.wait(enough, format_args!("{count} sessions that are over")).await
    }

    async fn wait<T>(&self, enough: impl Fn(&Seen) -> Option<T>, what: impl fmt::Display) -> T {
        let log = &self.0.shared.log;
        match tokio::time::timeout(PATIENCE, log.wait(enough)).await {
            Ok(found) => found,
            Err(_) => {
                panic!("{} does not have {what}: {:#?}", self.0.shared.name, log.look(|seen| seen.sessions.clone()))
            }
        }
    }
}

impl SinkBuilder {
    /// Its name in the greeting and in certificates. Default `sink.test`; in a [`Fleet`] that of the host.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What it does at a step. What is said later for the same step is done after what has a number of
    /// [`times`](Act::times).
    pub fn on(mut self, step: Step, act: impl Into<Act>) -> Self {
        self.script.add(step, act.into());
        self
    }

    /// Refuses each recipient with 451 until so much time has passed, by the clock of the sink, since the client
    /// asked first for the same sender and recipient.
    pub fn greylist(mut self, delay: Duration) -> Self {
        self.script.greylist(delay);
        self
    }

    /// Waits so long before each reply, in real time.
    pub fn tarpit(mut self, delay: Duration) -> Self {
        self.script.tarpit = delay;
        self
    }

    /// The extensions in the reply to EHLO, apart from STARTTLS. Default PIPELINING, 8BITMIME and
    /// ENHANCEDSTATUSCODES. BDAT is understood whether CHUNKING is named or not.
    pub fn extensions<T: Into<String>>(mut self, extensions: impl IntoIterator<Item = T>) -> Self {
        self.extensions = extensions.into_iter().map(Into::into).collect();
        self
    }

    /// Whether STARTTLS is offered, and what becomes of it. Default: it is not.
    pub fn tls(mut self, tls: SinkTls) -> Self {
        self.tls = tls;
        self
    }

    /// Begins with the TLS handshake instead of offering STARTTLS, as on port 465; with a self-signed certificate,
    /// unless [`tls`](Self::tls) says something else.
    pub fn implicit_tls(mut self) -> Self {
        self.implicit_tls = true;
        self
    }

    /// The clock that says when something came. Default: the system's; in a [`Fleet`] that of the fleet.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Starts it on a free port of 127.0.0.1. Needs a tokio runtime.
    ///
    /// # Errors
    /// When no port can be bound, or a certificate can't be used.
    pub async fn start(self) -> Result<Sink> {
        self.start_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts it at this address.
    ///
    /// # Errors
    /// When the address can't be bound, or a certificate can't be used.
    pub async fn start_at(self, address: SocketAddr) -> Result<Sink> {
        let unbound =
            |error| Error::new(format_args!("the sink {} can't listen at {address}", self.name)).with_source(error);
        let listener = TcpListener::bind(address).await.map_err(unbound)?;
        let address = listener.local_addr().map_err(unbound)?;
        let tls = match self.tls {
            SinkTls::Off if self.implicit_tls => SinkTls::SelfSigned,
            tls => tls,
        };
        let shared = Arc::new(Shared {
            tls: tls.prepare(&self.name)?,
            name: self.name,
            extensions: self.extensions,
            script: Mutex::new(self.script),
            implicit_tls: self.implicit_tls,
            clock: self.clock,
            log: Log::default(),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Sink(Arc::new(Running { shared, address, task })))
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves until the task is aborted, and all sessions with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, peer)) = accepted else { continue };
                let shared = shared.clone();
                sessions.spawn(async move {
                    if let Err(error) = session::serve(shared, stream, peer).await {
                        tracing::debug!(component = "testkit", %peer, %error, "a session with a sink was cut");
                    }
                });
            }
            Some(_) = sessions.join_next() => {}
        }
    }
}

#[cfg(test)]
mod tests;
