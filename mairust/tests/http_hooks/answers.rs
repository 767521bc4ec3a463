//! What is asked, and what answers mean.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use mairust::testkit::Dns;
use mairust::{
    EndpointUrl, FailureKind, HealthStatus, HookKey, HookPoint, HttpClient, HttpTransport, Incoming, ManualClock,
    ResponseSignature, Roots, Transport,
};

use super::{ALLOW, Act, ID, NOW, PLUGIN, Stand, ask, hook, keys, kind, outgoing, response, signature, way, with};

fn answer() -> Incoming {
    Incoming::Answer(ALLOW.into())
}

#[tokio::test]
async fn asks_as_the_protocol_says() {
    let stand = Stand::start(|_| Act::Serve(with(200, ALLOW))).await;
    let (mut hook, clock) = (hook(&stand.url("/in?x=1")), Arc::new(ManualClock::at(NOW)));
    hook.keys.push(HookKey { secret: keys().1, until: Some(NOW.plus(Duration::from_secs(60))) });
    let client = HttpClient::new(&Roots::built_in(), Arc::new(Dns::new()));
    let way = HttpTransport::new(hook, client, clock.clone()).unwrap();
    assert_eq!(ask(&way).await, Ok(answer()));
    clock.advance(Duration::from_secs(60));
    assert_eq!(ask(&way).await, Ok(answer()));
    let got = stand.got();
    let first = "sha256=5b793ad4b125134ab5f8d30ec2e41269fecd1b892c4035ce34b4a0e57305917f";
    let old = "sha256=8872836df88297e8cd9fd1219719f45b11eff514438c18ebebbd6dba0942d239";
    let fields = |place: usize, name: &str| got[place].headers[name].to_str().unwrap().to_owned();
    for (name, wanted) in [
        ("host", stand.address.to_string().as_str()),
        ("content-type", "application/json; charset=utf-8"),
        ("accept", "application/json"),
        ("user-agent", concat!("MaiRust/", env!("CARGO_PKG_VERSION"), " (hook)")),
        ("x-mairust-signature", &format!("{first}, {old}")),
        ("x-mairust-timestamp", "1705312800"),
        ("x-mairust-plugin-id", PLUGIN),
        ("x-mairust-request-id", ID),
        ("x-mairust-hook", "pre_receive"),
        ("x-mairust-attempt", "3"),
        ("webhook-id", ID),
        ("webhook-timestamp", "1705312800"),
    ] {
        assert_eq!(fields(0, name), wanted, "{name}");
    }
    assert!(fields(0, "webhook-signature").starts_with("v1,W3k61LElE0q1+NMOwuQSaf7NG4ksQDXONLSg5XMFkX8= v1,"));
    let traces = [0, 1].map(|place| fields(place, "traceparent"));
    let digits = |trace: &str| trace.bytes().all(|digit| digit == b'-' || digit.is_ascii_hexdigit());
    for trace in &traces {
        assert!(trace.starts_with("00-019296c6b9f08ca74adaf8ceb7cefbe0-") && trace.ends_with("-00"), "{trace}");
        assert!(trace.len() == 55 && digits(trace), "{trace}");
    }
    assert_ne!(traces[0], traces[1]);
    let left: u64 = fields(0, "x-mairust-deadline-ms").parse().unwrap();
    assert!((1..=20_000).contains(&left), "{left}");
    assert_eq!((got[0].line.as_str(), &got[0].body[..]), ("POST /in?x=1 HTTP/1.1", super::BODY.as_bytes()));
    // The time and the signature are those of the second attempt, the id is the same; the old key is gone.
    assert_eq!((fields(1, "x-mairust-timestamp"), fields(1, "webhook-id")), ("1705312860".to_owned(), ID.to_owned()));
    assert!(!fields(1, "x-mairust-signature").contains(", ") && !fields(1, "x-mairust-signature").contains(first));
    assert_eq!((got[1].connection, stand.connections()), (0, 1), "the connection is kept");
}

