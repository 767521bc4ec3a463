//! What senders want of TLS: REQUIRETLS, and `TLS-Required: No`.

use std::sync::Arc;

use mairust_core::{Domain, ReversePath, TlsWish};
use mairust_smtp::client::{
    Client, FakeResolver, Outcome, Outgoing, Protocol, RecipientReport, Relay, RelayTls, Route, TlsRule, TlsUse,
};
use mairust_smtp::server::Service;
use mairust_smtp::tls::Roots;

use crate::client::{Sink, message, settings};
use crate::dane::{record_of, server_with, zone};
use crate::secure::{Policy, certified};
use crate::support::{Authority, Running};

fn wanting(tls: TlsWish) -> Outgoing {
    let mut wanting = message(&["a@example.org"]);
    wanting.tls = tls;
    wanting
}

fn required() -> Outgoing {
    wanting(TlsWish::Required)
}

/// A client that believes this authority, with proofs of what is signed.
fn client(authority: &Authority, resolver: FakeResolver) -> Client {
    let mut config = settings();
    config.roots = Roots::built_in().with_pem(authority.certificate.as_bytes()).unwrap();
    let resolver = Arc::new(resolver);
    Client::new(config, resolver.clone()).with_dane(resolver)
}

async fn deliver(client: &Client, port: u16, message: &Outgoing) -> RecipientReport {
    let route = Route::Mx { domain: Domain::parse("example.org").unwrap(), port };
    client.deliver(&route, message, &()).await.remove(0)
}

fn code(report: &RecipientReport) -> String {
    report.reply.as_ref().and_then(|reply| reply.enhanced()).map_or_else(String::new, |code| code.to_string())
}

#[tokio::test]
async fn a_host_that_dane_proves_gets_the_mail_and_the_wish() {
    let (authority, own) = (Authority::new(), Authority::new().pair("elsewhere.test"));
    let server = Running::start(server_with(&own), Service::Mx);
    let port = server.address.port();
    let signed = zone(port, vec![record_of(&own)]).with_signed(&["org", "test"]);
    let report = deliver(&client(&authority, signed), port, &required()).await;
    assert_eq!((report.outcome, report.facts.rule), (Outcome::Delivered, Some(TlsRule::Dane)), "{report:?}");
    assert_eq!(server.script.taken().iter().map(|taken| taken.require_tls).collect::<Vec<_>>(), [true]);
}

#[tokio::test]
async fn a_name_from_signed_dns_is_proven_by_a_certificate() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Running::start(certified(&authority, "mx.test"), Service::Mx);
    let port = server.address.port();
    let mut pkix = record_of(&stranger.pair("mx.test"));
    pkix.usage = 1;
    for records in [vec![], vec![pkix]] {
        let signed = zone(port, records).with_signed(&["org", "test"]);
        let report = deliver(&client(&authority, signed.clone()), port, &required()).await;
        assert_eq!((report.outcome, report.facts.rule), (Outcome::Delivered, Some(TlsRule::RequireTls)), "{report:?}");
        let report = deliver(&client(&stranger, signed), port, &required()).await;
        assert_eq!(report.outcome, Outcome::Deferred, "{report:?}");
        assert!(report.detail.contains("TLS is required (requiretls)"), "{}", report.detail);
    }
    assert!(server.script.taken().iter().all(|taken| taken.require_tls));
    assert_eq!(server.script.taken().len(), 2);
}

#[tokio::test]
async fn a_name_that_anybody_may_have_made_up_is_proven_by_nothing() {
    let authority = Authority::new();
    let server = Running::start(certified(&authority, "mx.test"), Service::Mx);
    let port = server.address.port();
    let unsigned = || zone(port, vec![]).with_txt("_mta-sts.example.org", Ok(vec![b"v=STSv1; id=1;".to_vec()]));
    let policy = |mode: &str| Arc::new(Policy(format!("version: STSv1\nmode: {mode}\nmx: mx.test\nmax_age: 60\n")));
    let testing = client(&authority, unsigned()).with_mta_sts(policy("testing"));
    for client in [client(&authority, unsigned()), testing] {
        let report = deliver(&client, port, &required()).await;
        assert_eq!((report.outcome, code(&report)), (Outcome::Failed, "5.7.10".to_owned()), "{report:?}");
    }
    assert!(server.script.taken().is_empty());
    let enforced = client(&authority, unsigned()).with_mta_sts(policy("enforce"));
    let report = deliver(&enforced, port, &required()).await;
    assert_eq!((report.outcome, report.facts.rule), (Outcome::Delivered, Some(TlsRule::MtaStsEnforce)), "{report:?}");
    // Whoever proves to be the domain itself needs no record that says so.
    let own = Running::start(certified(&authority, "example.org"), Service::Mx);
    let bare = FakeResolver::new().with_addresses("example.org", Ok(vec!["127.0.0.1".parse().unwrap()]));
    let report = deliver(&client(&authority, bare), own.address.port(), &required()).await;
    assert_eq!((report.outcome, report.facts.rule), (Outcome::Delivered, Some(TlsRule::RequireTls)), "{report:?}");
    assert!(own.script.taken()[0].require_tls && server.script.taken()[0].require_tls);
}

