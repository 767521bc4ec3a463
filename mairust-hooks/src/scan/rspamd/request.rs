//! What rspamd is asked: the message as it is, and what is known about it in header fields.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http_body_util::StreamBody;
use hyper::Request;
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use mairust_core::{Body, Mail};

use super::RspamdSettings;

/// A message on its way to rspamd.
pub(super) type Upload = StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>;

/// So much of a spooled message is in memory at a time.
const CHUNK: usize = 64 << 10;

/// Longer values are cut: envelopes are bounded, greetings are what strangers write.
const MAX_VALUE: usize = 1_000;

/// The request that has a message checked.
pub(super) fn check(settings: &RspamdSettings, mail: &Mail) -> Request<Upload> {
    let mut request = Request::new(StreamBody::new(chunks(mail.body().clone())));
    *request.method_mut() = hyper::Method::POST;
    *request.uri_mut() = hyper::Uri::from_static("/checkv2");
    *request.headers_mut() = headers(settings, mail);
    request
}

fn headers(settings: &RspamdSettings, mail: &Mail) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: HeaderName, text: &str| {
        headers.append(name, value(text));
    };
    add(HOST, &settings.endpoint.host());
    add(USER_AGENT, concat!("MaiRust/", env!("CARGO_PKG_VERSION")));
    add(CONTENT_LENGTH, &mail.body().len().to_string());
    let named = HeaderName::from_static;
    add(named("from"), &mail.envelope().sender.to_string());
    for recipient in &mail.envelope().recipients {
        add(named("rcpt"), &recipient.to_string());
    }
    let origin = mail.origin();
    let tls = origin.tls.as_ref();
    let facts = [
        ("ip", origin.client.map(|client| client.to_canonical().to_string())),
        ("helo", origin.helo.clone()),
        ("user", origin.user.clone()),
        ("queue-id", origin.session.map(|session| session.to_string())),
        ("mta-name", settings.hostname.clone()),
        ("tls-version", tls.map(|tls| tls.version.clone())),
        ("tls-cipher", tls.map(|tls| tls.cipher.clone())),
    ];
    for (name, fact) in facts {
        if let Some(fact) = fact {
            add(named(name), &fact);
        }
    }
    if let Some(password) = &settings.password {
        let mut password = value(password.expose());
        password.set_sensitive(true);
        headers.insert(named("password"), password);
    }
    headers
}

/// A value as it stands in a header field: UTF-8 as it is, control characters as `?`.
fn value(text: &str) -> HeaderValue {
    let text = &text[..text.floor_char_boundary(MAX_VALUE)];
    let harmless: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    HeaderValue::from_bytes(harmless.as_bytes()).expect("a text without control characters is a header value")
}

/// The bytes of a message, read as they are sent.
fn chunks(body: Body) -> BoxStream<'static, io::Result<Frame<Bytes>>> {
    if let Some(bytes) = body.in_memory() {
        let whole = Ok::<_, Infallible>(Frame::data(bytes.clone()));
        return stream::iter([whole]).map(|frame| frame.map_err(|never| match never {})).boxed();
    }
    let next = |(body, offset): (Body, u64)| async move {
        let chunk = tokio::task::spawn_blocking(move || read_chunk(&body, offset).map(|chunk| (chunk, body)));
        let (chunk, body) = chunk.await.map_err(io::Error::other)??;
        let end = offset + chunk.len() as u64;
        Ok((!chunk.is_empty()).then_some((Frame::data(chunk), (body, end))))
    };
    stream::try_unfold((body, 0), next).boxed()
}

fn read_chunk(body: &Body, offset: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; CHUNK];
    let count = body.read_at(offset, &mut buffer)?;
    buffer.truncate(count);
    Ok(buffer.into())
}

#[cfg(test)]
mod tests {
    use mairust_core::{Content, EmailAddress, Envelope, Origin, ReversePath, Secret, TenantId, Timestamp, TlsFacts};

    use super::super::RspamdEndpoint;
    use super::*;

    fn headers_of(origin: Origin, sender: ReversePath, password: Option<&str>) -> HeaderMap {
        let mut settings = RspamdSettings::new(RspamdEndpoint::parse("http://[::1]").unwrap());
        settings.password = password.map(|password| Secret::new(password.to_owned()));
        settings.hostname = Some("mx.example.com".to_owned());
        let recipients = ["a@example.com", "\"b \\\" c\"@example.com"];
        let recipients = recipients.iter().map(|text| EmailAddress::parse(text).unwrap()).collect();
        let mail = Mail::new(
            TenantId::new(Timestamp::default()),
            Envelope { sender, recipients },
            origin,
            b"Subject: x\r\n\r\nx\r\n".to_vec().into(),
            Content::default(),
        );
        check(&settings, &mail).headers().clone()
    }

    #[test]
    fn facts_stand_in_header_fields() {
        let origin = Origin {
            client: "::ffff:192.0.2.7".parse().ok(),
            helo: Some("mx.sender.example".to_owned()),
            tls: Some(TlsFacts { version: "TLSv1.3".to_owned(), cipher: "AES".to_owned() }),
            ..Origin::default()
        };
        let headers = headers_of(origin, ReversePath::Null, Some("q1"));
        for (name, wanted) in [
            ("host", "[::1]:11333"),
            ("content-length", "17"),
            ("ip", "192.0.2.7"),
            ("helo", "mx.sender.example"),
            ("from", "<>"),
            ("mta-name", "mx.example.com"),
            ("tls-version", "TLSv1.3"),
            ("password", "q1"),
        ] {
            assert_eq!(headers[name], wanted, "{name}");
        }
        let recipients: Vec<_> = headers.get_all("rcpt").iter().collect();
        assert_eq!(recipients, ["a@example.com", "\"b \\\" c\"@example.com"]);
        assert!(!headers.contains_key("user") && !headers.contains_key("queue-id"));
        assert!(!format!("{headers:?}").contains("q1"), "a password is not shown");
    }

    #[test]
    fn what_strangers_write_can_not_forge_a_field() {
        let helo = |text: &str| {
            let origin = Origin { helo: Some(text.to_owned()), ..Origin::default() };
            headers_of(origin, ReversePath::Null, None)["helo"].as_bytes().to_vec()
        };
        assert_eq!(helo("a\r\nUser: root\0\u{85}"), b"a??User: root??");
        assert_eq!(helo("日本.jp"), "日本.jp".as_bytes());
        assert_eq!(helo(&"あ".repeat(1_000)).len(), 999);
    }
}
