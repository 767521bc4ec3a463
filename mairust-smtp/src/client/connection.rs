//! One conversation with one address of a host.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use mairust_core::{Body, Reply};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use super::chunk::{CHUNK, read_chunk};
use super::parameters::{Octets, mail_command, rcpt_command};
use super::{Attempt, ClientConfig, LineEnds, Notices, Outgoing, RecipientReport, Verdict, route};
use crate::proto::extension::Extensions;
use crate::proto::reply::{ReplyError, ReplyReader};
use crate::proto::stuff::DotStuffer;
use crate::stream::Stream;

/// Commands that are sent without waiting for replies; more could fill the buffers of both sides
/// (RFC 2920 §3.1).
const PIPELINE: usize = 100;

/// How long to wait for the reply to QUIT: all is decided by then.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Tries one address, under TLS if the peer can do that.
pub(super) async fn attempt(config: &ClientConfig, name: &str, address: SocketAddr, message: &Outgoing) -> Attempt {
    let mut security = Security::Opportunistic;
    loop {
        let mut conversation = match Conversation::open(config, name, address).await {
            Ok(conversation) => conversation,
            Err(lost) => return Attempt::NextHost(lost.verdict(&label(name, address))),
        };
        match conversation.greet(security).await {
            Ok(extensions) => return Attempt::Answered(conversation.deliver(&extensions, message).await),
            Err(Stop::Everyone(verdict)) => {
                conversation.quit().await;
                return Attempt::Answered(verdict.for_all(message));
            }
            Err(Stop::NextHost(verdict)) => return Attempt::NextHost(verdict),
            Err(Stop::WithoutTls(lost)) => {
                tracing::info!(host = conversation.host, error = %lost, "TLS failed, going on without it");
                security = Security::None;
            }
        }
    }
}

/// Whether STARTTLS is used when it is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    None,
    Opportunistic,
}

/// Why a conversation does not get as far as MAIL.
enum Stop {
    Everyone(Verdict),
    NextHost(Verdict),
    WithoutTls(Lost),
}

/// The connection is of no use any more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the message can't be read: {0}")]
    Body(#[source] io::Error),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Reply(#[from] ReplyError),
    #[error("the host did not answer in time")]
    Timeout,
    #[error("the host answered out of turn: {0}")]
    Turn(Reply),
}

impl Lost {
    fn verdict(&self, host: &str) -> Verdict {
        Verdict { host: Some(host.to_owned()), ..Verdict::deferred(self.to_string()) }
    }
}

struct Conversation<'a> {
    config: &'a ClientConfig,
    name: &'a str,
    /// For reports: `name[address]:port`.
    host: String,
    stream: Stream,
    input: BytesMut,
    replies: ReplyReader,
}

impl<'a> Conversation<'a> {
    async fn open(config: &'a ClientConfig, name: &'a str, address: SocketAddr) -> Result<Self, Lost> {
        let connecting = timeout(config.connect_timeout, TcpStream::connect(address));
        let stream = connecting.await.map_err(|_| Lost::Timeout)??;
        stream.set_nodelay(true)?;
        Ok(Self {
            config,
            name,
            host: label(name, address),
            stream: Stream::Plain(stream),
            input: BytesMut::new(),
            replies: ReplyReader::default(),
        })
    }

    /// Greeting, EHLO, and STARTTLS if offered.
    async fn greet(&mut self, security: Security) -> Result<Extensions, Stop> {
        let greeting = self.reply(self.config.command_timeout).await.map_err(|lost| self.next_host(&lost))?;
        if greeting.is_permanent() {
            return Err(Stop::Everyone(Verdict::from_reply(&self.host, greeting)));
        }
        if !greeting.is_positive() {
            return Err(Stop::NextHost(Verdict::from_reply(&self.host, greeting)));
        }
        let extensions = self.hello().await?;
        if !extensions.starttls || security == Security::None {
            return Ok(extensions);
        }
        let reply = self.command("STARTTLS").await.map_err(Stop::WithoutTls)?;
        if !reply.is_positive() {
            return Ok(extensions);
        }
        self.handshake().await.map_err(Stop::WithoutTls)?;
        self.hello().await
    }

