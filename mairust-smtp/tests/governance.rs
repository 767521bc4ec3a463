//! Limits on a real socket: who gets a session, how fast clients may go, and how long they may
//! take.

use std::net::SocketAddr;
use std::time::Duration;

use mairust_core::Rate;
use mairust_smtp::server::{EarlyTalkers, ListenerConfig, ProxyProtocol, ServerConfig, Service};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::live::{ask, greeted, in_data, last_line, observed, read_line, tls_over};
use crate::support::{Running, config, with_tls};

/// A server that trusts nobody, not even this machine.
fn strict() -> ServerConfig {
    let mut settings = config();
    settings.admission.trusted.clear();
    settings
}

/// A server behind a proxy on this machine.
fn proxied(service: Service) -> (ServerConfig, ListenerConfig) {
    let mut settings = strict();
    settings.proxies = vec!["127.0.0.1".parse().unwrap()];
    let mut listener = ListenerConfig::from(service);
    listener.proxy_protocol = ProxyProtocol::Required;
    (settings, listener)
}

/// A connection that a proxy passes on.
async fn through_proxy(server: &Running, header: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(header).await.unwrap();
    stream
}

fn line_for(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.25 1024 25\r\n").into_bytes()
}

fn peers(server: &Running) -> Vec<SocketAddr> {
    server.script.peers.lock().unwrap().clone()
}

#[tokio::test]
async fn a_client_has_so_many_sessions_and_no_more() {
    let mut settings = strict();
    settings.admission.max_sessions_per_client = 2;
    let server = Running::start(settings, Service::Mx);
    let first = greeted(&server).await;
    let _second = greeted(&server).await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert!(read_line(&mut third).await.starts_with("421 4.7.0 Too many sessions from your address"));
    assert_eq!(read_line(&mut third).await, "");
    assert!(server.notes.has("refused Mx client_full"));
    drop(first);
    observed(&server, "closed Mx").await;
    let _fourth = greeted(&server).await;
}

#[tokio::test]
async fn a_place_is_free_again_after_a_panic() {
    let mut settings = strict();
    settings.admission.max_sessions_per_client = 1;
    let server = Running::start(settings, Service::Mx);
    let mut stream = greeted(&server).await;
    assert!(ask(&mut stream, "MAIL FROM:<a@b.c>").await.starts_with("250 "));
    server.notes.panic_next();
    stream.write_all(b"RCPT TO:<x@y.z>\r\n").await.unwrap();
    assert_eq!(read_line(&mut stream).await, "", "the session is lost");
    observed(&server, "closed Mx").await;
    let _next = greeted(&server).await;
}

#[tokio::test]
async fn all_listeners_share_the_limits() {
    let mut settings = strict();
    settings.admission.max_sessions = 2;
    let servers = Running::start_several(settings, &[Service::Mx, Service::Submission]);
    let (_mx, _submission) = (greeted(&servers[0]).await, greeted(&servers[1]).await);
    for server in &servers {
        let mut surplus = TcpStream::connect(server.address).await.unwrap();
        assert!(read_line(&mut surplus).await.starts_with("421 4.3.2"));
    }
}

#[tokio::test]
async fn under_implicit_tls_who_has_no_place_is_cut_off() {
    let mut settings = with_tls(strict());
    settings.admission.max_sessions_per_client = 1;
    let server = Running::start(settings, Service::Submissions);
    let mut first = tls_over(TcpStream::connect(server.address).await.unwrap()).await;
    assert!(read_line(&mut first).await.starts_with("220 "));
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_line(&mut second).await, "");
    assert!(server.notes.has("refused Submissions client_full"));
}

