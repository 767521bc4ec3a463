//! The seam for whoever counts failures.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Slows down clients that try out API keys. It is asked where the application tells the address
/// of a client, as [`axum::extract::ConnectInfo`] of a [`std::net::SocketAddr`].
pub trait KeyGuard: fmt::Debug + Send + Sync + 'static {
    /// Whether a client may try a key now.
    ///
    /// # Errors
    /// How long it has to wait. Its key is not looked at then.
    fn admit(&self, client: IpAddr) -> Result<(), Duration>;

    /// A client tried a key that is not valid.
    fn failed(&self, client: IpAddr);
}
