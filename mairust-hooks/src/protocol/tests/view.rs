use std::collections::BTreeSet;

use serde_json::Value;

use super::super::request::{AttachmentView, BodyView};
use super::mail::{INVOICE, SUBJECT, attached, facts, letter, pre_receive, received, request, stored, stored_facts};
use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BODIES: [BodyGrant; 3] = [BodyGrant::None, BodyGrant::Preview, BodyGrant::Full];

const ATTACHMENTS: [AttachmentGrant; 4] =
    [AttachmentGrant::None, AttachmentGrant::Metadata, AttachmentGrant::Preview, AttachmentGrant::Full];

fn grants(headers: bool, body: BodyGrant, attachments: AttachmentGrant) -> Grants {
    Grants { read_headers: headers, read_body: body, read_attachments: attachments, ..Grants::default() }
}

fn everything() -> Grants {
    grants(true, BodyGrant::Full, AttachmentGrant::Full)
}

/// Names and texts of a request, one after the other; what may be base64 once more, undone.
fn all_texts(value: &Value, found: &mut Vec<u8>) {
    match value {
        Value::String(text) => {
            found.extend_from_slice(text.as_bytes());
            found.push(b'\n');
            found.extend(STANDARD.decode(text).unwrap_or_default());
            found.push(b'\n');
        }
        Value::Array(list) => list.iter().for_each(|value| all_texts(value, found)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            found.extend_from_slice(name.as_bytes());
            found.push(b'\n');
            all_texts(value, found);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn shows(json: &[u8], canary: &str) -> bool {
    let mut texts = Vec::new();
    all_texts(&serde_json::from_slice(json).unwrap(), &mut texts);
    [json, &texts].iter().any(|octets| memmem(octets, canary.as_bytes()))
}

fn memmem(octets: &[u8], wanted: &[u8]) -> bool {
    octets.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn a_request_has_what_is_granted_and_nothing_else() {
    let raw = letter();
    let hashes = attached().map(|octets| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &octets);
        hash.as_ref().iter().map(|octet| format!("{octet:02x}")).collect::<String>()
    });
    for headers in [false, true] {
        for body in BODIES {
            for attachments in ATTACHMENTS {
                let grants = grants(headers, body, attachments);
                let json = pre_receive(&raw, &grants).to_json().unwrap();
                let (preview, full) = (body >= BodyGrant::Preview, body == BodyGrant::Full);
                let named = attachments >= AttachmentGrant::Metadata;
                let (begun, whole) = (attachments >= AttachmentGrant::Preview, attachments == AttachmentGrant::Full);
                let expected: &[(bool, &[&str])] = &[
                    (headers, &["CANARY-SUBJECT", SUBJECT, "CANARY-FROM", "CANARY-NOTE", "CANARY-BARE", "boundary"]),
                    (preview, &["CANARY-TEXT-START 請求書", "shift_jis"]),
                    (full, &["CANARY-TEXT-END", "CANARY-HTML 請求書"]),
                    (named, &["canary-name", "x-canary-type", "canary-other"]),
                    (begun, &["CANARY-SMALL", "CANARY-LARGE-START", &hashes[0], &hashes[1]]),
                    (whole, &["CANARY-LARGE-END"]),
                ];
                for (shown, canaries) in expected {
                    for canary in *canaries {
                        // MIME names the charset and the files among the header fields of parts, never of the message.
                        assert_eq!(shows(&json, canary), *shown, "{canary} under {grants:?}");
                    }
                }
                assert_eq!(redacted(&json), expected_redactions(&grants), "{grants:?}");
                assert_omissions(&json, &grants);
            }
        }
    }
}

fn redacted(json: &[u8]) -> Vec<String> {
    serde_json::from_slice::<HookRequest>(json).unwrap().view.redacted
}

fn expected_redactions(grants: &Grants) -> Vec<&'static str> {
    let headers: &[_] = if grants.read_headers { &[] } else { &["message.headers"] };
    let body: &[_] = match grants.read_body {
        BodyGrant::None => &["message.body"],
        BodyGrant::Preview => &["message.body.full"],
        BodyGrant::Full => &[],
    };
    let attachments: &[_] = match grants.read_attachments {
        AttachmentGrant::None => &["message.attachments"],
        AttachmentGrant::Metadata => &["message.attachments[].content"],
        AttachmentGrant::Preview => &["message.attachments[].content.full"],
        AttachmentGrant::Full => &[],
    };
    [headers, body, attachments].concat()
}

/// What is named as a whole is not there at all, not even empty.
fn assert_omissions(json: &[u8], grants: &Grants) {
    let value: Value = serde_json::from_slice(json).unwrap();
    let has = |name: &str| value["message"].as_object().unwrap().contains_key(name);
    assert_eq!(has("headers"), grants.read_headers);
    assert_eq!(has("body"), grants.read_body != BodyGrant::None);
    assert_eq!(has("attachments"), grants.read_attachments != AttachmentGrant::None);
    assert_eq!(value["message"]["has_attachments"], true);
    if grants.read_attachments == AttachmentGrant::Metadata {
        let names: BTreeSet<_> = value["message"]["attachments"][0].as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, BTreeSet::from(["content_type", "filename", "index", "size"].map(str::to_owned)));
    }
}

