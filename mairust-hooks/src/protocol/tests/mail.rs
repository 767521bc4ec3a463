//! A message in Shift_JIS with two attachments, and a request about it.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mairust_core::{
    AuthOutcome, AuthResults, Content, DkimResult, DmarcPolicy, DmarcResult, EmailAddress, Envelope, IprevResult, Mail,
    MessageId, Origin, ReversePath, SpfResult, TenantId, Timestamp, TlsFacts,
};
use serde_json::Map;

use super::super::request::{MailboxView, Plugin, Policy, Tenant};
use super::*;
use crate::breaker::Fingerprint;

/// `請求書` in Shift_JIS.
pub(super) const INVOICE: &[u8] = b"\x90\xbf\x8b\x81\x8f\x91";

pub(super) const SUBJECT: &str = "=?Shift_JIS?B?kL+LgY+RIENBTkFSWS1TVUJKRUNU?=";

pub(super) const AT: Timestamp = Timestamp::from_micros(1_795_316_645_678_000);

/// What is attached: 1 KiB and 40 KiB.
pub(super) fn attached() -> [Vec<u8>; 2] {
    let mut small = b"\x00\xff%PDF CANARY-SMALL".to_vec();
    small.resize(1 << 10, b'x');
    let mut large = [INVOICE, b" CANARY-LARGE-START "].concat();
    large.resize(40 << 10, b'y');
    large.extend_from_slice(b"CANARY-LARGE-END");
    [small, large]
}

/// About 11 KiB of UTF-8 once it is decoded.
fn text() -> Vec<u8> {
    let line = [&b"\x82\xa0".repeat(30)[..], b"\r\n"].concat();
    [b"CANARY-TEXT-START ", INVOICE, b"\r\n", &line.repeat(120)[..], b"CANARY-TEXT-END"].concat()
}

pub(super) fn letter() -> Vec<u8> {
    let [small, large] = attached().map(|octets| {
        let lines = STANDARD.encode(octets).into_bytes();
        lines.chunks(76).flat_map(|line| [line, b"\r\n"].concat()).collect::<Vec<u8>>()
    });
    let part = |head: &str, octets: &[u8]| [head.as_bytes(), b"\r\n\r\n", octets, b"\r\n"].concat();
    [
        format!("From: CANARY-FROM <a@sender.example>\r\nSubject: {SUBJECT}\r\nX-Note: CANARY-NOTE\r\n").into_bytes(),
        [b"X-Bare: CANARY-BARE ", INVOICE, b"\r\n"].concat(),
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".to_vec(),
        part("Content-Type: multipart/alternative; boundary=a", b"--a"),
        part("Content-Type: text/plain; charset=Shift_JIS\r\nContent-Transfer-Encoding: 8bit", &text()),
        b"--a\r\n".to_vec(),
        part("Content-Type: text/html; charset=Shift_JIS", &[b"<p>CANARY-HTML ", INVOICE, b"</p>"].concat()),
        b"--a--\r\n--b\r\n".to_vec(),
        part(
            "Content-Type: application/x-canary-type; name=canary-name.pdf\r\n\
             Content-Disposition: attachment\r\nContent-Transfer-Encoding: base64",
            &small,
        ),
        b"--b\r\n".to_vec(),
        part(
            "Content-Type: text/plain; charset=Shift_JIS\r\n\
             Content-Disposition: attachment; filename=canary-other.txt\r\nContent-Transfer-Encoding: base64",
            &large,
        ),
        b"--b--\r\n".to_vec(),
    ]
    .concat()
}

pub(super) fn address(text: &str) -> EmailAddress {
    text.parse().unwrap()
}

fn tenant() -> TenantId {
    "019aaa68-dd6b-7000-8000-000000000040".parse().unwrap()
}

