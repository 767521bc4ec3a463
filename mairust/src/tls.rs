//! A certificate for servers that have none yet.

use mairust_core::{Domain, Secret};
use mairust_smtp::tls::CertificatePair;

use crate::error::{Error, Result};

/// A new self-signed certificate for this name: it keeps readers out, but proves nothing.
///
/// # Errors
/// When no key can be made.
pub fn self_signed(hostname: &Domain) -> Result<CertificatePair> {
    let made = rcgen::generate_simple_self_signed([hostname.as_str().to_owned()])
        .map_err(|error| Error::new(format_args!("no self-signed certificate could be made: {error}")))?;
    Ok(CertificatePair {
        certificate: made.cert.pem().into_bytes(),
        key: Secret::new(made.signing_key.serialize_pem().into_bytes()),
    })
}
