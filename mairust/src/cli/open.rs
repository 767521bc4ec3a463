//! Opens what the configuration names: the configuration itself, the storage, the master key.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mairust_core::Secret;
use mairust_http::ServerKey;
use mairust_store::seal::Algorithm;
use mairust_store::{
    BodyEncryption, LocalKeys, MigrationStatus, RegistryExt, S3Bodies, Sealer, SqlStorage, SqlStorageBuilder,
    StorageBackend, StoreError, StoreErrorKind,
};

use super::ConfigFile;
use super::output::{Failure, print};
use crate::config::{self, Config, DatabaseSettings, StorageSettings};

/// The name of the key under which API keys are made, among those of the installation.
const SERVER_KEY: &str = "server";
/// How long a statement may take that looks at everything.
const PATIENCE: Duration = Duration::from_secs(3_600);

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
    encrypting(config)?.without_background_work().open().await.map_err(sealed)
}

/// Opens the storage for a server.
pub(super) async fn storage_of_server(config: &Config) -> Result<SqlStorage, Failure> {
    make_folders(config)?;
    encrypting(config)?.open().await.map_err(sealed)
}

/// Opens the storage for work that takes its time, perhaps beside the server.
pub(super) async fn storage_for_long(config: &Config) -> Result<SqlStorage, Failure> {
    make_folders(config)?;
    encrypting(config)?.without_background_work().patience(PATIENCE).open().await.map_err(sealed)
}

/// Opens an empty storage for a backup, whose bodies come back as they were kept.
pub(super) async fn storage_to_restore(config: &Config) -> Result<SqlStorage, Failure> {
    make_folders(config)?;
    Ok(plain(config)?.without_background_work().patience(PATIENCE).open().await?)
}

/// The storage, with what it takes to read messages that are encrypted.
fn encrypting(config: &Config) -> Result<SqlStorageBuilder, Failure> {
    let algorithm = config.client_side_encryption.then(Algorithm::default);
    Ok(builder(config)?.encryption(BodyEncryption { sealer: sealer(config)?, algorithm }))
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
    let builder = plain(config)?;
    Ok(if config.search.enabled { builder.with_search() } else { builder })
}

/// The same without search.
fn plain(config: &Config) -> Result<SqlStorageBuilder, Failure> {
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
    let builder = builder.durability(config.durability).deadline(config.database_timeout).spool(config.spool.clone());
    Ok(builder.disk_floor(config.disk_floor))
}

/// Seals and opens secrets under the master keys that the configuration names. A master key that it
/// does not name is made at first use.
pub(super) fn sealer(config: &Config) -> Result<Sealer, Failure> {
    let (current, former) = match &config.master_key {
        config::MasterKey::Given(key) => (key.clone(), Vec::new()),
        config::MasterKey::KeptIn(path) => (kept_master_key(path)?, kept_former_keys(path)?),
    };
    let keys = LocalKeys::new(&current).with_former(config.former_master_keys.iter().chain(&former));
    Ok(Sealer::new(Arc::new(keys)))
}

/// The key under which API keys are made and the audit log is signed; made at first use.
pub(super) async fn server_key(config: &Config, storage: &SqlStorage) -> Result<ServerKey, Failure> {
    let key = storage.registry().installation_key(&sealer(config)?, SERVER_KEY).await.map_err(sealed)?;
    Ok(ServerKey::new(*key.expose()))
}

/// Secrets that don't open are a matter of the configuration.
fn sealed(error: StoreError) -> Failure {
    match error.kind() {
        StoreErrorKind::NotFound => Failure::configuration(format_args!(
            "{}\nwrite the former master key to secrets.former_master_keys, then run mairust keys rotate",
            crate::error::chain(&error)
        )),
        StoreErrorKind::Corrupt => damaged(&error),
        _ => error.into(),
    }
}

/// A database that can't be read.
pub(super) fn damaged(error: &StoreError) -> Failure {
    Failure::failed(format_args!(
        "{}\nthe database is damaged: if mairust db-repair does not help, restore the newest backup into an empty one",
        crate::error::chain(error)
    ))
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
    let status = status_of_migrations(&config).await?;
    let state = |version| if status.applied.contains(version) { "applied" } else { "pending" };
    let lines: Vec<String> = status.known.iter().map(|version| format!("{version:04} {}", state(version))).collect();
    print(&lines.join("\n"))
}

/// Which migrations there are, without making a database.
pub(super) async fn status_of_migrations(config: &Config) -> Result<MigrationStatus, Failure> {
    Ok(builder(config)?.migration_status().await?)
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

/// The file beside a kept master key for those that were kept there before, one a line.
pub(super) fn former_keys_file(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".former");
    path.with_file_name(name)
}

/// A new master key in place of the one that is kept in `path`, which goes to the former ones first.
pub(super) fn renew_master_key(path: &Path) -> Result<(), Failure> {
    let current = kept_master_key(path)?;
    let mut former = kept_former_keys(path)?;
    former.push(current);
    let lines: String = former.iter().map(|key| format!("{}\n", STANDARD.encode(key.expose()))).collect();
    write_private(&former_keys_file(path), &lines)?;
    make_master_key(path).map(drop)
}

fn kept_master_key(path: &Path) -> Result<Secret<[u8; 32]>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => config::decode_master_key(&text).map_err(|error| unusable(path, &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                make_folder(folder)?;
            }
            make_master_key(path)
        }
        Err(error) => Err(unusable(path, &error)),
    }
}

fn kept_former_keys(path: &Path) -> Result<Vec<Secret<[u8; 32]>>, Failure> {
    let file = former_keys_file(path);
    let text = match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => Secret::new(read.map_err(|error| unusable(&file, &error))?),
    };
    let keys = text.expose().lines().filter(|line| !line.trim().is_empty()).map(config::decode_master_key);
    keys.collect::<Result<_, _>>().map_err(|error| unusable(&file, &error))
}

fn make_master_key(path: &Path) -> Result<Secret<[u8; 32]>, Failure> {
    let key = Secret::new(rand::random::<[u8; 32]>());
    write_private(path, &format!("{}\n", STANDARD.encode(key.expose())))?;
    Ok(key)
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format_args!("master key {}: {error}", path.display()))
}
