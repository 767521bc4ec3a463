//! A real S3 server: SeaweedFS (`weed`), which `tests/run` installs.
//!
//! `MAIRUST_TEST_S3` names another server for the suites: `http://key:secret@host:port/bucket`.
//!
//! The server lives under a shell that kills it as soon as the process that it is for is gone,
//! however that ended.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mairust_core::Secret;
use mairust_store::{BodyStore, S3Bodies, S3Settings};
use tempfile::TempDir;
use uuid::Uuid;

pub(super) const BUCKET: &str = "mairust-test";
pub(super) const ACCESS_KEY: &str = "AKTEST";
pub(super) const SECRET_KEY: &str = "sekret123456";

/// A server of a test's own, for tests that stop it.
#[derive(Debug)]
pub(super) struct Weed {
    directory: TempDir,
    ports: [u16; 5],
}

/// Runs the server, whose process id goes to the file `pid`, until the process is gone that it is for.
const SUPERVISOR: &str = r#"
"$@" >log 2>&1 </dev/null & server=$!
echo $server >pid.new && mv pid.new pid
while kill -0 $WATCHED 2>/dev/null && kill -0 $server 2>/dev/null; do sleep 0.2; done
kill -9 $server 2>/dev/null
[ -z "$REMOVED" ] || rm -rf "$REMOVED"
"#;
const CONFIGURATION: &str = r#"{
  "identities": [{"name": "test", "credentials": [{"accessKey": "AKTEST", "secretKey": "sekret123456"}],
                  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}],
  "kms": {"default_provider": "local", "providers": {"local": {"type": "local", "enableOnDemandCreate": true}}}
}"#;
/// The server also listens this far above each of its ports.
const SECOND_PORT: u16 = 10_000;
const START_TIME: Duration = Duration::from_secs(60);

/// A place of its own in the server that all tests of this run share.
pub(super) async fn settings() -> S3Settings {
    if let Ok(url) = std::env::var("MAIRUST_TEST_S3") {
        return other_server(&url).expect("MAIRUST_TEST_S3 is http://key:secret@host:port/bucket");
    }
    static SHARED: OnceLock<u16> = OnceLock::new();
    let start = || *SHARED.get_or_init(share);
    let port = tokio::task::spawn_blocking(start).await.unwrap();
    let settings = settings_for(port);
    wait_until_ready(&settings).await;
    settings
}

/// The port of the server of this run: whoever comes first starts it. Runners may start a process for
/// each test; all of them have the same parent.
fn share() -> u16 {
    let directory = std::env::temp_dir().join(format!("mairust-weed-{}", parent_id()));
    fs::create_dir_all(&directory).unwrap();
    let mut port_file =
        File::options().create(true).truncate(false).read(true).write(true).open(directory.join("port")).unwrap();
    port_file.lock().unwrap();
    let mut known = String::new();
    port_file.read_to_string(&mut known).unwrap();
    if let Ok(port) = known.parse()
        && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    {
        return port;
    }
    let data = directory.join(Uuid::new_v4().to_string());
    fs::create_dir(&data).unwrap();
    let ports = free_ports();
    run(&data, ports, parent_id(), Some(&directory));
    port_file.set_len(0).unwrap();
    port_file.rewind().unwrap();
    port_file.write_all(ports[0].to_string().as_bytes()).unwrap();
    ports[0]
}

impl Weed {
    pub(super) async fn start() -> Self {
        let weed = Self { directory: TempDir::new().unwrap(), ports: free_ports() };
        weed.restart().await;
        weed
    }

    /// Starts the server over the same data.
    pub(super) async fn restart(&self) {
        run(self.directory.path(), self.ports, std::process::id(), None);
        wait_until_ready(&self.settings()).await;
    }

    pub(super) fn settings(&self) -> S3Settings {
        settings_for(self.ports[0])
    }

    /// Sends a signal to the server: `STOP`, `CONT`, `KILL`.
    pub(super) fn signal(&self, name: &str) {
        assert!(self.send(name), "the server is gone already");
    }

