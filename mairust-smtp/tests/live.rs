//! The server on a real socket: TLS, spooling, limits, and the ways in which sessions end.

use std::sync::Arc;
use std::time::Duration;

use mairust_smtp::server::{Server, Service, bind};
use mairust_smtp::tls::{Certificates, TlsError};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{PATIENCE, Running, Script, config, pair, with_tls};

/// Plain text or TLS.
pub(crate) trait LineStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> LineStream for T {}

/// The next line without its CRLF; empty at the end of the connection.
pub(crate) async fn read_line<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let read = timeout(PATIENCE, stream.read_u8()).await.expect("the server answers");
        match read {
            Ok(byte) => line.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(line).unwrap().trim_end_matches("\r\n").to_owned()
}

/// A handshake as a client that takes any certificate.
pub(crate) async fn tls_over(stream: TcpStream) -> TlsStream<TcpStream> {
    tls_as(stream, "mx.test").await
}

/// The same, asking for this name.
async fn tls_as(stream: TcpStream, name: &'static str) -> TlsStream<TcpStream> {
    let connector = TlsConnector::from(mairust_smtp::tls::opportunistic_client_config());
    connector.connect(ServerName::try_from(name).unwrap(), stream).await.unwrap()
}

/// Sends a line and returns the last line of the reply.
pub(crate) async fn ask<S: LineStream>(stream: &mut S, line: &str) -> String {
    stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    last_line(stream).await
}

/// The last line of a reply.
pub(crate) async fn last_line<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    loop {
        let line = read_line(stream).await;
        if line.as_bytes().get(3) != Some(&b'-') {
            return line;
        }
    }
}

/// A session that has greeted.
pub(crate) async fn greeted(server: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert!(read_line(&mut stream).await.starts_with("220 mx.test ESMTP"));
    assert!(ask(&mut stream, "EHLO c.test").await.starts_with("250 "));
    stream
}

/// A session in which DATA was said.
pub(crate) async fn in_data(server: &Running) -> TcpStream {
    let mut stream = greeted(server).await;
    assert!(ask(&mut stream, "MAIL FROM:<a@b.c>").await.starts_with("250 "));
    assert!(ask(&mut stream, "RCPT TO:<x@y.z>").await.starts_with("250 "));
    assert!(ask(&mut stream, "DATA").await.starts_with("354 "));
    stream
}

/// Waits until something has been observed.
pub(crate) async fn observed(server: &Running, note: &str) {
    let wait = async {
        while !server.notes.has(note) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{note} was not observed"));
}

#[tokio::test]
async fn starttls_then_auth_then_mail() {
    let server = Running::start(with_tls(config()), Service::Submission);
    let mut plain = greeted(&server).await;
    assert!(ask(&mut plain, "STARTTLS").await.starts_with("220 2.0.0"));
    let mut stream = tls_over(plain).await;
    assert!(ask(&mut stream, "AUTH PLAIN AGFubgBzZWNyZXQ=").await.starts_with("503 "));
    assert!(ask(&mut stream, "EHLO c.test").await.starts_with("250 "));
    assert!(ask(&mut stream, "AUTH PLAIN AGFubgB3cm9uZw==").await.starts_with("535 5.7.8"));
    assert!(ask(&mut stream, "AUTH PLAIN AGFubgBzZWNyZXQ=").await.starts_with("235 "));
    assert!(ask(&mut stream, "MAIL FROM:<a@b.c>").await.starts_with("250 "));
    assert!(ask(&mut stream, "RCPT TO:<x@y.z>").await.starts_with("250 "));
    assert!(ask(&mut stream, "DATA").await.starts_with("354 "));
    assert_eq!(ask(&mut stream, "hi\r\n.").await, "250 2.0.0 taken");
    let taken = server.script.taken();
    assert_eq!((taken.len(), taken[0].user.as_deref(), taken[0].tls), (1, Some("ann"), true));
    assert!(server.notes.has("STARTTLS") && server.notes.has("235") && server.notes.has("message 250"));
}

/// What a client answers to the first message of the server (RFC 5802 §3), after `n,,n=ann,r=abc`.
fn scram_answer(challenge: &str, password: &str) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::{Digest, Sha256};
    let mac = |key: &[u8], text: &[u8]| -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text);
        mac.finalize().into_bytes().into()
    };
    let first = String::from_utf8(STANDARD.decode(challenge).unwrap()).unwrap();
    let mut parts = first.split(',').map(|part| &part[2..]);
    let (nonce, salt) = (parts.next().unwrap(), STANDARD.decode(parts.next().unwrap()).unwrap());
    let salted =
        pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, parts.next().unwrap().parse().unwrap());
    let key = mac(&salted, b"Client Key");
    let signature = mac(&Sha256::digest(key), format!("n=ann,r=abc,{first},c=biws,r={nonce}").as_bytes());
    let proof: Vec<u8> = key.iter().zip(signature).map(|(one, other)| one ^ other).collect();
    STANDARD.encode(format!("c=biws,r={nonce},p={}", STANDARD.encode(proof)))
}

