//! `mairust tenant`.

use clap::{Args, Subcommand};
use mairust_store::{NewTenant, Owner, StorageBackend, StoreErrorKind, TenantChange};
use serde_json::json;

use super::directory::{print_list, state_note, tenant};
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
}

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
        TenantCommand::Suspend { name, common } => set(&name, false, &common).await,
        TenantCommand::Resume { name, common } => set(&name, true, &common).await,
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
    let tenants = storage.directory().tenants().await?.into_iter().map(|tenant| {
        let text = format!("{}{}", tenant.name, state_note(tenant.enabled));
        let json = json!({
            "id": tenant.id.to_string(),
            "name": tenant.name,
            "enabled": tenant.enabled,
            "any_sender": tenant.any_sender,
        });
        (text, json)
    });
    print_list(common.output.output, tenants)
}

async fn set(name: &str, enabled: bool, common: &Common) -> Result<(), Failure> {
    let config = open::load(&common.config)?;
    let storage = open::storage(&config).await?;
    let trail = Trail::open(&config, &storage, Owner::Installation).await?;
    let tenant = tenant(&storage, name).await?;
    let mut change = TenantChange::default();
    change.enabled = Some(enabled);
    storage.directory().change_tenant(tenant.id, &change).await?;
    let changed = Changed::from(Some(json!({"enabled": tenant.enabled})), json!({"enabled": enabled}));
    trail.record(&storage, "tenant.changed", ("tenant", &name), changed).await?;
    let text = format!("{name} {}", if enabled { "goes on" } else { "is suspended" });
    print_as(common.output.output, &text, &json!({"id": tenant.id.to_string(), "name": name, "enabled": enabled}))
}
