use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use mairust_smtp::dns::DnsResolver;

use super::*;

fn table() -> Dns {
    let dns = Dns::new();
    dns.add_mx("example.org", 10, "mx_1.Example.org")
        .add_address("mx_1.example.org", [127, 0, 0, 2])
        .add_address("mx_1.example.org", "::1".parse::<IpAddr>().unwrap())
        .add_txt("example.org", "x".repeat(600))
        .add_txt("long.example.org", "x".repeat(2_000))
        .add_cname("www.example.org", "mx_1.example.org.")
        .add_cname("a.loop.example", "b.loop.example")
        .add_cname("b.loop.example", "a.loop.example")
        .add_ptr([192, 0, 2, 7], "mx.sender.example")
        .add_srv("_submission._tcp.example.org", &service("mx_1.example.org"))
        .add_srv("_pop3._tcp.example.org", &service(""))
        .add_null_mx("silent.example")
        .fail("servfail.example", DnsFailure::ServFail)
        .fail("refused.example", DnsFailure::Refused)
        .fail("gone.example.org", DnsFailure::NotFound);
    dns
}

fn service(host: &str) -> SrvHost {
    SrvHost { priority: 1, weight: 2, port: 587, host: host.to_owned() }
}

/// The same answers by both ways.
async fn check(resolver: &dyn Resolver) {
    let (ipv4, ipv6) = (Ipv4Addr::new(127, 0, 0, 2), Ipv6Addr::LOCALHOST);
    let mx = resolver.mx("Example.org.").await.unwrap();
    assert_eq!(mx.len(), 1);
    assert_eq!((mx[0].preference, mx[0].host.to_lowercase()), (10, "mx_1.example.org".to_owned()));
    assert_eq!(resolver.addresses("mx_1.example.org").await, Ok(vec![ipv4.into(), ipv6.into()]));
    assert_eq!(resolver.ipv4("WWW.example.org").await, Ok(vec![ipv4]));
    assert_eq!(resolver.ipv6("www.example.org").await, Ok(vec![ipv6]));
    assert_eq!(resolver.mx("www.example.org").await, Ok(Vec::new()));
    assert_eq!(resolver.txt("example.org").await, Ok(vec!["x".repeat(600).into_bytes()]));
    assert_eq!(resolver.txt("long.example.org").await, Ok(vec!["x".repeat(2_000).into_bytes()]));
    assert_eq!(resolver.names([192, 0, 2, 7].into()).await, Ok(vec!["mx.sender.example".to_owned()]));
    for (name, host) in [("_submission._tcp.example.org", "mx_1.example.org"), ("_pop3._tcp.example.org", "")] {
        assert_eq!(resolver.srv(name).await, Ok(vec![service(host)]), "{name}");
    }
    assert_eq!(resolver.mx("silent.example").await, Err(ResolveError::NullMx));
    assert_eq!(resolver.mx("org").await, Ok(Vec::new()), "a name above others exists");
    for unknown in ["nobody.example", "gone.example.org", "a..example"] {
        assert_eq!(resolver.mx(unknown).await, Err(ResolveError::NotFound), "{unknown}");
    }
    for failing in ["servfail.example", "refused.example", "a.loop.example"] {
        assert!(matches!(resolver.mx(failing).await, Err(ResolveError::Temporary(_))), "{failing}");
    }
}

#[tokio::test]
async fn answers_as_a_resolver() {
    check(&table()).await;
}

#[tokio::test]
async fn answers_as_a_name_server() {
    let dns = table();
    let server = dns.serve().await.unwrap();
    check(&DnsResolver::with_servers(&[server.address()]).unwrap()).await;
    assert!(dns.asked("EXAMPLE.org") >= 2);
    let address = server.address();
    drop(server);
    // What it was bound to is free again once its tasks have ended.
    let free = async {
        while UdpSocket::bind(address).is_err() || TcpListener::bind(address).is_err() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.expect("it ends when it is dropped");
}

#[tokio::test]
async fn what_is_too_long_for_a_datagram_is_left_to_tcp() {
    let dns = Dns::new();
    dns.add_txt("a.example", "x".repeat(480)).add_txt("b.example", "x".repeat(440));
    let server = dns.serve().await.unwrap();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (name, is_too_long) in [(b'a', true), (b'b', false)] {
        let question = [&b"\x01"[..], &[name], b"\x07example\0\0\x10\0\x01"].concat();
        let query = [&b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"[..], &question].concat();
        socket.send_to(&query, server.address()).await.unwrap();
        let mut answer = [0; 4_096];
        let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut answer)).await;
        let answer = &answer[..received.unwrap().unwrap()];
        assert_eq!(answer[2] & 2 != 0, is_too_long, "TC");
        assert_eq!(answer[7] == 0, is_too_long, "the number of records");
        assert!(answer[12..].starts_with(&question) && answer.len() <= 512);
        assert_eq!(answer.len() == query.len(), is_too_long, "nothing stands behind the question");
    }
}

#[tokio::test]
async fn the_table_may_change_while_it_is_served() {
    let dns = Dns::new();
    let server = dns.serve().await.unwrap();
    let resolver = DnsResolver::with_servers(&[server.address()]).unwrap();
    dns.add_address("a.example", [192, 0, 2, 1]);
    assert_eq!(resolver.ipv4("a.example").await, Ok(vec![[192, 0, 2, 1].into()]));
    dns.remove("a.example").add_address("a.example", [192, 0, 2, 2]);
    assert_eq!(resolver.ipv4("a.example").await, Ok(vec![[192, 0, 2, 2].into()]));
    dns.fail("a.example", DnsFailure::ServFail);
    assert!(matches!(resolver.ipv4("a.example").await, Err(ResolveError::Temporary(_))));
    dns.heal("a.example");
    assert_eq!(dns.ipv4("a.example").await, Ok(vec![[192, 0, 2, 2].into()]));
}

#[tokio::test]
async fn silence_is_silence() {
    let dns = Dns::new();
    dns.fail("slow.example", DnsFailure::Timeout);
    assert!(matches!(dns.mx("slow.example").await, Err(ResolveError::Temporary(_))));
    let server = dns.serve().await.unwrap();
    let resolver = DnsResolver::with_servers(&[server.address()]).unwrap();
    let asked = tokio::time::timeout(Duration::from_millis(300), resolver.mx("slow.example")).await;
    assert!(asked.is_err(), "{asked:?}");
}
