//! One session with a sink.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::log::SinkMessage;
use super::script::{Act, Kind, Step};
use super::tls::Tls;
use super::wire::{Line, message_of_data, path, split_line};

/// A line that is longer ends the session.
const MAX_LINE: usize = 64 << 10;
/// How long a client is listened to when all is said.
const LINGER: Duration = Duration::from_secs(1);

/// A connection, under TLS or not.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Serves one client. An error means that the client is gone, or sent what can't be understood.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let place = shared.log.begin(shared.clock.now(), peer);
    let mut session = Session {
        shared: shared.clone(),
        place,
        peer,
        stream: Box::new(stream),
        input: BytesMut::new(),
        tls: false,
        envelope: Envelope::default(),
    };
    let outcome = session.run().await;
    shared.log.in_session(place, |session| session.ended = true);
    // A connection that is closed with octets unread is reset, and the client may not see the last reply.
    let _ = tokio::time::timeout(LINGER, session.drain()).await;
    outcome
}

struct Session {
    shared: Arc<Shared>,
    place: usize,
    peer: SocketAddr,
    stream: Box<dyn Wire>,
    input: BytesMut,
    tls: bool,
    envelope: Envelope,
}

/// The transaction so far.
#[derive(Debug, Default)]
struct Envelope {
    sender: Option<String>,
    recipients: Vec<String>,
    chunks: Vec<u8>,
}

/// What comes after a step.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The session goes on; the code that was sent.
    Go(u16),
    End,
}

impl Session {
    async fn run(&mut self) -> io::Result<()> {
        if self.shared.implicit_tls && !self.handshake().await? {
            return Ok(());
        }
        let greeting = format!("220 {} ESMTP", self.shared.name);
        if self.step(&Step::Connect, greeting).await? == Next::End {
            return Ok(());
        }
        while let Some(line) = self.line().await? {
            self.shared.log.in_session(self.place, |session| session.commands.push(line.clone()));
            if !self.command(&line).await? {
                break;
            }
        }
        Ok(())
    }

    /// Answers one command; whether the session goes on.
    async fn command(&mut self, line: &str) -> io::Result<bool> {
        let Line { word, rest } = split_line(line);
        let next = match word.as_str() {
            "EHLO" => {
                self.envelope = Envelope::default();
                self.step(&Step::Ehlo, self.hello()).await?
            }
            "HELO" => {
                self.envelope = Envelope::default();
                self.step(&Step::Helo, format!("250 {}", self.shared.name)).await?
            }
            "STARTTLS" if self.may_start_tls() => return self.start_tls().await,
            "MAIL" => self.mail(path(rest)).await?,
            "RCPT" => self.rcpt(path(rest)).await?,
            "DATA" => return self.data().await,
            "BDAT" => return self.chunk(rest).await,
            "RSET" => {
                self.envelope = Envelope::default();
                self.step(&Step::Command(word), "250 2.0.0 Reset").await?
            }
            "NOOP" => self.step(&Step::Command(word), "250 2.0.0 Nothing done").await?,
            "QUIT" => {
                self.step(&Step::Quit, "221 2.0.0 Bye").await?;
                Next::End
            }
            _ => self.step(&Step::Command(word), "502 5.5.1 Not known here").await?,
        };
        Ok(next != Next::End)
    }

    fn hello(&self) -> String {
        let mut lines = vec![self.shared.name.clone()];
        lines.extend(self.shared.extensions.iter().cloned());
        if self.may_start_tls() {
            lines.push("STARTTLS".to_owned());
        }
        let last = lines.len() - 1;
        let line = |(index, text)| format!("250{}{text}", if index == last { ' ' } else { '-' });
        lines.into_iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
    }

    fn may_start_tls(&self) -> bool {
        !self.tls && !matches!(self.shared.tls, Tls::Off)
    }

    async fn start_tls(&mut self) -> io::Result<bool> {
        match self.step(&Step::StartTls, "220 2.0.0 Go ahead").await? {
            Next::End => Ok(false),
            Next::Go(220) => self.handshake().await,
            Next::Go(_) => Ok(true),
        }
    }

    /// Whether the session goes on, under TLS.
    async fn handshake(&mut self) -> io::Result<bool> {
        // Plain text behind STARTTLS may come from anybody.
        self.input.clear();
        let config = match &self.shared.tls {
            Tls::Ready(config) => config.clone(),
            Tls::Broken | Tls::Off => {
                // No record of TLS comes from here.
                let mut hello = [0; 512];
                let _ = self.stream.read(&mut hello).await?;
                self.stream.write_all(b"this is no TLS record\r\n").await?;
                return Ok(false);
            }
        };
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        self.stream = Box::new(TlsAcceptor::from(config).accept(plain).await?);
        (self.tls, self.envelope) = (true, Envelope::default());
        self.shared.log.in_session(self.place, |session| session.tls = true);
        Ok(true)
    }

    async fn mail(&mut self, sender: Option<String>) -> io::Result<Next> {
        let default = match sender {
            None => "501 5.5.4 MAIL needs FROM:<address>",
            Some(_) if self.envelope.sender.is_some() => "503 5.5.1 There is a sender already",
            Some(_) => "250 2.1.0 Sender accepted",
        };
        let next = self.step(&Step::Mail, default).await?;
        if matches!(next, Next::Go(200..=299)) {
            self.envelope = Envelope { sender, ..Envelope::default() };
        }
        Ok(next)
    }

