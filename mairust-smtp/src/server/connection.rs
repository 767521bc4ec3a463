//! Drives one session: socket on one side, handler on the other.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mairust_core::{EnhancedCode, ForwardPath, Origin, Rejection, Reply, ReversePath};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::admission::Seat;
use super::config::{EarlyTalkers, ServerConfig, Service};
use super::handler::{Peer, SessionHandler, SessionInfo};
use super::listener::Server;
use super::message::Reception;
use super::observer::Observer;
use crate::proto::{
    ClientFacts, Event, LoginPolicy, MailOptions, Protocol, RcptOptions, Session, SessionConfig, TlsPolicy,
};
use crate::stream::Stream;

/// How much of a message is read at once.
const MESSAGE_READ_SIZE: usize = 16 << 10;

/// How much is read at once between messages: sessions that wait should cost little.
const COMMAND_READ_SIZE: usize = 1 << 10;

/// How much is read of what is dropped when a session ends.
const DRAIN_LIMIT: usize = 64 << 10;

/// Runs a session from greeting to end.
pub(super) async fn run(server: Server, stream: TcpStream, peer: Peer, seat: Seat, stopping: watch::Receiver<bool>) {
    let _open = OpenSession::new(&server, peer.service);
    tracing::debug!(service = ?peer.service, "session opened");
    let ended = Driver::run(server, stream, peer, seat, stopping).await;
    match ended {
        Ok(()) => tracing::debug!("session closed"),
        Err(error) => tracing::debug!(%error, "session lost"),
    }
}

/// Counts a session as open while it lives, even if it panics.
struct OpenSession(Arc<dyn Observer>, Service);

pub(super) struct Driver {
    pub(super) server: Server,
    pub(super) stream: Stream,
    pub(super) session: Session,
    pub(super) info: SessionInfo,
    /// The place among all sessions, and what the client has left of its rates.
    seat: Seat,
    stopping: watch::Receiver<bool>,
    /// Whether the session knows that it is to stop.
    stop_told: bool,
    pub(super) message: Option<Reception>,
    /// Whether a message was accepted, and nothing came from the client since the reply.
    pub(super) unheard: bool,
    /// When the client must have sent its next command.
    command_deadline: Instant,
}

/// What the socket had for us.
enum Input {
    Bytes(usize),
    Stop,
    TimedOut,
}

impl Driver {
    async fn run(
        server: Server,
        tcp: TcpStream,
        peer: Peer,
        seat: Seat,
        stopping: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let config = &server.config;
        let implicit = peer.service == Service::Submissions;
        let session = Session::new(session_config(config, &peer, &*server.handler));
        let origin = Origin { session: Some(peer.session), client: Some(peer.address.ip()), ..Origin::default() };
        let info = SessionInfo {
            peer,
            origin,
            extended: false,
            identity: None,
            options: MailOptions::default(),
            granted: Vec::new(),
        };
        let command_deadline = Instant::now() + config.idle_timeout;
        let mut driver = Self {
            server,
            stream: Stream::Plain(tcp),
            session,
            info,
            seat,
            stopping,
            stop_told: false,
            message: None,
            unheard: false,
            command_deadline,
        };
        if implicit {
            driver.handshake().await?;
        }
        driver.converse().await
    }

