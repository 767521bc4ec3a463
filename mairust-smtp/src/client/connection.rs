//! A connection to one address of a host: bytes, replies, and all that comes before MAIL.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mairust_core::Reply;
use rand::seq::IndexedRandom;
use rustls_pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use super::config::ClientConfig;
use super::dane;
use super::peer::{Endpoint, Protocol, TlsPolicy};
use super::report::{AttemptFacts, TlsUse, Verdict};
use super::route;
use crate::proto::extension::Extensions;
use crate::proto::reply::{ReplyError, ReplyReader};
use crate::stream::Stream;

/// How long to wait for the reply to QUIT: all is decided by then.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a conversation does not get as far as MAIL.
#[derive(Debug)]
pub(super) enum Stop {
    /// The host has decided about the message.
    Everyone(Verdict),
    /// Another host may take it.
    NextHost(Verdict),
    /// TLS does not work, and may be left out.
    WithoutTls(Lost),
}

/// The connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Reply(#[from] ReplyError),
    #[error("the host did not answer in time")]
    Timeout,
    #[error("the host answered out of turn: {0}")]
    Turn(Reply),
}

#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) config: Arc<ClientConfig>,
    pub(super) endpoint: Endpoint,
    /// For reports: `name[address]:port`.
    pub(super) label: String,
    pub(super) extensions: Extensions,
    /// Messages that were begun.
    pub(super) transactions: u32,
    stream: Stream,
    input: BytesMut,
    replies: ReplyReader,
    source: Option<IpAddr>,
    tls: TlsUse,
}

impl Conversation {
    pub(super) async fn open(config: &Arc<ClientConfig>, endpoint: &Endpoint) -> Result<Self, Lost> {
        let connecting = timeout(config.connect_timeout, connect(config, endpoint.address));
        let stream = connecting.await.map_err(|_| Lost::Timeout)??;
        stream.set_nodelay(true)?;
        Ok(Self {
            config: Arc::clone(config),
            endpoint: endpoint.clone(),
            label: endpoint.label(),
            extensions: Extensions::default(),
            transactions: 0,
            source: stream.local_addr().ok().map(|address| address.ip()),
            stream: Stream::Plain(stream),
            input: BytesMut::new(),
            replies: ReplyReader::default(),
            tls: TlsUse::Unknown,
        })
    }

    /// All that comes before MAIL. `tls_failed` says why TLS is left out this time.
    pub(super) async fn greet(&mut self, tls_failed: Option<&str>) -> Result<(), Stop> {
        if self.endpoint.terms.implicit_tls {
            self.handshake().await.map_err(|lost| self.no_tls(&lost.to_string()))?;
        }
        let greeting = self.reply(self.config.command_timeout).await.map_err(|lost| self.next_host(&lost))?;
        if greeting.is_permanent() {
            return Err(Stop::Everyone(Verdict::refusal(&self.label, greeting)));
        }
        if !greeting.is_positive() {
            return Err(Stop::NextHost(Verdict::refusal(&self.label, greeting)));
        }
        self.hello().await?;
        match tls_failed {
            Some(reason) => self.tls = TlsUse::Failed(reason.to_owned()),
            None => self.secure().await?,
        }
        self.log_in().await
    }

    /// TLS, as far as the terms and the host want it.
    async fn secure(&mut self) -> Result<(), Stop> {
        match &self.endpoint.terms.tls {
            _ if matches!(self.tls, TlsUse::On { .. }) => return Ok(()),
            TlsPolicy::Off => {
                self.tls = TlsUse::Off;
                return Ok(());
            }
            TlsPolicy::Opportunistic | TlsPolicy::Encrypt | TlsPolicy::Require { .. } | TlsPolicy::Dane(_) => {}
        }
        if !self.extensions.starttls {
            self.tls = TlsUse::NotOffered;
            return self.go_on_without("the host does not offer it");
        }
        let reply = self.command("STARTTLS").await.map_err(|lost| self.without_tls(lost))?;
        if !reply.is_positive() {
            self.tls = TlsUse::Failed(reply.to_string());
            return self.go_on_without(&reply.to_string());
        }
        self.handshake().await.map_err(|lost| self.without_tls(lost))?;
        self.hello().await
    }

    /// The connection is good; TLS is missing.
    fn go_on_without(&self, reason: &str) -> Result<(), Stop> {
        if self.endpoint.terms.requires_tls() { Err(self.no_tls(reason)) } else { Ok(()) }
    }

    /// The connection is lost over TLS.
    fn without_tls(&mut self, lost: Lost) -> Stop {
        if !self.endpoint.terms.requires_tls() {
            return Stop::WithoutTls(lost);
        }
        self.tls = TlsUse::Failed(lost.to_string());
        self.no_tls(&lost.to_string())
    }

    /// RFC 7672 §2.2, RFC 8461 §5: mail waits rather than goes to somebody who may be anybody.
    fn no_tls(&self, reason: &str) -> Stop {
        let rule = self.endpoint.terms.rule.as_str();
        Stop::NextHost(Verdict::deferred_at(&self.label, format!("TLS is required ({rule}), but {reason}")))
    }