#[test]
fn without_the_envelope_only_ids_and_size_remain() {
    let raw = letter();
    let mut grants = everything();
    for known in [true, false] {
        grants.read_envelope = known;
        let before = pre_receive(&raw, &grants).to_json().unwrap();
        let (mail, facts) = (stored(&raw), stored_facts(&raw));
        let view = View { hook: HookPoint::PostReceive, mail: &mail, octets: &raw, facts: &facts, links: None };
        let after = request(HookPoint::PostReceive, grants.clone(), view.under(&grants)).to_json().unwrap();
        for canary in
            ["canary-helo", "192.0.2.7", "canary-ptr", "canary-spf", "canary-dkim", "canary-dmarc", "TLSv1.3", "40112"]
        {
            assert_eq!(shows(&before, canary), known, "{canary}");
        }
        for canary in ["canary-sender", "canary-recipient", "canary-reason", "sha256:"] {
            assert_eq!((shows(&before, canary), shows(&after, canary)), (known, known), "{canary}");
        }
        for canary in ["canary-owner", "canary-folder", "canary-tag", "Seen"] {
            assert_eq!(shows(&after, canary), known, "{canary}");
        }
        let mut hidden = vec!["session", "envelope", "auth_results", "policy", "message.fingerprint"];
        assert_eq!(redacted(&before), if known { Vec::new() } else { hidden.clone() });
        hidden.extend(["mailbox.address", "mailbox.folder", "flags", "tags"]);
        assert_eq!(redacted(&after), if known { Vec::new() } else { hidden });
        assert!(shows(&after, "019aaa68-dd6b-7000-8000-000000000010") && shows(&before, "\"size\""));
    }
}

#[test]
fn what_is_known_of_the_sender_is_told() {
    let json = pre_receive(&letter(), &Grants::default()).to_json().unwrap();
    let value: Value = serde_json::from_slice(&json).unwrap();
    let expected = serde_json::json!({
        "origin": "smtp", "listener": "mx", "client": {"ip": "192.0.2.7", "port": 40112, "ptr": "canary-ptr.example"},
        "helo": "canary-helo.example", "tls": {"version": "TLSv1.3", "cipher": "TLS13_AES_256_GCM_SHA384"},
        "auth_user": null
    });
    assert_eq!(value["session"], expected);
    let expected = serde_json::json!({
        "spf": {"result": "pass", "domain": "canary-spf.example"},
        "dkim": [{"result": "fail", "domain": "canary-dkim.example", "selector": "s1"}],
        "dmarc": {"result": "pass", "policy": "reject", "domain": "canary-dmarc.example"}
    });
    assert_eq!(value["auth_results"], expected);
    assert_eq!(value["envelope"]["rcpt_to"][0]["address"], "canary-recipient@example.com");
    assert_eq!((&value["callback"], &value["message"]["id"]), (&Value::Null, &Value::Null));
    // Mail that is sent has no results of authentication, and none is missing.
    let (raw, mut grants) = (letter(), everything());
    let (mail, facts) = (received(&raw), facts(&raw));
    let view = View { hook: HookPoint::PreSend, mail: &mail, octets: &raw, facts: &facts, links: None };
    assert_eq!(view.under(&grants).auth_results, None);
    grants.read_envelope = false;
    assert_eq!(view.under(&grants).redacted, ["session", "envelope", "policy", "message.fingerprint"]);
}

