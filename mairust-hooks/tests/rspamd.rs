use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{
    Body, BodySource, Content, EmailAddress, Envelope, Mail, ManualClock, Origin, ReversePath, ScanAction, ScanReport,
    TenantId, Timestamp,
};
use mairust_hooks::scan::rspamd::{Rspamd, RspamdEndpoint, RspamdSettings};
use mairust_hooks::scan::{ScanError, ScanRequest, Scanner};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

const CLEAN: &str = r#"{"action":"no action","score":0.5,"required_score":15,"symbols":{},"messages":{}}"#;

/// A server that gives the same bytes to everyone, and tells what it was asked.
struct FakeRspamd {
    endpoint: RspamdEndpoint,
    asked: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl FakeRspamd {
    async fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = RspamdEndpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let (sender, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, answer.clone(), sender.clone()));
            }
        });
        Self { endpoint, asked }
    }

    async fn saying(status: &str, body: &str) -> Self {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        Self::start((head + body).into_bytes()).await
    }

    fn client(&self) -> Rspamd {
        Rspamd::new(RspamdSettings::new(self.endpoint.clone()))
    }
}

/// Reads one request to its end, and answers.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: Vec<u8>,
    asked: mpsc::UnboundedSender<Vec<u8>>,
) {
    let mut request = Vec::new();
    loop {
        let head = request.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if request.len() >= head + length.parse::<usize>().unwrap() {
                break;
            }
        }
        if stream.read_buf(&mut request).await.unwrap() == 0 {
            return;
        }
    }
    // The test may be over.
    let _ = asked.send(request);
    let _ = stream.write_all(&answer).await;
}

fn request(body: Body) -> ScanRequest {
    let envelope = Envelope {
        sender: ReversePath::Address(EmailAddress::parse("bob@sender.example").unwrap()),
        recipients: vec![EmailAddress::parse("alice@example.com").unwrap()],
    };
    let origin = Origin { client: "192.0.2.7".parse().ok(), ..Origin::default() };
    ScanRequest::new(Mail::new(TenantId::new(Timestamp::default()), envelope, origin, body, Content::default()))
}

fn small() -> ScanRequest {
    request(Body::from(b"Subject: x\r\n\r\nbody\r\n".to_vec()))
}

async fn ask(server: &FakeRspamd) -> Result<ScanReport, ScanError> {
    server.client().scan(&small()).await
}

/// A body that is not in memory.
#[derive(Debug)]
struct Spooled(Vec<u8>);

impl BodySource for Spooled {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.0[usize::try_from(offset).unwrap()..];
        // Short reads happen, and are no end.
        let count = rest.len().min(buffer.len()).min(10_000);
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

#[tokio::test]
async fn a_message_goes_there_byte_for_byte_with_its_facts() {
    let mut server = FakeRspamd::saying("200 OK", CLEAN).await;
    let report = ask(&server).await.unwrap();
    assert_eq!((report.action, report.score, report.engine.as_str()), (ScanAction::Accept, 0.5, "rspamd"));
    let asked = String::from_utf8(server.asked.recv().await.unwrap()).unwrap();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /checkv2 HTTP/1.1\r\n"), "{head}");
    for field in ["ip: 192.0.2.7", "from: <bob@sender.example>", "rcpt: alice@example.com"] {
        assert!(head.lines().any(|line| line == field), "{field} in {head}");
    }
    assert_eq!(body, "Subject: x\r\n\r\nbody\r\n");
}

#[tokio::test]
async fn a_spooled_message_is_streamed() {
    let mut server = FakeRspamd::saying("200 OK", CLEAN).await;
    let message: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    server.client().scan(&request(Body::from_source(Arc::new(Spooled(message.clone()))))).await.unwrap();
    assert!(server.asked.recv().await.unwrap().ends_with(&message));
}

#[tokio::test]
async fn other_answers_are_errors() {
    let error = ask(&FakeRspamd::saying("500 Oops", r#"{"error":"invalid command"}"#).await).await.unwrap_err();
    assert_eq!(error, ScanError::Http(500));
    let error = ask(&FakeRspamd::saying("302 Found\r\nLocation: http://127.0.0.1:1/", "").await).await.unwrap_err();
    assert_eq!(error, ScanError::Http(302), "redirects are not followed");
    for body in ["", "pong", r#"{"action":"no action"}"#] {
        let error = ask(&FakeRspamd::saying("200 OK", body).await).await.unwrap_err();
        assert!(matches!(error, ScanError::Answer(_)), "{error}");
    }
    for bytes in ["", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"] {
        let error = ask(&FakeRspamd::start(bytes.as_bytes().to_vec()).await).await.unwrap_err();
        assert!(matches!(error, ScanError::Connection(_)), "{error}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.resize(3 << 20, b' ');
    let error = ask(&FakeRspamd::start(answer).await).await.unwrap_err();
    assert!(matches!(&error, ScanError::Answer(text) if text.contains("over 1048576 bytes")), "{error}");
}

#[tokio::test]
async fn a_dead_server_is_left_alone_for_a_while() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = RspamdSettings::new(RspamdEndpoint::parse(&format!("http://{dead}")).unwrap());
    let clock = Arc::new(ManualClock::default());
    let client = Rspamd::with_clock(settings, clock.clone());
    for _ in 0..3 {
        assert!(matches!(client.scan(&small()).await, Err(ScanError::Connection(_))));
    }
    assert_eq!(client.scan(&small()).await, Err(ScanError::Open));
    clock.advance(Duration::from_secs(15));
    assert!(matches!(client.scan(&small()).await, Err(ScanError::Connection(_))), "one call probes");
    assert_eq!(client.scan(&small()).await, Err(ScanError::Open));

    let listener = TcpListener::bind(dead).await.unwrap();
    let (sender, _asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", CLEAN.len());
            serve(stream, (head + CLEAN).into_bytes(), sender.clone()).await;
        }
    });
    clock.advance(Duration::from_secs(30));
    for _ in 0..2 {
        assert!(client.scan(&small()).await.is_ok());
    }
}

#[tokio::test]
async fn a_silent_server_costs_its_time_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = RspamdSettings::new(RspamdEndpoint::parse(&format!("http://{address}")).unwrap());
    settings.timeout = Duration::from_millis(50);
    // Nobody accepts: the kernel takes the connection, and nothing comes back.
    let error = Rspamd::new(settings).scan(&small()).await.unwrap_err();
    assert_eq!(error, ScanError::Timeout(Duration::from_millis(50)));
    drop(listener);
}

#[tokio::test]
async fn a_unix_socket_will_do() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("rspamd-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, mut asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", CLEAN.len());
        serve(stream, (head + CLEAN).into_bytes(), sender).await;
    });
    let endpoint = RspamdEndpoint::parse(&format!("unix:{}", path.display())).unwrap();
    let report = Rspamd::new(RspamdSettings::new(endpoint)).scan(&small()).await;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(report.unwrap().action, ScanAction::Accept);
    assert!(asked.recv().await.unwrap().ends_with(b"body\r\n"));
}