#[tokio::test]
async fn a_status_says_what_became_of_the_request() {
    let fine = |incoming| Ok::<_, FailureKind>(incoming);
    for (status, wanted) in [
        (200, fine(answer())),
        (202, fine(Incoming::Accepted)),
        (204, fine(Incoming::Nothing)),
        (201, Err(FailureKind::Http)),
        (206, Err(FailureKind::Http)),
        (301, Err(FailureKind::Http)),
        (307, Err(FailureKind::Http)),
        (400, Err(FailureKind::Http)),
        (401, Err(FailureKind::Auth)),
        (403, Err(FailureKind::Auth)),
        (404, Err(FailureKind::Http)),
        (410, Err(FailureKind::Gone)),
        (429, Err(FailureKind::Busy)),
        (500, Err(FailureKind::Http)),
        (503, Err(FailureKind::Busy)),
    ] {
        let body = if status == 204 { "" } else { ALLOW };
        let elsewhere = Stand::start(|_| Act::Serve(with(200, ALLOW))).await;
        let location = elsewhere.url("/");
        let stand = Stand::start(move |_| {
            let location = location.clone();
            Act::Serve(Arc::new(move |_| {
                let response = response(status).header("retry-after", "7200").header("location", &location);
                response.body(Full::from(body)).unwrap()
            }))
        })
        .await;
        let answered = ask(&way(hook(&stand.url("/")))).await;
        if let Err(error) = &answered {
            let busy = error.kind() == FailureKind::Busy;
            assert_eq!(error.wait(), busy.then_some(Duration::from_secs(3_600)), "{status}: an hour at most");
            assert!(error.to_string().starts_with(&format!("it answered {status}")), "{error}");
        }
        assert_eq!(answered.map_err(|error| error.kind()), wanted, "{status}");
        assert_eq!((stand.got().len(), elsewhere.connections()), (1, 0), "{status}: asked once, and nowhere else");
    }
}

#[tokio::test]
async fn an_answer_is_json_and_not_too_long() {
    let (small, large) = (64 << 10, 1 << 20);
    let sync = HookPoint::PreReceive;
    for (point, media_type, length, is_good) in [
        (sync, "application/json", small, true),
        (sync, "Application/JSON;charset=UTF-8", 2, true),
        (sync, "application/json", small + 1, false),
        (HookPoint::PostReceive, "application/json", large, true),
        (HookPoint::PostReceive, "application/json", large + 1, false),
        (sync, "text/html", 2, false),
        (sync, "application/jsonp", 2, false),
        (sync, "", 2, false),
    ] {
        let body = Bytes::from(vec![b' '; length]);
        let stand = Stand::start(move |_| {
            let body = body.clone();
            Act::Serve(Arc::new(move |_| {
                let response = hyper::Response::builder().header("content-type", media_type);
                response.body(Full::new(body.clone())).unwrap()
            }))
        })
        .await;
        let answered = way(hook(&stand.url("/"))).exchange(outgoing(point, Duration::from_secs(20))).await;
        match is_good {
            true => assert_eq!(answered, Ok(Incoming::Answer(vec![b' '; length]))),
            false => assert_eq!(kind(&answered), FailureKind::Protocol, "{media_type} {length}"),
        }
    }
}