/// A message from another server.
pub(super) fn received(raw: &[u8]) -> Mail {
    let envelope = Envelope {
        sender: ReversePath::Address(address("canary-sender@sender.example")),
        recipients: vec![address("canary-recipient@example.com")],
    };
    let client: IpAddr = "192.0.2.7".parse().unwrap();
    let origin = Origin {
        client: Some(client),
        helo: Some("canary-helo.example".to_owned()),
        tls: Some(TlsFacts { version: "TLSv1.3".to_owned(), cipher: "TLS13_AES_256_GCM_SHA384".to_owned() }),
        ..Origin::default()
    };
    let mut results = AuthResults::default();
    let name = Some("canary-ptr.example".to_owned());
    results.iprev = Some(IprevResult { outcome: AuthOutcome::Pass, client, name });
    results.spf = Some(SpfResult {
        outcome: AuthOutcome::Pass,
        identity: "a@sender.example".to_owned(),
        domain: "canary-spf.example".to_owned(),
        explanation: None,
        reason: None,
    });
    results.dkim = vec![DkimResult {
        outcome: AuthOutcome::Fail,
        domain: "canary-dkim.example".to_owned(),
        selector: "s1".to_owned(),
        algorithm: "rsa-sha256".to_owned(),
        signature: "x".to_owned(),
        reason: None,
    }];
    results.dmarc = Some(DmarcResult {
        outcome: AuthOutcome::Pass,
        domain: Some("canary-dmarc.example".to_owned()),
        organizational_domain: None,
        policy_domain: None,
        policy: Some(DmarcPolicy::Reject),
        testing: false,
        aligned: Vec::new(),
        reason: None,
    });
    let mail = Mail::new(tenant(), envelope, origin, raw.to_vec().into(), Content::parse(raw));
    mail.with_auth_results(results)
}

/// The same message in a mailbox.
pub(super) fn stored(raw: &[u8]) -> Mail {
    let envelope = received(raw).envelope().clone();
    let id: MessageId = "019aaa68-dd6b-7000-8000-000000000010".parse().unwrap();
    Mail::stored(id, tenant(), envelope, raw.to_vec().into(), Content::parse(raw))
}

pub(super) fn facts(raw: &[u8]) -> MailFacts {
    let fingerprint = Fingerprint(digest(&SHA256, raw).as_ref().try_into().unwrap());
    let mut facts = MailFacts::new(fingerprint, request::SessionOrigin::Smtp);
    facts.listener = Some("mx".to_owned());
    facts.client_port = Some(40_112);
    facts.smtputf8 = Some(false);
    facts.body = Some(request::BodyType::EightBitMime);
    let reasons = vec!["canary-reason".to_owned()];
    facts.policy = Some(Policy { decision: "allow".to_owned(), score: 0.1, reasons, rate: None });
    facts
}

/// What is known once it is stored.
pub(super) fn stored_facts(raw: &[u8]) -> MailFacts {
    let (address, folder) = (Some("canary-owner@example.com".to_owned()), Some("canary-folder".to_owned()));
    let mut facts = facts(raw);
    facts.mailbox = Some(MailboxView { id: "019aaa68-dd6b-7000-8000-000000000020".to_owned(), address, folder });
    facts.flags = Some(vec!["\\Seen".to_owned()]);
    facts.tags = Some(vec!["canary-tag".to_owned()]);
    facts
}

pub(super) fn request(hook: HookPoint, granted: Grants, view: MailView) -> HookRequest {
    HookRequest {
        v: VERSION,
        invocation_id: invocation(),
        hook,
        mode: Mode::Enforce,
        attempt: 1,
        occurred_at: AT.to_rfc3339(),
        deadline_ms: 1_990,
        plugin: Plugin {
            id: "com.example.mairust.spam-filter".to_owned(),
            version: "1.0.0".to_owned(),
            config_rev: 7,
            config: Map::new(),
        },
        tenant: Tenant { id: tenant().to_string() },
        granted,
        view,
        callback: None,
    }
}

/// The request about a message from another server.
pub(super) fn pre_receive(raw: &[u8], grants: &Grants) -> HookRequest {
    let (mail, facts) = (received(raw), facts(raw));
    let view = View { hook: HookPoint::PreReceive, mail: &mail, octets: raw, facts: &facts, links: None };
    request(HookPoint::PreReceive, grants.clone(), view.under(grants))
}