#[tokio::test]
async fn scram_needs_the_password() {
    let server = Running::start(with_tls(config()), Service::Submissions);
    let mut stream = tls_over(TcpStream::connect(server.address).await.unwrap()).await;
    assert!(last_line(&mut stream).await.starts_with("220 "));
    assert!(ask(&mut stream, "EHLO c.test").await.starts_with("250 "));
    let first = ask(&mut stream, "AUTH SCRAM-SHA-256 biwsbj1hbm4scj1hYmM=").await;
    let wrong = scram_answer(&first[4..], "wrong");
    assert_eq!(ask(&mut stream, &wrong).await, "535 5.7.8 Authentication failed");
    observed(&server, "535").await;
    let first_again = ask(&mut stream, "AUTH SCRAM-SHA-256 biwsbj1hbm4scj1hYmM=").await;
    assert_ne!(first, first_again, "a nonce is never used twice");
    assert_eq!(*server.script.scram_failures.lock().unwrap(), ["ann"]);
    let right = scram_answer(&first_again[4..], "secret");
    assert!(ask(&mut stream, &right).await.starts_with("334 dj"));
    assert!(ask(&mut stream, "").await.starts_with("235 2.7.0"));
    assert!(ask(&mut stream, "MAIL FROM:<a@b.c>").await.starts_with("250 "));
}

#[tokio::test]
async fn plain_text_behind_starttls_is_ignored() {
    let server = Running::start(with_tls(config()), Service::Mx);
    let mut plain = greeted(&server).await;
    plain.write_all(b"STARTTLS\r\nEHLO evil.test\r\nMAIL FROM:<evil@b.c>\r\n").await.unwrap();
    assert!(read_line(&mut plain).await.starts_with("220 "));
    let mut stream = tls_over(plain).await;
    // Neither a reply nor a greeting of the injected commands is left.
    assert_eq!(ask(&mut stream, "MAIL FROM:<a@b.c>").await, "503 5.5.1 Say EHLO first");
    assert!(ask(&mut stream, "EHLO c.test").await.starts_with("250 "));
    assert!(ask(&mut stream, "RCPT TO:<x@y.z>").await.starts_with("503 "));
}

#[tokio::test]
async fn certificates_follow_the_name_and_are_replaced_under_sessions() {
    let certificates = Certificates::new(&[pair("mx.test"), pair("*.example.org")]).unwrap();
    let mut config = config();
    config.tls = Some(certificates.server_config());
    let server = Running::start(config, Service::Submissions);
    let connect = async |name| {
        let mut stream = tls_as(TcpStream::connect(server.address).await.unwrap(), name).await;
        assert!(last_line(&mut stream).await.starts_with("220 "));
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        (stream, shown)
    };
    let (mut old, default) = connect("mx.test").await;
    let (_, wildcard) = connect("mail.example.org").await;
    assert_ne!(default, wildcard);
    assert_eq!(connect("nobody.example.net").await.1, default);
    assert!(certificates.replace(&[]).is_err());
    assert_eq!(connect("mx.test").await.1, default, "a failed change changes nothing");
    certificates.replace(&[pair("mx.test")]).unwrap();
    let renewed = connect("mx.test").await.1;
    assert_ne!(renewed, default);
    assert_eq!(connect("mail.example.org").await.1, renewed);
    assert!(ask(&mut old, "EHLO c.test").await.starts_with("250 "), "sessions go on");
    let mut mixed = pair("mx.test");
    mixed.key = pair("mx.test").key;
    assert!(matches!(certificates.replace(&[mixed]), Err(TlsError::Pair(_))));
}

#[tokio::test]
async fn a_large_message_goes_through_a_file() {
    let server = Running::start(config(), Service::Mx);
    let mut stream = in_data(&server).await;
    let line = [&[b'x'; 70][..], b"\r\n"].concat();
    let body = line.repeat(20_000);
    stream.write_all(&body).await.unwrap();
    assert_eq!(ask(&mut stream, ".").await, "250 2.0.0 taken");
    let taken = server.script.taken();
    assert!(!taken[0].in_memory);
    assert_eq!(taken[0].body.len(), body.len());
    assert!(taken[0].body == body);
}

