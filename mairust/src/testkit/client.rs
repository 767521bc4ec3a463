//! A mail client, or another mail server, that brings one message.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use mairust_core::Reply;
use mairust_smtp::proto::reply::ReplyReader;
use mairust_smtp::proto::stuff::DotStuffer;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A message and its envelope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letter<'a> {
    pub(super) sender: &'a str,
    pub(super) recipients: &'a [&'a str],
    pub(super) message: &'a [u8],
    /// The parameters of MAIL, each after a space.
    pub(super) parameters: &'a str,
}

/// A connection, under TLS or not.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

struct Conversation {
    stream: Box<dyn Wire>,
    input: BytesMut,
    replies: ReplyReader,
}

/// Brings a message as another mail server does. The reply that decided for each recipient.
pub(super) async fn relay(server: SocketAddr, letter: Letter<'_>) -> io::Result<Vec<Reply>> {
    let stream = TcpStream::connect(server).await?;
    Conversation::new(stream).deliver(None, letter).await
}

/// Brings a message as a user does, under TLS from the first octet. The reply that decided for each recipient.
pub(super) async fn submit(
    server: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    login: (&str, &str),
    letter: Letter<'_>,
) -> io::Result<Vec<Reply>> {
    let stream = TcpStream::connect(server).await?;
    let stream = TlsConnector::from(tls).connect(ServerName::from(server.ip()), stream).await?;
    Conversation::new(stream).deliver(Some(login), letter).await
}

impl Conversation {
    fn new(stream: impl Wire + 'static) -> Self {
        Self { stream: Box::new(stream), input: BytesMut::new(), replies: ReplyReader::default() }
    }

    async fn deliver(&mut self, login: Option<(&str, &str)>, letter: Letter<'_>) -> io::Result<Vec<Reply>> {
        let replies = self.transact(login, letter).await?;
        self.command("QUIT").await?;
        Ok(replies)
    }

    /// Up to the reply to the message, or what is refused before for all.
    async fn transact(&mut self, login: Option<(&str, &str)>, letter: Letter<'_>) -> io::Result<Vec<Reply>> {
        let everybody = |reply: Reply| vec![reply; letter.recipients.len()];
        for reply in [self.reply().await?, self.command("EHLO client.test").await?] {
            if !reply.is_positive() {
                return Ok(everybody(reply));
            }
        }
        if let Some((user, password)) = login {
            let credentials = STANDARD.encode(format!("\0{user}\0{password}"));
            let reply = self.command(&format!("AUTH PLAIN {credentials}")).await?;
            if !reply.is_positive() {
                return Ok(everybody(reply));
            }
        }
        let mail = self.command(&format!("MAIL FROM:<{}>{}", letter.sender, letter.parameters)).await?;
        if !mail.is_positive() {
            return Ok(everybody(mail));
        }
        let mut replies = Vec::new();
        for recipient in letter.recipients {
            replies.push(self.command(&format!("RCPT TO:<{recipient}>")).await?);
        }
        if replies.iter().any(Reply::is_positive) {
            let decided = self.data(letter.message).await?;
            replies.iter_mut().filter(|reply| reply.is_positive()).for_each(|reply| *reply = decided.clone());
        }
        Ok(replies)
    }

    async fn data(&mut self, message: &[u8]) -> io::Result<Reply> {
        let reply = self.command("DATA").await?;
        if reply.code() != 354 {
            return Ok(reply);
        }
        let (mut stuffer, mut wire) = (DotStuffer::new(), Vec::new());
        stuffer.encode(message, &mut wire);
        stuffer.finish(&mut wire);
        self.stream.write_all(&wire).await?;
        self.stream.flush().await?;
        self.reply().await
    }

    async fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.stream.flush().await?;
        self.reply().await
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(reply) = self.replies.next(&mut self.input).map_err(io::Error::other)? {
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
