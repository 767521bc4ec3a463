//! Connections that come through a proxy.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proto::proxy::{Announced, Progress, parse};

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Endpoints {
    /// The client's address.
    pub(super) client: SocketAddr,
    /// The address it connected to.
    pub(super) local: SocketAddr,
}

/// Reads the header of the PROXY protocol and nothing beyond it. Returns the ends that it names,
/// or those of the connection itself when the proxy speaks for itself.
///
/// # Errors
/// When there is no header within `deadline`.
pub(super) async fn announced(stream: &mut TcpStream, own: Endpoints, deadline: Duration) -> io::Result<Endpoints> {
    let announced = timeout(deadline, read(stream)).await??;
    Ok(match announced {
        Announced::Client { source, destination } => Endpoints { client: source, local: destination },
        Announced::Proxy => own,
    })
}

async fn read(stream: &mut TcpStream) -> io::Result<Announced> {
    let mut header = Vec::new();
    loop {
        match parse(&header).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            Progress::Complete(announced) => return Ok(announced),
            Progress::Missing(count) => {
                let known = header.len();
                header.resize(known + count, 0);
                stream.read_exact(&mut header[known..]).await?;
            }
        }
    }
}
