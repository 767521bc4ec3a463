//! What a call of a hook that does nothing costs, by the way it is reached: a closure in Rust, a worker on standard
//! input (Python), HTTP on this machine. `cargo run --release -p mairust-benches --bin hooks -- --calls 2000`
//!
//! Calls go through the runner, one after the other, with a message of 2 KiB of which the hook sees header fields and
//! the beginning of the text. Nothing is stored. With `--serve`, it is a mail server in memory with one such hook, which
//! `benches/python/run` measures through SMTP, beside hooks in Python inside the process.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use mairust::hook_protocol::request::{Plugin, SessionOrigin};
use mairust::hook_protocol::{Grants, MailFacts};
use mairust::metrics::Metrics;
use mairust::{
    Binding, DirectoryExt, EndpointUrl, HookFn, HttpClient, HttpHook, HttpTransport, Mail, MemoryStorage, ProcessHook,
    ProcessTransport, Remote, Roots, Server, ServerBuilder, SigningSecret, StorageBackend, SystemClock, Transport,
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
    /// Serve mail with this hook instead until standard input ends. The port is printed.
    #[arg(long)]
    serve: Option<Way>,
}

/// How the hook is reached.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Way {
    /// There is none.
    None,
    Closure,
    Worker,
    Http,
}

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the table is what it is for")]
async fn main() -> Result<(), Failure> {
    let Arguments { calls, serve } = Arguments::parse();
    if let Some(way) = serve {
        return serve_mail(way.binding().await?).await;
    }
    println!("| hook | p50 in µs | p99 in µs |\n|---|--:|--:|");
    for (name, way) in [
        ("closure in Rust", Way::Closure),
        ("worker in Python, standard input", Way::Worker),
        ("HTTP, kept connection", Way::Http),
    ] {
        let mut took = measure(way.binding().await?.into_iter().collect(), calls).await?;
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default().as_nanos() / 1_000;
        println!("| {name} | {} | {} |", at(50), at(99));
    }
    Ok(())
}

impl Way {
    async fn binding(self) -> Result<Option<Binding>, Failure> {
        Ok(Some(match self {
            Self::None => return Ok(None),
            Self::Closure => Binding::new(Arc::new(HookFn::pre_receive("closure", |_: Mail| async {}))),
            Self::Worker => remote(worker()),
            Self::Http => remote(http().await?),
        }))
    }
}

/// A server that keeps all mail in memory, as that of `benches/python/run`.
#[expect(clippy::print_stdout, reason = "whoever started it has to know the port")]
async fn serve_mail(binding: Option<Binding>) -> Result<(), Failure> {
    let storage = MemoryStorage::new(Arc::new(SystemClock));
    storage.directory().ensure_user("alice@example.com", "correct horse").await?;
    let builder = Server::builder("mx.example.com", storage).smtp("127.0.0.1:0");
    let builder = binding.into_iter().fold(builder, ServerBuilder::bind_hook);
    let running = builder.build()?.start().await?;
    let address = running.addresses().smtp.first().ok_or("it does not listen")?.1;
    println!("{}", address.port());
    let input = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let ended = async {
        // However it ends.
        let _ = tokio::task::spawn_blocking(input).await;
    };
    Ok(running.run_until(ended).await?)
}

/// How long each call took.
async fn measure(bindings: Vec<Binding>, calls: usize) -> Result<Vec<Duration>, Failure> {
    let runner = HookRunner::new(bindings, Budgets::default());
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
        let asked = hooks.ask(&stage, std::future::pending()).await;
        let asked = asked.map_err(|abandoned| format!("nobody waited: {abandoned:?}"))?;
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
