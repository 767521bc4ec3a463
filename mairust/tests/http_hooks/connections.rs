//! Connections that fail, that lead where they must not, and that are used again.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use mairust::testkit::{Dns, DnsFailure};
use mairust::{
    Certificates, Domain, EndpointUrl, FailureKind, HookPoint, HttpClient, HttpHook, HttpHookError, HttpTransport,
    Incoming, ManualClock, Roots, Transport, self_signed,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{ALLOW, Act, NOW, Stand, Step, ask, hook, keys, kind, outgoing, way, way_with, with};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

fn fine() -> String {
    format!("{HEAD}content-length: {}\r\n\r\n{ALLOW}", ALLOW.len())
}

#[tokio::test]
async fn what_breaks_off_or_is_no_answer_is_a_failure() {
    let say = |text: String| vec![Step::Read, Step::Say(text), Step::Hang];
    let close = |text: &str| vec![Step::Read, Step::Say(text.to_owned())];
    for (steps, wanted) in [
        (vec![Step::Read], FailureKind::Connect),
        (vec![Step::Read, Step::Reset], FailureKind::Connect),
        (close(HEAD), FailureKind::Connect),
        (close(&format!("{HEAD}content-length: 10\r\n\r\n{{}}")), FailureKind::Connect),
        (close(&format!("{HEAD}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n")), FailureKind::Connect),
        (say("220 mx.example ESMTP\r\n".to_owned()), FailureKind::Protocol),
        (say(format!("{HEAD}transfer-encoding: chunked\r\n\r\nzz\r\n")), FailureKind::Protocol),
        (say(format!("{HEAD}x: {}\r\n", "x".repeat(128 << 10))), FailureKind::Protocol),
        // Nobody waits for the rest of what is too long.
        (say(format!("{HEAD}content-length: 65537\r\n\r\n")), FailureKind::Protocol),
        (
            say(format!("{HEAD}transfer-encoding: chunked\r\n\r\n20000\r\n{}", " ".repeat(65_537))),
            FailureKind::Protocol,
        ),
    ] {
        let stand = Stand::start(move |_| Act::Steps(steps.clone())).await;
        let answered = ask(&way(hook(&stand.url("/")))).await;
        assert_eq!(kind(&answered), wanted, "{answered:?}");
        assert_eq!(stand.got().len(), 1, "it has seen the request, and is not asked again: {answered:?}");
    }
}

#[tokio::test]
async fn who_is_late_is_not_asked_again() {
    let (begun, half) = ("HTTP/1.1 200 O".to_owned(), format!("{HEAD}content-length: 10\r\n\r\n{{"));
    for (answered_before, steps) in [
        (0, vec![Step::Read, Step::Hang]),
        (0, vec![Step::Read, Step::Say(begun), Step::Hang]),
        (0, vec![Step::Read, Step::Say(half), Step::Hang]),
        (1, vec![Step::Read, Step::Say(fine()), Step::Read, Step::Hang]),
    ] {
        let stand = Stand::start(move |_| Act::Steps(steps.clone())).await;
        let way = way(hook(&stand.url("/")));
        for _ in 0..answered_before {
            assert!(ask(&way).await.is_ok());
        }
        let answered = way.exchange(outgoing(HookPoint::PreReceive, Duration::from_millis(200))).await;
        assert_eq!(kind(&answered), FailureKind::Timeout, "{answered:?}");
        assert_eq!((stand.got().len(), stand.connections()), (1 + answered_before, 1));
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    // It is closed when nothing happens, or with a request on the way, which nobody has looked at then.
    for (first, requests) in [
        (vec![Step::Read, Step::Say(fine())], 2),
        (vec![Step::Read, Step::Say(fine()), Step::Read], 3),
        (vec![Step::Read, Step::Say(fine()), Step::Read, Step::Reset], 3),
    ] {
        let stand = Stand::start(move |number| match number {
            0 => Act::Steps(first.clone()),
            _ => Act::Serve(with(200, ALLOW)),
        })
        .await;
        let way = way(hook(&stand.url("/")));
        for _ in 0..2 {
            assert_eq!(ask(&way).await, Ok(Incoming::Answer(ALLOW.into())));
        }
        let got: Vec<_> = stand.got().iter().map(|got| got.connection).collect();
        assert_eq!((got.len(), got.last()), (requests, Some(&1)));
    }
    // Twice in a row is once too often.
    let steps = vec![Step::Read, Step::Say(fine()), Step::Read];
    let stand =
        Stand::start(move |number| Act::Steps(if number == 0 { steps.clone() } else { vec![Step::Read] })).await;
    let way = way(hook(&stand.url("/")));
    assert!(ask(&way).await.is_ok());
    assert_eq!(kind(&ask(&way).await), FailureKind::Connect);
    assert_eq!(stand.got().len(), 3);
}

#[tokio::test]
async fn calls_at_the_same_time_have_connections_of_their_own_and_later_ones_use_them() {
    let stand = Stand::start(|_| Act::Serve(with(200, ALLOW))).await;
    let way = way(hook(&stand.url("/")));
    for _ in 0..3 {
        let calls = futures::future::join_all((0..8).map(|_| ask(&way))).await;
        assert!(calls.iter().all(Result::is_ok), "{calls:?}");
        assert_eq!(stand.connections(), 8);
    }
}

#[tokio::test]
async fn who_stops_waiting_leaves_no_connection_behind() {
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        super::read(&mut stream).await.unwrap();
        told.send("asked").unwrap();
        // The end of the stream, or a reset.
        let _ = stream.read(&mut [0; 16]).await;
        told.send("left").unwrap();
    });
    let way = way(hook(&url));
    tokio::select! {
        answered = ask(&way) => panic!("{answered:?}"),
        told = hears.recv() => assert_eq!(told, Some("asked")),
    }
    assert_eq!(hears.recv().await, Some("left"));
}

