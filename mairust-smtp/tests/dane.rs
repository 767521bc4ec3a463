//! DANE: a server that proves what signed DNS says of it, or does not.

use std::sync::Arc;
use std::time::Duration;

use mairust_core::Domain;
use mairust_smtp::client::{
    Client, FakeResolver, MxHost, Outcome, RecipientReport, ResolveError, Route, TlsRule, TlsUse, Tlsa,
};
use mairust_smtp::server::{ServerConfig, Service};
use mairust_smtp::tls::{CertificatePair, Certificates};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::client::{Sink, message, settings};
use crate::support::{Authority, Running, config};

pub(crate) fn server_with(pair: &CertificatePair) -> ServerConfig {
    let pair = CertificatePair { certificate: pair.certificate.clone(), key: pair.key.clone() };
    let mut settings = config();
    settings.tls = Some(Certificates::new(&[pair]).unwrap().server_config());
    settings
}

/// A record of usage DANE-EE for the whole certificate.
pub(crate) fn record_of(pair: &CertificatePair) -> Tlsa {
    let certificate = CertificateDer::from_pem_slice(&pair.certificate).unwrap();
    Tlsa { usage: 3, selector: 0, matching: 0, data: certificate.to_vec() }
}

/// `example.org` has one exchanger, `mx.test`, at this machine, with these records at this port.
pub(crate) fn zone(port: u16, records: Vec<Tlsa>) -> FakeResolver {
    let exchangers = vec![MxHost { preference: 1, host: "mx.test".to_owned() }];
    FakeResolver::new()
        .with_mx("example.org", Ok(exchangers))
        .with_addresses("mx.test", Ok(vec!["127.0.0.1".parse().unwrap()]))
        .with_tlsa(&format!("_{port}._tcp.mx.test"), Ok(records))
}

fn client(resolver: FakeResolver) -> Client {
    let resolver = Arc::new(resolver);
    let mut config = settings();
    config.idle_time = Duration::from_millis(500);
    Client::new(config, resolver.clone()).with_dane(resolver)
}

async fn deliver(client: &Client, port: u16) -> RecipientReport {
    let route = Route::Mx { domain: Domain::parse("example.org").unwrap(), port };
    client.deliver(&route, &message(&["a@example.org"]), &()).await.remove(0)
}

#[tokio::test]
async fn who_proves_it_gets_the_mail() {
    let authority = Authority::new();
    let (own, other) = (authority.pair("elsewhere.test"), authority.pair("mx.test"));
    let server = Running::start(server_with(&own), Service::Mx);
    let port = server.address.port();
    let signed = |records| client(zone(port, records).with_signed(&["org", "test"]));
    let report = deliver(&signed(vec![record_of(&other), record_of(&own)]), port).await;
    assert_eq!((report.outcome, report.facts.rule), (Outcome::Delivered, Some(TlsRule::Dane)), "{report:?}");
    assert!(matches!(report.facts.tls, TlsUse::On { verified: true, .. }));
    let report = deliver(&signed(vec![record_of(&other)]), port).await;
    assert_eq!((report.outcome, report.facts.rule), (Outcome::Deferred, Some(TlsRule::Dane)), "{report:?}");
    assert!(report.detail.contains("TLS is required (dane), but") && report.detail.contains("mx.test"));
    let mut pkix = record_of(&other);
    pkix.usage = 1;
    let report = deliver(&signed(vec![pkix]), port).await;
    assert_eq!((report.outcome, report.facts.rule), (Outcome::Delivered, Some(TlsRule::Dane)), "{report:?}");
    assert!(matches!(report.facts.tls, TlsUse::On { verified: false, .. }));
    for zones in [&["org"][..], &["test"], &[]] {
        let report = deliver(&client(zone(port, vec![record_of(&other)]).with_signed(zones)), port).await;
        assert_eq!((report.outcome, report.facts.rule), (Outcome::Delivered, Some(TlsRule::Opportunistic)));
    }
    assert_eq!(server.script.taken().len(), 2 + 3);
}

#[tokio::test]
async fn without_tls_or_an_answer_mail_waits() {
    let own = Authority::new().pair("mx.test");
    for rules in [
        &[] as &'static [(&str, Option<&str>)],
        &[("EHLO", Some("250-sink\r\n250 STARTTLS")), ("STARTTLS", Some("454 not now"))],
        &[("EHLO", Some("250-sink\r\n250 STARTTLS")), ("STARTTLS", Some("220 go"))],
    ] {
        let sink = Sink::start(1, rules).await;
        let port = sink.address.port();
        let report = deliver(&client(zone(port, vec![record_of(&own)]).with_signed(&["org", "test"])), port).await;
        assert_eq!(report.outcome, Outcome::Deferred, "{rules:?}");
        assert!(!sink.heard().await.iter().any(|line| line.starts_with("MAIL")), "{rules:?}");
    }
    let silent = || ResolveError::Temporary("bogus".to_owned());
    let no_records = zone(25, Vec::new()).with_tlsa("_25._tcp.mx.test", Err(silent())).with_signed(&["org", "test"]);
    let report = deliver(&client(no_records), 25).await;
    assert_eq!((report.outcome, report.facts.host.as_deref()), (Outcome::Deferred, Some("mx.test")), "{report:?}");
    let no_exchangers = FakeResolver::new().with_mx("example.org", Err(silent()));
    assert_eq!(deliver(&client(no_exchangers), 25).await.outcome, Outcome::Deferred);
}

#[tokio::test]
async fn a_connection_that_was_verified_for_other_records_is_not_used() {
    let own = Authority::new().pair("mx.test");
    let server = Running::start(server_with(&own), Service::Mx);
    let port = server.address.port();
    let signed = |records| zone(port, records).with_signed(&["org", "test"]);
    let first = client(signed(vec![record_of(&own)]));
    assert!(!deliver(&first, port).await.facts.reused);
    assert!(deliver(&first, port).await.facts.reused);
    let changed = Arc::new(signed(vec![Tlsa { data: vec![7; 32], matching: 1, ..record_of(&own) }]));
    let report = deliver(&first.with_dane(changed), port).await;
    assert_eq!((report.outcome, report.facts.reused), (Outcome::Deferred, false), "{report:?}");
}
