//! What a configuration means for this machine: folders, certificates, ports.

use std::io;
use std::net::TcpListener;
use std::path::Path;

use mairust_smtp::tls::{Certificates, Roots, TlsError};

use super::model::{Config, DatabaseSettings, MasterKey, StorageSettings, TlsFiles};
use super::problem::{Place, Problem};
use super::secret::{SecretError, decode_master_key, is_world_readable, read_secret};

/// Whether [`check`] tries the ports: while the server runs, they are all taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortCheck {
    /// Leave them alone.
    Skip,
    /// Bind each for a moment.
    Try,
}

/// Looks at what lies outside of the text: whether folders can be written, certificate and key are
/// PEM, a master key that was made earlier can be read, and, when asked, whether ports are free.
///
/// Leaves nothing behind; folders that do not exist are not made. Blocks on the file system.
pub fn check(config: &Config, ports: PortCheck) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_folders(config, &mut problems);
    check_tls(config, &mut problems);
    check_roots(config, &mut problems);
    if let Err(message) = config.trust_anchors() {
        let advice = "write the path of a file with DNSKEY records";
        problems.push(problem("dns.trust_anchors", message, advice));
    }
    check_kept_key(config, &mut problems);
    if ports == PortCheck::Try {
        check_ports(config, &mut problems);
    }
    problems
}

fn check_folders(config: &Config, problems: &mut Vec<Problem>) {
    let bodies = match &config.storage {
        StorageSettings::Fs { base_path } => ("storage.options.base_path", base_path.as_path()),
        // Large messages pass through it when they are read.
        StorageSettings::S3(settings) => ("storage", settings.spool_dir.as_path()),
    };
    let database = match &config.database {
        DatabaseSettings::Postgres { .. } => None,
        DatabaseSettings::Sqlite { path } => Some(("database.path", path.parent().unwrap_or(Path::new("")))),
    };
    let data_dir = ("server.data_dir", config.server.data_dir.as_path());
    let folders = [Some(data_dir), database, Some(bodies)];
    for (path, folder) in folders.into_iter().flatten() {
        if let Err(error) = try_folder(folder) {
            let message = format!("cannot write to {}: {error}", folder.display());
            problems.push(problem(path, message, "make the folder and give it to the user of the server"));
        }
    }
}

/// Writes to the folder, or to the nearest one above it that exists.
fn try_folder(folder: &Path) -> io::Result<()> {
    let existing = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(existing).map(drop)
}

fn check_tls(config: &Config, problems: &mut Vec<Problem>) {
    for (index, files) in config.tls.iter().enumerate() {
        let place = if index == 0 { "tls".to_owned() } else { format!("tls.additional[{}]", index - 1) };
        if let Some((key, message)) = unusable(files) {
            let advice = match key {
                "cert" => "write the path of a PEM file with the certificate and its chain",
                _ => "write the path of a PEM file with the private key of this certificate",
            };
            problems.push(problem(&format!("{place}.{key}"), message, advice));
        } else if is_world_readable(&files.key) {
            let message = format!("everybody may read {}", files.key.display());
            problems.push(problem(&format!("{place}.key"), message, format!("run chmod 600 {}", files.key.display())));
        }
    }
}

fn check_roots(config: &Config, problems: &mut Vec<Problem>) {
    let Some(file) = &config.delivery.tls_roots else { return };
    let message = match std::fs::read(file) {
        Err(error) => format!("cannot read {}: {error}", file.display()),
        Ok(pem) => match Roots::built_in().with_pem(&pem) {
            Err(error) => format!("{}: {}", file.display(), crate::error::chain(&error)),
            Ok(_) => return,
        },
    };
    problems.push(problem(
        "delivery.tls_roots",
        message,
        "write the path of a PEM file with certificates of authorities",
    ));
}

/// Which of the two files is wrong, and how.
fn unusable(files: &TlsFiles) -> Option<(&'static str, String)> {
    let unreadable = |file: &Path, error: io::Error| format!("cannot read {}: {error}", file.display());
    let pair = match files.read() {
        Ok(pair) => pair,
        Err((file, error)) if file == files.cert => return Some(("cert", unreadable(&file, error))),
        Err((file, error)) => return Some(("key", unreadable(&file, error))),
    };
    match Certificates::new(&[pair]) {
        Ok(_) => None,
        Err(error @ TlsError::Certificate(_)) => Some(("cert", format!("{}: {error}", files.cert.display()))),
        Err(error) => Some(("key", format!("{}: {}", files.key.display(), crate::error::chain(&error)))),
    }
}