#[tokio::test]
async fn without_tls_it_waits() {
    let sink = Sink::start(1, &[("EHLO", Some("250-sink\r\n250 REQUIRETLS"))]).await;
    let port = sink.address.port();
    let signed = zone(port, vec![]).with_signed(&["org", "test"]);
    let report = deliver(&client(&Authority::new(), signed), port, &required()).await;
    assert_eq!(report.outcome, Outcome::Deferred, "{report:?}");
    assert!(!sink.heard().await.iter().any(|line| line.starts_with("MAIL")));
}

#[tokio::test]
async fn relays_have_to_prove_their_name_and_lmtp_servers_have_not() {
    let authority = Authority::new();
    let server = Running::start(certified(&authority, "mx.test"), Service::Mx);
    let here = FakeResolver::new().with_addresses("mx.test", Ok(vec!["127.0.0.1".parse().unwrap()]));
    let client = client(&authority, here);
    let by = |tls, protocol, port| {
        let mut relay = Relay::new("mx.test", port);
        (relay.tls, relay.protocol) = (tls, protocol);
        Route::Relay(relay)
    };
    let port = server.address.port();
    for tls in [RelayTls::Opportunistic, RelayTls::StartTls] {
        let report = client.deliver(&by(tls, Protocol::Smtp, port), &required(), &()).await.remove(0);
        assert!(matches!(report.facts.tls, TlsUse::On { verified: true, .. }), "{report:?}");
    }
    let report = client.deliver(&by(RelayTls::None, Protocol::Smtp, port), &required(), &()).await.remove(0);
    assert_eq!((report.outcome, code(&report)), (Outcome::Failed, "5.7.10".to_owned()), "{report:?}");
    assert_eq!(server.script.taken().iter().filter(|taken| taken.require_tls).count(), 2);
    let store = Running::start(crate::support::config(), Service::Lmtp);
    let route = by(RelayTls::None, Protocol::Lmtp, store.address.port());
    assert_eq!(client.deliver(&route, &required(), &()).await[0].outcome, Outcome::Delivered);
}

/// RFC 8689 §5.
#[tokio::test]
async fn mail_without_a_sender_is_not_lost_for_it() {
    let authority = Authority::new();
    let server = Running::start(certified(&authority, "mx.test"), Service::Mx);
    let port = server.address.port();
    let mut notice = required();
    notice.sender = ReversePath::Null;
    assert_eq!(deliver(&client(&authority, zone(port, vec![])), port, &notice).await.outcome, Outcome::Delivered);
    let proven = zone(port, vec![record_of(&authority.pair("mx.test"))]).with_signed(&["org", "test"]);
    assert_eq!(deliver(&client(&authority, proven), port, &notice).await.outcome, Outcome::Deferred, "as demanded");
    assert_eq!(server.script.taken().iter().map(|taken| taken.require_tls).collect::<Vec<_>>(), [false]);
}

#[tokio::test]
async fn what_is_relaxed_goes_whatever_the_domain_demands() {
    let authority = Authority::new();
    let server = Running::start(server_with(&authority.pair("elsewhere.test")), Service::Mx);
    let port = server.address.port();
    let mismatched = zone(port, vec![record_of(&authority.pair("mx.test"))]).with_signed(&["org", "test"]);
    let policy = Arc::new(Policy("version: STSv1\nmode: enforce\nmx: other.test\nmax_age: 60\n".to_owned()));
    let resolver = mismatched.with_txt("_mta-sts.example.org", Ok(vec![b"v=STSv1; id=1;".to_vec()]));
    let client = client(&authority, resolver).with_mta_sts(policy);
    assert_eq!(deliver(&client, port, &wanting(TlsWish::AsDemanded)).await.outcome, Outcome::Deferred);
    let report = deliver(&client, port, &wanting(TlsWish::Relaxed)).await;
    assert_eq!((report.outcome, report.facts.rule), (Outcome::Delivered, Some(TlsRule::Opportunistic)), "{report:?}");
}
