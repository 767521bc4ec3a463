use serde_json::Value;

use super::super::request::BodyView;
use super::mail::pre_receive;
use super::view::with_attachments;
use super::*;

const MIB: usize = 1 << 20;

fn everything() -> Grants {
    let (read_body, read_attachments) = (BodyGrant::Full, AttachmentGrant::Full);
    Grants { read_headers: true, read_body, read_attachments, ..Grants::default() }
}

fn sent(request: HookRequest) -> (usize, HookRequest) {
    let json = request.clone().to_json().unwrap();
    assert_eq!(Ok(&json), request.to_json().as_ref(), "the same for the same");
    (json.len(), serde_json::from_slice(&json).unwrap())
}

#[test]
fn what_fits_is_left_alone() {
    let request = pre_receive(&with_attachments(&[60_000; 10]), &everything());
    assert_eq!(sent(request.clone()).1, request);
}

#[test]
fn the_contents_of_the_last_attachments_give_way_first() {
    let raw = with_attachments(&[60_000; 20]);
    let (size, request) = sent(pre_receive(&raw, &everything()));
    assert!(size <= MIB && size > MIB - 90_000, "{size}");
    let views = request.view.message.attachments.unwrap();
    let seen: Vec<_> = views.iter().map(|view| (view.content_b64.is_some(), view.truncated)).collect();
    let shown = seen.iter().filter(|(shown, _)| *shown).count();
    assert_eq!(shown, 13);
    assert!(seen[..shown].iter().all(|view| *view == (true, Some(false))));
    assert!(seen[shown..].iter().all(|view| *view == (false, Some(true))));
    assert!(!request.view.message.attachments_truncated);
    // Nobody waits for the answer: there is more room.
    let mut late = pre_receive(&raw, &everything());
    late.hook = HookPoint::PostReceive;
    assert_eq!(sent(late.clone()).1, late);
}

/// A character that takes six octets in JSON.
const DEAR: &str = "\u{1}";

fn alternative(text: usize, html: usize, headers: &str) -> Vec<u8> {
    let (text, html) = (DEAR.repeat(text), DEAR.repeat(html));
    format!(
        "{headers}Content-Type: multipart/alternative; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\n{text}\r\n--b\r\nContent-Type: text/html\r\n\r\n{html}\r\n--b--\r\n"
    )
    .into_bytes()
}

fn lengths(request: &HookRequest) -> (usize, usize, bool) {
    let Some(BodyView::Full { text: Some(text), html: Some(html), facts, .. }) = &request.view.message.body else {
        panic!("text and HTML")
    };
    assert_eq!(facts.bytes, (text.len() + html.len()) as u64);
    (text.len(), html.len(), facts.truncated)
}

#[test]
fn then_html_then_text() {
    let (size, request) = sent(pre_receive(&alternative(100_000, 100_000, ""), &everything()));
    let (text, html, truncated) = lengths(&request);
    assert!(size <= MIB && text == 100_000 && html < 100_000 && truncated, "{text} {html}");
    let (size, request) = sent(pre_receive(&alternative(250_000, 2_000, ""), &everything()));
    let (text, html, truncated) = lengths(&request);
    assert!(size <= MIB && text > 4_096 && text < 250_000 && html == 0 && truncated, "{text} {html}");
}

#[test]
fn then_octets_of_header_fields_attachments_and_header_fields() {
    let field = format!("X-Dear: {}=?utf-8?Q?x?=\r\n", DEAR.repeat(900));
    let (size, request) = sent(pre_receive(&alternative(9_000, 10, &field.repeat(150)), &everything()));
    let message = &request.view.message;
    let fields = message.headers.as_ref().unwrap();
    assert!(size <= MIB && fields.len() == 151 && message.headers_truncated);
    assert_eq!(lengths(&request).0, 4_096);
    assert!(fields[0].raw.is_some() && fields[149].raw.is_none());

    let (_, request) = sent(pre_receive(&alternative(10, 10, &field.repeat(250)), &everything()));
    let fields = request.view.message.headers.unwrap();
    assert!(fields.len() < 200 && fields.iter().all(|field| field.raw.is_none()));

    let name = "あ".repeat(600);
    let part = format!("--b\r\nContent-Type: a/b\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\r\nx\r\n");
    let raw = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n", part.repeat(900));
    let (size, request) = sent(pre_receive(raw.as_bytes(), &everything()));
    let message = request.view.message;
    let count = message.attachments.unwrap().len();
    assert!(size <= MIB && (400..900).contains(&count) && message.attachments_truncated, "{count}");
    assert!(!message.headers_truncated);
}

#[test]
fn a_request_that_is_too_large_without_the_message_is_none() {
    let mut request = pre_receive(b"Subject: x\r\n\r\nhello", &everything());
    request.plugin.config.insert("list".to_owned(), Value::String("x".repeat(MIB)));
    let error = request.to_json().unwrap_err();
    assert_eq!(error.limit, MIB);
    assert!(error.to_string().contains("1048576 are allowed"));
}
