//! Sender authentication against messages that dkimpy and opendkim have signed (`data/signed`).

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{AuthOutcome, AuthResults, Body, Domain, EmailAddress, ReversePath, Timestamp};
use mairust_smtp::dns::{FakeResolver, MxHost, ResolveError, Resolver, SrvHost};
use mairust_smtp::verify::{Facts, Verifier, VerifierSettings};

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
const CLIENT: &str = "192.0.2.7";

fn signed(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/signed").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The keys of the signed messages, and the records of their sender.
fn zone() -> FakeResolver {
    let keys: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&signed("dns.json")).unwrap();
    let client: IpAddr = CLIENT.parse().unwrap();
    let texts = keys.iter().map(|(name, text)| (name.as_str(), text.as_str().unwrap()));
    let records = [
        ("sender.example", "v=spf1 a:mx.sender.example -all"),
        ("_dmarc.sender.example", "v=DMARC1; p=reject"),
        ("mx.sender.example", "v=spf1 a -all"),
    ];
    texts
        .chain(records)
        .fold(FakeResolver::new(), |zone, (name, text)| zone.with_txt(name, Ok(vec![text.as_bytes().to_vec()])))
        .with_names(client, Ok(vec!["mx.sender.example".to_owned()]))
        .with_addresses("mx.sender.example", Ok(vec![client]))
}

fn facts(client: &str, sender: &str) -> Facts {
    let sender = EmailAddress::parse(sender).map_or(ReversePath::Null, ReversePath::Address);
    Facts::new(client.parse().unwrap(), "mx.sender.example", sender, Domain::parse("mx.example.com").unwrap())
}

async fn verify(resolver: impl Resolver, message: impl Into<Vec<u8>>) -> AuthResults {
    let verifier = Verifier::new(Arc::new(resolver), VerifierSettings::default());
    let facts = facts("203.0.113.9", "bob@elsewhere.example");
    verifier.verify(&facts, &Body::from(message.into()), NOW).await.unwrap()
}

fn dkim(results: &AuthResults) -> Vec<(AuthOutcome, &str)> {
    results.dkim.iter().map(|result| (result.outcome, result.reason.as_deref().unwrap_or_default())).collect()
}

fn replaced(message: &[u8], from: &str, to: &str) -> Vec<u8> {
    let position = message.windows(from.len()).position(|window| window == from.as_bytes()).expect(from);
    [&message[..position], to.as_bytes(), &message[position + from.len()..]].concat()
}

#[tokio::test]
async fn signatures_of_others_pass() {
    for name in ["rsa-relaxed", "rsa-simple", "ed25519", "two", "empty", "opendkim", "arc", "arc-two"] {
        let results = verify(zone(), signed(&format!("{name}.eml"))).await;
        let passed: Vec<_> = dkim(&results).into_iter().map(|(outcome, _)| outcome).collect();
        assert_eq!(passed, vec![AuthOutcome::Pass; if name == "two" { 2 } else { 1 }], "{name}: {results:?}");
        let dmarc = results.dmarc.unwrap();
        assert_eq!((dmarc.outcome, dmarc.aligned.len()), (AuthOutcome::Pass, 1), "{name}");
    }
}

#[tokio::test]
async fn what_was_changed_on_the_way_fails() {
    for name in ["rsa-relaxed", "rsa-simple", "ed25519", "opendkim"] {
        let message = signed(&format!("{name}.eml"));
        for (from, to, reason) in [
            ("Hello", "Hullo", "the body was changed"),
            ("Bob <bob@", "Bot <bob@", "did not verify"),
            ("To: alice", "To: mallo", "did not verify"),
            ("DKIM-Signature", "From: eve@sender.example\r\nDKIM-Signature", "did not verify"),
            ("t=1", "t=2", "did not verify"),
        ] {
            let results = verify(zone(), replaced(&message, from, to)).await;
            let [(outcome, why)] = dkim(&results)[..] else { panic!("{results:?}") };
            assert_eq!(outcome, AuthOutcome::Fail, "{name} {from}");
            assert!(why.contains(reason), "{name} {from}: {why}");
            assert_eq!(results.dmarc.unwrap().outcome, AuthOutcome::Fail, "{name} {from}");
        }
        let appended = [&message[..], b"buy now\r\n"].concat();
        assert_eq!(dkim(&verify(zone(), appended).await)[0].0, AuthOutcome::Fail, "{name}");
    }
}

#[tokio::test]
async fn white_space_may_change_where_the_signature_says_so() {
    let change = |message: &[u8]| {
        let message = replaced(message, "Hello  Alice, \t\r\n", "Hello \t Alice,\r\n");
        replaced(&message, "Subject: A  folded\r\n\tsubject ", "SUBJECT:A folded subject")
    };
    let relaxed = verify(zone(), change(&signed("rsa-relaxed.eml"))).await;
    assert_eq!(dkim(&relaxed), [(AuthOutcome::Pass, "")]);
    let simple = verify(zone(), change(&signed("rsa-simple.eml"))).await;
    assert_eq!(dkim(&simple), [(AuthOutcome::Fail, "the body was changed")]);
}

