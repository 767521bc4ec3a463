//! `mairust consistency-check` and `mairust db-repair`.

use std::collections::BTreeMap;

use clap::Args;
use mairust_core::{Clock, SystemClock};
use mairust_store::{
    ConsistencyCheck, ConsistencyReport, Fault, Invariant, InvariantCheck, Owner, SqlStorage, StoreError,
    StoreErrorKind,
};
use serde_json::json;

use super::output::Failure;
use super::progress::Console;
use super::trail::{Changed, Trail};
use super::{ConfigFile, Output, open};
use crate::config::Config;
use crate::server::LATE;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Remove bodies to which no message points, correct counters, end leases that nobody has
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn check(arguments: &CheckArgs) -> Result<(), Failure> {
    let config = open::load(&arguments.config)?;
    let storage = open::storage_for_long(&config).await?;
    let trail = match arguments.repair {
        true => Some(Trail::open(&config, &storage, Owner::Installation).await?),
        false => None,
    };
    let mut console = Console::new(arguments.output.output);
    let check = what(&config).repair(arguments.repair);
    let report = storage.check_consistency(&check, &mut console).await.map_err(|error| unfinished(&error))?;
    if let Some(trail) = trail {
        record(&storage, &trail, "storage.repaired", &report).await?;
    }
    tell(&report, &mut console)
}

pub(super) async fn repair(arguments: &RepairArgs) -> Result<(), Failure> {
    let config = open::load(&arguments.config)?;
    let storage = open::storage_for_long(&config).await?;
    let trail = Trail::open(&config, &storage, Owner::Installation).await?;
    let mut console = Console::new(arguments.output.output);
    let repaired = storage.repair_database(&what(&config), &mut console).await;
    let report = repaired.map_err(|error| unfinished(&error))?;
    record(&storage, &trail, "database.repaired", &report).await?;
    tell(&report, &mut console)
}

/// What is looked for.
fn what(config: &Config) -> ConsistencyCheck {
    let now = SystemClock.now();
    let max_age = config.delivery.give_up_after.saturating_add(LATE);
    ConsistencyCheck::new(now).rules(InvariantCheck::new(now).max_age(max_age))
}

fn unfinished(error: &StoreError) -> Failure {
    if error.kind() == StoreErrorKind::Corrupt {
        return open::damaged(error);
    }
    let text = crate::error::chain(error);
    Failure::failed(format_args!("the check has not come to its end: {text}\nrun it again when all is up"))
}

async fn record(
    storage: &SqlStorage,
    trail: &Trail,
    event_type: &str,
    report: &ConsistencyReport,
) -> Result<(), Failure> {
    if report.repaired.is_empty() {
        return Ok(());
    }
    let after = Changed::made(json!({"found": counts(&report.found), "repaired": counts(&report.repaired)}));
    trail.record(storage, event_type, ("storage", &"storage"), after).await
}

fn counts(faults: &BTreeMap<Fault, u64>) -> BTreeMap<&'static str, u64> {
    faults.iter().map(|(fault, count)| (fault.as_str(), *count)).collect()
}

fn tell(report: &ConsistencyReport, console: &mut Console) -> Result<(), Failure> {
    let ConsistencyReport { bodies, objects, counters, .. } = report;
    let sum = |faults: &BTreeMap<Fault, u64>| faults.values().sum::<u64>();
    let (found, repaired, left) = (sum(&report.found), sum(&report.repaired), report.left());
    let looked = match bodies + objects {
        0 => format!("{counters} counters"),
        _ => format!("{bodies} bodies, {objects} objects, {counters} counters"),
    };
    let text = match found {
        0 => format!("checked {looked}: nothing is wrong"),
        _ => format!("checked {looked}: {found} faults, {repaired} of them repaired"),
    };
    let fields = json!({
        "bodies": bodies,
        "objects": objects,
        "counters": counters,
        "found": counts(&report.found),
        "repaired": counts(&report.repaired),
        "left": counts(&left),
    });
    console.end_of_findings(&text, &fields)?;
    if left.is_empty() {
        return Ok(());
    }
    let advice = left.iter().map(|(fault, count)| format!("  {} ({count}): {}", fault.as_str(), advice(*fault)));
    let advice: Vec<String> = advice.collect();
    Err(Failure::problems(format_args!("{} faults are left\n{}", sum(&left), advice.join("\n"))))
}

/// What to do about a fault.
fn advice(fault: Fault) -> &'static str {
    match fault {
        Fault::BodyMissing | Fault::BodyDamaged => {
            "take the file from a backup (tar xf BACKUP bodies/OBJECT) and put it back under its name"
        }
        Fault::BodyOrphaned | Fault::SpooledOrphaned => {
            "mairust consistency-check --repair removes it, if it is not one that another database may know"
        }
        Fault::MailboxUse | Fault::FolderCounters | Fault::EventPositions => {
            "mairust consistency-check --repair corrects it"
        }
        Fault::Database => "stop the servers and restore the newest backup into an empty database",
        Fault::Reference => "restore the newest backup into an empty database",
        Fault::Rule(Invariant::LeaseOwner) => "start a server, or mairust consistency-check --repair",
        Fault::Rule(Invariant::RecipientJob) => "these recipients get nothing: send the message again",
        _ => "look for the job or the message in the log of the server",
    }
}