/// Two addresses of this machine: nobody listens at the first one.
#[tokio::test]
async fn who_refuses_is_asked_once_more_at_once() {
    let dns = Dns::new();
    let stand = Stand::listen("127.0.0.2:0", None, |_| Act::Serve(with(200, ALLOW))).await;
    let url = format!("http://hooks.example:{}/", stand.address.port());
    let way = way_with(hook(&url), &dns);
    dns.add_address("hooks.example", Ipv4Addr::LOCALHOST);
    let answered = ask(&way).await;
    assert_eq!(kind(&answered), FailureKind::Connect);
    let text = answered.unwrap_err().to_string();
    assert!(text.contains("refused") && !text.contains("127.0.0"), "{text}");
    assert_eq!(dns.asked("hooks.example"), 4, "twice, for addresses of both kinds each");
    dns.add_address("hooks.example", [127, 0, 0, 2]);
    assert_eq!(ask(&way).await, Ok(Incoming::Answer(ALLOW.into())), "the next address is tried");
}

#[tokio::test]
async fn private_addresses_are_asked_with_leave_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, dns) = (listener.local_addr().unwrap().port(), Dns::new());
    let strict = |url: &str| HttpHook::new("com.example.filter", EndpointUrl::parse(url).unwrap(), keys().0);
    let client = HttpClient::new(&Roots::built_in(), Arc::new(dns.clone()));
    let make = |hook| HttpTransport::new(hook, client.clone(), Arc::new(ManualClock::at(NOW)));
    assert!(matches!(make(strict(&format!("https://127.0.0.1:{port}/"))), Err(HttpHookError::Url(_))));
    assert!(matches!(make(strict(&format!("http://hooks.example:{port}/"))), Err(HttpHookError::Url(_))));
    // The name shows nothing; the address does.
    for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254"] {
        dns.add_address("hooks.example", address.parse::<IpAddr>().unwrap());
    }
    let way = make(strict(&format!("https://hooks.example:{port}/"))).unwrap();
    let answered = ask(&way).await;
    assert_eq!(kind(&answered), FailureKind::Connect);
    assert_eq!(answered.unwrap_err().to_string(), "the host has no address that may be reached");
    dns.fail("hooks.example", DnsFailure::ServFail);
    assert_eq!(kind(&ask(&way).await), FailureKind::Connect);
    let nobody = std::future::poll_fn(|context| std::task::Poll::Ready(listener.poll_accept(context).is_pending()));
    assert!(nobody.await, "nobody came");
}

#[tokio::test]
async fn where_a_name_leads_is_judged_for_each_connection() {
    let (dns, public) = (Dns::new(), Ipv4Addr::new(192, 0, 43, 8));
    let stand = Stand::start(|_| Act::Serve(with(200, ALLOW))).await;
    let way = way_with(hook(&format!("http://hooks.example:{}/", stand.address.port())), &dns);
    dns.add_address("hooks.example", Ipv4Addr::LOCALHOST);
    assert!(ask(&way).await.is_ok());
    let asked = dns.asked("hooks.example");
    // Without TLS, public addresses must not be reached. The connection that there is leads to the one that was checked.
    dns.remove("hooks.example").add_address("hooks.example", public);
    assert!(ask(&way).await.is_ok());
    assert_eq!((dns.asked("hooks.example"), stand.connections()), (asked, 1));
    let fresh = way_with(hook(&format!("http://hooks.example:{}/", stand.address.port())), &dns);
    let answered = ask(&fresh).await;
    assert_eq!(answered.unwrap_err().to_string(), "the host has no address that may be reached");
    assert_eq!(dns.asked("hooks.example"), 2 * asked, "what was checked is what would be connected to");
}

#[tokio::test]
async fn with_tls_the_certificate_shows_who_answers() {
    let (dns, certificate) = (Dns::new(), self_signed(&Domain::parse("hooks.example").unwrap()).unwrap());
    let roots = Roots::built_in().with_pem(&certificate.certificate).unwrap();
    let tls = TlsAcceptor::from(Certificates::new(&[certificate]).unwrap().server_config());
    let stand = Stand::listen("127.0.0.1:0", Some(tls), |_| Act::Serve(with(200, ALLOW))).await;
    dns.add_address("hooks.example", Ipv4Addr::LOCALHOST).add_address("other.example", Ipv4Addr::LOCALHOST);
    for (host, roots, is_believed) in [
        ("hooks.example", &roots, true),
        ("other.example", &roots, false),
        ("hooks.example", &Roots::built_in(), false),
    ] {
        let hook = hook(&format!("https://{host}:{}/", stand.address.port()));
        let client = HttpClient::new(roots, Arc::new(dns.clone()));
        let way = HttpTransport::new(hook, client, Arc::new(ManualClock::at(NOW))).unwrap();
        let answered = ask(&way).await;
        match is_believed {
            true => assert_eq!(answered, Ok(Incoming::Answer(ALLOW.into()))),
            false => assert_eq!(kind(&answered), FailureKind::Connect, "{host}"),
        }
    }
}
