//! `mairust sender`: senders that a tenant welcomes or wants nothing from.

use clap::Subcommand;
use mairust_core::SenderPattern;
use mairust_store::{SenderAction, SenderRule, SqlStorage, StorageBackend, StoreErrorKind, Tenant};
use serde_json::{Value, json};

use super::directory::{InTenant, print_list};
use super::output::{Failure, print_as};
use super::trail::Changed;

#[derive(Debug, Subcommand)]
pub(super) enum SenderCommand {
    /// Welcome mail of a sender
    Allow {
        /// An address, a domain, *.domain, an IP address or a network
        pattern: String,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Want no mail of a sender
    Block {
        /// An address, a domain, *.domain, an IP address or a network
        pattern: String,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// List what was decided about senders
    List {
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Forget what was decided about a sender
    Rm {
        /// The pattern
        pattern: String,
        #[command(flatten)]
        tenant: InTenant,
    },
}

pub(super) async fn run(command: SenderCommand) -> Result<(), Failure> {
    match command {
        SenderCommand::Allow { pattern, tenant } => set(&pattern, SenderAction::Allow, &tenant).await,
        SenderCommand::Block { pattern, tenant } => set(&pattern, SenderAction::Block, &tenant).await,
        SenderCommand::List { tenant } => list(&tenant).await,
        SenderCommand::Rm { pattern, tenant } => remove(&pattern, &tenant).await,
    }
}

async fn set(pattern: &str, action: SenderAction, arguments: &InTenant) -> Result<(), Failure> {
    pattern.parse::<SenderPattern>().map_err(Failure::usage)?;
    let rule = SenderRule::new(pattern, action).map_err(Failure::usage)?;
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let before = find(&storage, &tenant, &rule.pattern).await?;
    storage.directory().set_sender_rule(tenant.id, rule.clone()).await?;
    let changed = Changed::from(before.as_ref().map(as_json), as_json(&rule));
    trail.record(&storage, "sender_rule.set", ("sender_rule", &rule.pattern), changed).await?;
    print_as(arguments.format(), &as_text(&rule), &as_json(&rule))
}

async fn list(arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant) = arguments.open().await?;
    let rules = storage.directory().sender_rules(tenant.id).await?;
    print_list(arguments.format(), rules.iter().map(|rule| (as_text(rule), as_json(rule))))
}

async fn remove(pattern: &str, arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let before = find(&storage, &tenant, pattern).await?;
    storage.directory().delete_sender_rule(tenant.id, pattern).await.map_err(|error| match error.kind() {
        StoreErrorKind::NotFound => {
            Failure::not_found(format_args!("nothing was decided about {pattern}; see mairust sender list"))
        }
        StoreErrorKind::Invalid => Failure::usage(error),
        _ => error.into(),
    })?;
    let before = before.as_ref().map_or_else(|| json!({"pattern": pattern}), as_json);
    trail.record(&storage, "sender_rule.removed", ("sender_rule", &pattern), Changed::removed(before)).await?;
    print_as(arguments.format(), &format!("removed {pattern}"), &json!({"pattern": pattern}))
}

async fn find(storage: &SqlStorage, tenant: &Tenant, pattern: &str) -> Result<Option<SenderRule>, Failure> {
    let rules = storage.directory().sender_rules(tenant.id).await?;
    Ok(rules.into_iter().find(|rule| rule.pattern == pattern.trim().to_lowercase()))
}

fn as_text(rule: &SenderRule) -> String {
    format!("{} {}", rule.action.as_str(), rule.pattern)
}

fn as_json(rule: &SenderRule) -> Value {
    json!({"pattern": rule.pattern, "action": rule.action.as_str()})
}