    async fn rcpt(&mut self, recipient: Option<String>) -> io::Result<Next> {
        let (Some(recipient), Some(sender)) = (recipient, self.envelope.sender.clone()) else {
            return self.step(&Step::Rcpt, "503 5.5.1 RCPT needs a sender before it and TO:<address>").await;
        };
        let act = {
            let (mut script, now) = (self.shared.script(), self.shared.clock.now());
            let scripted = script.next(&Step::RcptTo(recipient.to_ascii_lowercase()));
            let scripted = scripted.or_else(|| script.next(&Step::Rcpt));
            scripted.or_else(|| script.greylisted(self.peer.ip(), &sender, &recipient, now))
        };
        let next = self.act(act.unwrap_or_else(|| "250 2.1.5 Recipient accepted".into())).await?;
        if matches!(next, Next::Go(200..=299)) {
            self.envelope.recipients.push(recipient);
        }
        Ok(next)
    }

    async fn data(&mut self) -> io::Result<bool> {
        let ready = !self.envelope.recipients.is_empty();
        let default = if ready { "354 Go ahead" } else { "554 5.5.1 No valid recipients" };
        match self.step(&Step::Data, default).await? {
            Next::End => Ok(false),
            Next::Go(354) => {
                let Some(body) = self.read_data().await? else { return Ok(false) };
                self.message(body).await
            }
            Next::Go(_) => Ok(true),
        }
    }

    async fn read_data(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(body) = message_of_data(&mut self.input) {
                return Ok(Some(body));
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// A chunk of BDAT (RFC 3030); the last one completes the message.
    async fn chunk(&mut self, rest: &str) -> io::Result<bool> {
        let (size, last) = rest.split_once(' ').map_or((rest, false), |(size, _)| (size, true));
        let Ok(size) = size.parse::<usize>() else {
            return Ok(self.act("501 5.5.4 BDAT needs a size".into()).await? != Next::End);
        };
        while self.input.len() < size {
            if !self.read().await? {
                return Ok(false);
            }
        }
        let chunk = self.input.split_to(size);
        if self.envelope.recipients.is_empty() {
            return Ok(self.act("554 5.5.1 No valid recipients".into()).await? != Next::End);
        }
        self.envelope.chunks.extend_from_slice(&chunk);
        if last {
            let body = std::mem::take(&mut self.envelope.chunks);
            return self.message(body).await;
        }
        Ok(self.act("250 2.0.0 Go on".into()).await? != Next::End)
    }

    /// A message is complete.
    async fn message(&mut self, body: Vec<u8>) -> io::Result<bool> {
        let envelope = std::mem::take(&mut self.envelope);
        let scripted = self.shared.script().next(&Step::Message);
        let act = scripted.unwrap_or_else(|| "250 2.0.0 Message taken".into());
        if (200..300).contains(&act.code()) {
            let message = SinkMessage {
                at: self.shared.clock.now(),
                sender: envelope.sender.unwrap_or_default(),
                recipients: envelope.recipients,
                body: body.into(),
                tls: self.tls,
                session: self.place,
            };
            self.shared.log.change(|seen| seen.messages.push(message));
        }
        Ok(self.act(act).await? != Next::End)
    }

    /// Does what the script says for a step, or replies with this.
    async fn step(&mut self, step: &Step, default: impl Into<String>) -> io::Result<Next> {
        let scripted = self.shared.script().next(step);
        self.act(scripted.unwrap_or_else(|| Act::reply(default))).await
    }

    async fn act(&mut self, act: Act) -> io::Result<Next> {
        let wait = act.delay + self.shared.script().tarpit;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let code = act.code();
        match act.kind {
            Kind::Close | Kind::LoseReply => Ok(Next::End),
            Kind::Hang => {
                // Until the client goes.
                while self.read().await? {}
                Ok(Next::End)
            }
            Kind::Reply { text, close } => {
                self.reply(&text).await?;
                if close { Ok(Next::End) } else { Ok(Next::Go(code)) }
            }
        }
    }

    async fn reply(&mut self, text: &str) -> io::Result<()> {
        self.shared.log.in_session(self.place, |session| session.replies.push(text.to_owned()));
        let wire: String = text.lines().flat_map(|line| [line, "\r\n"]).collect();
        self.stream.write_all(wire.as_bytes()).await?;
        self.stream.flush().await
    }

    /// The next line without its end; `None` when the client is gone.
    async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.input.iter().position(|&octet| octet == b'\n') {
                let line = self.input.split_to(end + 1);
                let text = line.strip_suffix(b"\r\n").unwrap_or(&line[..end]);
                return String::from_utf8(text.to_vec()).map(Some).map_err(io::Error::other);
            }
            if self.input.len() > MAX_LINE || !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// Ends the own direction, and waits for the end of the other.
    async fn drain(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        while self.read().await? {
            self.input.clear();
        }
        Ok(())
    }

    /// Reads more; `false` at the end.
    async fn read(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.input).await? > 0)
    }
}
