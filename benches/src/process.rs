//! The shipped binary as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A development server on free ports of this machine.
#[derive(Debug)]
pub struct DevServer {
    process: Child,
    /// Where SMTP is spoken.
    pub smtp: SocketAddr,
    /// `http://ip:port` of the REST API.
    pub http: String,
    /// A key for it.
    pub api_key: String,
}

impl DevServer {
    /// Starts `binary dev` with its data in `directory`, behind `wrapper` (such as `strace …`) if
    /// there is one, and waits until it is ready.
    ///
    /// # Errors
    /// When it can't be started, or is not ready within a minute.
    pub fn start(binary: &Path, directory: &Path, wrapper: &[String]) -> Result<Self, String> {
        let ready_file = directory.join("ready.json");
        // That of an earlier server in the same directory is no answer.
        let _ = std::fs::remove_file(&ready_file);
        let mut line: Vec<String> = wrapper.to_vec();
        line.push(binary.display().to_string());
        line.push("dev".to_owned());
        for listener in ["--smtp", "--submission", "--submissions", "--http"] {
            line.extend([listener.to_owned(), "127.0.0.1:0".to_owned()]);
        }
        line.extend(["--data-dir".to_owned(), directory.join("data").display().to_string()]);
        line.extend(["--ready-file".to_owned(), ready_file.display().to_string()]);
        let process = Command::new(&line[0])
            .args(&line[1..])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", line[0]))?;
        let ready = wait_for(&ready_file)?;
        let smtp = ready["smtp"].as_str().and_then(|address| address.parse().ok());
        let smtp = smtp.ok_or("the ready file names no SMTP address")?;
        let named = |name: &str| ready[name].as_str().map(str::to_owned).ok_or(format!("the ready file has no {name}"));
        Ok(Self { process, smtp, http: named("http")?, api_key: named("api_key")? })
    }

    /// Processor time of the server so far, in seconds.
    pub fn cpu_seconds(&self) -> Option<f64> {
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).ok()?;
        // The fields after the name in parentheses; utime and stime are the 12th and 13th of them.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }

    /// Peak resident memory so far, in KiB.
    pub fn peak_rss_kib(&self) -> Option<u64> {
        self.memory_kib("VmHWM:")
    }

    /// Resident memory now, in KiB.
    pub fn rss_kib(&self) -> Option<u64> {
        self.memory_kib("VmRSS:")
    }

    fn memory_kib(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Tells the server to stop and waits for it.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub fn stop(mut self) -> Result<(), String> {
        let pid = self.process.id();
        // The server may be a child of a wrapper, which passes the signal on to nobody.
        for pid in children(pid).into_iter().chain([pid]) {
            Command::new("kill").arg(pid.to_string()).status().map_err(|error| format!("kill: {error}"))?;
        }
        self.process.wait().map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// The release binary: `MAIRUST_BIN`, or where cargo puts it.
pub fn binary() -> PathBuf {
    let built = || {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        target.join("release/mairust")
    };
    std::env::var_os("MAIRUST_BIN").map_or_else(built, PathBuf::from)
}

fn wait_for(file: &Path) -> Result<serde_json::Value, String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if let Ok(text) = std::fs::read_to_string(file) {
            return serde_json::from_str(&text).map_err(|error| error.to_string());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("the server was not ready within a minute".to_owned())
}

fn children(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
