//! The certificate files of `serve`: read at start, and again when they change or SIGHUP comes.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use mairust_smtp::tls::{CertificatePair, Certificates};
use tokio::signal::unix::{SignalKind, signal};

use super::output::Failure;
use crate::config::TlsFiles;

/// How often the files are looked at: renewals come weeks before a certificate ends.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(60);

/// The certificates of these files.
pub(super) fn load(files: &[TlsFiles]) -> Result<Certificates, Failure> {
    let pairs = read(files).map_err(Failure::configuration)?;
    Certificates::new(&pairs).map_err(|error| Failure::configuration(crate::error::chain(&error)))
}

/// Reads the files again on SIGHUP and when they have changed; goes on for ever. Files that can't
/// be used change nothing.
pub(super) async fn keep_fresh(files: Vec<TlsFiles>, certificates: Certificates) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::error!(component = "tls", "SIGHUP can't be caught, certificates are not read again");
        return;
    };
    let mut loaded = changed_at(&files);
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            () = tokio::time::sleep(LOOKED_AT_EVERY) => false,
        };
        let now = changed_at(&files);
        if !asked && now == loaded {
            continue;
        }
        loaded = now;
        let replaced = read(&files)
            .and_then(|pairs| certificates.replace(&pairs).map_err(|error| crate::error::chain(&error).to_string()));
        match replaced {
            Ok(()) => tracing::info!(component = "tls", "certificates were read again"),
            Err(error) => tracing::error!(component = "tls", error, "the old certificates stay in use"),
        }
    }
}

/// Takes SIGHUP, which ends a process otherwise, where there are no files; goes on for ever.
pub(super) async fn outlive_hangup() {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        tracing::info!(component = "tls", "no certificate is configured, nothing was read again");
    }
}

fn read(files: &[TlsFiles]) -> Result<Vec<CertificatePair>, String> {
    let explain = |(file, error): (PathBuf, std::io::Error)| format!("{}: {error}", file.display());
    files.iter().map(|pair| pair.read().map_err(explain)).collect()
}

/// When each file was written; a file that is gone has no time.
fn changed_at(files: &[TlsFiles]) -> Vec<Option<SystemTime>> {
    let written = |file: &PathBuf| std::fs::metadata(file).and_then(|known| known.modified()).ok();
    files.iter().flat_map(|pair| [&pair.cert, &pair.key]).map(written).collect()
}
