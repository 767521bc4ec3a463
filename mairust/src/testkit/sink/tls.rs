//! TLS of a sink.

use std::sync::Arc;

use mairust_core::Domain;
use mairust_smtp::tls::{CertificatePair, Certificates};

use crate::error::{Error, Result};
use crate::tls::self_signed;

/// Whether a [`Sink`](super::Sink) offers TLS, and what becomes of it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum SinkTls {
    /// It is offered, but where the handshake should begin comes something else.
    Broken,
    /// It works, with this certificate.
    Certificate(CertificatePair),
    /// It is not offered.
    #[default]
    Off,
    /// It works, with a self-signed certificate for the name of the sink.
    SelfSigned,
    /// It works, with a self-signed certificate for this name: not the one that clients expect.
    SelfSignedFor(String),
}

/// The same, ready for use.
#[derive(Debug)]
pub(super) enum Tls {
    Broken,
    Off,
    Ready(Arc<rustls::ServerConfig>),
}

impl SinkTls {
    /// # Errors
    /// When a certificate can't be used.
    pub(super) fn prepare(self, name: &str) -> Result<Tls> {
        let pair = match self {
            Self::Broken => return Ok(Tls::Broken),
            Self::Off => return Ok(Tls::Off),
            Self::Certificate(pair) => pair,
            Self::SelfSigned => self_signed(&domain(name)?)?,
            Self::SelfSignedFor(other) => self_signed(&domain(&other)?)?,
        };
        let certificates = Certificates::new(&[pair])
            .map_err(|error| Error::new("the certificate can't be used").with_source(error))?;
        Ok(Tls::Ready(certificates.server_config()))
    }
}

fn domain(name: &str) -> Result<Domain> {
    Domain::parse(name).map_err(|error| Error::new(format_args!("{name:?} can't be in a certificate: {error}")))
}
