//! Which TLSA records can be used, and what they match (RFC 6698 §2.1, RFC 7671).

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use rustls::RootCertStore;
use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;

use crate::dns::Tlsa;

pub(super) const DANE_TA: u8 = 2;
pub(super) const DANE_EE: u8 = 3;

pub(super) const WHOLE: u8 = 0;
pub(super) const KEY: u8 = 1;

pub(super) const AS_IT_IS: u8 = 0;
const IS_SHA256: u8 = 1;
const IS_SHA512: u8 = 2;

/// Those that can be used, in an order of their own, so that equal sets are equal.
pub(super) fn usable(mut records: Vec<Tlsa>) -> Vec<Tlsa> {
    records.retain(is_usable);
    records.sort();
    records.dedup();
    let strongest = |weak: &Tlsa| {
        let stronger =
            |other: &Tlsa| other.matching == IS_SHA512 && (other.usage, other.selector) == (weak.usage, weak.selector);
        weak.matching != IS_SHA256 || !records.iter().any(stronger)
    };
    // RFC 7671 §9: who can forge the weaker digest gains nothing by it.
    records.iter().filter(|record| strongest(record)).cloned().collect()
}

/// RFC 7672 §3.1.3: PKIX-TA and PKIX-EE are of no use with SMTP.
fn is_usable(record: &Tlsa) -> bool {
    let data = &record.data;
    matches!(record.usage, DANE_TA | DANE_EE)
        && match (record.selector, record.matching) {
            (WHOLE, AS_IT_IS) => RootCertStore::empty().add(CertificateDer::from(data.as_slice())).is_ok(),
            (KEY, AS_IT_IS) => contents(data).is_some(),
            (WHOLE | KEY, IS_SHA256) => data.len() == SHA256.output_len(),
            (WHOLE | KEY, IS_SHA512) => data.len() == SHA512.output_len(),
            _ => false,
        }
}

/// Whether a record that can be used speaks of this certificate.
pub(super) fn matches(record: &Tlsa, certificate: &CertificateDer<'_>) -> bool {
    let key;
    let selected: &[u8] = match record.selector {
        WHOLE => certificate,
        _ => {
            let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
            key = parsed.subject_public_key_info();
            &key
        }
    };
    match record.matching {
        IS_SHA256 => digest(&SHA256, selected).as_ref() == record.data,
        IS_SHA512 => digest(&SHA512, selected).as_ref() == record.data,
        _ => selected == record.data,
    }
}

/// What stands in a SEQUENCE of DER (X.690 §8.1.3), which must be all that there is.
pub(super) fn contents(der: &[u8]) -> Option<&[u8]> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, inner) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (octets, inner) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), inner)
        }
        _ => return None,
    };
    (tag == 0x30 && length == inner.len()).then_some(inner)
}
