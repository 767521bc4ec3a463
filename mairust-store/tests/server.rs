//! A PostgreSQL server for the tests, and an empty database of its own for each.
//!
//! `MAIRUST_TEST_POSTGRES` names a server by the URL of a superuser. Without it one is started from
//! Debian's binaries, shared by all test processes, and stopped some seconds after the last of them.
//! It does not sync: what survives a crash is not asked here.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use uuid::Uuid;

/// An empty database and a role that owns it; both are removed when dropped.
#[derive(Debug)]
pub(crate) struct Database {
    server: PgConnectOptions,
    name: String,
    /// How to connect to it as its owner.
    pub(crate) url: String,
}

/// As long as a process has this, the shared server runs.
static IN_USE: OnceLock<File> = OnceLock::new();

impl Database {
    pub(crate) async fn new() -> Self {
        let server: PgConnectOptions = server().parse().unwrap();
        let name = format!("t{}", Uuid::new_v4().simple());
        let url = format!("postgres://{name}:secret@{}:{}/{name}", server.get_host(), server.get_port());
        let mut connection = server.connect().await.unwrap();
        run(&mut connection, format!("CREATE ROLE {name} LOGIN PASSWORD 'secret'")).await;
        run(&mut connection, format!("CREATE DATABASE {name} OWNER {name}")).await;
        connection.close().await.unwrap();
        Self { server, name, url }
    }

    /// A connection as the superuser of the server, to whom row-level security does not apply.
    pub(crate) async fn superuser(&self) -> PgConnection {
        self.server.clone().database(&self.name).connect().await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A thread of its own, for nothing can be awaited here.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection = server.connect().await.map_err(io::Error::other)?;
                for statement in [format!("DROP DATABASE {name} WITH (FORCE)"), format!("DROP ROLE {name}")] {
                    let dropped = sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await;
                    dropped.map_err(io::Error::other)?;
                }
                Ok::<_, io::Error>(())
            })
        });
        // The server goes away with all it has in the end.
        let _ = dropping.join();
    }
}

async fn run(connection: &mut PgConnection, statement: String) {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.unwrap();
}

/// The URL of a superuser of the server.
fn server() -> String {
    if let Ok(url) = env::var("MAIRUST_TEST_POSTGRES") {
        return url;
    }
    let home = env::temp_dir().join(format!("mairust-test-postgres-{}", env::var("USER").unwrap_or_default()));
    fs::create_dir_all(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o711)).unwrap();
    let lock = |name: &str| OpenOptions::new().create(true).truncate(false).write(true).open(home.join(name)).unwrap();
    let starting = lock("starting.lock");
    starting.lock().unwrap();
    let in_use = lock("in-use.lock");
    in_use.lock_shared().unwrap();
    let url = running(&home).unwrap_or_else(|| start(&home));
    drop(IN_USE.set(in_use));
    starting.unlock().unwrap();
    url
}

/// The URL of the shared server, if it answers.
fn running(home: &Path) -> Option<String> {
    let url = fs::read_to_string(home.join("url")).ok()?;
    let port: u16 = url.rsplit_once(':')?.1.split_once('/')?.0.parse().ok()?;
    std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    Some(url)
}

fn start(home: &Path) -> String {
    let binaries = binaries();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let data = home.join("data");
    let _ = fs::remove_dir_all(&data);
    fs::create_dir(&data).unwrap();
    // PostgreSQL refuses to run as root.
    let as_postgres: &[&str] = match is_root() {
        true => &["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"],
        false => &["env"],
    };
    if is_root() {
        done(Command::new("chown").arg("postgres:postgres").arg(&data));
    }
    let mut initdb = Command::new(as_postgres[0]);
    initdb.args(&as_postgres[1..]).arg(binaries.join("initdb")).arg("-D").arg(&data);
    done(
        initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]).current_dir("/"),
    );
    // The supervisor stops the server when nobody has used it for a while.
    // It keeps the lock until it is done, so that nobody takes a server that is going away.
    let script = "\"$@\" & server=$!; while sleep 3; do \
        kill -0 $server 2>/dev/null || exit; \
        exec 9<\"$IN_USE\"; \
        if flock --nonblock --exclusive 9; then kill -INT $server; wait $server; rm -rf \"$DATA\"; exit; fi; \
        exec 9<&-; \
        done";
    let mut supervisor = Command::new("setsid");
    supervisor.args(["sh", "-c", script, "sh"]).args(as_postgres).arg(binaries.join("postgres")).arg("-D").arg(&data);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "max_connections=400",
    ] {
        supervisor.args(["-c", setting]);
    }
    supervisor.args(["-c", &format!("port={port}")]).env("IN_USE", home.join("in-use.lock")).env("DATA", &data);
    let log = File::create(home.join("log")).unwrap();
    supervisor.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    // It outlives this process, and is nobody's to wait for.
    #[expect(clippy::zombie_processes, reason = "the supervisor belongs to all test processes together")]
    let _supervisor = supervisor.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut ready = Command::new(binaries.join("pg_isready"));
    ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
    while !ready.status().unwrap().success() {
        assert!(Instant::now() < deadline, "PostgreSQL does not start: see {}", home.join("log").display());
        std::thread::sleep(Duration::from_millis(50));
    }
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    fs::write(home.join("url"), &url).unwrap();
    url
}

fn binaries() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = installed.map(|entry| entry.path().join("bin")).collect();
    versions.sort_unstable();
    versions.pop().expect("PostgreSQL is missing: install it (Debian: postgresql) or set MAIRUST_TEST_POSTGRES")
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