#[tokio::test]
async fn what_is_not_good_enough_does_not_pass() {
    let only = |results: AuthResults| {
        let (outcome, reason) = dkim(&results)[0];
        (outcome, reason.to_owned(), results.dmarc.map(|dmarc| dmarc.outcome))
    };
    for (name, reason) in [("weak", "shorter than 1024"), ("sha1", "rsa-sha1")] {
        let (outcome, why, dmarc) = only(verify(zone(), signed(&format!("{name}.eml"))).await);
        assert_eq!((outcome, dmarc), (AuthOutcome::Policy, Some(AuthOutcome::Fail)), "{name}");
        assert!(why.contains(reason), "{name}: {why}");
    }
    let length = signed("length.eml");
    assert_eq!(only(verify(zone(), length.clone()).await).0, AuthOutcome::Pass, "l= covers all of the body");
    let (outcome, why, _) = only(verify(zone(), [&length[..], b"buy now\r\n"].concat()).await);
    assert_eq!(outcome, AuthOutcome::Policy);
    assert!(why.contains("leaves a part of the body out"), "{why}");
}

#[tokio::test]
async fn a_key_that_is_gone_is_permanent_and_dns_that_is_down_is_not() {
    let name = "rsa._domainkey.sender.example";
    let message = signed("rsa-relaxed.eml");
    for (answer, outcome, dmarc) in [
        (Err(ResolveError::NotFound), AuthOutcome::PermError, AuthOutcome::Fail),
        (Ok(vec![b"v=DKIM1; p=".to_vec()]), AuthOutcome::PermError, AuthOutcome::Fail),
        (Err(ResolveError::Temporary("SERVFAIL".into())), AuthOutcome::TempError, AuthOutcome::TempError),
    ] {
        let results = verify(zone().with_txt(name, answer), message.clone()).await;
        assert_eq!((results.dkim[0].outcome, results.dmarc.unwrap().outcome), (outcome, dmarc));
    }
}

#[tokio::test]
async fn chains_of_seals_hold_or_break() {
    let arc = |results: AuthResults| results.arc.unwrap();
    let whole = arc(verify(zone(), signed("arc.eml")).await);
    assert_eq!((whole.outcome, whole.sets, whole.sealer.as_deref()), (AuthOutcome::Pass, 1, Some("list.example")));
    let two = signed("arc-two.eml");
    let whole = arc(verify(zone(), two.clone()).await);
    assert_eq!((whole.outcome, whole.sets, whole.sealer.as_deref()), (AuthOutcome::Pass, 2, Some("forward.example")));
    for (from, to) in [
        ("Hello", "Hullo"),
        ("arc=pass", "arc=none"),
        ("i=1; mx.list.example;", "i=1; mx.evil.example;"),
        ("ARC-Seal: i=1", "ARC-Seal: i=3"),
        ("cv=pass", "cv=none"),
    ] {
        assert_eq!(arc(verify(zone(), replaced(&two, from, to)).await).outcome, AuthOutcome::Fail, "{from}");
    }
    let down = zone().with_txt("rsa._domainkey.list.example", Err(ResolveError::Temporary("timeout".into())));
    assert_eq!(arc(verify(down, two).await).outcome, AuthOutcome::TempError);
    assert_eq!(arc(verify(zone(), signed("ed25519.eml")).await).outcome, AuthOutcome::None);
}

#[tokio::test]
async fn the_client_speaks_for_its_domain() {
    let verifier = Verifier::new(Arc::new(zone()), VerifierSettings::default());
    let message = Body::from(b"From: bob@sender.example\r\n\r\nx\r\n".to_vec());
    let results = verifier.verify(&facts(CLIENT, "bob@sender.example"), &message, NOW).await.unwrap();
    let words: Vec<_> = results.outcomes().into_iter().map(|(_, outcome)| outcome.as_str()).collect();
    assert_eq!(words, ["pass", "pass", "pass", "pass", "none"], "{results:?}");
    // A null sender is vouched for by HELO (RFC 7208 §2.4), and `mx.sender.example` aligns.
    let results = verifier.verify(&facts(CLIENT, "<>"), &message, NOW).await.unwrap();
    assert_eq!((results.spf, results.dmarc.unwrap().outcome), (None, AuthOutcome::Pass));
    let results = verifier.verify(&facts("203.0.113.9", "bob@sender.example"), &message, NOW).await.unwrap();
    let words: Vec<_> = results.outcomes().into_iter().map(|(_, outcome)| outcome.as_str()).collect();
    assert_eq!(words, ["permerror", "fail", "fail", "fail", "none"], "{results:?}");
}

/// DNS that never answers.
#[derive(Debug)]
struct Silence;

#[async_trait]
impl Resolver for Silence {
    async fn mx(&self, _: &str) -> Result<Vec<MxHost>, ResolveError> {
        std::future::pending().await
    }

    async fn ipv4(&self, _: &str) -> Result<Vec<std::net::Ipv4Addr>, ResolveError> {
        std::future::pending().await
    }

    async fn ipv6(&self, _: &str) -> Result<Vec<std::net::Ipv6Addr>, ResolveError> {
        std::future::pending().await
    }

