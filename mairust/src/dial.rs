//! Connecting to one of several addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time to connect to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// Addresses that are tried.
const MAX_TRIES: usize = 3;

/// Connects to the first of these addresses that answers.
///
/// # Errors
/// Why the last one did not; `none` if there is none.
pub(crate) async fn dial(
    addresses: impl IntoIterator<Item = IpAddr>,
    port: u16,
    none: String,
) -> Result<TcpStream, String> {
    let mut refusal = none;
    for address in addresses.into_iter().take(MAX_TRIES) {
        let address = SocketAddr::new(address, port);
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => refusal = format!("{address}: {error}"),
            Err(_) => refusal = format!("{address} does not answer"),
        }
    }
    Err(refusal)
}
