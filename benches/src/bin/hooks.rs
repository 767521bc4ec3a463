//! What a call of a hook that does nothing costs, by the way it is reached: a closure in Rust, a worker on standard
//! input (Python), HTTP on this machine. `cargo run --release -p mairust-benches --bin hooks -- --calls 2000`
//!
//! Calls go through the runner, one after the other, with a message of 2 KiB of which the hook sees header fields and
//! the beginning of the text. Nothing is stored. What a hook in Python inside the process costs, `benches/python/run`
//! measures through SMTP.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use mairust::hook_protocol::request::{Plugin, SessionOrigin};
use mairust::hook_protocol::{Grants, MailFacts};
use mairust::metrics::Metrics;
use mairust::{
    Binding, EndpointUrl, HookFn, HttpClient, HttpHook, HttpTransport, Mail, ProcessHook, ProcessTransport, Remote,
    Roots, SigningSecret, SystemClock, Transport,
};
use mairust_core::{Content, Envelope, Origin, ReversePath, TenantId, Timestamp};
use mairust_hooks::{Budgets, Fingerprint, HookPoint, HookRunner, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What is measured.
#[derive(Debug, Parser)]
struct Arguments {
    /// Calls of each hook; a tenth more is made before, to warm up.
    #[arg(long, default_value_t = 2_000)]
    calls: usize,
}

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the table is what it is for")]
async fn main() -> Result<(), Failure> {
    let Arguments { calls } = Arguments::parse();
    let closure = Binding::new(Arc::new(HookFn::pre_receive("closure", |_: Mail| async {})));
    println!("| hook | p50 in µs | p99 in µs |\n|---|--:|--:|");
    for (name, binding) in [
        ("closure in Rust", closure),
        ("worker in Python, standard input", remote(worker())),
        ("HTTP, kept connection", remote(http().await?)),
    ] {
        let mut took = measure(binding, calls).await?;
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default().as_nanos() / 1_000;
        println!("| {name} | {} | {} |", at(50), at(99));
    }
    Ok(())
}

/// How long each call took.
async fn measure(binding: Binding, calls: usize) -> Result<Vec<Duration>, Failure> {
    let runner = HookRunner::new(vec![binding], Budgets::default());
    let raw = format!("From: a@b.example\r\nSubject: measured\r\n\r\n{}", format!("{}\r\n", "x".repeat(62)).repeat(32));
    let tenant = TenantId::new(Timestamp::from_unix(1_767_225_600));
    let facts = Arc::new(MailFacts::new(Fingerprint::of_octets(raw.as_bytes()), SessionOrigin::Smtp));
    let envelope = Envelope { sender: ReversePath::Null, recipients: Vec::new() };
    let content = Content::parse(raw.as_bytes());
    let mail = Mail::new(tenant, envelope, Origin::default(), raw.into_bytes().into(), content);
    let hooks = runner.of(tenant);
    let mut took = Vec::with_capacity(calls);
    for number in 0..calls + calls / 10 {
        let point = HookPoint::PreReceive;
        let stage = Stage { deadline: hooks.deadline(point), ..Stage::new(point, mail.clone(), facts.clone()) };
        let began = Instant::now();
        let asked = hooks.ask(&stage).await;
        if number >= calls / 10 {
            took.push(began.elapsed());
        }
        match asked.runs.as_slice() {
            [run] if run.outcome.is_done() => {}
            runs => return Err(format!("no answer: {runs:?}").into()),
        }
    }
    runner.close().await;
    Ok(took)
}

/// The program behind this transport, which sees header fields and the beginning of the text.
fn remote(transport: Arc<dyn Transport>) -> Binding {
    let grants: Grants =
        serde_json::from_value(serde_json::json!({"read_headers": true, "read_body": "preview"})).unwrap_or_default();
    let (id, version, config) = ("com.example.bench".to_owned(), "0.0.0".to_owned(), serde_json::Map::new());
    let plugin = Plugin { id, version, config_rev: 1, config };
    let remote = Remote::new(plugin, vec![HookPoint::PreReceive], grants.clone(), grants, transport);
    let mut binding = Binding::new(Arc::new(remote));
    // The first call of a worker waits for its interpreter.
    binding.timeout = Some(Budgets::default().pre_receive);
    binding
}

/// The sample in `examples/hooks/stdin`.
fn worker() -> Arc<dyn Transport> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hooks/stdin");
    let hook = ProcessHook::new("com.example.bench", "worker.py", folder);
    Arc::new(ProcessTransport::start(hook, Arc::new(SystemClock), Arc::new(Metrics::new())))
}

/// A server that lets everything pass.
async fn http() -> Result<Arc<dyn Transport>, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = EndpointUrl::parse(&format!("http://{}/", listener.local_addr()?))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let mut hook = HttpHook::new("com.example.bench", url, SigningSecret::random());
    hook.allow_private = true;
    let client = HttpClient::new(&Roots::built_in(), Arc::new(mairust::DnsResolver::system()?));
    Ok(Arc::new(HttpTransport::new(hook, client, Arc::new(SystemClock))?))
}

/// Answers requests of one connection with 204.
async fn serve(mut stream: TcpStream) {
    let mut buffer = Vec::new();
    loop {
        let Some(end) = buffer.windows(4).position(|octets| octets == b"\r\n\r\n") else {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
            continue;
        };
        let head = buffer[..end].to_ascii_lowercase();
        let length = head.split(|octet| *octet == b'\n').find_map(|line| line.strip_prefix(b"content-length: "));
        let length = length.and_then(|value| std::str::from_utf8(value.trim_ascii()).ok()?.parse::<usize>().ok());
        let whole = end + 4 + length.unwrap_or_default();
        if buffer.len() < whole {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
            continue;
        }
        buffer.drain(..whole);
        if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
            return;
        }
    }
}
