//! Programs of this host as hooks, and all that they can do wrong.

mod oneshot;
mod samples;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mairust::metrics::Metrics;
use mairust::{ManualClock, ProcessHook, ProcessTransport, Timestamp};
use mairust_hooks::protocol::InvocationId;
use mairust_hooks::{FailureKind, HookError, HookPoint, Incoming, Outgoing, Transport};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::within;

const PLUGIN: &str = "com.example.peer";
/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(20);

/// A program that is asked as a hook is.
struct Program {
    transport: ProcessTransport,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
}

impl Program {
    fn start(hook: ProcessHook) -> Self {
        let (clock, metrics) =
            (Arc::new(ManualClock::at(Timestamp::from_unix(1_767_225_600))), Arc::new(Metrics::new()));
        let transport = ProcessTransport::start(hook, clock.clone(), metrics.clone());
        Self { transport, clock, metrics }
    }

    /// Asks it, with so much time; the answer as it was written.
    async fn ask_within(&self, time: Duration, request: Value) -> Result<String, HookError> {
        let outgoing = outgoing(time, &request);
        match within(self.transport.exchange(outgoing)).await? {
            Incoming::Answer(octets) => Ok(String::from_utf8(octets).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// Asks it; the reason that its answer gives.
    async fn ask(&self, request: Value) -> Result<String, HookError> {
        let answer = self.ask_within(LONG, request).await?;
        Ok(serde_json::from_str::<Value>(&answer).unwrap()["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// What a metric says.
    fn metric(&self, name: &str) -> u64 {
        let (text, name) = (self.metrics.render(), name.replace('{', &format!("{{plugin=\"{PLUGIN}\"")));
        let found = text.lines().find_map(|line| line.strip_prefix(&format!("mairust_plugin_{name} ")));
        found.map_or(0, |count| count.parse().unwrap())
    }
}

fn outgoing(time: Duration, request: &Value) -> Outgoing {
    let id = InvocationId::new(Timestamp::from_unix(1_767_225_600));
    Outgoing::new(id, HookPoint::PreReceive, 1, Instant::now() + time, serde_json::to_vec(request).unwrap())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process")
}

/// Sees when a process ends that has connected to it.
struct Watch(TcpListener);

impl Watch {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The connection of the next process.
    async fn process(&self) -> TcpStream {
        within(self.0.accept()).await.unwrap().0
    }
}

/// What a process said before it ended.
async fn end_of(mut process: TcpStream) -> String {
    let mut said = Vec::new();
    // A process that is killed may leave what it did not read, which resets the connection.
    let _ = within(process.read_to_end(&mut said)).await;
    String::from_utf8(said).unwrap()
}

/// Lets time pass for all but the clock of the server.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn failed(answer: Result<String, HookError>) -> (FailureKind, String) {
    let error = answer.unwrap_err();
    (error.kind(), error.to_string())
}

fn order(what: &str) -> Value {
    json!({ "do": what })
}
