//! Where a server listens.

use std::net::{SocketAddr, TcpListener};

use mairust_smtp::server::ListenerConfig;

use crate::error::{Error, Result};

/// Where to listen.
#[derive(Debug)]
pub(crate) enum Bind {
    /// At this address, once the server starts.
    Address(String),
    /// On this socket.
    Bound(TcpListener),
}

/// Sockets that listen: for SMTP, and for the REST API.
type Sockets = (Vec<(ListenerConfig, tokio::net::TcpListener)>, Option<tokio::net::TcpListener>);

/// Binds everything, or says all that can't be bound.
pub(crate) fn bind_all(listeners: Vec<(ListenerConfig, Bind)>, http: Option<Bind>) -> Result<Sockets> {
    let mut problems = Vec::new();
    let mut bound = Vec::new();
    for (config, listener) in listeners {
        match bind(listener) {
            Ok(socket) => bound.push((config, socket)),
            Err(problem) => problems.push(problem),
        }
    }
    let http = http.and_then(|http| bind(http).map_err(|problem| problems.push(problem)).ok());
    if problems.is_empty() { Ok((bound, http)) } else { Err(Error::all(problems)) }
}

fn bind(listener: Bind) -> Result<tokio::net::TcpListener, String> {
    match listener {
        Bind::Address(text) => {
            let address: SocketAddr = text.parse().map_err(|error| format!("{text}: {error}"))?;
            mairust_smtp::server::bind(address).map_err(|error| {
                let hint = match error.kind() {
                    std::io::ErrorKind::AddrInUse => ": another program listens there; stop it or choose another port",
                    std::io::ErrorKind::PermissionDenied => {
                        ": ports below 1024 need the capability CAP_NET_BIND_SERVICE"
                    }
                    _ => "",
                };
                format!("can't listen at {address}: {error}{hint}")
            })
        }
        Bind::Bound(socket) => adopt(socket).map_err(|error| format!("a socket can't be used: {error}")),
    }
}

fn adopt(socket: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    socket.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(socket)
}