#[tokio::test]
async fn a_spool_that_fails_costs_the_message_and_not_the_session() {
    let mut settings = config();
    settings.spool_dir = "/nonexistent/spool".into();
    settings.spool_threshold = 10;
    let server = Running::start(settings, Service::Mx);
    let mut stream = in_data(&server).await;
    stream.write_all(&b"0123456789\r\nMAIL FROM:<evil@b.c>\r\n".repeat(5_000)).await.unwrap();
    assert_eq!(ask(&mut stream, ".").await, "452 4.3.1 Insufficient system storage");
    assert_eq!(ask(&mut stream, "NOOP").await, "250 2.0.0 OK");
    assert_eq!(server.script.taken(), []);
}

#[tokio::test]
async fn a_forged_end_never_yields_a_second_message() {
    let server = Running::start(config(), Service::Mx);
    for forged in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r\n.\r\r\n", "\r.\r", "\r.\r\n"] {
        let mut stream = in_data(&server).await;
        let envelope = "MAIL FROM:<evil@b.c>\r\nRCPT TO:<x@y.z>\r\nDATA\r\nforged\r\n.\r\n";
        stream.write_all(format!("hi{forged}{envelope}QUIT\r\n").as_bytes()).await.unwrap();
        assert!(read_line(&mut stream).await.starts_with("550 5.6.0"), "{forged:?}");
        assert!(read_line(&mut stream).await.starts_with("221 "), "{forged:?}");
        assert_eq!(read_line(&mut stream).await, "");
    }
    assert_eq!(server.script.taken(), []);
}

#[tokio::test]
async fn a_full_server_says_so() {
    let mut settings = config();
    settings.admission.max_sessions_per_listener = 1;
    let server = Running::start(settings, Service::Mx);
    let first = greeted(&server).await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert!(read_line(&mut second).await.starts_with("421 4.3.2"));
    assert_eq!(read_line(&mut second).await, "");
    assert!(server.notes.has("refused Mx listener_full"));
    drop(first);
    observed(&server, "closed Mx").await;
}

#[tokio::test]
async fn stopping_lets_a_message_finish() {
    let mut server = Running::start(config(), Service::Mx);
    let mut idle = greeted(&server).await;
    let mut busy = in_data(&server).await;
    busy.write_all(b"half\r\n").await.unwrap();
    server.stop();
    assert_eq!(read_line(&mut idle).await, "421 4.3.2 Service shutting down");
    assert_eq!(read_line(&mut idle).await, "");
    assert_eq!(ask(&mut busy, "done\r\n.").await, "250 2.0.0 taken");
    assert_eq!(read_line(&mut busy).await, "421 4.3.2 Service shutting down");
    let script = server.script.clone();
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing is accepted any more");
    server.ended().await;
    assert_eq!(script.taken()[0].body, b"half\r\ndone\r\n");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let server = Running::start(config(), Service::Mx);
    let mut stream = in_data(&server).await;
    stream.write_all(b"half a message\r\n.").await.unwrap();
    drop(stream);
    observed(&server, "closed Mx").await;
    assert_eq!(server.script.taken(), []);
}

#[tokio::test]
async fn a_panic_in_the_handler_costs_one_answer() {
    let server = Running::start(config(), Service::Mx);
    let mut stream = greeted(&server).await;
    assert!(ask(&mut stream, "MAIL FROM:<a@b.c>").await.starts_with("250 "));
    assert!(ask(&mut stream, "RCPT TO:<panic@y.z>").await.starts_with("451 4.3.0"));
    assert!(ask(&mut stream, "RCPT TO:<x@y.z>").await.starts_with("250 "));
    assert_eq!(server.script.recipients_asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn silence_ends_a_session() {
    let mut settings = config();
    settings.idle_timeout = Duration::from_millis(50);
    let server = Running::start(settings, Service::Mx);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert!(read_line(&mut stream).await.starts_with("220 "));
    assert_eq!(read_line(&mut stream).await, "421 4.4.2 Timeout");
    assert_eq!(read_line(&mut stream).await, "");
}

#[tokio::test]
async fn a_message_has_a_deadline() {
    let mut settings = config();
    settings.data_deadline = Duration::ZERO;
    let server = Running::start(settings, Service::Mx);
    let mut stream = in_data(&server).await;
    assert_eq!(read_line(&mut stream).await, "421 4.4.2 Timeout");
    assert_eq!(server.script.taken(), []);
}

#[tokio::test]
async fn implicit_tls_needs_a_certificate() {
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    let server = Server::new(config(), Arc::new(Script::default()));
    let error = server.run(listener, Service::Submissions, std::future::pending()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
