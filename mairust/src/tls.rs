//! A certificate for servers that have none yet.

use mairust_core::Domain;

use crate::error::{Error, Result};

/// Certificate and private key, in PEM.
#[derive(Clone)]
pub struct CertificatePair {
    /// The certificate chain, the server's own first.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: mairust_core::Secret<Vec<u8>>,
}

impl CertificatePair {
    /// A new self-signed certificate for this name: it keeps readers out, but proves nothing.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn self_signed(hostname: &Domain) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([hostname.as_str().to_owned()])
            .map_err(|error| Error::new(format_args!("no self-signed certificate could be made: {error}")))?;
        Ok(Self {
            certificate: made.cert.pem().into_bytes(),
            key: mairust_core::Secret::new(made.signing_key.serialize_pem().into_bytes()),
        })
    }
}

impl std::fmt::Debug for CertificatePair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificatePair").finish_non_exhaustive()
    }
}
