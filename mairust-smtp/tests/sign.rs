//! What we sign passes our own verifier; the end-to-end tests ask those of others.

use std::io;
use std::sync::Arc;

use mairust_core::{AuthOutcome, Body, BodySource, DkimAlgorithm, Domain, ReversePath, Timestamp};
use mairust_smtp::dns::FakeResolver;
use mairust_smtp::sign::{Signable, Signer, SigningKey};
use mairust_smtp::verify::{Facts, Verifier, VerifierSettings};

const NOW: Timestamp = Timestamp::from_unix(1_763_780_646);
const HEADER: &str = "Received: x\r\nFrom: Alice <alice@sender.example>\r\nTo: a@b.c\r\nTo: d@e.f\r\n\
    Subject: A  folded\r\n\tsubject \r\nDate: Sat, 22 Nov 2025 03:04:06 +0000\r\n\r\n";

/// A key of each kind, and where both are published.
fn signers() -> (Vec<Signer>, FakeResolver) {
    let mut zone = FakeResolver::new();
    let mut signers = Vec::new();
    for algorithm in DkimAlgorithm::ALL {
        let key = SigningKey::generate(algorithm).unwrap();
        let name = format!("{algorithm}._domainkey.sender.example");
        zone = zone.with_txt(&name, Ok(vec![key.record().unwrap().into_bytes()]));
        signers.push(Signer::new(Domain::parse("sender.example").unwrap(), algorithm.as_str(), key).unwrap());
    }
    (signers, zone)
}

fn sign(signers: &[Signer], prefix: &str, body: &Body) -> Vec<u8> {
    let message = Signable::read(prefix.as_bytes(), body).unwrap();
    let fields: String = signers.iter().map(|signer| signer.sign(&message, NOW, None).unwrap()).collect();
    [fields.as_bytes(), prefix.as_bytes(), &body.read_all().unwrap()].concat()
}

async fn verify(zone: &FakeResolver, message: Vec<u8>) -> Vec<AuthOutcome> {
    let verifier = Verifier::new(Arc::new(zone.clone()), VerifierSettings::default());
    let hostname = Domain::parse("mx.example.com").unwrap();
    let facts = Facts::new("192.0.2.7".parse().unwrap(), "mx.sender.example", ReversePath::Null, hostname);
    let results = verifier.verify(&facts, &Body::from(message), NOW).await.unwrap();
    results.dkim.iter().map(|result| result.outcome).collect()
}

#[tokio::test]
async fn what_is_signed_passes() {
    let (signers, zone) = signers();
    for text in [
        "",
        "\r\n\r\n",
        "Hello  Alice, \t\r\n\r\n",
        "no line end",
        "請求書 in UTF-8\r\n.\r\n..\r\n",
        &format!("{}\r\n", "x".repeat(998)),
        "bare\rbare\nends\r\n",
    ] {
        let body = Body::from(format!("{HEADER}{text}").into_bytes());
        let signed = sign(&signers, "Message-ID: <1@sender.example>\r\n", &body);
        assert_eq!(verify(&zone, signed).await, [AuthOutcome::Pass; 2], "{text:?}");
    }
}

#[tokio::test]
async fn white_space_may_change_and_nothing_else() {
    let (signers, zone) = signers();
    let signed = sign(&signers, "", &Body::from(format!("{HEADER}Hello  Alice\r\n").into_bytes()));
    let text = String::from_utf8(signed).unwrap();
    for (from, to, outcome) in [
        ("Hello  Alice\r\n", "Hello Alice \r\n\r\n", AuthOutcome::Pass),
        ("Subject: A  folded\r\n\tsubject \r\n", "SUBJECT:A folded\r\n  subject\r\n", AuthOutcome::Pass),
        ("Received: x\r\n", "Received: y\r\nSender: list@b.c\r\nList-Id: <list.b.c>\r\n", AuthOutcome::Pass),
        ("Hello", "Hullo", AuthOutcome::Fail),
        ("From: ", "From: eve@b.c\r\nFrom: ", AuthOutcome::Fail),
        ("To: a@b.c", "To: x@b.c", AuthOutcome::Fail),
        ("To: a@b.c\r\n", "", AuthOutcome::Fail),
        ("To: a@b.c\r\n", "To: a@b.c\r\nReply-To: eve@b.c\r\n", AuthOutcome::Fail),
        ("To: a@b.c\r\n", "To: a@b.c\r\nContent-Type: text/html\r\n", AuthOutcome::Fail),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        assert_eq!(verify(&zone, changed.into_bytes()).await, [outcome; 2], "{from:?} -> {to:?}");
    }
}

/// A large message that is nowhere in memory.
#[derive(Debug)]
struct Endless(u64);

impl BodySource for Endless {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        const PATTERN: &[u8] = b"From: a@sender.example\r\n\r\n";
        let count = usize::try_from(self.0 - offset).unwrap().min(buffer.len()).min(1_000);
        for (octet, place) in buffer[..count].iter_mut().zip(offset..) {
            *octet = PATTERN[usize::try_from(place).unwrap() % PATTERN.len()];
        }
        Ok(count)
    }
}

#[tokio::test]
async fn a_body_elsewhere_is_read_in_pieces() {
    let (signers, zone) = signers();
    let body = Body::from_source(Arc::new(Endless(3 << 20)));
    assert_eq!(verify(&zone, sign(&signers, "", &body)).await, [AuthOutcome::Pass; 2]);
}
