//! An S3 server that knows no conditions: it ignores `If-None-Match`, as some do, or refuses it, as
//! others do. It can't list uploads either. No more than what bodies need, and no check of signatures: for that there is a real one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use mairust_core::Secret;
use mairust_store::{S3Bodies, S3Encryption, S3Settings};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a request with a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conditions {
    Ignored,
    Refused,
}

#[derive(Debug)]
struct Server {
    conditions: Conditions,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, BTreeMap<usize, Vec<u8>>>,
}

struct Request {
    method: String,
    key: String,
    query: BTreeMap<String, String>,
    is_conditional: bool,
    body: Vec<u8>,
}

struct Response {
    status: &'static str,
    body: Vec<u8>,
}

/// Bodies in such a server, which ends with the test.
pub(super) async fn bodies(conditions: Conditions) -> S3Bodies {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Arc::new(Server { conditions, kept: Mutex::default() });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&server).serve(stream));
        }
    });
    let key = || Secret::new("key".to_owned());
    let mut settings = S3Settings::new("bucket", key(), key());
    settings.endpoint = Some(format!("http://127.0.0.1:{port}"));
    settings.encryption = S3Encryption::None;
    S3Bodies::new(settings).unwrap()
}

impl Server {
    async fn serve(self: Arc<Self>, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read(&mut stream).await? {
            let Response { status, body } = self.answer(&request);
            let length = body.len();
            let mut answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"e\"\r\n\r\n").into_bytes();
            if request.method != "HEAD" {
                answer.extend(body);
            }
            stream.write_all(&answer).await?;
            stream.flush().await?;
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Response {
        let is_refused = request.is_conditional && self.conditions == Conditions::Refused;
        if is_refused || request.method == "GET" && request.query.contains_key("uploads") {
            return Response { status: "501 Not Implemented", body: b"<Code>NotImplemented</Code>".to_vec() };
        }
        let (key, mut kept) = (request.key.clone(), self.kept.lock().unwrap());
        let query = |name: &str| request.query.get(name).cloned();
        match (request.method.as_str(), query("uploadId")) {
            ("GET", None) if key.is_empty() => ok(kept.list(request)),
            ("GET" | "HEAD", None) => kept.objects.get(&key).cloned().map_or_else(missing, ok),
            ("POST", None) => {
                let id = format!("upload-{}", kept.uploads.len());
                kept.uploads.insert(id.clone(), BTreeMap::new());
                ok(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
            }
            ("PUT", None) => {
                kept.objects.insert(key, request.body.clone());
                ok("")
            }
            ("PUT", Some(id)) => {
                let number = query("partNumber").unwrap().parse().unwrap();
                kept.uploads.get_mut(&id).unwrap().insert(number, request.body.clone());
                ok("")
            }
            ("POST", Some(id)) => {
                let parts = kept.uploads.remove(&id).unwrap();
                kept.objects.insert(key, parts.into_values().flatten().collect());
                ok("<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
            }
            ("DELETE", Some(id)) => kept.uploads.remove(&id).map_or_else(missing, |_| ok("")),
            ("DELETE", None) => kept.objects.remove(&key).map_or_else(missing, |_| ok("")),
            (method, _) => panic!("{method} {key}"),
        }
    }
}

impl Kept {
    fn list(&self, request: &Request) -> String {
        let after = request.query.get("start-after").cloned().unwrap_or_default();
        let limit = request.query["max-keys"].parse().unwrap();
        let mut keys = self.objects.iter().filter(|(key, _)| **key > after);
        let mut text = String::from("<ListBucketResult>");
        for (key, body) in keys.by_ref().take(limit) {
            let (size, date) = (body.len(), "2026-11-24T00:00:00.000Z");
            write!(text, "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{date}</LastModified></Contents>")
                .unwrap();
        }
        if keys.next().is_some() {
            text.push_str("<NextContinuationToken>more</NextContinuationToken>");
        }
        text + "</ListBucketResult>"
    }
}

fn ok(body: impl Into<Vec<u8>>) -> Response {
    Response { status: "200 OK", body: body.into() }
}

fn missing() -> Response {
    Response { status: "404 Not Found", body: b"<Code>NoSuchKey</Code>".to_vec() }
}

/// The next request; none when the client has no more.
async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (mut length, mut is_conditional) = (0, false);
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "if-none-match" => is_conditional = true,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = pairs.map(|(name, value)| (name.to_owned(), value.replace("%2F", "/"))).collect();
    let key = path.trim_start_matches("/bucket").trim_start_matches('/').to_owned();
    Ok(Some(Request { method, key, query, is_conditional, body }))
}