    /// EHLO or LHLO; HELO for hosts that know nothing else.
    async fn hello(&mut self) -> Result<(), Stop> {
        let hostname = self.config.hostname.clone();
        let verb = match self.endpoint.terms.protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        };
        let mut reply = self.command(&format!("{verb} {hostname}")).await.map_err(|lost| self.next_host(&lost))?;
        if reply.is_positive() {
            self.extensions = Extensions::from_ehlo(&reply);
            return Ok(());
        }
        if reply.is_permanent() && self.endpoint.terms.protocol == Protocol::Smtp {
            self.extensions = Extensions::default();
            reply = self.command(&format!("HELO {hostname}")).await.map_err(|lost| self.next_host(&lost))?;
            if reply.is_positive() {
                return Ok(());
            }
        }
        let permanent = reply.is_permanent();
        let verdict = Verdict::refusal(&self.label, reply);
        Err(if permanent { Stop::Everyone(verdict) } else { Stop::NextHost(verdict) })
    }

    async fn handshake(&mut self) -> Result<(), Lost> {
        // Plain text behind the reply may come from anybody.
        self.input.clear();
        let (settings, server, verified) = self.tls_settings()?;
        let server = server_name(server)?;
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Closed) else {
            return Err(Lost::Io(io::Error::other("TLS is active already")));
        };
        let connecting = timeout(self.config.command_timeout, TlsConnector::from(settings).connect(server, stream));
        let stream = connecting.await.map_err(|_| Lost::Timeout)??;
        self.tls = TlsUse::On { facts: crate::tls::facts(stream.get_ref().1), verified };
        self.stream = Stream::Tls(Box::new(TlsStream::Client(stream)));
        Ok(())
    }

    /// How certificates are judged, the name that the host is asked for, and whether its certificate proves who it is.
    fn tls_settings(&self) -> io::Result<(Arc<rustls::ClientConfig>, &str, bool)> {
        let name = self.endpoint.name.as_str();
        match &self.endpoint.terms.tls {
            TlsPolicy::Require { names } => {
                let names = names.iter().map(|name| server_name(name)).collect::<Result<_, _>>()?;
                let settings = self.config.roots.client_config_for(names).map_err(io::Error::other)?;
                Ok((settings, name, true))
            }
            // RFC 7672 §8.1.
            TlsPolicy::Dane(policy) => Ok((dane::client_config(policy), &policy.base, true)),
            TlsPolicy::Encrypt | TlsPolicy::Opportunistic | TlsPolicy::Off => {
                Ok((crate::tls::opportunistic_client_config(), name, false))
            }
        }
    }

    /// Whether the host has proved who it is.
    pub(super) fn is_verified(&self) -> bool {
        matches!(self.tls, TlsUse::On { verified: true, .. })
    }

    /// What this connection knows.
    pub(super) fn facts(&self) -> AttemptFacts {
        AttemptFacts {
            source: self.source,
            tls: self.tls.clone(),
            offered: self.extensions.lines().collect(),
            reused: self.transactions > 1,
            ..self.endpoint.facts()
        }
    }

    /// Whether an idle connection is ready for another message.
    pub(super) async fn is_ready(&mut self) -> bool {
        match self.command("RSET").await {
            Ok(reply) => reply.is_positive() && self.input.is_empty(),
            Err(_) => false,
        }
    }

    /// Whether it may be used for another message (RFC 9422 §5.1).
    pub(super) fn takes_more(&self) -> bool {
        let theirs = self.extensions.limits.mail_max.unwrap_or(u32::MAX);
        self.transactions < self.config.max_transactions.min(theirs) && self.input.is_empty()
    }

    /// Takes leave, without caring for the answer.
    pub(super) async fn quit(mut self) {
        if self.write(b"QUIT\r\n").await.is_ok() && self.reply(QUIT_TIMEOUT).await.is_ok() {
            // Nothing depends on how a connection ends that nobody needs any more.
            let _ = timeout(QUIT_TIMEOUT, self.stream.shutdown()).await;
        }
    }

    pub(super) async fn command(&mut self, command: &str) -> Result<Reply, Lost> {
        self.send([command]).await?;
        self.reply(self.config.command_timeout).await
    }

    /// Sends commands in one go.
    pub(super) async fn send(&mut self, commands: impl IntoIterator<Item = &str>) -> Result<(), Lost> {
        let mut wire = Vec::new();
        for command in commands {
            wire.extend_from_slice(command.as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
        self.write(&wire).await
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let writing = timeout(self.config.command_timeout, self.stream.write_all(bytes));
        Ok(writing.await.map_err(|_| Lost::Timeout)??)
    }

    /// The next reply, which must be complete within `limit`.
    pub(super) async fn reply(&mut self, limit: Duration) -> Result<Reply, Lost> {
        timeout(limit, self.read_reply()).await.map_err(|_| Lost::Timeout)?
    }

    async fn read_reply(&mut self) -> Result<Reply, Lost> {
        let mut buffer = [0; 2_048];
        loop {
            if let Some(reply) = self.replies.next(&mut self.input)? {
                return Ok(reply);
            }
            match self.stream.read(&mut buffer).await? {
                0 => return Err(Lost::Io(io::ErrorKind::UnexpectedEof.into())),
                count => self.input.extend_from_slice(&buffer[..count]),
            }
        }
    }

    pub(super) fn next_host(&self, lost: &Lost) -> Stop {
        Stop::NextHost(Verdict::deferred_at(&self.label, lost.to_string()))
    }
}

/// Connects, from one of the addresses that the settings name.
async fn connect(config: &ClientConfig, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let family = |source: &&IpAddr| source.is_ipv4() == address.is_ipv4();
    let sources: Vec<&IpAddr> = config.source_addresses.iter().filter(family).collect();
    if let Some(source) = sources.choose(&mut rand::rng()) {
        let bind = |error: io::Error| io::Error::new(error.kind(), format!("from {source}: {error}"));
        socket.bind(SocketAddr::new(**source, 0)).map_err(bind)?;
    }
    socket.connect(address).await
}

pub(super) fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    match route::literal(host) {
        Some(address) => Ok(ServerName::from(address)),
        None => Ok(ServerName::try_from(host.to_owned()).map_err(io::Error::other)?),
    }
}
