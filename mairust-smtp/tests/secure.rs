//! TLS of the client: with relays, logging in there, and by MTA-STS.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{Domain, Secret};
use mairust_smtp::client::{
    Client, FakeResolver, Login, MxHost, Outcome, PolicyFetcher, RecipientReport, Relay, RelayTls, Route, TlsRule,
    TlsUse,
};
use mairust_smtp::server::{ServerConfig, Service};
use mairust_smtp::tls::{Certificates, Roots};

use crate::client::{Sink, message, outcomes, settings};
use crate::support::{Authority, Running, config, with_tls};

/// A server whose certificate this authority made for this name.
pub(crate) fn certified(authority: &Authority, name: &str) -> ServerConfig {
    let mut settings = config();
    settings.tls = Some(Certificates::new(&[authority.pair(name)]).unwrap().server_config());
    settings
}

/// A client that believes this authority, and finds all hosts on this machine.
fn client(authority: &Authority, resolver: FakeResolver) -> Client {
    let mut config = settings();
    config.roots = Roots::built_in().with_pem(authority.certificate.as_bytes()).unwrap();
    let here = || Ok(vec!["127.0.0.1".parse().unwrap()]);
    let resolver = ["mx.test", "other.test"].iter().fold(resolver, |all, name| all.with_addresses(name, here()));
    Client::new(config, Arc::new(resolver))
}

async fn by_relay(
    authority: &Authority,
    to: SocketAddr,
    name: &str,
    tls: RelayTls,
    login: Option<Login>,
) -> RecipientReport {
    let mut relay = Relay::new(name, to.port());
    relay.tls = tls;
    relay.login = login;
    let client = client(authority, FakeResolver::new());
    client.deliver(&Route::Relay(relay), &message(&["a@x.y"]), &()).await.remove(0)
}

fn ann(password: &str) -> Option<Login> {
    Some(Login::new("ann", Secret::new(password.to_owned())))
}

#[tokio::test]
async fn a_relay_must_prove_its_name_where_that_is_asked() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Running::start(certified(&authority, "mx.test"), Service::Mx);
    let report = by_relay(&authority, server.address, "mx.test", RelayTls::StartTls, None).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{report:?}");
    assert!(matches!(&report.facts.tls, TlsUse::On { facts, verified: true } if facts.version == "TLSv1.3"));
    assert_eq!(report.facts.rule, Some(TlsRule::Relay));
    for (believed, name) in [(&authority, "other.test"), (&authority, "127.0.0.1"), (&stranger, "mx.test")] {
        let report = by_relay(believed, server.address, name, RelayTls::StartTls, None).await;
        assert_eq!(report.outcome, Outcome::Deferred, "{report:?}");
        assert!(report.detail.contains("TLS is required (relay)"), "{}", report.detail);
        assert!(matches!(report.facts.tls, TlsUse::Failed(_)));
        let report = by_relay(believed, server.address, name, RelayTls::Opportunistic, None).await;
        assert!(matches!(report.facts.tls, TlsUse::On { verified: false, .. }), "{report:?}");
        let report = by_relay(believed, server.address, name, RelayTls::None, None).await;
        assert_eq!((report.outcome, report.facts.tls), (Outcome::Delivered, TlsUse::Off));
    }
    assert_eq!(server.script.taken().len(), 1 + 3 * 2);
}

#[tokio::test]
async fn mail_that_needs_tls_waits_where_there_is_none() {
    let authority = Authority::new();
    for rules in [
        &[] as &'static [(&str, Option<&str>)],
        &[("EHLO", Some("250-sink\r\n250 STARTTLS")), ("STARTTLS", Some("454 not now"))],
        &[("EHLO", Some("250-sink\r\n250 STARTTLS")), ("STARTTLS", Some("220 go"))],
    ] {
        let sink = Sink::start(1, rules).await;
        let report = by_relay(&authority, sink.address, "mx.test", RelayTls::StartTls, ann("secret")).await;
        assert_eq!(report.outcome, Outcome::Deferred, "{rules:?}");
        let heard = sink.heard().await;
        assert!(!heard.iter().any(|line| line.starts_with("MAIL") || line.starts_with("AUTH")), "{heard:?}");
    }
}

