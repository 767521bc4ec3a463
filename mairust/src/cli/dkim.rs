//! `mairust domain dkim`: the keys that sign mail of a domain.

use clap::{Subcommand, ValueEnum};
use mairust_core::{Clock, DkimAlgorithm, Domain, SystemClock, Timestamp};
use mairust_smtp::sign::key_record;
use mairust_store::{DkimKey, DkimKeyState, SqlStorage, StorageBackend, StoreErrorKind, Tenant};
use serde_json::{Value, json};

use super::directory::{InTenant, print_list};
use super::output::{Failure, OutputFormat, print, print_as};
use super::trail::{Changed, Trail};
use super::{domain, open};
use crate::{dns, signing};

#[derive(Debug, Subcommand)]
pub(super) enum DkimCommand {
    /// List the keys of a domain
    List {
        /// The domain
        domain: Domain,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Make new keys, and print the records to publish; they sign when they are activated
    Rotate {
        /// The domain
        domain: Domain,
        /// Only a key of this kind; without it, one of each
        #[arg(long, value_enum)]
        algorithm: Option<AlgorithmName>,
        /// Sign with them at once: for a domain that has published nothing yet
        #[arg(long)]
        activate: bool,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Sign with keys whose records are published; the ones before retire
    Activate {
        /// The domain
        domain: Domain,
        /// The keys; without any, the newest ones that are pending
        selectors: Vec<String>,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Sign with keys no more
    Retire {
        /// The domain
        domain: Domain,
        /// The keys
        #[arg(required = true)]
        selectors: Vec<String>,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Remove keys that do not sign
    Remove {
        /// The domain
        domain: Domain,
        /// The keys
        #[arg(required = true)]
        selectors: Vec<String>,
        #[command(flatten)]
        tenant: InTenant,
    },
}

/// Kinds of keys, for the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum AlgorithmName {
    /// Short and fast; not every verifier knows it
    Ed25519,
    /// RSA of 2,048 bits; every verifier knows it
    Rsa,
}

/// What the commands work with.
struct Site {
    storage: SqlStorage,
    tenant: Tenant,
    trail: Trail,
    domain: Domain,
    keys: Vec<DkimKey>,
}

pub(super) async fn run(command: DkimCommand) -> Result<(), Failure> {
    match command {
        DkimCommand::List { domain, tenant } => list(&domain, &tenant).await,
        DkimCommand::Rotate { domain, algorithm, activate, tenant } => {
            rotate(domain, algorithm, activate, &tenant).await
        }
        DkimCommand::Activate { domain, selectors, tenant } => activate(domain, &selectors, &tenant).await,
        DkimCommand::Retire { domain, selectors, tenant } => retire(domain, &selectors, &tenant).await,
        DkimCommand::Remove { domain, selectors, tenant } => remove(domain, &selectors, &tenant).await,
    }
}

async fn list(domain: &Domain, arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant) = arguments.open().await?;
    domain::own(&storage, tenant.id, domain).await?;
    let keys = storage.directory().dkim_keys(tenant.id, domain).await?;
    print_list(arguments.format(), keys.iter().map(|key| (as_text(key), as_json(key))))
}

async fn rotate(
    domain: Domain,
    algorithm: Option<AlgorithmName>,
    activate: bool,
    arguments: &InTenant,
) -> Result<(), Failure> {
    let mut site = Site::open(domain, arguments).await?;
    let sealer = open::sealer(&open::load(&arguments.config)?)?;
    let algorithms = match algorithm {
        None => DkimAlgorithm::ALL.to_vec(),
        Some(AlgorithmName::Ed25519) => vec![DkimAlgorithm::Ed25519],
        Some(AlgorithmName::Rsa) => vec![DkimAlgorithm::Rsa],
    };
    let mut made = Vec::new();
    for algorithm in algorithms {
        let now = SystemClock.now();
        let new = (free_selector(&site.keys, algorithm, now), algorithm);
        let key = signing::make_key(&site.storage, &sealer, site.tenant.id, &site.domain, new, now).await?;
        site.record("dkim_key.created", Changed::made(as_json(&key))).await?;
        site.keys.push(key.clone());
        made.push(key);
    }
    if activate {
        site.activate(&mut made).await?;
    }
    let records: Vec<String> = made.iter().map(record_line).collect();
    let next = match activate {
        true => "they sign mail from now on: publish them at once".to_owned(),
        false => {
            format!(
                "next: publish them, then mairust domain dns {0} --check, mairust domain dkim activate {0}",
                site.domain
            )
        }
    };
    match arguments.format() {
        OutputFormat::Json => print(&Value::from_iter(made.iter().map(as_json)).to_string()),
        OutputFormat::Text => print(&format!("{}\n{next}", records.join("\n"))),
    }
}

async fn activate(domain: Domain, selectors: &[String], arguments: &InTenant) -> Result<(), Failure> {
    let site = Site::open(domain, arguments).await?;
    let mut chosen = if selectors.is_empty() { newest_pending(&site.keys) } else { site.chosen(selectors)? };
    if chosen.is_empty() {
        return Err(Failure::not_found(format_args!(
            "{0} has no pending keys; make some: mairust domain dkim rotate {0}",
            site.domain
        )));
    }
    site.activate(&mut chosen).await?;
    print_keys(arguments.format(), "signs from now on", &chosen)
}

async fn retire(domain: Domain, selectors: &[String], arguments: &InTenant) -> Result<(), Failure> {
    let site = Site::open(domain, arguments).await?;
    let mut chosen = site.chosen(selectors)?;
    for key in &mut chosen {
        site.storage.directory().retire_dkim_key(site.tenant.id, key.id).await?;
        site.changed("dkim_key.retired", key).await?;
    }
    print_keys(arguments.format(), "signs no more", &chosen)
}

async fn remove(domain: Domain, selectors: &[String], arguments: &InTenant) -> Result<(), Failure> {
    let site = Site::open(domain, arguments).await?;
    let chosen = site.chosen(selectors)?;
    for key in &chosen {
        signing::remove_key(&site.storage, key).await.map_err(|error| match error.kind() {
            StoreErrorKind::Conflict => Failure::conflict(format_args!(
                "{1} signs mail; activate another key first, or mairust domain dkim retire {0} {1}",
                site.domain, key.selector
            )),
            _ => error.into(),
        })?;
        site.record("dkim_key.removed", Changed::removed(as_json(key))).await?;
    }
    print_keys(arguments.format(), "removed; its record need not be published any more", &chosen)
}

impl Site {
    async fn open(domain: Domain, arguments: &InTenant) -> Result<Self, Failure> {
        let (storage, tenant, trail) = arguments.open_to_change().await?;
        domain::own(&storage, tenant.id, &domain).await?;
        let keys = storage.directory().dkim_keys(tenant.id, &domain).await?;
        Ok(Self { storage, tenant, trail, domain, keys })
    }

    /// The keys with these selectors.
    fn chosen(&self, selectors: &[String]) -> Result<Vec<DkimKey>, Failure> {
        let find = |selector: &String| {
            let found = self.keys.iter().find(|key| key.selector == *selector).cloned();
            found.ok_or_else(|| {
                Failure::not_found(format_args!(
                    "{0} has no key {selector}; see mairust domain dkim list {0}",
                    self.domain
                ))
            })
        };
        selectors.iter().map(find).collect()
    }

    async fn activate(&self, keys: &mut [DkimKey]) -> Result<(), Failure> {
        for key in keys {
            self.storage.directory().activate_dkim_key(self.tenant.id, key.id).await?;
            self.changed("dkim_key.activated", key).await?;
        }
        Ok(())
    }

    /// Records a change of a key, which becomes what it is now.
    async fn changed(&self, event_type: &str, key: &mut DkimKey) -> Result<(), Failure> {
        let before = as_json(key);
        let keys = self.storage.directory().dkim_keys(self.tenant.id, &self.domain).await?;
        if let Some(now) = keys.into_iter().find(|other| other.id == key.id) {
            *key = now;
        }
        self.record(event_type, Changed::from(Some(before), as_json(key))).await
    }

    async fn record(&self, event_type: &str, changed: Changed) -> Result<(), Failure> {
        self.trail.record(&self.storage, event_type, ("domain", &self.domain), changed).await
    }
}

/// The newest pending key of each kind.
fn newest_pending(keys: &[DkimKey]) -> Vec<DkimKey> {
    let newest = |algorithm: DkimAlgorithm| {
        let mut pending = keys.iter().filter(|key| key.state == DkimKeyState::Pending && key.algorithm == algorithm);
        pending.next_back().cloned()
    };
    DkimAlgorithm::ALL.into_iter().filter_map(newest).collect()
}

/// A selector that tells when a key was made, and that no other key of the domain has.
fn free_selector(keys: &[DkimKey], algorithm: DkimAlgorithm, now: Timestamp) -> String {
    let date: String = now.to_rfc3339().chars().take(10).filter(char::is_ascii_digit).collect();
    let first = format!("{date}-{algorithm}");
    let numbered = (2..).map(|number| format!("{first}-{number}"));
    let is_free = |selector: &String| keys.iter().all(|key| key.selector != *selector);
    std::iter::once(first.clone()).chain(numbered).find(is_free).unwrap_or(first)
}

fn print_keys(format: OutputFormat, what: &str, keys: &[DkimKey]) -> Result<(), Failure> {
    let lines: Vec<String> = keys.iter().map(|key| format!("{}  {what}", key.selector)).collect();
    print_as(format, &lines.join("\n"), &Value::from_iter(keys.iter().map(as_json)))
}

fn record_line(key: &DkimKey) -> String {
    format!("{} TXT {}", dns::key_name(key), key_record(key.algorithm, &key.public_key))
}

fn as_text(key: &DkimKey) -> String {
    let since = match key.state {
        DkimKeyState::Active => key.activated_at,
        DkimKeyState::Retired => key.retired_at,
        _ => None,
    };
    let since = since.unwrap_or(key.created_at).to_rfc3339();
    format!("{}  {}  {} since {since}", key.selector, key.algorithm, key.state.as_str())
}

fn as_json(key: &DkimKey) -> Value {
    json!({
        "id": key.id.to_string(),
        "domain": key.domain.as_str(),
        "selector": key.selector,
        "algorithm": key.algorithm.as_str(),
        "state": key.state.as_str(),
        "created_at": key.created_at.to_rfc3339(),
        "activated_at": key.activated_at.map(Timestamp::to_rfc3339),
        "retired_at": key.retired_at.map(Timestamp::to_rfc3339),
        "name": dns::key_name(key),
        "record": key_record(key.algorithm, &key.public_key),
    })
}