#[tokio::test]
async fn answers_are_signed_where_that_is_wanted() {
    let (current, old) = keys();
    for (mode, status, key, wanted) in [
        (ResponseSignature::Off, 200, None, Ok(answer())),
        (ResponseSignature::Off, 200, Some([9; 32]), Ok(answer())),
        (ResponseSignature::Prefer, 200, None, Ok(answer())),
        (ResponseSignature::Prefer, 200, Some([9; 32]), Err(FailureKind::Protocol)),
        (ResponseSignature::Require, 200, None, Err(FailureKind::Protocol)),
        (ResponseSignature::Require, 200, Some([9; 32]), Err(FailureKind::Protocol)),
        (ResponseSignature::Require, 200, current.as_bytes().try_into().ok(), Ok(answer())),
        // While one key takes over, the hook may know only the other; afterwards it may not.
        (ResponseSignature::Require, 200, old.as_bytes().try_into().ok(), Ok(answer())),
        (ResponseSignature::Require, 200, Some([0xbb; 32]), Err(FailureKind::Protocol)),
        (ResponseSignature::Require, 204, None, Err(FailureKind::Protocol)),
        (ResponseSignature::Require, 204, current.as_bytes().try_into().ok(), Ok(Incoming::Nothing)),
        (ResponseSignature::Require, 202, None, Err(FailureKind::Protocol)),
        // Nobody else switches a hook off.
        (ResponseSignature::Require, 410, None, Err(FailureKind::Protocol)),
        (ResponseSignature::Require, 410, current.as_bytes().try_into().ok(), Err(FailureKind::Gone)),
        (ResponseSignature::Prefer, 410, None, Err(FailureKind::Gone)),
    ] {
        let key: Option<[u8; 32]> = key;
        let stand = Stand::start(move |_| {
            Act::Serve(Arc::new(move |got| {
                let (body, mut response) = (if status == 204 { "" } else { ALLOW }, response(status));
                if let Some(key) = key {
                    let key = mairust::SigningSecret::from_bytes(&key).unwrap();
                    response = response.header("x-mairust-response-signature", signature(got, body, &key));
                }
                response.body(Full::from(body)).unwrap()
            }))
        })
        .await;
        let mut hook = hook(&stand.url("/"));
        hook.response_signature = mode;
        let expired = mairust::SigningSecret::from_bytes(&[0xbb; 32]).unwrap();
        hook.keys.push(HookKey { secret: old.clone(), until: Some(NOW.plus(Duration::from_secs(1))) });
        hook.keys.push(HookKey { secret: expired, until: Some(NOW) });
        let answered = ask(&way(hook)).await;
        assert_eq!(answered.map_err(|error| error.kind()), wanted, "{mode:?} {status} {key:?}");
    }
}

#[tokio::test]
async fn health_is_asked_signed_and_read_strictly() {
    let ok = r#"{"status":"ok","details":"12 models"}"#;
    for (status, body, wanted, details) in [
        (200, ok, HealthStatus::Ok, "12 models"),
        (200, r#"{"status":"degraded"}"#, HealthStatus::Degraded, ""),
        (200, r#"{"status":"error","details":"disk"}"#, HealthStatus::Error, "disk"),
        (200, r#"{"status":"fine"}"#, HealthStatus::Error, "its answer is not"),
        (204, "", HealthStatus::Error, "it answered 204"),
        (302, ok, HealthStatus::Error, "it answered 302"),
        (503, ok, HealthStatus::Error, "it answered 503"),
    ] {
        let stand = Stand::start(move |_| Act::Serve(with(status, body))).await;
        let mut hook = hook(&stand.url("/in"));
        assert_eq!(way(hook.clone()).health().await, None, "without an endpoint it can't be asked");
        hook.health_endpoint = Some(EndpointUrl::parse(&stand.url("/health")).unwrap());
        let report = way(hook).health().await.unwrap();
        assert_eq!(report.status, wanted, "{status} {body}");
        assert!(report.details.starts_with(details), "{}", report.details);
        let got = stand.got().remove(0);
        assert_eq!((got.line.as_str(), got.body.len()), ("GET /health HTTP/1.1", 0));
        let field = |name: &str| got.headers[name].to_str().unwrap();
        assert_eq!((field("x-mairust-hook"), field("x-mairust-plugin-id")), ("health", PLUGIN));
        let signable = mairust_hooks::Signable { id: field("x-mairust-request-id"), at: NOW, body: b"" };
        assert_eq!(field("x-mairust-signature"), signable.sign([&keys().0]).hex);
    }
    let stand = Stand::start(|_| Act::Serve(with(200, ALLOW))).await;
    let mut strict = hook(&stand.url("/in"));
    strict.health_endpoint = Some(strict.endpoint.clone());
    strict.response_signature = ResponseSignature::Require;
    assert_eq!(way(strict).health().await.unwrap().details, "its answer is not signed");
}
