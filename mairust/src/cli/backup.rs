//! `mairust backup` and `mairust restore`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use mairust_store::{BackupSummary, FurtherFile, Owner, SqlStorage, backup};
use serde_json::json;
use tempfile::NamedTempFile;

use super::output::{Failure, OutputFormat, print, print_as};
use super::progress::Console;
use super::trail::{Changed, Trail};
use super::{ConfigFile, Output, open};
use crate::config::{Config, MasterKey};
use crate::server::shutdown_signal;

/// The names of further files in a backup.
const CONFIGURATION: &str = "mairust.yaml";
const MASTER_KEY: &str = "master.key";
const FORMER_KEYS: &str = "master.key.former";

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The file to write; it must not be there
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Put the master keys that are kept in the data folder into it, too: whoever has the file can read all
    #[arg(long)]
    include_master_key: bool,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Read the backup to its end and look whether it can be restored, without writing anything
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn make(arguments: &BackupArgs) -> Result<(), Failure> {
    let path = &arguments.output;
    if path.symlink_metadata().is_ok() {
        return Err(taken(path));
    }
    let config = open::load(&arguments.config)?;
    let storage = open::storage_for_long(&config).await?;
    let trail = Trail::open(&config, &storage, Owner::Installation).await?;
    let mut further = vec![further(&arguments.config.config, CONFIGURATION)?];
    if arguments.include_master_key {
        further.extend(master_keys(&config)?);
    }
    let mut console = Console::new(OutputFormat::Text);
    let work = write(&storage, path, &further, &mut console);
    let (summary, faults) = tokio::select! {
        done = work => done?,
        // The file that was begun is removed.
        () = shutdown_signal() => return Err(Failure::interrupted("no backup was made")),
    };
    console.finish();
    let after = json!({"messages": summary.messages, "bodies": summary.bodies, "bytes": summary.bytes});
    trail.record(&storage, "backup.made", ("backup", &path.display()), Changed::made(after)).await?;
    print(&format!("{}: {}, {} bytes, read back and found whole", path.display(), contents(&summary), summary.bytes))?;
    anstream::eprintln!("note: it holds all mail and the configuration as it stands: keep it as secret as these");
    if !arguments.include_master_key {
        anstream::eprintln!("note: not in it is the master key, {}: keep a copy elsewhere", place_of_key(&config));
    }
    match faults {
        0 => Ok(()),
        _ => Err(Failure::problems(format_args!(
            "the backup was made, but {faults} messages in it have no body, or a damaged one; they are named above"
        ))),
    }
}

/// A file as it stands.
fn further(path: &Path, name: &str) -> Result<FurtherFile, Failure> {
    let content = std::fs::read(path)
        .map_err(|error| Failure::configuration(format_args!("{} can't be read: {error}", path.display())))?;
    Ok(FurtherFile { name: name.to_owned(), content })
}

/// The master key that is kept in the data folder, and those that were kept there before.
fn master_keys(config: &Config) -> Result<Vec<FurtherFile>, Failure> {
    let MasterKey::KeptIn(path) = &config.master_key else {
        return Err(Failure::usage("the configuration names the master key: keep a copy of it from there"));
    };
    let mut keys = vec![further(path, MASTER_KEY)?];
    let former = open::former_keys_file(path);
    if former.exists() {
        keys.push(further(&former, FORMER_KEYS)?);
    }
    Ok(keys)
}

/// Writes a backup under another name, reads it back, and gives it its name. Also, how many bodies were
/// found missing or damaged.
async fn write(
    storage: &SqlStorage,
    path: &Path,
    further: &[FurtherFile],
    console: &mut Console,
) -> Result<(BackupSummary, u64), Failure> {
    let failed = |error: io::Error| Failure::failed(format_args!("{} can't be written: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    // Temporary files are made with mode 0600.
    let file = NamedTempFile::with_prefix_in(prefix, folder).map_err(failed)?;
    storage.write_backup(file.reopen().map_err(failed)?, file.path(), further, console).await?;
    let faults = console.findings();
    let summary = backup::verify(file.path(), console).await?;
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => taken(path),
        _ => failed(error.error),
    })?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok((summary, faults))
}

pub(super) async fn restore(arguments: &RestoreArgs) -> Result<(), Failure> {
    let (input, format) = (&arguments.input, arguments.output.output);
    let config = open::load(&arguments.config)?;
    let mut console = Console::new(OutputFormat::Text);
    let summary = if arguments.dry_run {
        rehearse(&config, input, &mut console).await?
    } else {
        let storage = open::storage_to_restore(&config).await?;
        storage.restore_backup(input, &mut console).await?
    };
    console.finish();
    let done = if arguments.dry_run { "can be restored" } else { "restored" };
    let text = format!("{done}: {}, as they were at {}", contents(&summary), summary.manifest.made_at);
    let json = json!({
        "restored": !arguments.dry_run,
        "made_at": summary.manifest.made_at,
        "mairust": summary.manifest.mairust,
        "database": summary.manifest.database,
        "rows": summary.rows,
        "messages": summary.messages,
        "bodies": summary.bodies,
        "bytes": summary.bytes,
    });
    print_as(format, &text, &json)?;
    if !arguments.dry_run {
        anstream::eprintln!("next: put the master key of that server in place, {}", place_of_key(&config));
        anstream::eprintln!("      mairust consistency-check, then start the server: it makes the search index again");
    }
    Ok(())
}

/// Whether the backup could be restored. A database that is not there is not made.
async fn rehearse(config: &Config, input: &Path, console: &mut Console) -> Result<BackupSummary, Failure> {
    let status = open::status_of_migrations(config).await?;
    if status.applied.is_empty() {
        return Ok(backup::verify(input, console).await?);
    }
    if !status.pending().is_empty() {
        return Err(Failure::conflict("the database was made by an older version: name one that is not there yet"));
    }
    Ok(open::storage_to_restore(config).await?.check_backup(input, console).await?)
}

fn contents(summary: &BackupSummary) -> String {
    format!("{} messages, {} bodies, {} rows", summary.messages, summary.bodies, summary.rows)
}

fn place_of_key(config: &Config) -> String {
    match &config.master_key {
        MasterKey::Given(_) => "secrets.master_key".to_owned(),
        MasterKey::KeptIn(path) => path.display().to_string(),
    }
}

fn taken(path: &Path) -> Failure {
    Failure::conflict(format_args!("{} is there already: name another file", path.display()))
}