#[tokio::test]
async fn users_log_in_at_a_relay_under_verified_tls_only() {
    let authority = Authority::new();
    let running =
        Running::start_several(certified(&authority, "mx.test"), &[Service::Submission, Service::Submissions]);
    for (server, tls) in running.iter().zip([RelayTls::StartTls, RelayTls::Implicit]) {
        let report = by_relay(&authority, server.address, "mx.test", tls, ann("secret")).await;
        assert_eq!(report.outcome, Outcome::Delivered, "{report:?}");
        let report = by_relay(&authority, server.address, "mx.test", tls, ann("wrong")).await;
        assert_eq!(report.outcome, Outcome::Deferred, "a password is no fault of the message");
        assert!(report.detail.contains("login at the relay failed: 535"), "{}", report.detail);
    }
    let taken = running[0].script.taken();
    assert_eq!(taken.iter().filter_map(|taken| taken.user.as_deref()).collect::<Vec<_>>(), ["ann"; 2]);
    for tls in [RelayTls::Opportunistic, RelayTls::None] {
        let sink = Sink::start(1, &[("EHLO", Some("250-sink\r\n250 AUTH PLAIN LOGIN"))]).await;
        let report = by_relay(&authority, sink.address, "mx.test", tls, ann("secret")).await;
        assert_eq!(report.outcome, Outcome::Deferred);
        assert!(!sink.heard().await.iter().any(|line| line.starts_with("AUTH")));
    }
}

/// One policy for all domains.
#[derive(Debug)]
pub(crate) struct Policy(pub(crate) String);

#[async_trait]
impl PolicyFetcher for Policy {
    async fn fetch(&self, _: &Domain) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }
}

/// Delivers to `example.org`, whose exchanger is `mx.test` and whose policy names `hosts`.
async fn by_policy(authority: &Authority, mode: &str, hosts: &str, port: u16) -> Vec<RecipientReport> {
    let policy = format!("version: STSv1\nmode: {mode}\nmx: {hosts}\nmax_age: 60\n");
    let resolver = FakeResolver::new()
        .with_txt("_mta-sts.example.org", Ok(vec![b"v=STSv1; id=1;".to_vec()]))
        .with_mx("example.org", Ok(vec![MxHost { preference: 1, host: "mx.test".to_owned() }]));
    let client = client(authority, resolver).with_mta_sts(Arc::new(Policy(policy)));
    let route = Route::Mx { domain: Domain::parse("example.org").unwrap(), port };
    client.deliver(&route, &message(&["a@example.org"]), &()).await
}

#[tokio::test]
async fn a_policy_in_force_is_kept_to() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Running::start(certified(&authority, "mx.test"), Service::Mx);
    let port = server.address.port();
    let reports = by_policy(&authority, "enforce", "*.test", port).await;
    assert_eq!(outcomes(&reports), [Outcome::Delivered], "{reports:?}");
    assert_eq!(reports[0].facts.rule, Some(TlsRule::MtaStsEnforce));
    assert!(matches!(reports[0].facts.tls, TlsUse::On { verified: true, .. }));
    for (believed, hosts) in [(&stranger, "mx.test"), (&authority, "other.test")] {
        let reports = by_policy(believed, "enforce", hosts, port).await;
        assert_eq!(outcomes(&reports), [Outcome::Deferred], "{reports:?}");
        assert_eq!(reports[0].facts.rule, Some(TlsRule::MtaStsEnforce));
        let reports = by_policy(believed, "testing", hosts, port).await;
        assert_eq!(outcomes(&reports), [Outcome::Delivered], "{reports:?}");
        assert_eq!(reports[0].facts.rule, Some(TlsRule::MtaStsTesting));
        let reports = by_policy(believed, "none", hosts, port).await;
        assert_eq!(reports[0].facts.rule, Some(TlsRule::Opportunistic));
    }
    let plain = Running::start(config(), Service::Mx);
    let reports = by_policy(&authority, "enforce", "mx.test", plain.address.port()).await;
    assert_eq!(outcomes(&reports), [Outcome::Deferred], "{reports:?}");
    assert!(plain.script.taken().is_empty());
    let own = Running::start(with_tls(config()), Service::Mx);
    let reports = by_policy(&authority, "enforce", "mx.test", own.address.port()).await;
    assert_eq!(outcomes(&reports), [Outcome::Deferred], "a self-signed certificate proves nothing");
}

#[test]
fn authorities_are_read_strictly() {
    assert!(Roots::built_in().with_pem(b"").is_err());
    assert!(Roots::built_in().with_pem(b"no PEM").is_err());
    assert!(Roots::built_in().with_pem(Authority::new().certificate.as_bytes()).is_ok());
}