#[test]
fn header_fields_show_their_octets_only_if_decoding_changed_them() {
    let view = pre_receive(&letter(), &everything()).view;
    let headers = view.message.headers.unwrap();
    let field = |name: &str| headers.iter().find(|field| field.name == name).unwrap();
    assert_eq!(field("Subject").value, "請求書 CANARY-SUBJECT");
    assert_eq!((field("Subject").raw.as_deref(), &field("Subject").raw_b64), (Some(SUBJECT), &None));
    assert_eq!((&field("X-Note").raw, &field("X-Note").raw_b64), (&None, &None));
    let bare = STANDARD.encode([b"CANARY-BARE ", INVOICE].concat());
    assert_eq!((&field("X-Bare").raw, field("X-Bare").raw_b64.as_deref()), (&None, Some(bare.as_str())));
    let names: Vec<_> = headers.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["From", "Subject", "X-Note", "X-Bare", "MIME-Version", "Content-Type"]);
}

#[test]
fn a_list_narrows_the_header_fields() {
    let mut grants = everything();
    grants.read_headers_only = Some(vec!["subject".to_owned(), "From".to_owned()]);
    let view = pre_receive(&letter(), &grants).view;
    let names: Vec<_> = view.message.headers.unwrap().into_iter().map(|field| field.name).collect();
    assert_eq!(names, ["From", "Subject"]);
    assert_eq!(view.redacted, ["message.headers.others"]);
    assert_eq!(view.message.raw, None);
}

fn body(raw: &[u8], grants: &Grants) -> BodyView {
    pre_receive(raw, grants).view.message.body.unwrap()
}

#[test]
fn a_preview_ends_at_a_character() {
    let raw = [b"Content-Type: text/plain; charset=Shift_JIS\r\n\r\n", &b"\x82\xa0".repeat(6_000)[..]].concat();
    let mut grants = grants(false, BodyGrant::Preview, AttachmentGrant::None);
    for (wanted, limit) in [(0, 4_096), (4_096, 4_096), (5_000, 5_000), (16_384, 16_384), (90_000, 16_384)] {
        grants.preview_bytes = wanted;
        let BodyView::Preview { text: Some(text), facts } = body(&raw, &grants) else { panic!("a preview") };
        assert_eq!((text.len(), text.chars().all(|c| c == 'あ')), (limit / 3 * 3, true));
        assert_eq!((facts.bytes, facts.bytes_total, facts.truncated), (text.len() as u64, 18_000, true));
        assert_eq!((facts.source.as_deref(), facts.charset.as_deref()), (Some("text/plain"), Some("shift_jis")));
    }
}

#[test]
fn a_preview_of_html_is_text() {
    let grants = grants(false, BodyGrant::Preview, AttachmentGrant::None);
    let html = b"Content-Type: text/html\r\n\r\n<style>no</style><b>bold</b>, caf\xe9";
    let BodyView::Preview { text: Some(text), facts } = body(html, &grants) else { panic!("a preview") };
    assert_eq!(text.trim(), "bold, caf\u{fffd}");
    assert_eq!((facts.source.as_deref(), facts.lossy, facts.truncated), (Some("text/html"), true, false));
    let picture = b"Content-Type: image/png\r\n\r\n\x89PNG";
    let BodyView::Preview { text, facts } = body(picture, &grants) else { panic!("a preview") };
    assert_eq!((text, facts.source, facts.truncated), (None, None, false));
}

#[test]
fn neither_text_nor_html_takes_the_room_of_the_other() {
    let grants = everything();
    let alternative = |text: usize, html: usize| {
        let (text, html) = ("あ".repeat(text), "い".repeat(html));
        let raw = format!(
            "Content-Type: multipart/alternative; boundary=b\r\n\r\n\
             --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n\
             --b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n--b--\r\n"
        );
        let BodyView::Full { text: Some(text), html: Some(html), facts, href: None } = body(raw.as_bytes(), &grants)
        else {
            panic!("both, and no place to read more")
        };
        assert!(text.chars().all(|c| c == 'あ') && html.chars().all(|c| c == 'い'));
        assert_eq!(facts.bytes, (text.len() + html.len()) as u64);
        assert!(facts.bytes <= 256 << 10);
        (text.len() / 3, html.len() / 3, facts.truncated)
    };
    assert_eq!(alternative(10, 10), (10, 10, false));
    assert_eq!(alternative(100_000, 10), (87_371, 10, true));
    assert_eq!(alternative(10, 100_000), (10, 87_371, true));
    assert_eq!(alternative(100_000, 100_000), (43_690, 43_691, true));
}

fn attachments(raw: &[u8], grant: AttachmentGrant) -> Vec<AttachmentView> {
    pre_receive(raw, &grants(false, BodyGrant::None, grant)).view.message.attachments.unwrap()
}

