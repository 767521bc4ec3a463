//! `mairust tenant`.

use clap::{Args, Subcommand};
use mairust_store::lifecycle::MAX_RETENTION_DAYS;
use mairust_store::{NewTenant, Owner, StorageBackend, StoreErrorKind, Tenant, TenantChange};
use serde_json::{Value, json};

use super::directory::{hold_note, print_list, state_note, tenant};
use super::output::{Failure, print_as};
use super::trail::{Changed, Trail};
use super::{ConfigFile, Output, open};

#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// Add a tenant
    Add {
        /// Its name
        name: String,
        /// Let its users send as anybody
        #[arg(long)]
        any_sender: bool,
        #[command(flatten)]
        common: Common,
    },
    /// List the tenants
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Take no mail for a tenant, and let nobody of it log in
    Suspend {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Let a suspended tenant go on
    Resume {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Change what a tenant has decided
    Set {
        /// Its name
        name: String,
        /// Days for which its deleted messages can be restored, at most 36500; `default` for the number of
        /// the configuration
        #[arg(long, value_name = "DAYS", value_parser = days, required = true)]
        deleted_messages_days: Days,
        #[command(flatten)]
        common: Common,
    },
    /// Put all messages of a tenant on legal hold: until it is released, none is removed for good
    Hold {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// End the legal hold of a tenant
    Release {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

/// A number of days, or that of the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Days(Option<u32>);

#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(command: TenantCommand) -> Result<(), Failure> {
    match command {
        TenantCommand::Add { name, any_sender, common } => add(name, any_sender, &common).await,
        TenantCommand::List { common } => list(&common).await,
        TenantCommand::Suspend { name, common } => enable(&name, false, &common).await,
        TenantCommand::Resume { name, common } => enable(&name, true, &common).await,
        TenantCommand::Set { name, deleted_messages_days, common } => {
            let mut retention = TenantChange::default();
            retention.deleted_messages_days = Some(deleted_messages_days.0);
            change(&name, &retention, &common).await
        }
        TenantCommand::Hold { name, common } => hold(&name, true, &common).await,
        TenantCommand::Release { name, common } => hold(&name, false, &common).await,
    }
}

async fn add(name: String, any_sender: bool, common: &Common) -> Result<(), Failure> {
    let config = open::load(&common.config)?;
    let storage = open::storage(&config).await?;
    let trail = Trail::open(&config, &storage, Owner::Installation).await?;
    let mut new = NewTenant::default();
    new.name.clone_from(&name);
    new.any_sender = any_sender;
    let tenant = storage.directory().create_tenant(new).await.map_err(|error| match error.kind() {
        StoreErrorKind::AlreadyExists => Failure::conflict(format_args!("the tenant {name} is there already")),
        _ => error.into(),
    })?;
    let made = json!({"id": tenant.id.to_string(), "name": name, "any_sender": any_sender});
    trail.record(&storage, "tenant.created", ("tenant", &name), Changed::made(made)).await?;
    let text = format!("added {name}\nnext: mairust domain add example.com --tenant {name}");
    print_as(common.output.output, &text, &json!({"id": tenant.id.to_string(), "name": name}))
}

async fn list(common: &Common) -> Result<(), Failure> {
    let storage = open::storage(&open::load(&common.config)?).await?;
    let tenants = storage.directory().tenants().await?;
    print_list(common.output.output, tenants.iter().map(|tenant| (as_text(tenant), as_json(tenant))))
}

async fn enable(name: &str, enabled: bool, common: &Common) -> Result<(), Failure> {
    let mut state = TenantChange::default();
    state.enabled = Some(enabled);
    change(name, &state, common).await
}

async fn hold(name: &str, on_hold: bool, common: &Common) -> Result<(), Failure> {
    let mut hold = TenantChange::default();
    hold.legal_hold = Some(on_hold);
    change(name, &hold, common).await
}

async fn change(name: &str, change: &TenantChange, common: &Common) -> Result<(), Failure> {
    let config = open::load(&common.config)?;
    let storage = open::storage(&config).await?;
    let trail = Trail::open(&config, &storage, Owner::Installation).await?;
    let before = tenant(&storage, name).await?;
    storage.directory().change_tenant(before.id, change).await?;
    let after = tenant(&storage, name).await?;
    let changed = Changed::from(Some(as_json(&before)), as_json(&after));
    trail.record(&storage, "tenant.changed", ("tenant", &name), changed).await?;
    print_as(common.output.output, &as_text(&after), &as_json(&after))
}

fn days(text: &str) -> Result<Days, String> {
    let number = || text.parse().ok().filter(|days| *days <= MAX_RETENTION_DAYS);
    match text {
        "default" => Ok(Days(None)),
        _ => number()
            .map(|days| Days(Some(days)))
            .ok_or_else(|| format!("write a number of days from 0 to {MAX_RETENTION_DAYS}, or default")),
    }
}

fn as_text(tenant: &Tenant) -> String {
    let days = match tenant.deleted_messages_days {
        Some(days) => format!("  deleted messages: {days} days"),
        None => String::new(),
    };
    format!("{}{days}{}{}", tenant.name, state_note(tenant.enabled), hold_note(tenant.legal_hold))
}

fn as_json(tenant: &Tenant) -> Value {
    json!({
        "id": tenant.id.to_string(),
        "name": tenant.name,
        "enabled": tenant.enabled,
        "any_sender": tenant.any_sender,
        "legal_hold": tenant.legal_hold,
        "deleted_messages_days": tenant.deleted_messages_days,
    })
}
