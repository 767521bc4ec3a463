//! Connecting to one of several addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// Addresses that are tried.
const MAX_TRIES: usize = 3;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// There is no address to connect to.
    #[error("there is no address to connect to")]
    Nowhere,
    /// The last address refused.
    #[error("{address}: {error}")]
    Refused { address: SocketAddr, error: io::Error },
    /// The last address did not answer in time.
    #[error("{address} does not answer")]
    Silent { address: SocketAddr },
}

/// Connects to the first of these addresses that answers. `patience` says how long each is given.
///
/// # Errors
/// Why the last one did not.
pub(crate) async fn dial(
    addresses: impl IntoIterator<Item = IpAddr>,
    port: u16,
    patience: impl Fn(IpAddr) -> Duration,
) -> Result<TcpStream, DialError> {
    let mut refusal = DialError::Nowhere;
    for address in addresses.into_iter().take(MAX_TRIES) {
        let (time, address) = (patience(address), SocketAddr::new(address, port));
        match timeout(time, connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => refusal = DialError::Refused { address, error },
            Err(_) => refusal = DialError::Silent { address },
        }
    }
    Err(refusal)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Requests are written as a whole; to wait for more would only delay their ends.
    stream.set_nodelay(true)?;
    Ok(stream)
}