    fn send(&self, signal: &str) -> bool {
        let pid = fs::read_to_string(self.directory.path().join("pid")).unwrap();
        Command::new("kill").args(["-s", signal, pid.trim()]).stderr(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        // A test may have ended it already.
        self.send("KILL");
    }
}

fn settings_for(port: u16) -> S3Settings {
    settings_at(&format!("127.0.0.1:{port}"), BUCKET, ACCESS_KEY, SECRET_KEY)
}

fn other_server(url: &str) -> Option<S3Settings> {
    let (access, place) = url.strip_prefix("http://")?.split_once('@')?;
    let ((key, secret), (server, bucket)) = (access.split_once(':')?, place.split_once('/')?);
    Some(settings_at(server, bucket, key, secret))
}

fn settings_at(server: &str, bucket: &str, key: &str, secret_key: &str) -> S3Settings {
    let secret = |text: &str| Secret::new(text.to_owned());
    let mut settings = S3Settings::new(bucket, secret(key), secret(secret_key));
    settings.endpoint = Some(format!("http://{server}"));
    settings.prefix = Some(Uuid::new_v4().to_string());
    settings
}

#[expect(clippy::zombie_processes, reason = "the supervisor is waited for by nobody: it ends after the tests")]
fn run(directory: &Path, [s3, master, volume, filer, admin]: [u16; 5], watched: u32, removed: Option<&Path>) {
    fs::write(directory.join("s3.json"), CONFIGURATION).unwrap();
    let _ = fs::remove_file(directory.join("pid"));
    let path = |name: &str| directory.join(name).display().to_string();
    let mut supervisor = Command::new("sh");
    supervisor.args(["-c", SUPERVISOR, "sh"]).arg(program()).args(["-logtostderr=true", "mini"]);
    supervisor.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false"]);
    supervisor.args([
        "-master.telemetry=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
    ]);
    supervisor.arg(format!("-dir={}", path("."))).arg(format!("-bucket={BUCKET}"));
    supervisor.arg(format!("-s3.config={}", path("s3.json")));
    supervisor.arg(format!("-s3.localSocket={}", path("s3.sock")));
    supervisor.arg(format!("-filer.localSocket={}", path("filer.sock")));
    supervisor.arg(format!("-s3.port={s3}")).arg(format!("-master.port={master}"));
    supervisor.arg(format!("-volume.port={volume}")).arg(format!("-filer.port={filer}"));
    supervisor.arg(format!("-admin.port={admin}"));
    supervisor.env("WATCHED", watched.to_string()).env("HOME", directory).env("WEED_S3_SSE_KEY", "for tests only");
    supervisor.env("REMOVED", removed.unwrap_or(Path::new("")));
    supervisor.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // What ends the tests by a signal to their group must not end the supervisor.
    supervisor.process_group(0).spawn().unwrap();
    let deadline = Instant::now() + START_TIME;
    while !directory.join("pid").exists() {
        assert!(Instant::now() < deadline, "the supervisor of SeaweedFS does not start");
        std::thread::yield_now();
    }
}

/// Waits until the bucket is there.
async fn wait_until_ready(settings: &S3Settings) {
    let bodies = S3Bodies::new(settings.clone()).unwrap();
    let deadline = Instant::now() + START_TIME;
    while let Err(error) = bodies.check().await {
        assert!(Instant::now() < deadline, "SeaweedFS does not start: {error}");
    }
}

fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("MAIRUST_TEST_WEED") {
        return program.into();
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    let program = cache.join("mairust-venv/bin/weed");
    assert!(program.exists(), "SeaweedFS is missing: run tests/run once, or set MAIRUST_TEST_WEED to its program");
    program
}

fn free_ports() -> [u16; 5] {
    let mut held = Vec::new();
    while held.len() < 5 {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let second = port.checked_add(SECOND_PORT).map(|port| TcpListener::bind(("127.0.0.1", port)));
        if let Some(Ok(second)) = second {
            held.push((port, first, second));
        }
    }
    std::array::from_fn(|index| held[index].0)
}