    /// EHLO, or HELO for hosts that know nothing else.
    async fn hello(&mut self) -> Result<Extensions, Stop> {
        let hostname = &self.config.hostname;
        let reply = self.command(&format!("EHLO {hostname}")).await.map_err(|lost| self.next_host(&lost))?;
        if reply.is_positive() {
            return Ok(Extensions::from_ehlo(&reply));
        }
        if reply.is_permanent() {
            let reply = self.command(&format!("HELO {hostname}")).await.map_err(|lost| self.next_host(&lost))?;
            if reply.is_positive() {
                return Ok(Extensions::default());
            }
            return Err(Stop::Everyone(self.refusal(reply)));
        }
        Err(Stop::Everyone(self.refusal(reply)))
    }

    async fn handshake(&mut self) -> Result<(), Lost> {
        // Plain text behind the reply may come from anybody.
        self.input.clear();
        let server = match route::literal(self.name) {
            Some(address) => ServerName::from(address),
            None => ServerName::try_from(self.name.to_owned()).map_err(io::Error::other)?,
        };
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Closed) else {
            return Err(Lost::Io(io::Error::other("TLS is active already")));
        };
        let connector = TlsConnector::from(crate::tls::opportunistic_client_config());
        let connecting = timeout(self.config.command_timeout, connector.connect(server, stream));
        let stream = connecting.await.map_err(|_| Lost::Timeout)??;
        self.stream = Stream::Tls(Box::new(TlsStream::Client(stream)));
        Ok(())
    }

    /// MAIL, RCPT, DATA and the message; then QUIT.
    async fn deliver(&mut self, extensions: &Extensions, message: &Outgoing) -> Vec<RecipientReport> {
        let mut answers: Vec<Option<Verdict>> = vec![None; message.recipients.len()];
        let rest = match self.transact(extensions, message, &mut answers).await {
            Ok(verdict) => {
                self.quit().await;
                verdict
            }
            Err(lost) => lost.verdict(&self.host),
        };
        let answered = message.recipients.iter().zip(answers);
        answered.map(|(recipient, answer)| answer.as_ref().unwrap_or(&rest).report(&recipient.address)).collect()
    }

    /// Fills in the refused recipients; the verdict is for the others.
    async fn transact(
        &mut self,
        extensions: &Extensions,
        message: &Outgoing,
        answers: &mut [Option<Verdict>],
    ) -> Result<Verdict, Lost> {
        let mut octets = Octets::of(&message.body).await.map_err(Lost::Body)?;
        octets.binary &= message.line_ends == LineEnds::Keep;
        if let Some(reply) = octets.refusal(extensions, &message.sender) {
            return Ok(self.unable(reply));
        }
        // What each command is for: MAIL for nobody in particular.
        let mut commands = vec![(None, mail_command(extensions, message, octets))];
        for (index, recipient) in message.recipients.iter().enumerate() {
            match rcpt_command(extensions, recipient) {
                Ok(command) => commands.push((Some(index), command)),
                Err(reply) => answers[index] = Some(self.unable(reply)),
            }
        }
        if commands.len() == 1 {
            return Ok(Verdict::deferred("no recipient could be asked for"));
        }
        if let Some(refused) = self.envelope(extensions, &commands, answers).await? {
            return Ok(refused);
        }
        if answers.iter().all(Option::is_some) {
            return Ok(Verdict::deferred("no recipient was accepted"));
        }
        let verdict = if octets.binary { self.chunks(&message.body).await? } else { self.data(&message.body).await? };
        let notices = if extensions.dsn { Notices::PassedOn } else { Notices::StayHere };
        Ok(Verdict { notices, ..verdict })
    }

    /// MAIL and RCPT; a verdict if MAIL is refused.
    async fn envelope(
        &mut self,
        extensions: &Extensions,
        commands: &[(Option<usize>, String)],
        answers: &mut [Option<Verdict>],
    ) -> Result<Option<Verdict>, Lost> {
        let group = if extensions.pipelining { PIPELINE } else { 1 };
        let mut refused = None;
        for commands in commands.chunks(group) {
            self.send(commands.iter().map(|(_, command)| command.as_str())).await?;
            for (recipient, _) in commands {
                let reply = self.reply(self.config.command_timeout).await?;
                let verdict = (!reply.is_positive()).then(|| self.refusal(reply));
                match recipient {
                    None => refused = verdict,
                    Some(recipient) => answers[*recipient] = verdict,
                }
            }
            if refused.is_some() {
                // What was said to RCPT without a sender means nothing.
                answers.fill(None);
                break;
            }
        }
        Ok(refused)
    }

    async fn data(&mut self, body: &Body) -> Result<Verdict, Lost> {
        let reply = self.command("DATA").await?;
        if reply.code() != 354 {
            return if reply.is_positive() { Err(Lost::Turn(reply)) } else { Ok(self.refusal(reply)) };
        }
        let (mut stuffer, mut offset) = (DotStuffer::new(), 0);
        let mut wire = Vec::with_capacity(CHUNK + CHUNK / 16);
        loop {
            // Without the final dot, a body that can't be read to its end is no message.
            let chunk = read_chunk(body, offset).await.map_err(Lost::Body)?;
            if chunk.is_empty() {
                break;
            }
            offset += chunk.len() as u64;
            stuffer.encode(&chunk, &mut wire);
            self.write(&wire).await?;
            wire.clear();
        }
        stuffer.finish(&mut wire);
        self.write(&wire).await?;
        let reply = self.reply(self.config.final_dot_timeout).await?;
        Ok(Verdict::from_reply(&self.host, reply))
    }

    /// The message as one chunk, byte for byte (RFC 3030 §2).
    async fn chunks(&mut self, body: &Body) -> Result<Verdict, Lost> {
        self.send([format!("BDAT {} LAST", body.len()).as_str()]).await?;
        let mut offset = 0;
        while offset < body.len() {
            // A chunk that is cut short is no message, whatever the peer makes of it.
            let chunk = read_chunk(body, offset).await.map_err(Lost::Body)?;
            if chunk.is_empty() {
                return Err(Lost::Body(io::ErrorKind::UnexpectedEof.into()));
            }
            offset += chunk.len() as u64;
            self.write(&chunk).await?;
        }
        let reply = self.reply(self.config.final_dot_timeout).await?;
        Ok(Verdict::from_reply(&self.host, reply))
    }

    /// Takes leave, without caring for the answer.
    async fn quit(&mut self) {
        if self.write(b"QUIT\r\n").await.is_ok() && self.reply(QUIT_TIMEOUT).await.is_ok() {
            // Nothing depends on how a connection ends that nobody needs any more.
            let _ = timeout(QUIT_TIMEOUT, self.stream.shutdown()).await;
        }
    }

    async fn command(&mut self, command: &str) -> Result<Reply, Lost> {
        self.send([command]).await?;
        self.reply(self.config.command_timeout).await
    }

    /// Sends commands in one go.
    async fn send(&mut self, commands: impl IntoIterator<Item = &str>) -> Result<(), Lost> {
        let mut wire = Vec::new();
        for command in commands {
            wire.extend_from_slice(command.as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
        self.write(&wire).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let writing = timeout(self.config.command_timeout, self.stream.write_all(bytes));
        Ok(writing.await.map_err(|_| Lost::Timeout)??)
    }

    /// The next reply, which must be complete within `limit`.
    async fn reply(&mut self, limit: Duration) -> Result<Reply, Lost> {
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

    fn next_host(&self, lost: &Lost) -> Stop {
        Stop::NextHost(lost.verdict(&self.host))
    }

    /// The peer can't do what the message needs, and will not learn it soon.
    fn unable(&self, reply: Reply) -> Verdict {
        Verdict { host: Some(self.host.clone()), ..Verdict::failed(reply) }
    }

    /// A verdict that is never good: 2yz or 3yz in the wrong place is no delivery.
    fn refusal(&self, reply: Reply) -> Verdict {
        let verdict = Verdict::from_reply(&self.host, reply);
        if verdict.outcome == super::Outcome::Delivered {
            return Verdict { outcome: super::Outcome::Deferred, ..verdict };
        }
        verdict
    }
}

fn label(name: &str, address: SocketAddr) -> String {
    format!("{name}[{}]:{}", address.ip(), address.port())
}