    async fn txt(&self, _: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        std::future::pending().await
    }

    async fn srv(&self, _: &str) -> Result<Vec<SrvHost>, ResolveError> {
        std::future::pending().await
    }

    async fn names(&self, _: IpAddr) -> Result<Vec<String>, ResolveError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn dns_that_never_answers_holds_nobody_up() {
    let mut settings = VerifierSettings::default();
    settings.timeout = Duration::from_secs(3);
    let verifier = Verifier::new(Arc::new(Silence), settings);
    let began = tokio::time::Instant::now();
    let message = Body::from(signed("arc-two.eml"));
    let results = verifier.verify(&facts(CLIENT, "bob@sender.example"), &message, NOW).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    assert!(results.outcomes().iter().all(|(_, outcome)| *outcome == AuthOutcome::TempError), "{results:?}");
}

#[tokio::test]
async fn hostile_messages_are_only_messages() {
    let signature = "DKIM-Signature: v=1; a=rsa-sha256; d=sender.example; s=rsa; h=from; bh=AAAA; b=AAAA\r\n";
    for message in [
        Vec::new(),
        b"\r\n".to_vec(),
        vec![0; 100_000],
        vec![b'\r'; 100_000],
        vec![b'\n'; 100_000],
        b"From: ".repeat(100_000),
        format!("From: {}\r\n\r\n", "(".repeat(200_000)).into_bytes(),
        format!("From: {}\r\n\r\n", "<@,".repeat(60_000)).into_bytes(),
        format!("DKIM-Signature: {}\r\n\r\n", ";".repeat(200_000)).into_bytes(),
        format!("DKIM-Signature: h={}\r\n\r\n", "from:".repeat(50_000)).into_bytes(),
        signature.repeat(5_000).into_bytes(),
        "ARC-Seal: i=1\r\nARC-Message-Signature: i=1\r\nARC-Authentication-Results: i=1\r\n".repeat(1_000).into_bytes(),
    ] {
        let results = verify(zone(), message).await;
        assert!(results.dkim.len() <= 10);
        assert!(results.dkim.iter().all(|result| result.outcome != AuthOutcome::Pass));
    }
}

/// A table, and name servers below `evil.example` that never answer.
#[derive(Debug)]
struct Tarpit(FakeResolver);

impl Tarpit {
    async fn pass(&self, name: &str) {
        if name.ends_with("evil.example") {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Resolver for Tarpit {
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, ResolveError> {
        self.pass(domain).await;
        self.0.mx(domain).await
    }

    async fn ipv4(&self, host: &str) -> Result<Vec<std::net::Ipv4Addr>, ResolveError> {
        self.pass(host).await;
        self.0.ipv4(host).await
    }

    async fn ipv6(&self, host: &str) -> Result<Vec<std::net::Ipv6Addr>, ResolveError> {
        self.pass(host).await;
        self.0.ipv6(host).await
    }

    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        self.pass(name).await;
        self.0.txt(name).await
    }

    async fn srv(&self, name: &str) -> Result<Vec<SrvHost>, ResolveError> {
        self.pass(name).await;
        self.0.srv(name).await
    }

    async fn names(&self, address: IpAddr) -> Result<Vec<String>, ResolveError> {
        self.0.names(address).await
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_escapes_dmarc_by_slow_name_servers() {
    let zone = FakeResolver::new()
        .with_txt("_dmarc.bank.example", Ok(vec![b"v=DMARC1; p=reject".to_vec()]))
        .with_names(CLIENT.parse().unwrap(), Ok(vec!["mx.evil.example".to_owned(); 20]));
    let signature =
        |domain: &str| format!("DKIM-Signature: v=1; a=rsa-sha256; d={domain}; s=s; h=from; bh=AAAA; b=AAAA\r\n");
    let slow: String = (0..9).map(|number| signature(&format!("{number}.evil.example"))).collect();
    let seals: String = (1..=20)
        .map(|number| {
            let cv = if number == 1 { "none" } else { "pass" };
            format!(
                "ARC-Seal: i={number}; a=rsa-sha256; cv={cv}; d={number}.evil.example; s=s; b=AAAA\r\n\
                 ARC-Message-Signature: i={number}; a=rsa-sha256; d=evil.example; s=s; h=from; bh=AAAA; b=AAAA\r\n\
                 ARC-Authentication-Results: i={number}; evil.example\r\n"
            )
        })
        .collect();
    let signed = signature("mail.bank.example");
    let message = format!("{slow}{signed}{seals}From: x@evil.example, ceo@bank.example\r\n\r\nx\r\n");
    let verifier = Verifier::new(Arc::new(Tarpit(zone)), VerifierSettings::default());
    let facts = facts(CLIENT, "bob@evil.example");
    let results = verifier.verify(&facts, &Body::from(message.into_bytes()), NOW).await.unwrap();
    assert_eq!(results.spf.unwrap().outcome, AuthOutcome::TempError);
    let dmarc = results.dmarc.unwrap();
    assert_eq!((dmarc.outcome, dmarc.domain.as_deref()), (AuthOutcome::Fail, Some("bank.example")), "{dmarc:?}");
}