#[tokio::test]
async fn who_is_too_fast_waits() {
    let mut settings = strict();
    let rate = |count| Some(Rate::new(count, Duration::from_secs(3_600)));
    settings.admission.connection_rate = rate(2);
    settings.admission.message_rate = rate(2);
    settings.admission.recipient_rate = rate(3);
    let server = Running::start(settings, Service::Mx);
    let mut first = greeted(&server).await;
    assert!(ask(&mut first, "MAIL FROM:<a@b.c>").await.starts_with("250 "));
    for recipient in ["one", "two", "three"] {
        assert!(ask(&mut first, &format!("RCPT TO:<{recipient}@y.z>")).await.starts_with("250 "));
    }
    assert!(ask(&mut first, "RCPT TO:<four@y.z>").await.starts_with("450 4.7.1 Too many recipients"));
    assert!(ask(&mut first, "RSET").await.starts_with("250 "));
    assert!(ask(&mut first, "MAIL FROM:<a@b.c>").await.starts_with("250 "));
    let mut second = greeted(&server).await;
    assert!(ask(&mut second, "MAIL FROM:<a@b.c>").await.starts_with("450 4.7.1 Too many messages"));
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert!(read_line(&mut third).await.starts_with("421 4.7.0 Too many connections"));
}

#[tokio::test]
async fn whom_we_trust_is_not_limited() {
    let mut settings = config();
    settings.admission.max_sessions_per_client = 0;
    settings.admission.connection_rate = Some(Rate::new(1, Duration::from_secs(3_600)));
    settings.greeting_delay = Duration::from_secs(3_600);
    let server = Running::start(settings, Service::Mx);
    let (_first, _second) = (greeted(&server).await, greeted(&server).await);
}

#[tokio::test]
async fn an_early_talker_is_refused() {
    let mut settings = strict();
    settings.greeting_delay = Duration::from_secs(3_600);
    let server = Running::start(settings, Service::Mx);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&b"EHLO spam.test\r\nMAIL FROM:<a@b.c>\r\n".repeat(100)).await.unwrap();
    assert_eq!(read_line(&mut stream).await, "554 5.5.1 Wait for the greeting");
    assert_eq!(read_line(&mut stream).await, "");
    assert!(server.notes.has("early talker Mx"));
}

#[tokio::test]
async fn an_early_talker_may_be_noted_only() {
    let mut settings = strict();
    settings.greeting_delay = Duration::from_secs(3_600);
    settings.early_talkers = EarlyTalkers::Note;
    let server = Running::start(settings, Service::Mx);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert!(ask(&mut stream, "HELO c.test").await.starts_with("220 "));
    assert_eq!(read_line(&mut stream).await, "250 mx.test");
    assert!(server.notes.has("early talker Mx"));
}

#[tokio::test]
async fn who_waits_is_greeted() {
    let mut settings = strict();
    settings.greeting_delay = Duration::from_millis(20);
    let server = Running::start(settings, Service::Mx);
    let _stream = greeted(&server).await;
    assert!(!server.notes.has("early talker Mx"));
}

