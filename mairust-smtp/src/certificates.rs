//! The certificates of a server, chosen by the name that a client asks for, and replaced while
//! sessions go on.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use mairust_core::Secret;
use rustls::client::verify_server_name;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::tls::{TlsError, provider};

/// Certificate and private key, in PEM.
#[derive(Clone)]
pub struct CertificatePair {
    /// The certificate chain, the server's own first.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: Secret<Vec<u8>>,
}

/// The certificates of a server. Clones share them: what one replaces, all have, from the next
/// handshake on; sessions that are under TLS already go on.
///
/// A client gets the first certificate that is valid for the name it asks for (SNI, RFC 6066 §3)
/// and of a kind that it can check; without such a one, the first that it can check.
#[derive(Clone)]
pub struct Certificates(Arc<Shared>);

struct Shared(RwLock<Arc<[Arc<CertifiedKey>]>>);

impl Certificates {
    /// With these pairs, the most important one first.
    ///
    /// # Errors
    /// When there is none, or one can't be used.
    pub fn new(pairs: &[CertificatePair]) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Shared(RwLock::new(load(pairs)?)))))
    }

    /// Takes these pairs instead. If one of them can't be used, all stays as it is.
    ///
    /// # Errors
    /// When there is none, or one can't be used.
    pub fn replace(&self, pairs: &[CertificatePair]) -> Result<(), TlsError> {
        let loaded = load(pairs)?;
        *self.0.0.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Settings of a server that has these certificates: TLS 1.2 and 1.3, no client certificates.
    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        let resolver: Arc<dyn ResolvesServerCert> = self.0.clone();
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs supports the default versions")
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        Arc::new(config)
    }
}

impl ResolvesServerCert for Shared {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| current.iter().filter(usable).find(|key| is_for(key, &name)));
        named.or_else(|| current.iter().find(usable)).cloned()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates(..)")
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CertificatePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificatePair").finish_non_exhaustive()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.cert.first().and_then(|certificate| ParsedCertificate::try_from(certificate).ok());
    parsed.is_some_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

fn load(pairs: &[CertificatePair]) -> Result<Arc<[Arc<CertifiedKey>]>, TlsError> {
    if pairs.is_empty() {
        return Err(TlsError::Certificate(None));
    }
    pairs.iter().map(|pair| certified(pair).map(Arc::new)).collect()
}

fn certified(pair: &CertificatePair) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pair.certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Certificate(Some(error)))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate(None));
    }
    let key = PrivateKeyDer::from_pem_slice(pair.key.expose()).map_err(TlsError::Key)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::Pair)
}