/// Attachments of these sizes.
pub(super) fn with_attachments(sizes: &[usize]) -> Vec<u8> {
    let part = |size: &usize| {
        format!(
            "--b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment\r\n\r\n{}\r\n",
            "z".repeat(*size)
        )
    };
    let parts: String = sizes.iter().map(part).collect();
    format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n").into_bytes()
}

fn shown(view: &AttachmentView) -> Option<usize> {
    view.content_b64.as_ref().map(|content| STANDARD.decode(content).unwrap().len())
}

#[test]
fn attachments_are_shown_as_far_as_there_is_room() {
    let kib = 1 << 10;
    let sizes = [0, 16 * kib, 16 * kib + 1, 16 * kib, 16 * kib, 16 * kib, 5 * kib, 10, 10];
    let raw = with_attachments(&sizes);
    let views = attachments(&raw, AttachmentGrant::Preview);
    let seen: Vec<_> = views.iter().map(shown).collect();
    // 64 KiB in all, eight at most.
    let some = |octets: usize| Some(octets);
    assert_eq!(
        seen,
        [
            some(0),
            some(16 * kib),
            some(4 * kib),
            some(16 * kib),
            some(16 * kib),
            some(4 * kib),
            some(5 * kib),
            some(10),
            None
        ]
    );
    for (view, size) in views.iter().zip(sizes) {
        assert_eq!((view.size, view.truncated), (size as u64, Some(shown(view) != Some(size))));
        assert!(view.sha256.is_some() && view.href.is_none());
    }
    let sizes = [64 * kib, 64 * kib + 1];
    let seen: Vec<_> = attachments(&with_attachments(&sizes), AttachmentGrant::Full).iter().map(shown).collect();
    assert_eq!(seen, [some(64 * kib), some(4 * kib)]);
}

#[test]
fn who_may_see_all_is_told_where_it_is() {
    let raw = letter();
    let (mail, facts, links) = (received(&raw), facts(&raw), Some("messages/1"));
    let view = View { hook: HookPoint::PreReceive, mail: &mail, octets: &raw, facts: &facts, links };
    let message = view.under(&everything()).message;
    let places: Vec<_> = message.attachments.unwrap().into_iter().map(|view| view.href.unwrap()).collect();
    assert_eq!(places, ["messages/1/attachments/0", "messages/1/attachments/1"]);
    let Some(BodyView::Full { href, .. }) = message.body else { panic!("all of it") };
    assert_eq!(href.as_deref(), Some("messages/1/body"));
    let raw_view = message.raw.unwrap();
    assert_eq!((raw_view.href.as_str(), raw_view.size), ("messages/1/raw", raw.len() as u64));
    for headers in [false, true] {
        for body in BODIES {
            for attachments in ATTACHMENTS {
                let grants = grants(headers, body, attachments);
                let json = request(HookPoint::PreReceive, grants.clone(), view.under(&grants)).to_json().unwrap();
                assert_eq!(shows(&json, "messages/1/raw"), grants == everything());
                assert_eq!(shows(&json, "messages/1/attachments"), attachments == AttachmentGrant::Full);
                assert_eq!(shows(&json, "messages/1/body"), body == BodyGrant::Full);
            }
        }
    }
}

#[test]
fn whatever_a_message_is_there_is_a_view() {
    for raw in [&b""[..], b"\r\n", b"no header", b"\xff\xfe", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b"] {
        let json = pre_receive(raw, &everything()).to_json().unwrap();
        assert!(serde_json::from_slice::<HookRequest>(&json).is_ok());
    }
}

/// However broken the message is, its header section is no text and no attachment.
#[test]
fn header_fields_never_come_by_another_way() {
    let hidden = grants(false, BodyGrant::Full, AttachmentGrant::Full);
    let subject = "Subject: CANARY-SUBJECT\r\n";
    for rest in [
        "",
        "\r\n",
        "\r\nbody",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b--",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n--b--",
        "Content-Type: multipart/mixed\r\n\r\nbody",
        "Content-Type: message/rfc822\r\n\r\n",
        "Content-Type: message/rfc822\r\n\r\nbody",
        "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n!",
        "Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n!",
        "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n!",
        "Content-Type: application/pdf",
        "no colon\r\n\r\nbody",
        ": no name\r\n\r\nbody",
        "\tfold\r\n \r\n\r\nbody",
    ] {
        let raw = format!("{subject}{rest}");
        let json = pre_receive(raw.as_bytes(), &hidden).to_json().unwrap();
        assert!(!shows(&json, "CANARY"), "{raw:?} shows {}", json.escape_ascii());
    }
}
