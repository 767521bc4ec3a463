//! `mairust domain`.

use clap::Subcommand;
use mairust_core::{Domain, EmailAddress, TenantId};
use mairust_store::{DomainChange, DomainRow, SqlStorage, StorageBackend, StoreErrorKind};
use serde_json::{Value, json};

use super::directory::{InTenant, NewState, print_list, state_note};
use super::dkim::{self, DkimCommand};
use super::dns::{self, DnsArgs};
use super::output::{Failure, print_as};
use super::trail::Changed;

#[derive(Debug, Subcommand)]
pub(super) enum DomainCommand {
    /// Take mail for a domain
    Add {
        /// The domain, for example example.com
        domain: Domain,
        /// Another domain whose addresses are to be those of this one, too
        #[arg(long, value_name = "DOMAIN")]
        alias_of: Option<Domain>,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// List the domains
    List {
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Print the DNS records that a domain needs, or check whether they are published
    Dns(DnsArgs),
    /// Keys that sign mail of a domain by DKIM
    #[command(subcommand)]
    Dkim(DkimCommand),
    /// Change a domain
    Set {
        /// The domain
        domain: Domain,
        /// Who takes mail to addresses that nobody has
        #[arg(long, value_name = "ADDRESS", conflicts_with = "no_catch_all")]
        catch_all: Option<EmailAddress>,
        /// Refuse mail to addresses that nobody has
        #[arg(long)]
        no_catch_all: bool,
        #[command(flatten)]
        state: NewState,
        #[command(flatten)]
        tenant: InTenant,
    },
}

pub(super) async fn run(command: DomainCommand) -> Result<(), Failure> {
    match command {
        DomainCommand::Add { domain, alias_of, tenant } => add(&domain, alias_of.as_ref(), &tenant).await,
        DomainCommand::List { tenant } => list(&tenant).await,
        DomainCommand::Dns(arguments) => Box::pin(dns::run(&arguments)).await,
        DomainCommand::Dkim(command) => dkim::run(command).await,
        DomainCommand::Set { domain, catch_all, no_catch_all, state, tenant } => {
            let mut change = DomainChange::default();
            change.enabled = state.enabled();
            change.catch_all = if no_catch_all { Some(None) } else { catch_all.map(Some) };
            set(&domain, &change, &tenant).await
        }
    }
}

async fn add(domain: &Domain, alias_of: Option<&Domain>, arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let made = match alias_of {
        Some(target) => storage.directory().create_domain_alias(tenant.id, domain, target).await,
        None => storage.directory().create_domain(tenant.id, domain).await,
    };
    let row = made.map_err(|error| match (error.kind(), alias_of) {
        (StoreErrorKind::AlreadyExists, _) => {
            Failure::conflict(format_args!("the domain {} is there already", both_forms(domain)))
        }
        (StoreErrorKind::NotFound, Some(target)) => unknown(target),
        (StoreErrorKind::Invalid, Some(target)) => {
            Failure::usage(format_args!("{target} is itself the alias of a domain; name that one"))
        }
        _ => error.into(),
    })?;
    trail.record(&storage, "domain.created", ("domain", domain), Changed::made(as_json(&row))).await?;
    let next = match alias_of {
        Some(target) => format!("its addresses are those of {target}"),
        None => format!("next: mairust user add someone@{domain}"),
    };
    print_as(arguments.format(), &format!("added {}\n{next}", both_forms(domain)), &as_json(&row))
}

async fn list(arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant) = arguments.open().await?;
    let rows = storage.directory().domains(tenant.id).await?;
    print_list(arguments.format(), rows.iter().map(|row| (as_text(row), as_json(row))))
}

async fn set(domain: &Domain, change: &DomainChange, arguments: &InTenant) -> Result<(), Failure> {
    if change.enabled.is_none() && change.catch_all.is_none() {
        return Err(Failure::usage("nothing to change: write --catch-all, --no-catch-all, --enable or --disable"));
    }
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let directory = storage.directory();
    let before = directory.domain(domain).await?.filter(|row| row.tenant == tenant.id);
    directory.change_domain(tenant.id, domain, change).await.map_err(|error| match error.kind() {
        StoreErrorKind::NotFound => unknown(domain),
        StoreErrorKind::Invalid => Failure::usage(error),
        _ => error.into(),
    })?;
    let row = directory.domain(domain).await?.ok_or_else(|| unknown(domain))?;
    let changed = Changed::from(before.as_ref().map(as_json), as_json(&row));
    trail.record(&storage, "domain.changed", ("domain", domain), changed).await?;
    print_as(arguments.format(), &as_text(&row), &as_json(&row))
}

/// A domain of the tenant.
pub(super) async fn own(storage: &SqlStorage, tenant: TenantId, domain: &Domain) -> Result<DomainRow, Failure> {
    let row = storage.directory().domain(domain).await?.filter(|row| row.tenant == tenant);
    row.ok_or_else(|| unknown(domain))
}

fn unknown(domain: &Domain) -> Failure {
    let name = both_forms(domain);
    Failure::not_found(format_args!("there is no domain {name}; add it first: mairust domain add {domain}"))
}

/// The name as people read it, and as the DNS has it where that differs.
fn both_forms(domain: &Domain) -> String {
    let unicode = domain.to_unicode();
    if unicode == domain.as_str() { unicode.into_owned() } else { format!("{unicode} ({domain})") }
}

fn as_text(row: &DomainRow) -> String {
    let mut text = both_forms(&row.name);
    if let Some(target) = &row.alias_of {
        text.push_str(&format!("  alias of {target}"));
    }
    if let Some(address) = &row.catch_all {
        text.push_str(&format!("  catch-all {address}"));
    }
    text + state_note(row.enabled)
}

fn as_json(row: &DomainRow) -> Value {
    json!({
        "id": row.id.to_string(),
        "name": row.name.as_str(),
        "unicode": row.name.to_unicode(),
        "enabled": row.enabled,
        "alias_of": row.alias_of.as_ref().map(Domain::as_str),
        "catch_all": row.catch_all.as_ref().map(ToString::to_string),
    })
}
