use aws_lc_rs::digest::{SHA256, SHA512, digest};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::verifier::DaneVerifier;
use super::*;
use crate::client::Outcome;
use crate::dns::FakeResolver;

fn tlsa(usage: u8, selector: u8, matching: u8, data: impl Into<Vec<u8>>) -> Tlsa {
    Tlsa { usage, selector, matching, data: data.into() }
}

/// A certificate with its key.
struct Certified {
    der: CertificateDer<'static>,
    key: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Certified {
    /// Made by `by`, or by itself; for an authority, `name` is its common name.
    fn new(name: &str, by: Option<&Self>, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        change(&mut params);
        let certificate = match by {
            Some(by) => params.signed_by(&key, &by.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        let spki = key.subject_public_key_info();
        Self { der: certificate.der().clone(), key: spki, issuer: Issuer::new(params, key) }
    }

    fn authority(name: &str, by: Option<&Self>) -> Self {
        Self::new(name, by, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn record(&self, usage: u8, selector: u8, matching: u8) -> Tlsa {
        let selected = if selector == 0 { self.der.to_vec() } else { self.key.clone() };
        let data = match matching {
            1 => digest(&SHA256, &selected).as_ref().to_vec(),
            2 => digest(&SHA512, &selected).as_ref().to_vec(),
            _ => selected,
        };
        tlsa(usage, selector, matching, data)
    }
}

/// Whether `chain`, whose first is the host's own, proves what these records say of `mx.example` for `example.org`.
fn verify(records: &[Tlsa], chain: &[&Certified]) -> Result<(), String> {
    let records = records::usable(records.to_vec());
    assert!(!records.is_empty());
    let names = vec!["mx.example".to_owned(), "example.org".to_owned()];
    let verifier = DaneVerifier::new(&DanePolicy { base: "mx.example".to_owned(), names, records });
    let rest: Vec<_> = chain[1..].iter().map(|certified| certified.der.clone()).collect();
    let asked = ServerName::try_from("mx.example").unwrap();
    verifier
        .verify_server_cert(&chain[0].der, &rest, &asked, &[], UnixTime::now())
        .map(drop)
        .map_err(|error| error.to_string())
}

fn expired(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
}

#[test]
fn dane_ee_asks_for_the_certificate_and_nothing_else() {
    let (own, other) = (Certified::new("elsewhere.example", None, expired), Certified::new("mx.example", None, |_| ()));
    for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        let record = own.record(3, selector, matching);
        assert_eq!(verify(std::slice::from_ref(&record), &[&own]), Ok(()), "{selector} {matching}");
        assert_eq!(verify(&[other.record(3, 1, 1), record.clone()], &[&own]), Ok(()), "while keys change");
        let refused = verify(&[record], &[&other]).unwrap_err();
        assert!(refused.contains("no TLSA record of mx.example matches"), "{refused}");
    }
    // What is below the host's own certificate is none of its own.
    assert!(verify(&[other.record(3, 1, 1)], &[&own, &other]).is_err());
}

#[test]
fn dane_ta_asks_for_a_chain_and_a_name() {
    let root = Certified::authority("Root", None);
    let middle = Certified::authority("Middle", Some(&root));
    let by_middle = |name: &str| Certified::new(name, Some(&middle), |_| ());
    for (authority, selector, matching) in [(&root, 0, 1), (&root, 1, 1), (&middle, 0, 2), (&middle, 1, 2)] {
        let records = [authority.record(2, selector, matching)];
        for name in ["mx.example", "example.org"] {
            assert_eq!(verify(&records, &[&by_middle(name), &middle, &root]), Ok(()), "{name}");
        }
        let stranger = by_middle("other.example");
        assert!(verify(&records, &[&stranger, &middle, &root]).unwrap_err().contains("no valid certificate"));
        let old = Certified::new("mx.example", Some(&middle), expired);
        assert!(verify(&records, &[&old, &middle, &root]).is_err());
        let forged = Certified::new("mx.example", Some(&Certified::authority("Middle", Some(&root))), |_| ());
        assert!(verify(&records, &[&forged, &middle, &root]).is_err());
        // RFC 7671 §5.2.2: a digest is of something that the host has to send.
        assert!(verify(&records, &[&by_middle("mx.example")]).is_err());
    }
    let own = Certified::new("mx.example", None, |_| ());
    assert!(verify(&[own.record(2, 1, 1)], &[&own]).is_err(), "no authority");
}

#[test]
fn an_authority_that_stands_in_the_record_need_not_be_sent() {
    let (root, other) = (Certified::authority("Root", None), Certified::authority("Root", None));
    let leaf = Certified::new("mx.example", Some(&root), |_| ());
    for selector in [0, 1] {
        assert_eq!(verify(&[root.record(2, selector, 0)], &[&leaf]), Ok(()), "{selector}");
        assert_eq!(verify(&[root.record(2, selector, 0)], &[&leaf, &root]), Ok(()), "{selector}");
        assert!(verify(&[other.record(2, selector, 0)], &[&leaf]).is_err(), "{selector}");
    }
}

#[test]
fn records_are_usable_or_not() {
    let own = Certified::new("mx.example", None, |_| ());
    let unusable = [
        own.record(0, 1, 1),
        own.record(1, 1, 1),
        own.record(4, 1, 1),
        own.record(255, 1, 1),
        own.record(3, 2, 1),
        own.record(3, 1, 3),
        tlsa(3, 1, 1, [0; 31]),
        tlsa(3, 1, 2, [0; 32]),
        tlsa(2, 0, 0, *b"no certificate"),
        tlsa(3, 1, 0, *b"no key"),
        tlsa(3, 1, 0, []),
    ];
    for record in &unusable {
        assert_eq!(records::usable(vec![record.clone()]), [], "{record:?}");
    }
    let all = [own.record(3, 1, 1), own.record(3, 0, 1), own.record(2, 1, 1)];
    let mut backwards = all.to_vec();
    backwards.reverse();
    backwards.extend(unusable);
    backwards.push(all[0].clone());
    assert_eq!(records::usable(backwards), records::usable(all.to_vec()), "the order of DNS means nothing");
    // RFC 7671 §9.
    let strong = [own.record(3, 1, 2), own.record(3, 1, 1), own.record(3, 1, 0), own.record(2, 1, 1)];
    let left = records::usable(strong.to_vec());
    assert!(left.len() == 3 && !left.contains(&strong[1]), "{left:?}");
}

#[test]
fn sequences_end_where_they_say() {
    assert_eq!(records::contents(&[0x30, 1, 7]), Some(&[7][..]));
    assert_eq!(records::contents(&[0x30, 0x81, 1, 7]), Some(&[7][..]));
    for broken in
        [&[][..], &[0x30], &[0x30, 2, 7], &[0x30, 1, 7, 7], &[0x31, 1, 7], &[0x30, 0x80, 0], &[0x30, 0x85, 1, 2]]
    {
        assert_eq!(records::contents(broken), None, "{broken:?}");
    }
}

const EE: &str = "_25._tcp.mx.example";

fn zone() -> FakeResolver {
    let at = || Ok(vec!["192.0.2.1".parse().unwrap()]);
    FakeResolver::new().with_addresses("mx.example", at()).with_addresses("mx.alias.example", at())
}

/// What is demanded of `host`, which is one of `example.org`.
async fn demanded(host: &str, resolver: &FakeResolver) -> Option<Result<TlsPolicy, Verdict>> {
    let found = terms(host, 25, &["example.org".to_owned()], resolver).await?;
    Some(found.map(|terms| {
        assert_eq!(terms.rule, TlsRule::Dane);
        terms.tls
    }))
}

fn records() -> Vec<Tlsa> {
    vec![tlsa(3, 1, 1, [7; 32])]
}

fn policy_of(base: &str) -> TlsPolicy {
    let names = vec![base.to_owned(), "example.org".to_owned()];
    TlsPolicy::Dane(DanePolicy { base: base.to_owned(), names, records: records() })
}

#[tokio::test]
async fn only_what_is_proven_is_demanded() {
    let signed = || zone().with_signed(&["example"]);
    let with = |zone: FakeResolver, found| zone.with_tlsa(EE, Ok(found));
    assert_eq!(demanded("mx.example", &with(signed(), records())).await.unwrap().unwrap(), policy_of("mx.example"));
    assert!(demanded("mx.example", &with(zone(), records())).await.is_none(), "nobody signed it");
    assert!(demanded("mx.example", &with(zone().with_signed(&["_tcp.mx.example"]), records())).await.is_none());
    assert!(demanded("mx.example", &signed()).await.is_none(), "proven that there is none");
    assert!(demanded("gone.example", &signed()).await.is_none());
    assert!(demanded("192.0.2.1", &signed()).await.is_none());
    let pkix = vec![tlsa(0, 0, 1, [7; 32]), tlsa(1, 1, 1, [7; 32])];
    assert_eq!(demanded("mx.example", &with(signed(), pkix)).await.unwrap().unwrap(), TlsPolicy::Encrypt);
    let other_port = signed().with_tlsa("_26._tcp.mx.example", Ok(records()));
    assert!(demanded("mx.example", &other_port).await.is_none());
}

#[tokio::test]
async fn what_is_not_answered_stops_the_mail() {
    let signed = || zone().with_signed(&["example"]);
    for resolver in [signed().with_failure(EE), FakeResolver::new().with_failure("mx.example")] {
        let refused = demanded("mx.example", &resolver).await.unwrap().unwrap_err();
        assert_eq!((refused.outcome, refused.facts.rule), (Outcome::Deferred, Some(TlsRule::Dane)));
        assert!(refused.detail.contains("mx.example"), "{}", refused.detail);
    }
}

#[tokio::test]
async fn aliases_have_records_of_their_own_and_of_where_they_lead() {
    let alias = zone().with_alias("mx.alias.example", "mx.example");
    let (own, target) = ("_25._tcp.mx.alias.example", EE);
    let signed = |zones: &[&str]| alias.clone().with_signed(zones);
    for (resolver, base) in [
        (signed(&["example"]).with_tlsa(own, Ok(records())).with_tlsa(target, Ok(records())), Some("mx.example")),
        (signed(&["example"]).with_tlsa(target, Ok(records())), Some("mx.example")),
        (signed(&["example"]).with_tlsa(own, Ok(records())), Some("mx.alias.example")),
        (signed(&["alias.example"]).with_tlsa(own, Ok(records())), Some("mx.alias.example")),
        (signed(&["alias.example"]).with_tlsa(target, Ok(records())), None),
        (signed(&["mx.example"]).with_tlsa(target, Ok(records())), None),
    ] {
        let found = demanded("mx.alias.example", &resolver).await.map(|found| found.unwrap());
        assert_eq!(found, base.map(policy_of));
    }
}

#[test]
fn settings_can_be_made_of_any_policy() {
    let policy =
        DanePolicy { base: "a_b.example".to_owned(), names: vec!["a_b.example".to_owned()], records: records() };
    let _: std::sync::Arc<ClientConfig> = client_config(&policy);
}