    async fn converse(&mut self) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            while let Some(event) = self.session.poll() {
                if matches!(event, Event::Closed) {
                    return self.part().await;
                }
                self.handle(event).await?;
            }
            self.flush().await?;
            let size = if self.session.in_message() { MESSAGE_READ_SIZE } else { COMMAND_READ_SIZE };
            if buffer.len() != size {
                buffer = vec![0; size];
            }
            match self.read(&mut buffer).await? {
                Input::Bytes(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Input::Bytes(count) => {
                    if std::mem::take(&mut self.unheard) {
                        self.server.handler.heard(&self.info).await;
                    }
                    self.session.receive(&buffer[..count]);
                }
                Input::Stop => {
                    self.stop_told = true;
                    self.session.stop(Reply::new(421, EnhancedCode(4, 3, 2), "Service shutting down"));
                }
                Input::TimedOut => self.session.close(&Reply::new(421, EnhancedCode(4, 4, 2), "Timeout")),
            }
        }
    }

    /// Sends what is left and closes the connection.
    async fn part(&mut self) -> io::Result<()> {
        self.flush().await?;
        timeout(self.server.config.idle_timeout, self.stream.shutdown()).await??;
        // What is not read would make the system reset the connection, and the client might never
        // see the last reply.
        self.stream.drop_pending(DRAIN_LIMIT);
        Ok(())
    }

    /// Waits for bytes, for the stop signal, or for a deadline.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        let deadline = match &self.message {
            Some(message) => message.deadline.min(Instant::now() + self.server.config.idle_timeout),
            None => self.command_deadline,
        };
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stop| *stop), if !self.stop_told => Ok(Input::Stop),
            read = timeout_at(deadline, self.stream.read(buffer)) => match read {
                Ok(count) => count.map(Input::Bytes),
                Err(_) => Ok(Input::TimedOut),
            },
        }
    }

    /// Sends all replies so far in one go.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let service = self.info.peer.service;
        for verb in &self.session.activity().commands {
            self.server.observer.command(service, verb);
        }
        for code in &self.session.activity().replies {
            self.server.observer.reply(service, *code);
        }
        let output = self.session.transmit();
        if output.is_empty() {
            return Ok(());
        }
        timeout(self.server.config.idle_timeout, self.stream.write_all(&output)).await??;
        self.command_deadline = Instant::now() + self.server.config.idle_timeout;
        Ok(())
    }

    async fn handle(&mut self, event: Event) -> io::Result<()> {
        self.info.origin.helo = self.session.client_name().map(str::to_owned);
        self.info.extended = self.session.is_extended();
        match event {
            Event::Connect => return self.connect().await,
            Event::Login(credentials) => self.login(credentials).await,
            Event::ScramVerifier(user) => self.scram_verifier(&user).await,
            Event::ScramLogin(user) => self.scram_login(&user).await,
            Event::ScramFailed(user) => self.scram_failed(&user).await,
            Event::Mail(from, options) => self.mail(&from, options).await,
            Event::Recipient(to, options) => self.recipient(&to, &options).await,
            Event::MessageStart => self.begin_message(),
            Event::MessageDropped => self.message = None,
            Event::Chunk(bytes) => self.store(&bytes).await,
            Event::MessageEnd(transaction) => return self.end_message(transaction).await,
            Event::MessageRefused(transaction, reply) => {
                let size = self.message.take().map_or(0, |message| message.len());
                let (sender, recipients) = (transaction.sender, transaction.recipients.len());
                tracing::info!(%sender, recipients, size, %reply, "message refused");
                self.flush().await?;
                self.server.observer.message(self.info.peer.service, reply.code(), Duration::ZERO);
            }
            Event::StartTls => {
                self.flush().await?;
                self.handshake().await?;
            }
            Event::Xclient(facts) => self.xclient(facts).await,
            Event::Closed => {}
        }
        Ok(())
    }

    /// Greets the client, if it waits for that.
    async fn connect(&mut self) -> io::Result<()> {
        let answer = match self.early_talker().await? {
            Some(rejection) => Err(rejection),
            None => guarded(self.server.handler.connect(&self.info.peer)).await,
        };
        self.settle("connection refused", answer);
        Ok(())
    }

    /// Waits before the greeting; what a client that speaks meanwhile is told.
    async fn early_talker(&self) -> io::Result<Option<Rejection>> {
        let Server { config, observer, .. } = &self.server;
        let peer = &self.info.peer;
        let exempt = config.greeting_delay.is_zero() || config.admission.trusts(peer.address.ip());
        let Stream::Plain(stream) = &self.stream else { return Ok(None) };
        if exempt || peer.service != Service::Mx {
            return Ok(None);
        }
        match timeout(config.greeting_delay, stream.peek(&mut [0])).await {
            Err(_) => return Ok(None),
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(spoken) => spoken?,
        };
        observer.early_talker(peer.service);
        match config.early_talkers {
            EarlyTalkers::Note => {
                tracing::info!("the client spoke before it was greeted");
                Ok(None)
            }
            EarlyTalkers::Refuse => {
                Ok(Some(Rejection::new(554, EnhancedCode(5, 5, 1), "Wait for the greeting").because("an early talker")))
            }
        }
    }

    async fn mail(&mut self, from: &ReversePath, options: MailOptions) {
        self.info.granted.clear();
        self.info.options = options;
        let answer = match self.seat.message(self.server.clock.now()) {
            Ok(()) => guarded(self.server.handler.mail(&self.info, from, &self.info.options)).await,
            Err(rejection) => Err(rejection),
        };
        self.settle("sender refused", answer);
    }

    async fn recipient(&mut self, to: &ForwardPath, options: &RcptOptions) {
        let answer = match self.seat.recipient(self.server.clock.now()) {
            Ok(()) => guarded(self.server.handler.recipient(&self.info, to, options)).await,
            Err(rejection) => Err(rejection),
        };
        let answer = answer.map(|grant| self.info.granted.push(grant));
        self.settle("recipient refused", answer);
    }

    /// A proxy told who its client is: the session goes on as if that client had just connected.
    async fn xclient(&mut self, facts: ClientFacts) {
        let peer = &mut self.info.peer;
        tracing::info!(proxy = %peer.address, client = ?facts.address, "a proxy speaks for its client");
        let address = facts.address.unwrap_or(peer.address.ip());
        peer.address = SocketAddr::new(address, facts.port.unwrap_or(peer.address.port()));
        self.info.origin.client = Some(address);
        self.info.origin.user = None;
        self.info.identity = None;
        let answer = match self.seat.admit(address, self.server.clock.now()) {
            Ok(()) => guarded(self.server.handler.connect(&self.info.peer)).await,
            Err(refusal) => Err(Rejection::from_reply(refusal.reply()).because(refusal.as_str())),
        };
        self.settle("connection refused", answer);
    }

    fn settle(&mut self, refusal: &'static str, answer: Result<(), Rejection>) {
        match answer {
            Ok(()) => self.session.accept(),
            Err(rejection) => {
                tracing::info!(reply = %rejection.reply(), reason = rejection.reason(), "{refusal}");
                self.session.refuse(rejection.reply());
            }
        }
    }

    /// Goes over to TLS. Nothing that was read before is used after it.
    async fn handshake(&mut self) -> io::Result<()> {
        let Some(tls) = self.server.config.tls.clone() else {
            return Err(io::Error::other("TLS is not configured"));
        };
        // A failed handshake leaves no connection behind that could be used.
        let stream = std::mem::replace(&mut self.stream, Stream::Closed);
        let Stream::Plain(stream) = stream else {
            return Err(io::Error::other("TLS is active already"));
        };
        let accepted = timeout(self.server.config.handshake_timeout, TlsAcceptor::from(tls).accept(stream)).await??;
        self.info.origin.tls = Some(crate::tls::facts(accepted.get_ref().1));
        self.info.identity = None;
        self.info.origin.user = None;
        self.stream = Stream::Tls(Box::new(TlsStream::Server(accepted)));
        self.session.tls_started();
        Ok(())
    }
}

