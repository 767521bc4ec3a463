//! `mairust alias`.

use clap::Subcommand;
use mairust_core::EmailAddress;
use mairust_store::{Alias, AliasChange, NewAlias, SqlStorage, StorageBackend, StoreErrorKind, Tenant};
use serde_json::{Value, json};

use super::directory::{InTenant, NewState, print_list, state_note};
use super::output::{Failure, print_as};
use super::trail::Changed;

#[derive(Debug, Subcommand)]
pub(super) enum AliasCommand {
    /// Add an address that leads to others, here or elsewhere
    Add {
        /// The address; its domain must have been added
        address: EmailAddress,
        /// Where its mail goes
        #[arg(required = true, value_name = "TARGET")]
        targets: Vec<EmailAddress>,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// List the aliases
    List {
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Change an alias
    Set {
        /// The address
        address: EmailAddress,
        #[command(flatten)]
        state: NewState,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Remove an alias
    Rm {
        /// The address
        address: EmailAddress,
        #[command(flatten)]
        tenant: InTenant,
    },
}

pub(super) async fn run(command: AliasCommand) -> Result<(), Failure> {
    match command {
        AliasCommand::Add { address, targets, tenant } => add(address, targets, &tenant).await,
        AliasCommand::List { tenant } => list(&tenant).await,
        AliasCommand::Set { address, state, tenant } => set(&address, &state, &tenant).await,
        AliasCommand::Rm { address, tenant } => remove(&address, &tenant).await,
    }
}

async fn add(address: EmailAddress, targets: Vec<EmailAddress>, arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let new = NewAlias { address: address.clone(), targets };
    let alias = storage.directory().create_alias(tenant.id, new).await.map_err(|error| match error.kind() {
        StoreErrorKind::AlreadyExists => Failure::conflict(format_args!("the address {address} is taken")),
        StoreErrorKind::NotFound => Failure::not_found(format_args!(
            "the domain of {address} is not known here; add it first: mairust domain add {}",
            address.domain()
        )),
        StoreErrorKind::Invalid => Failure::usage(error),
        _ => error.into(),
    })?;
    trail.record(&storage, "alias.created", ("alias", &alias.address), Changed::made(as_json(&alias))).await?;
    print_as(arguments.format(), &format!("added {}", as_text(&alias)), &as_json(&alias))
}

async fn list(arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant) = arguments.open().await?;
    let aliases = storage.directory().aliases(tenant.id).await?;
    print_list(arguments.format(), aliases.iter().map(|alias| (as_text(alias), as_json(alias))))
}

async fn set(address: &EmailAddress, state: &NewState, arguments: &InTenant) -> Result<(), Failure> {
    let Some(enabled) = state.enabled() else {
        return Err(Failure::usage("nothing to change: write --enable or --disable"));
    };
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let before = find(&storage, &tenant, address).await?;
    let mut change = AliasChange::default();
    change.enabled = Some(enabled);
    storage.directory().change_alias(tenant.id, address, &change).await.map_err(|error| or_unknown(error, address))?;
    let changed = Changed::from(before.as_ref().map(as_json), json!({"enabled": enabled}));
    trail.record(&storage, "alias.changed", ("alias", address), changed).await?;
    let text = format!("{address}{}", if enabled { " takes mail" } else { " takes no mail" });
    print_as(arguments.format(), &text, &json!({"address": address.to_string(), "enabled": enabled}))
}

async fn remove(address: &EmailAddress, arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let before = find(&storage, &tenant, address).await?;
    storage.directory().delete_alias(tenant.id, address).await.map_err(|error| or_unknown(error, address))?;
    let before = before.as_ref().map_or_else(|| json!({"address": address.to_string()}), as_json);
    trail.record(&storage, "alias.removed", ("alias", address), Changed::removed(before)).await?;
    print_as(arguments.format(), &format!("removed {address}"), &json!({"address": address.to_string()}))
}

async fn find(storage: &SqlStorage, tenant: &Tenant, address: &EmailAddress) -> Result<Option<Alias>, Failure> {
    let aliases = storage.directory().aliases(tenant.id).await?;
    Ok(aliases.into_iter().find(|alias| alias.address.lookup_key() == address.lookup_key()))
}

fn or_unknown(error: mairust_store::StoreError, address: &EmailAddress) -> Failure {
    match error.kind() {
        StoreErrorKind::NotFound => {
            Failure::not_found(format_args!("there is no alias {address}; see mairust alias list"))
        }
        _ => error.into(),
    }
}

fn as_text(alias: &Alias) -> String {
    let targets: Vec<String> = alias.targets.iter().map(ToString::to_string).collect();
    format!("{} -> {}{}", alias.address, targets.join(" "), state_note(alias.enabled))
}

fn as_json(alias: &Alias) -> Value {
    json!({
        "id": alias.id.to_string(),
        "address": alias.address.to_string(),
        "targets": alias.targets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "enabled": alias.enabled,
    })
}
