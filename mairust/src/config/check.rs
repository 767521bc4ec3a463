//! What a configuration means for this machine: folders, certificates, ports.

use std::io;
use std::net::TcpListener;
use std::path::Path;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::model::{Config, DatabaseSettings, MasterKey, StorageSettings};
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
    check_kept_key(config, &mut problems);
    if ports == PortCheck::Try {
        check_ports(config, &mut problems);
    }
    problems
}

fn check_folders(config: &Config, problems: &mut Vec<Problem>) {
    let DatabaseSettings::Sqlite { path: database } = &config.database;
    let StorageSettings::Fs { base_path } = &config.storage;
    let parent = database.parent().unwrap_or(Path::new(""));
    let folders = [
        ("server.data_dir", config.server.data_dir.as_path()),
        ("database.path", parent),
        ("storage.options.base_path", base_path.as_path()),
    ];
    for (path, folder) in folders {
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
    let Some(files) = &config.tls else { return };
    let certificates = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let message = match certificates {
        Ok(chain) if chain.is_empty() => Some(format!("{} holds no certificate", files.cert.display())),
        Ok(_) => None,
        Err(error) => Some(format!("cannot read {}: {error}", files.cert.display())),
    };
    if let Some(message) = message {
        problems.push(problem("tls.cert", message, "write the path of a PEM file with the certificate and its chain"));
    }
    if let Err(error) = PrivateKeyDer::from_pem_file(&files.key) {
        let message = format!("cannot read {}: {error}", files.key.display());
        problems.push(problem("tls.key", message, "write the path of a PEM file with the private key"));
    } else if is_world_readable(&files.key) {
        let message = format!("everybody may read {}", files.key.display());
        problems.push(problem("tls.key", message, format!("run chmod 600 {}", files.key.display())));
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
    use crate::config::{Listener, ListenerKind, TlsFiles};

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
    fn certificates_must_be_pem() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let mut config = config(folder.path());
        config.tls = Some(TlsFiles { cert: cert.clone(), key: key.clone() });
        assert_eq!(paths(&check(&config, PortCheck::Skip)), ["tls.cert", "tls.key"]);
        std::fs::write(&cert, "no PEM").unwrap();
        std::fs::write(&key, "no PEM").unwrap();
        assert_eq!(paths(&check(&config, PortCheck::Skip)), ["tls.cert", "tls.key"]);
        std::fs::write(&cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        make_private(&key);
        assert_eq!(check(&config, PortCheck::Skip), []);
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