impl OpenSession {
    fn new(server: &Server, service: Service) -> Self {
        server.observer.session_opened(service);
        Self(Arc::clone(&server.observer), service)
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.session_closed(self.1);
    }
}

fn session_config(config: &ServerConfig, peer: &Peer, handler: &dyn SessionHandler) -> SessionConfig {
    let is_submission = matches!(peer.service, Service::Submission | Service::Submissions);
    SessionConfig {
        protocol: if peer.service == Service::Lmtp { Protocol::Lmtp } else { Protocol::Smtp },
        hostname: config.hostname.clone(),
        max_message_size: config.max_message_size,
        max_recipients: config.max_recipients,
        max_messages: config.max_messages,
        max_commands: config.max_commands,
        max_errors: config.max_errors,
        max_failed_logins: config.max_failed_logins,
        login: if is_submission { LoginPolicy::Required } else { LoginPolicy::Never },
        tls: match (peer.service, &config.tls) {
            (Service::Submissions, _) => TlsPolicy::Active,
            (_, Some(_)) => TlsPolicy::Offered,
            (_, None) => TlsPolicy::Unavailable,
        },
        scram: handler.offers_scram(),
        dsn: is_submission,
        future_release: handler.future_release().filter(|_| is_submission),
        xclient: config.xclient_from.iter().any(|network| network.contains(peer.address.ip())),
    }
}

/// Asks the handler; a panic in it costs one answer, not the session.
pub(super) async fn guarded<T>(question: impl Future<Output = Result<T, Rejection>>) -> Result<T, Rejection> {
    let mut question = pin!(question);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| question.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(_) => Poll::Ready(Err(Rejection::unavailable("the session handler panicked"))),
    })
    .await
}
