//! `mairust audit`.

use clap::{Args, Subcommand};
use mairust_core::Timestamp;
use mairust_store::audit::{AuditOrder, AuditProblem};
use mairust_store::directory::DEFAULT_TENANT;
use mairust_store::{AuditEntry, AuditLogExt, AuditQuery, Owner, SqlStorage, StorageBackend};
use serde_json::json;

use super::directory::{print_list, tenant};
use super::output::{Failure, print, print_as};
use super::{ConfigFile, Output, moment, open};
use crate::config::Config;

/// How many entries are read together for the export.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List what happened, newest first
    List {
        #[command(flatten)]
        filters: Filters,
        /// Of this type, for example user.created
        #[arg(long = "type", value_name = "TYPE")]
        event_type: Option<String>,
        /// Done by this one
        #[arg(long, value_name = "ID")]
        actor: Option<String>,
        /// Done to this
        #[arg(long, value_name = "ID")]
        target: Option<String>,
        /// At most this many
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: u32,
        #[command(flatten)]
        output: Output,
    },
    /// Print all that happened, oldest first, one JSON object a line
    Export {
        #[command(flatten)]
        filters: Filters,
    },
    /// Find out whether entries were changed, removed or cut off
    Verify {
        /// The chain of this tenant only
        #[arg(long, value_name = "NAME", conflicts_with = "installation")]
        tenant: Option<String>,
        /// The chain of the installation only
        #[arg(long)]
        installation: bool,
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(super) struct Filters {
    /// The tenant
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TENANT, conflicts_with = "installation")]
    tenant: String,
    /// What belongs to no tenant: starts of the server, tenants, master keys, logins with names that nobody has
    #[arg(long)]
    installation: bool,
    /// At this time or later
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) async fn run(command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::List { filters, event_type, actor, target, limit, output } => {
            let (storage, owner, query) = filters.open().await?;
            let query = AuditQuery { event_type, actor, target, limit, ..query };
            let page = storage.audit().list(owner, &query).await?;
            print_list(output.output, page.items.iter().map(|entry| (as_text(entry), entry.to_json())))
        }
        AuditCommand::Export { filters } => export(&filters).await,
        AuditCommand::Verify { tenant, installation, config, output } => {
            let config = open::load(&config)?;
            let storage = open::storage(&config).await?;
            let owners = match tenant {
                Some(name) => vec![self::tenant(&storage, &name).await?.id.into()],
                None if installation => vec![Owner::Installation],
                None => all_owners(&storage).await?,
            };
            verify(&config, &storage, &owners, output).await
        }
    }
}

impl Filters {
    async fn open(&self) -> Result<(SqlStorage, Owner, AuditQuery), Failure> {
        let storage = open::storage(&open::load(&self.config)?).await?;
        let owner = match self.installation {
            true => Owner::Installation,
            false => tenant(&storage, &self.tenant).await?.id.into(),
        };
        let query = AuditQuery { since: self.since, until: self.until, ..AuditQuery::default() };
        Ok((storage, owner, query))
    }
}

async fn export(filters: &Filters) -> Result<(), Failure> {
    let (storage, owner, query) = filters.open().await?;
    let mut query = AuditQuery { order: AuditOrder::OldestFirst, limit: PAGE, ..query };
    loop {
        let page = storage.audit().list(owner, &query).await?;
        let lines: Vec<String> = page.items.iter().map(|entry| entry.to_json().to_string()).collect();
        if !lines.is_empty() {
            print(&lines.join("\n"))?;
        }
        query.after = page.items.last().map(|entry| entry.sequence);
        if !page.has_more {
            return Ok(());
        }
    }
}

/// Everybody who has a chain, and everybody who should have one: it may have been removed.
async fn all_owners(storage: &SqlStorage) -> Result<Vec<Owner>, Failure> {
    let tenants = storage.directory().tenants().await?;
    let mut owners = storage.audit().owners().await?;
    owners.extend(tenants.iter().map(|tenant| Owner::from(tenant.id)).chain([Owner::Installation]));
    owners.sort_unstable();
    owners.dedup();
    Ok(owners)
}

async fn verify(config: &Config, storage: &SqlStorage, owners: &[Owner], output: Output) -> Result<(), Failure> {
    let key = open::server_key(config, storage).await?.audit_key();
    let (mut lines, mut chains, mut broken) = (Vec::new(), Vec::new(), 0);
    for owner in owners {
        let found = storage.audit().verify(*owner, &key).await?;
        let problems: Vec<String> = found.problems.iter().map(AuditProblem::to_string).collect();
        let state = if found.is_whole() { "whole" } else { "broken" };
        lines.push(format!("{owner}  {} entries  {state}", found.entries));
        lines.extend(problems.iter().map(|problem| format!("  {problem}")));
        broken += usize::from(!found.is_whole());
        chains.push(json!({
            "owner": owner.to_string(),
            "whole": found.is_whole(),
            "entries": found.entries,
            "sequence": found.head.map_or(0, |head| head.sequence),
            "problems": problems,
        }));
    }
    print_as(output.output, &lines.join("\n"), &chains.into())?;
    match broken {
        0 => Ok(()),
        _ => Err(Failure::problems(format_args!("{broken} of {} chains are not whole", owners.len()))),
    }
}

fn as_text(entry: &AuditEntry) -> String {
    let actor = entry.actor.id.as_deref().unwrap_or("");
    let target = entry.target.as_ref().map_or_else(String::new, |target| format!("  {} {}", target.kind, target.id));
    let from = entry.actor.ip.map_or_else(String::new, |ip| format!("  from {ip}"));
    format!("{}  {}  {} {actor}{target}{from}", entry.at.to_rfc3339(), entry.event_type, entry.actor.kind)
}
