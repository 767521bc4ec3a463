//! Opens what the configuration names: the configuration itself, the storage, the master key.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mairust_http::MasterKey;
use mairust_store::{S3Bodies, SqlStorage, SqlStorageBuilder};

use super::ConfigFile;
use super::output::{Failure, print};
use crate::config::{self, Config, DatabaseSettings, StorageSettings};

/// Reads the configuration; warnings go to standard error.
pub(super) fn load(file: &ConfigFile) -> Result<Config, Failure> {
    let config = config::load(Some(&file.config), std::env::vars_os()).map_err(Failure::configuration)?;
    for warning in &config.warnings {
        anstream::eprintln!("warning: {warning}");
    }
    Ok(config)
}

/// Opens the storage for a moment, perhaps beside the server that works with it, and brings its
/// database to the version of this program.
pub(super) async fn storage(config: &Config) -> Result<SqlStorage, Failure> {
    make_folders(config)?;
    Ok(builder(config)?.without_background_work().open().await?)
}

/// Opens the storage for a server.
pub(super) async fn storage_of_server(config: &Config) -> Result<SqlStorage, Failure> {
    make_folders(config)?;
    Ok(builder(config)?.open().await?)
}

fn make_folders(config: &Config) -> Result<(), Failure> {
    if let DatabaseSettings::Sqlite { path } = &config.database
        && let Some(folder) = path.parent()
    {
        make_folder(folder)?;
    }
    if let StorageSettings::Fs { base_path } = &config.storage {
        make_folder(base_path)?;
    }
    Ok(())
}

/// The storage that the configuration describes, before it is opened.
fn builder(config: &Config) -> Result<SqlStorageBuilder, Failure> {
    let builder = match &config.database {
        DatabaseSettings::Postgres { url, max_connections } => {
            SqlStorage::postgres(url.expose().as_str()).max_connections(*max_connections)
        }
        DatabaseSettings::Sqlite { path } => SqlStorage::sqlite(path),
    };
    let builder = match &config.storage {
        StorageSettings::Fs { base_path } => builder.fs_bodies(base_path),
        StorageSettings::S3(settings) => builder.bodies(Arc::new(S3Bodies::new((**settings).clone())?)),
    };
    Ok(builder.durability(config.durability).deadline(config.database_timeout).spool(config.spool.clone()))
}

/// The master key, made at first use where the configuration does not give one.
pub(super) fn master_key(config: &Config) -> Result<MasterKey, Failure> {
    match &config.master_key {
        config::MasterKey::Given(key) => Ok(MasterKey::new(*key.expose())),
        config::MasterKey::KeptIn(path) => kept_master_key(path),
    }
}

/// `mairust migrate`.
pub(super) async fn migrate(file: &ConfigFile) -> Result<(), Failure> {
    let config = load(file)?;
    drop(storage(&config).await?);
    migration_status(file).await
}

/// `mairust migrate status`.
pub(super) async fn migration_status(file: &ConfigFile) -> Result<(), Failure> {
    let config = load(file)?;
    let status = builder(&config)?.migration_status().await?;
    let state = |version| if status.applied.contains(version) { "applied" } else { "pending" };
    let lines: Vec<String> = status.known.iter().map(|version| format!("{version:04} {}", state(version))).collect();
    print(&lines.join("\n"))
}

/// Makes a folder that only its owner may enter.
pub(super) fn make_folder(folder: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Failure::failed(format_args!("the folder {} can't be made: {error}", folder.display())))
}

/// Writes a file that only its owner may read, whole or not at all.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::failed(format_args!("{} can't be written: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // Temporary files are made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(|error| failed(&error))?;
    file.persist(path).map_err(|error| failed(&error))?;
    Ok(())
}

fn kept_master_key(path: &Path) -> Result<MasterKey, Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::failed(format_args!("master key {}: {error}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let key = config::decode_master_key(&text).map_err(|error| failed(&error))?;
            Ok(MasterKey::new(*key.expose()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                make_folder(folder)?;
            }
            let bytes: [u8; 32] = rand::random();
            write_private(path, &format!("{}\n", STANDARD.encode(bytes)))?;
            Ok(MasterKey::new(bytes))
        }
        Err(error) => Err(failed(&error)),
    }
}