fn check_kept_key(config: &Config, problems: &mut Vec<Problem>) {
    let MasterKey::KeptIn(file) = &config.master_key else { return };
    if !file.exists() {
        return;
    }
    let message = match read_secret(file).and_then(|text| decode_master_key(text.expose())) {
        Err(SecretError::Unreadable { source, .. }) => format!("cannot read {}: {source}", file.display()),
        Err(error) => format!("{}: {error}", file.display()),
        Ok(_) if is_world_readable(file) => format!("everybody may read {}", file.display()),
        Ok(_) => return,
    };
    problems.push(problem("secrets.master_key", message, "restore the file from a copy, readable by the server only"));
}

fn check_ports(config: &Config, problems: &mut Vec<Problem>) {
    let smtp = config.smtp.listeners.iter().enumerate();
    let smtp = smtp.map(|(index, listener)| (format!("smtp.listeners[{index}].bind"), listener.bind));
    for (path, address) in smtp.chain([("http.bind".to_owned(), config.http.bind)]) {
        let Err(error) = TcpListener::bind(address) else { continue };
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "stop the other program, or write another port",
            io::ErrorKind::PermissionDenied => "ports below 1024 need the capability CAP_NET_BIND_SERVICE",
            _ => "write an address of this machine",
        };
        problems.push(problem(&path, format!("cannot listen at {address}: {error}"), advice));
    }
}

fn problem(path: &str, message: String, advice: impl Into<String>) -> Problem {
    Problem::new(&Place::Unset, path, message).with_advice(advice)
}

#[cfg(test)]
mod tests {
    use mairust_core::Domain;

    use super::*;
    use crate::config::{Listener, ListenerKind};

    fn config(folder: &Path) -> Config {
        Config::new(Domain::parse("mx.example.com").unwrap(), &folder.join("not/yet/there"))
    }

    fn paths(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|problem| problem.path.as_str()).collect()
    }

    #[test]
    fn a_fresh_machine_is_fine_and_stays_untouched() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(&config(folder.path()), PortCheck::Skip), []);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_of_a_folder_is_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("not"), "").unwrap();
        let problems = check(&config(folder.path()), PortCheck::Skip);
        assert_eq!(paths(&problems), ["server.data_dir", "database.path", "storage.options.base_path"]);
    }

    #[test]
    fn certificates_must_be_usable() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let mut config = config(folder.path());
        config.tls = vec![TlsFiles { cert: cert.clone(), key: key.clone() }];
        let write = |file: &Path, bytes: &[u8]| {
            std::fs::write(file, bytes).unwrap();
            make_private(file);
        };
        let found = |config: &Config| {
            check(config, PortCheck::Skip).into_iter().map(|problem| problem.path).collect::<Vec<_>>()
        };
        let pair = crate::tls::self_signed(&config.server.hostname).unwrap();
        assert_eq!(found(&config), ["tls.cert"]);
        write(&cert, b"no PEM");
        write(&key, pair.key.expose());
        assert_eq!(found(&config), ["tls.cert"]);
        write(&cert, &pair.certificate);
        assert_eq!(check(&config, PortCheck::Skip), []);
        let other = crate::tls::self_signed(&config.server.hostname).unwrap();
        write(&key, other.key.expose());
        assert_eq!(found(&config), ["tls.key"], "a key of another certificate");
        config.tls.insert(0, TlsFiles { cert: cert.clone(), key: folder.path().join("gone") });
        assert_eq!(found(&config), ["tls.key", "tls.additional[0].key"]);
    }

    #[test]
    fn trust_anchors_are_keys() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder.path().join("data"));
        let file = folder.path().join("anchors");
        config.dns_trust_anchors = Some(file.clone());
        assert_eq!(paths(&check(&config, PortCheck::Skip)), ["dns.trust_anchors"]);
        for (text, fine) in [
            ("", false),
            ("; nothing\n", false),
            ("example. IN DS 1 13 2 00", false),
            ("example. IN DNSKEY 257 3 13", false),
            ("example. IN DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=", true),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(check(&config, PortCheck::Skip).is_empty(), fine, "{text}");
        }
    }

    #[test]
    fn a_damaged_master_key_is_found_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("master.key");
        std::fs::write(&file, "hunter2").unwrap();
        let config = Config::new(Domain::parse("mx.example.com").unwrap(), folder.path());
        let problems = check(&config, PortCheck::Skip);
        assert_eq!(paths(&problems), ["secrets.master_key"]);
        assert!(!problems[0].to_string().contains("hunter2"), "{}", problems[0]);
    }

    #[test]
    fn ports_are_tried_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = config(folder.path());
        config.http.bind = "127.0.0.1:0".parse().unwrap();
        config.smtp.listeners = vec![Listener::new(taken.local_addr().unwrap(), ListenerKind::Mx)];
        assert_eq!(check(&config, PortCheck::Skip), []);
        assert_eq!(paths(&check(&config, PortCheck::Try)), ["smtp.listeners[0].bind"]);
    }

    fn make_private(file: &Path) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        assert!(!is_world_readable(file));
    }
}
