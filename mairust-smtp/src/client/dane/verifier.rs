//! The proof of a host that it has what its TLSA records say (RFC 7671 §5).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, Der, ServerName, TrustAnchor, UnixTime};
use webpki::EndEntityCert;

use super::DanePolicy;
use super::records::{AS_IT_IS, DANE_EE, DANE_TA, KEY, WHOLE, contents, matches};
use crate::client::connection::server_name;
use crate::dns::Tlsa;
use crate::roots::OneOf;
use crate::tls::{AnyCertificate, client_config_with, provider};

/// Settings of a client that insists on what the policy says, whatever name it asks for.
pub(in crate::client) fn client_config(policy: &DanePolicy) -> Arc<ClientConfig> {
    client_config_with(provider(), Arc::new(DaneVerifier::new(policy)))
}

/// Judges certificates by TLSA records.
#[derive(Debug)]
pub(super) struct DaneVerifier {
    base: String,
    names: Vec<ServerName<'static>>,
    records: Vec<Tlsa>,
    signatures: AnyCertificate,
}

impl DaneVerifier {
    pub(super) fn new(policy: &DanePolicy) -> Self {
        Self {
            base: policy.base.clone(),
            // A name that can't be one is in no certificate.
            names: policy.names.iter().filter_map(|name| server_name(name).ok()).collect(),
            records: policy.records.clone(),
            signatures: AnyCertificate::new(provider()),
        }
    }

    fn of_usage(&self, usage: u8) -> impl Iterator<Item = &Tlsa> {
        self.records.iter().filter(move |record| record.usage == usage)
    }

    /// The authorities that the records name: from the chain that the host sent, or from the records themselves.
    fn anchors(&self, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> RootCertStore {
        let mut store = RootCertStore::empty();
        for record in self.of_usage(DANE_TA) {
            // What can't be read as the certificate of an authority leads nowhere.
            for authority in chain.iter().filter(|certificate| matches(record, certificate)) {
                let _ = store.add(authority.clone().into_owned());
            }
            match (record.selector, record.matching) {
                (WHOLE, AS_IT_IS) => {
                    let _ = store.add(CertificateDer::from(record.data.clone()));
                }
                (KEY, AS_IT_IS) => store.extend(key_as_anchors(&record.data, leaf, chain)),
                _ => {}
            }
        }
        store
    }
}

/// A bare key has no name: it is tried for each one that a certificate names as its issuer.
fn key_as_anchors(key: &[u8], leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Vec<TrustAnchor<'static>> {
    let Some(key) = contents(key) else { return Vec::new() };
    let anchor = |certificate: &CertificateDer<'_>| {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let (subject, key) = (Der::from(certificate.issuer().to_vec()), Der::from(key.to_vec()));
        Some(TrustAnchor { subject, subject_public_key_info: key, name_constraints: None })
    };
    std::iter::once(leaf).chain(chain).filter_map(anchor).collect()
}

impl ServerCertVerifier for DaneVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // RFC 7672 §3.1.1: neither names nor times count.
        if self.of_usage(DANE_EE).any(|record| matches(record, end_entity)) {
            return Ok(ServerCertVerified::assertion());
        }
        let anchors = self.anchors(end_entity, intermediates);
        if anchors.is_empty() {
            let text = format!("no TLSA record of {} matches the certificate", self.base);
            return Err(rustls::Error::General(text));
        }
        let failed = |error: &dyn std::fmt::Display| {
            rustls::Error::General(format!("the TLSA records of {} lead to no valid certificate: {error}", self.base))
        };
        let one_of = OneOf::new(Arc::new(anchors), self.names.clone()).map_err(|error| failed(&error))?;
        one_of
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| failed(&error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}
