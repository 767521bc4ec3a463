//! Hooks over HTTP, answered by a server that follows a script.

mod answers;
mod connections;
mod watched;
mod whole;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Body;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mairust::hook_protocol::InvocationId;
use mairust::testkit::Dns;
use mairust::{
    EndpointUrl, FailureKind, HookError, HookPoint, HttpClient, HttpHook, HttpTransport, Incoming, ManualClock,
    Outgoing, Roots, SigningSecret, Timestamp, Transport,
};
use mairust_hooks::SignableResponse;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// The id of the specification's vector.
const ID: &str = "inv_01JABCDEFGHJKMNPQRSTVWXYZ0";
/// The time of the specification's vector.
const NOW: Timestamp = Timestamp::from_unix(1_705_312_800);
/// The body of the specification's vector.
const BODY: &str = r#"{"v":1,"hook":"pre_receive","plugin":{"id":"com.example.mairust.spam-filter"}}"#;
const PLUGIN: &str = "com.example.mairust.spam-filter";
const ALLOW: &str = r#"{"v":1,"verdict":"allow"}"#;

/// What becomes of a connection.
#[derive(Clone)]
enum Act {
    /// hyper serves requests.
    Serve(Serve),
    /// This is done, one after the other; then the connection is closed.
    Steps(Vec<Step>),
}

/// A part of what becomes of a connection.
#[derive(Clone)]
enum Step {
    /// Nothing is done until the other side closes the connection.
    Hang,
    /// A request is read.
    Read,
    /// The connection is reset.
    Reset,
    /// These octets are written.
    Say(String),
}

type Serve = Arc<dyn Fn(&Got) -> Response<Full<Bytes>> + Send + Sync>;

/// A request.
#[derive(Debug, Clone)]
struct Got {
    /// The connection, counted from 0.
    connection: usize,
    line: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A server.
struct Stand {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: Mutex<usize>,
    got: Mutex<Vec<Got>>,
}

impl Stand {
    /// `act` says what becomes of each connection.
    async fn start(act: impl Fn(usize) -> Act + Send + 'static) -> Self {
        Self::listen("127.0.0.1:0", None, act).await
    }

    async fn listen(address: &str, tls: Option<TlsAcceptor>, act: impl Fn(usize) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
        let stand = Self { address, seen: seen.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = std::mem::replace(&mut *seen.connections.lock().unwrap(), 0);
                *seen.connections.lock().unwrap() = number + 1;
                tokio::spawn(handle(stream, tls.clone(), number, act(number), seen.clone()));
            }
        });
        stand
    }

    fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    fn connections(&self) -> usize {
        *self.seen.connections.lock().unwrap()
    }

    fn got(&self) -> Vec<Got> {
        self.seen.got.lock().unwrap().clone()
    }
}

async fn handle(stream: TcpStream, tls: Option<TlsAcceptor>, number: usize, act: Act, seen: Arc<Seen>) {
    match (act, tls) {
        (Act::Serve(answer), None) => serve(stream, answer, number, seen).await,
        (Act::Serve(answer), Some(tls)) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, answer, number, seen).await;
            }
        }
        (Act::Steps(steps), _) => {
            // The other side may close the connection at any time.
            let _ = misbehave(stream, steps, number, &seen).await;
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, answer: Serve, connection: usize, seen: Arc<Seen>) {
    let service = service_fn(|request: Request<Body>| {
        let (answer, seen) = (answer.clone(), seen.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let line = format!("{} {} {:?}", head.method, head.uri, head.version);
            let got = Got { connection, line, headers: head.headers, body };
            seen.got.lock().unwrap().push(got.clone());
            Ok::<_, Infallible>(answer(&got))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn misbehave(mut stream: TcpStream, steps: Vec<Step>, number: usize, seen: &Seen) -> std::io::Result<()> {
    for step in steps {
        match step {
            Step::Hang => while stream.read(&mut [0; 1_024]).await? > 0 {},
            Step::Read => {
                let body = read(&mut stream).await?;
                let (line, headers) = (String::new(), HeaderMap::new());
                seen.got.lock().unwrap().push(Got { connection: number, line, headers, body });
            }
            Step::Reset => return stream.set_zero_linger(),
            Step::Say(text) => stream.write_all(text.as_bytes()).await?,
        }
    }
    Ok(())
}

/// Reads a request as it came. Its body is the one of these tests.
async fn read(stream: &mut TcpStream) -> std::io::Result<Bytes> {
    let (mut octets, mut end) = (Vec::new(), None);
    while end.is_none_or(|end| octets.len() < end + 4 + BODY.len()) {
        if stream.read_buf(&mut octets).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        end = octets.windows(4).position(|window| window == b"\r\n\r\n");
    }
    Ok(octets.into())
}

/// Answers each request with this status and body.
fn with(status: u16, body: &'static str) -> Serve {
    Arc::new(move |_| response(status).body(Full::from(body)).unwrap())
}

fn response(status: u16) -> hyper::http::response::Builder {
    Response::builder().status(status).header("content-type", "application/json; charset=utf-8")
}

/// The signature of an answer to this request.
fn signature(got: &Got, body: &str, key: &SigningSecret) -> String {
    let field = |name| got.headers.get(name).unwrap().to_str().unwrap();
    let (id, timestamp) = (field("x-mairust-request-id"), field("x-mairust-timestamp"));
    SignableResponse { id, timestamp, body: body.as_bytes() }.sign(key)
}

/// The key of the specification's vector, and the one that it calls old.
fn keys() -> (SigningSecret, SigningSecret) {
    let current: Vec<u8> = (0..32).collect();
    (SigningSecret::from_bytes(&current).unwrap(), SigningSecret::from_bytes(&[0xaa; 32]).unwrap())
}

fn hook(url: &str) -> HttpHook {
    let mut hook = HttpHook::new(PLUGIN, EndpointUrl::parse(url).unwrap(), keys().0);
    hook.allow_private = true;
    hook
}

/// A way to a hook, by a clock that stands still.
fn way(hook: HttpHook) -> HttpTransport {
    way_with(hook, &Dns::new())
}

fn way_with(hook: HttpHook, dns: &Dns) -> HttpTransport {
    let client = HttpClient::new(&Roots::built_in(), Arc::new(dns.clone()));
    HttpTransport::new(hook, client, Arc::new(ManualClock::at(NOW))).unwrap()
}

fn outgoing(point: HookPoint, time: Duration) -> Outgoing {
    Outgoing::new(InvocationId::parse(ID).unwrap(), point, 3, Instant::now() + time, BODY.into())
}

/// Asks with more time than it takes.
async fn ask(way: &HttpTransport) -> Result<Incoming, HookError> {
    way.exchange(outgoing(HookPoint::PreReceive, Duration::from_secs(20))).await
}

fn kind(answered: &Result<Incoming, HookError>) -> FailureKind {
    answered.as_ref().expect_err("it should have failed").kind()
}
