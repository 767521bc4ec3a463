//! A TCP connection, in plain text or under TLS.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

#[derive(Debug)]
pub(crate) enum Stream {
    /// A handshake failed; there is nothing to be read or written.
    Closed,
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Reads some bytes; 0 at the end. Nothing is lost when the future is dropped.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Closed => Err(io::ErrorKind::NotConnected.into()),
            Self::Plain(stream) => stream.read(buffer).await,
            Self::Tls(stream) => stream.read(buffer).await,
        }
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Closed => Err(io::ErrorKind::NotConnected.into()),
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Reads what has come already, up to `limit` bytes, and drops it.
    #[cfg(feature = "server")]
    pub(crate) fn drop_pending(&self, limit: usize) {
        let tcp = match self {
            Self::Closed => return,
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        };
        let mut dropped = 0;
        while dropped < limit {
            match tcp.try_read(&mut [0; 1_024]) {
                Ok(0) | Err(_) => return,
                Ok(count) => dropped += count,
            }
        }
    }

    /// Says that nothing more will be written.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Closed => Err(io::ErrorKind::NotConnected.into()),
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        }
    }
}
