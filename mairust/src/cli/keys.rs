//! `mairust keys`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use mairust_store::{Owner, RegistryExt, Sealer, SecretRow, SqlStorage, StorageBackend};
use serde_json::json;

use super::output::{Failure, print_as};
use super::trail::{Changed, Trail};
use super::{ConfigFile, Output, open};
use crate::config::MasterKey;

/// How many secrets are looked at together.
const PAGE: u32 = 200;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List the master keys, and how many secrets are sealed under each
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Seal all secrets under the present master key; may run beside the server, and again
    Rotate {
        /// Make a new master key first, in place of the one that is kept in the data folder
        #[arg(long)]
        new_key: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(command: KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::List { common } => list(&common).await,
        KeysCommand::Rotate { new_key, common } => {
            if new_key {
                renew(&common)?;
            }
            rotate(&common).await
        }
    }
}

async fn list(common: &Common) -> Result<(), Failure> {
    let config = open::load(&common.config)?;
    let sealer = open::sealer(&config)?;
    let mut counts = count(&open::storage(&config).await?).await?;
    let current = sealer.keys().current();
    let mut entries = Vec::new();
    for id in sealer.keys().key_ids() {
        let state = if id == current { "current" } else { "former" };
        let secrets = counts.remove(id.as_str()).unwrap_or(0);
        entries.push((id.to_string(), state, secrets));
    }
    entries.extend(counts.into_iter().map(|(id, secrets)| (id, "missing", secrets)));
    let lines: Vec<String> =
        entries.iter().map(|(id, state, secrets)| format!("{id}  {state}  {secrets} secrets")).collect();
    let values = entries.iter().map(|(id, state, secrets)| json!({"id": id, "state": state, "secrets": secrets}));
    print_as(common.output.output, &lines.join("\n"), &values.collect())
}

/// A new master key, where the present one is ours to change.
fn renew(common: &Common) -> Result<(), Failure> {
    match &open::load(&common.config)?.master_key {
        MasterKey::KeptIn(path) => open::renew_master_key(path),
        MasterKey::Given(_) => Err(Failure::usage(
            "the configuration names the master key: write a new one to secrets.master_key, the present one to \
             secrets.former_master_keys, and run mairust keys rotate without --new-key",
        )),
    }
}

async fn rotate(common: &Common) -> Result<(), Failure> {
    let config = open::load(&common.config)?;
    let sealer = open::sealer(&config)?;
    let storage = open::storage(&config).await?;
    let trail = Trail::open(&config, &storage, Owner::Installation).await?;
    let done = storage.registry().rewrap_all(&sealer).await?;
    let current = sealer.keys().current();
    let (rewrapped, unchanged, failed) = (done.rewrapped, done.unchanged, done.failed);
    let json = json!({"key": current.as_str(), "rewrapped": rewrapped, "unchanged": unchanged, "failed": failed});
    let changed = Changed::made(json.clone());
    trail.record(&storage, "keys.rotated", ("master_key", &current), changed).await?;
    let text = format!("sealed {rewrapped} secrets under {current}, {unchanged} were already{}", advice(&sealer));
    print_as(common.output.output, &text, &json)?;
    if failed.is_empty() {
        return Ok(());
    }
    let text = format!("{} secrets do not open and were left as they are:\n{}", failed.len(), failed.join("\n"));
    Err(Failure::problems(text))
}

fn advice(sealer: &Sealer) -> &'static str {
    if sealer.keys().key_ids().len() > 1 {
        "\nnext: restart the servers; former keys are needed for older backups only"
    } else {
        ""
    }
}

/// How many secrets are sealed under each key.
async fn count(storage: &SqlStorage) -> Result<BTreeMap<String, u64>, Failure> {
    let mut counts = BTreeMap::new();
    let mut last: Option<SecretRow> = None;
    loop {
        let rows = storage.registry().all_secrets(last.as_ref().map(SecretRow::place), PAGE).await?;
        for row in &rows {
            let id = row.sealed.key_id().map_or_else(|| "unknown".to_owned(), |id| id.to_string());
            *counts.entry(id).or_default() += 1;
        }
        match rows.into_iter().next_back() {
            Some(row) => last = Some(row),
            None => return Ok(counts),
        }
    }
}
