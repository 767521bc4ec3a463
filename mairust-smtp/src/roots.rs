//! Whose certificates are believed, and the proof that a host is who it should be.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::tls::{TlsError, client_config_with, provider};

/// Whose certificates are believed. Cheap to clone.
#[derive(Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// The authorities that Mozilla believes, as built into this program.
    pub fn built_in() -> Self {
        let mut store = RootCertStore::empty();
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        Self(Arc::new(store))
    }

    /// These, and the authorities in a PEM file.
    ///
    /// # Errors
    /// When it can't be read as PEM, holds no certificate, or one that can't be used.
    pub fn with_pem(&self, pem: &[u8]) -> Result<Self, TlsError> {
        let mut store = RootCertStore::clone(&self.0);
        let before = store.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| TlsError::Certificate(Some(error)))?;
            store.add(certificate).map_err(TlsError::Pair)?;
        }
        if store.len() == before { Err(TlsError::Certificate(None)) } else { Ok(Self(Arc::new(store))) }
    }

    /// Settings of a client that believes only these, and insists on the name that it asks for.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs supports the default versions")
            .with_root_certificates(Arc::clone(&self.0))
            .with_no_client_auth();
        Arc::new(config)
    }

    /// Settings of a client that insists on one of these names, whatever name it asks for.
    pub(crate) fn client_config_for(
        &self,
        names: Vec<ServerName<'static>>,
    ) -> Result<Arc<ClientConfig>, VerifierBuilderError> {
        Ok(client_config_with(provider(), Arc::new(OneOf::new(Arc::clone(&self.0), names)?)))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

/// Verifies as any browser does, but for one of several names.
#[derive(Debug)]
pub(crate) struct OneOf {
    inner: Arc<WebPkiServerVerifier>,
    names: Vec<ServerName<'static>>,
}

impl OneOf {
    /// Believes these authorities.
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        names: Vec<ServerName<'static>>,
    ) -> Result<Self, VerifierBuilderError> {
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider()).build()?;
        Ok(Self { inner, names })
    }
}

impl ServerCertVerifier for OneOf {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |name| self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
        let mut refusal = rustls::Error::General("there is no name to look for".to_owned());
        for name in &self.names {
            match verify(name) {
                Ok(verified) => return Ok(verified),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
