//! `mairust domain dns`: the records to publish, and whether they are.

use clap::Args;
use mairust_core::Domain;
use mairust_smtp::dns::DnsResolver;
use mairust_store::StorageBackend;
use serde_json::{Value, json};

use super::directory::{InTenant, print_list};
use super::output::{Failure, print};
use super::{domain, open};
use crate::config::{Config, ListenerKind};
use crate::dns::{self, Checked, Record, Services, Status};

#[derive(Debug, Args)]
pub(super) struct DnsArgs {
    /// The domain
    domain: Domain,
    /// Ask DNS what is published, and say what is missing or differs; exit code 8 if anything does
    #[arg(long)]
    check: bool,
    /// Print lines for a zone file
    #[arg(long, conflicts_with_all = ["check", "output"])]
    zone: bool,
    #[command(flatten)]
    tenant: InTenant,
}

pub(super) async fn run(arguments: &DnsArgs) -> Result<(), Failure> {
    let config = open::load(&arguments.tenant.config)?;
    let (storage, tenant) = arguments.tenant.open().await?;
    domain::own(&storage, tenant.id, &arguments.domain).await?;
    let keys = storage.directory().dkim_keys(tenant.id, &arguments.domain).await?;
    let records = dns::records(&services(&config), &arguments.domain, &keys);
    if arguments.zone {
        return print(&dns::zone(&records));
    }
    let format = arguments.tenant.format();
    if !arguments.check {
        return print_list(format, records.iter().map(|record| (as_text(record), as_json(record))));
    }
    let checked = dns::check(&resolver(&config)?, records).await;
    print_list(format, checked.iter().map(|checked| (checked_text(checked), checked_json(checked))))?;
    match checked.iter().filter(|checked| checked.status != Status::Ok).count() {
        0 => Ok(()),
        count => Err(Failure::problems(format_args!("{count} of {} records are not as they should be", checked.len()))),
    }
}

/// What the server of this configuration does for its domains.
fn services(config: &Config) -> Services {
    let port = |kind: ListenerKind| {
        let mut listeners = config.smtp.listeners.iter().filter(|listener| listener.kind == kind);
        listeners.next().map(|listener| listener.bind.port())
    };
    Services {
        hostname: config.server.hostname.clone(),
        takes_mail: port(ListenerKind::Mx).is_some(),
        submission: port(ListenerKind::Submission).filter(|port| *port != 0),
        submissions: port(ListenerKind::Submissions).filter(|port| *port != 0),
        relay: config.delivery.relay.as_ref().map(|relay| relay.host.clone()),
    }
}

/// Asks the name servers of the configuration, or those of the system.
pub(super) fn resolver(config: &Config) -> Result<DnsResolver, Failure> {
    let made = match config.dns_servers.as_slice() {
        [] => DnsResolver::system(),
        servers => DnsResolver::with_servers(servers),
    };
    made.map_err(|error| Failure::configuration(format_args!("DNS: {error}")))
}

fn as_text(record: &Record) -> String {
    format!("{:11}  {} {} {}", record.purpose.as_str(), record.name, record.data.kind(), record.data)
}

fn as_json(record: &Record) -> Value {
    json!({
        "purpose": record.purpose.as_str(),
        "name": record.name,
        "type": record.data.kind(),
        "value": record.data.to_string(),
    })
}

fn checked_text(checked: &Checked) -> String {
    let mut text = format!("{:10}  {}", checked.status.as_str(), as_text(&checked.record));
    if checked.status != Status::Ok {
        for found in &checked.found {
            text.push_str(&format!("\n            found: {found}"));
        }
        if let Some(hint) = &checked.hint {
            text.push_str(&format!("\n            {hint}"));
        }
    }
    text
}

fn checked_json(checked: &Checked) -> Value {
    let mut json = as_json(&checked.record);
    json["status"] = checked.status.as_str().into();
    json["found"] = checked.found.clone().into();
    json["hint"] = checked.hint.clone().into();
    json
}