#[tokio::test]
async fn a_line_without_end_does_not_hold_a_session() {
    let mut settings = config();
    settings.idle_timeout = Duration::from_millis(200);
    let server = Running::start(settings, Service::Mx);
    let (mut reader, mut writer) = TcpStream::connect(server.address).await.unwrap().into_split();
    // There is always another octet, and never the end of the line.
    let drip = tokio::spawn(async move {
        while writer.write_all(b"N").await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    assert!(read_line(&mut reader).await.starts_with("220 "));
    assert_eq!(read_line(&mut reader).await, "421 4.4.2 Timeout");
    observed(&server, "closed Mx").await;
    drip.await.unwrap();
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let mut settings = with_tls(config());
    settings.handshake_timeout = Duration::from_millis(50);
    let server = Running::start(settings, Service::Submissions);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_line(&mut stream).await, "");
    observed(&server, "closed Submissions").await;
}

#[tokio::test]
async fn who_does_not_read_is_left() {
    let mut settings = config();
    settings.idle_timeout = Duration::from_millis(200);
    settings.max_commands = u32::MAX;
    let server = Running::start(settings, Service::Mx);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The replies fill the buffers of both systems; nobody takes them out.
    let commands = b"HELP\r\n".repeat(10_000);
    while tokio::time::timeout(Duration::from_secs(10), stream.write_all(&commands))
        .await
        .is_ok_and(|sent| sent.is_ok())
    {
        if server.notes.has("closed Mx") {
            break;
        }
    }
    observed(&server, "closed Mx").await;
}

#[tokio::test]
async fn the_announced_address_is_the_peer() {
    let (settings, listener) = proxied(Service::Mx);
    let server = Running::start(settings, listener);
    let mut stream = through_proxy(&server, &line_for("198.51.100.7")).await;
    assert!(read_line(&mut stream).await.starts_with("220 "));
    let ports = [4, 0, 0, 25];
    let rest = [&[198, 51, 100, 8, 192, 0, 2, 25][..], &ports, &[4, 0, 1, 0]].concat();
    let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10"[..], &rest].concat();
    let mut stream = through_proxy(&server, &header).await;
    assert!(read_line(&mut stream).await.starts_with("220 "));
    let expected: Vec<SocketAddr> =
        ["198.51.100.7:1024", "198.51.100.8:1024"].iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(peers(&server), expected);
    let mut own = through_proxy(&server, b"PROXY UNKNOWN\r\n").await;
    assert!(read_line(&mut own).await.starts_with("220 "));
    assert_eq!(peers(&server)[2], own.local_addr().unwrap());
}

#[tokio::test]
async fn limits_are_of_the_announced_address() {
    let (mut settings, listener) = proxied(Service::Mx);
    settings.admission.max_sessions_per_client = 1;
    let server = Running::start(settings, listener);
    let mut sessions = Vec::new();
    for (client, code) in [("198.51.100.7", "220 "), ("198.51.100.8", "220 "), ("198.51.100.7", "421 4.7.0")] {
        let mut stream = through_proxy(&server, &line_for(client)).await;
        let line = read_line(&mut stream).await;
        assert!(line.starts_with(code), "{client}: {line}");
        sessions.push(stream);
    }
}

#[tokio::test]
async fn tls_begins_right_behind_the_header() {
    let (settings, listener) = proxied(Service::Submissions);
    let server = Running::start(with_tls(settings), listener);
    let stream = through_proxy(&server, &line_for("198.51.100.7")).await;
    let mut stream = tls_over(stream).await;
    assert!(read_line(&mut stream).await.starts_with("220 "));
    assert_eq!(peers(&server)[0].ip().to_string(), "198.51.100.7");
}

#[tokio::test]
async fn nobody_else_is_taken_for_a_proxy() {
    let (mut settings, listener) = proxied(Service::Mx);
    settings.proxies = vec!["192.0.2.0/24".parse().unwrap()];
    let unlisted = Running::start(settings, listener);
    let (mut settings, listener) = proxied(Service::Mx);
    settings.handshake_timeout = Duration::from_millis(50);
    let listed = Running::start(settings, listener);
    for (server, header) in [
        (&unlisted, &line_for("198.51.100.7")[..]),
        (&listed, b"EHLO direct.test\r\n\r\n"),
        (&listed, b""),
        (&listed, b"PROXY T"),
    ] {
        let mut stream = through_proxy(server, header).await;
        assert_eq!(read_line(&mut stream).await, "", "{}", header.escape_ascii());
        observed(server, "refused Mx proxy").await;
        assert_eq!(peers(server), []);
    }
}

#[tokio::test]
async fn a_header_where_none_is_expected_is_no_command() {
    let server = Running::start(strict(), Service::Mx);
    let mut stream = through_proxy(&server, &line_for("198.51.100.7")).await;
    assert!(read_line(&mut stream).await.starts_with("220 "));
    assert!(last_line(&mut stream).await.starts_with("500 "));
    assert_eq!(peers(&server)[0], stream.local_addr().unwrap());
}

#[tokio::test]
async fn a_message_that_drips_is_ended() {
    let mut settings = config();
    settings.data_deadline = Duration::from_millis(200);
    let server = Running::start(settings, Service::Mx);
    let (mut reader, mut writer) = in_data(&server).await.into_split();
    let drip = tokio::spawn(async move {
        while writer.write_all(b"x\r\n").await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(read_line(&mut reader).await, "421 4.4.2 Timeout");
    observed(&server, "closed Mx").await;
    drip.await.unwrap();
}
