//! `mairust suppression`: addresses to which a tenant sends nothing.

use std::time::Duration;

use clap::Subcommand;
use mairust_core::{Clock, EmailAddress, SuppressionId, SystemClock, Timestamp};
use mairust_store::{NewSuppression, StorageBackend, StoreErrorKind, Suppression, SuppressionReason};

use super::directory::{InTenant, print_list};
use super::output::{Failure, print_as};
use super::trail::Changed;
use crate::audit::of_suppression;

/// Entries that are read at a time.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum SuppressionCommand {
    /// Send nothing to an address
    Add {
        /// The address
        address: EmailAddress,
        /// Why: bounce, complaint or manual
        #[arg(long, default_value = "manual", value_parser = reason)]
        reason: SuppressionReason,
        /// More about it, for people
        #[arg(long, value_name = "TEXT")]
        detail: Option<String>,
        /// For how many days; without it until it is removed
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// List the addresses to which nothing is sent
    List {
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Send to an address again
    Rm {
        /// The address
        address: EmailAddress,
        #[command(flatten)]
        tenant: InTenant,
    },
}

pub(super) async fn run(command: SuppressionCommand) -> Result<(), Failure> {
    match command {
        SuppressionCommand::Add { address, reason, detail, days, tenant } => {
            let now = SystemClock.now();
            let end = |days: u32| now.plus(Duration::from_secs(u64::from(days) * 24 * 60 * 60));
            let (id, expires_at) = (SuppressionId::new(now), days.map(end));
            add(NewSuppression { id, address, reason, detail, created_at: now, expires_at }, &tenant).await
        }
        SuppressionCommand::List { tenant } => list(&tenant).await,
        SuppressionCommand::Rm { address, tenant } => remove(&address, &tenant).await,
    }
}

async fn add(new: NewSuppression, arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let address = new.address.clone();
    let added = storage.suppressions().add(tenant.id, new).await.map_err(|error| match error.kind() {
        StoreErrorKind::AlreadyExists => Failure::conflict(format_args!(
            "{address} is on the suppression list already; to change it, remove it first: mairust suppression rm {address}"
        )),
        StoreErrorKind::Invalid => Failure::usage(error),
        _ => error.into(),
    })?;
    let json = of_suppression(&added);
    trail.record(&storage, "suppression.added", ("suppression", &address), Changed::made(json.clone())).await?;
    print_as(arguments.format(), &as_text(&added), &json)
}

async fn list(arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant) = arguments.open().await?;
    let mut entries: Vec<Suppression> = Vec::new();
    loop {
        let page = storage.suppressions().list(tenant.id, entries.last().map(|entry| entry.id), PAGE).await?;
        entries.extend(page.items);
        if !page.has_more {
            break;
        }
    }
    print_list(arguments.format(), entries.iter().map(|entry| (as_text(entry), of_suppression(entry))))
}

async fn remove(address: &EmailAddress, arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let found = storage.suppressions().which(tenant.id, std::slice::from_ref(address), SystemClock.now()).await?;
    let Some(entry) = found.first() else {
        let text = format_args!("{address} is not on the suppression list; see mairust suppression list");
        return Err(Failure::not_found(text));
    };
    storage.suppressions().remove(tenant.id, entry.id).await?;
    let json = of_suppression(entry);
    trail.record(&storage, "suppression.removed", ("suppression", address), Changed::removed(json.clone())).await?;
    print_as(arguments.format(), &format!("removed {address}"), &json)
}

fn reason(text: &str) -> Result<SuppressionReason, String> {
    SuppressionReason::parse(text).ok_or_else(|| "write bounce, complaint or manual".to_owned())
}

fn as_text(entry: &Suppression) -> String {
    let until = entry.expires_at.map(|at| format!(", until {}", Timestamp::to_rfc3339(at))).unwrap_or_default();
    let detail = entry.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let (address, reason, since) = (&entry.address, entry.reason.as_str(), entry.created_at.to_rfc3339());
    format!("{address}  {reason} since {since}{until}{detail}")
}
