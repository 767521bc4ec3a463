//! `mairust queue`: deliveries that wait, are being done, or are held.

use clap::{Args, Subcommand};
use mairust_core::{Clock, Domain, JobId, MessageId, SystemClock};
use mairust_http::queue::{DestinationTotals, QueueEntry};
use mairust_store::queue::change_all;
use mairust_store::{
    Attempt, DeliveryRow, HoldReason, ItemState, QueueAction, QueueFilter, QueueItem, QueueTotal, SqlStorage,
    StorageBackend, Tenant, pause,
};
use serde_json::{Value, json};

use super::directory::{InTenant, print_list};
use super::output::{Failure, print_as};
use super::trail::Changed;
use crate::config::Relay;

#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// List deliveries, in the order of their messages
    List {
        #[command(flatten)]
        which: Filter,
        /// How many at most
        #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Show a delivery with its recipients and all attempts
    Show {
        /// Its id
        #[arg(value_name = "ID")]
        id: JobId,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Count deliveries by destination
    Destinations {
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Try deliveries that wait at once
    Retry {
        #[command(flatten)]
        selection: Selection,
    },
    /// Hold deliveries until they are released
    Hold {
        #[command(flatten)]
        selection: Selection,
    },
    /// Go on with deliveries that are held
    Release {
        #[command(flatten)]
        selection: Selection,
    },
    /// Send deliveries another way than usual, at once
    Reroute {
        /// The host that takes them, and its port, for example relay.example.com:25
        #[arg(long, value_name = "HOST:PORT", required_unless_present = "usual")]
        via: Option<Relay>,
        /// The usual way again
        #[arg(long, conflicts_with = "via")]
        usual: bool,
        #[command(flatten)]
        selection: Selection,
    },
    /// End deliveries: recipients who wait do not get the message
    Cancel {
        /// Send the senders a notice that says so; the server writes it as soon as it runs
        #[arg(long)]
        bounce: bool,
        #[command(flatten)]
        selection: Selection,
    },
    /// Deliver nothing to a destination until it is resumed; what is being delivered goes on
    Pause {
        #[command(flatten)]
        what: Paused,
    },
    /// Deliver to a destination again
    Resume {
        #[command(flatten)]
        what: Paused,
    },
}

/// Conditions that all must hold.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Of this message
    #[arg(long, value_name = "ID")]
    message: Option<MessageId>,
    /// To this domain
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    destination: Option<Domain>,
    /// In this state
    #[arg(long, value_name = "STATE", value_parser = ItemState::NAMES)]
    state: Option<String>,
    /// Held for this reason
    #[arg(long, value_name = "REASON", value_parser = reason)]
    held_because: Option<HoldReason>,
}

/// Which deliveries something is done to.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Their ids
    #[arg(value_name = "ID")]
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: Filter,
    /// All deliveries of the tenant
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    tenant: InTenant,
}

/// What is paused or resumed.
#[derive(Debug, Args)]
pub(super) struct Paused {
    /// The domain
    #[arg(value_name = "DOMAIN", value_parser = domain, required_unless_present = "all")]
    destination: Option<Domain>,
    /// All destinations of the tenant; every pause when resuming
    #[arg(long, conflicts_with = "destination")]
    all: bool,
    #[command(flatten)]
    tenant: InTenant,
}

pub(super) async fn run(command: QueueCommand) -> Result<(), Failure> {
    match command {
        QueueCommand::List { which, limit, tenant } => list(&which, limit, &tenant).await,
        QueueCommand::Show { id, tenant } => show(id, &tenant).await,
        QueueCommand::Destinations { tenant } => destinations(&tenant).await,
        QueueCommand::Retry { selection } => change(&selection, &QueueAction::Retry, "retried").await,
        QueueCommand::Hold { selection } => change(&selection, &QueueAction::Hold(HoldReason::Operator), "held").await,
        QueueCommand::Release { selection } => change(&selection, &QueueAction::Release, "released").await,
        QueueCommand::Reroute { via, selection, .. } => {
            let route = via.map(|relay| relay.to_string());
            change(&selection, &QueueAction::Reroute(route), "rerouted").await
        }
        QueueCommand::Cancel { bounce: true, selection } => change(&selection, &QueueAction::GiveUp, "bounced").await,
        QueueCommand::Cancel { bounce: false, selection } => {
            change(&selection, &QueueAction::cancel(), "cancelled").await
        }
        QueueCommand::Pause { what } => pause(&what).await,
        QueueCommand::Resume { what } => resume(&what).await,
    }
}

async fn list(which: &Filter, limit: u32, tenant: &InTenant) -> Result<(), Failure> {
    let (storage, owner) = tenant.open().await?;
    let items = storage.queue().items(owner.id, &which.filter(), None, limit).await?;
    print_list(tenant.format(), items.into_iter().map(|item| (line(&item), json!(QueueEntry::from(item)))))
}

async fn show(id: JobId, tenant: &InTenant) -> Result<(), Failure> {
    let (storage, owner) = tenant.open().await?;
    let item = storage.queue().items(owner.id, &QueueFilter::one(id), None, 1).await?.pop();
    let item = item.ok_or_else(|| missing(&owner, id))?;
    let mut recipients = storage.deliveries().recipients(owner.id, item.message).await?;
    recipients.retain(|recipient| recipient.address.domain().as_str() == item.destination);
    let attempts = storage.deliveries().attempts(owner.id, item.message).await?;
    let (mut text, mut shown) = (line(&item), json!(QueueEntry::from(item)));
    let mut listed = Vec::new();
    for recipient in &recipients {
        let of_recipient: Vec<_> = attempts.iter().filter(|attempt| attempt.recipient == recipient.id).collect();
        text.push_str(&format!("\n  {}  {}", recipient.address, recipient.state.as_str()));
        for attempt in &of_recipient {
            let (at, outcome) = (attempt.at.to_rfc3339(), attempt.outcome.as_str());
            let host = attempt.host.as_deref().unwrap_or("-");
            text.push_str(&format!("\n    {at}  {outcome}  {host}  {}", attempt.result));
        }
        let attempts: Vec<_> = of_recipient.iter().map(|attempt| attempt_as_json(attempt)).collect();
        listed.push(recipient_as_json(recipient, &attempts));
    }
    shown["recipients"] = listed.into();
    print_as(tenant.format(), &text, &shown)
}

async fn destinations(tenant: &InTenant) -> Result<(), Failure> {
    const MOST: u32 = 10_000;
    let (storage, owner) = tenant.open().await?;
    let found = storage.queue().destinations(owner.id, SystemClock.now(), MOST).await?;
    let paused = pause::paused(&storage, owner.id).await?;
    let entries = found.into_iter().map(|stats| {
        let shown = DestinationTotals::new(stats, &paused);
        let totals = &shown.totals;
        let line = format!(
            "{}  ready {}  waiting {}  leased {}  held {}  buried {}{}",
            shown.destination,
            totals.ready,
            totals.waiting,
            totals.leased,
            totals.held,
            totals.buried,
            if shown.paused { "  (paused)" } else { "" }
        );
        (line, json!(shown))
    });
    print_list(tenant.format(), entries)
}

/// Does something to deliveries; one that is named and can't be changed is an error.
async fn change(selection: &Selection, action: &QueueAction, done: &str) -> Result<(), Failure> {
    let filter = selection.filter()?;
    let (storage, owner, trail) = selection.tenant.open_to_change().await?;
    let mut total = QueueTotal::default();
    let outcome = change_all(storage.queue(), owner.id, (&filter, action), SystemClock.now(), &mut total).await;
    if total.changed > 0 {
        let mut after = json!({"deliveries": total.changed});
        if let QueueAction::Reroute(route) = action {
            after["route"] = json!(route);
        }
        trail.record(&storage, &format!("queue.{done}"), ("queue", &filter), Changed::made(after)).await?;
    }
    outcome?;
    let busy = match total.busy {
        0 => String::new(),
        busy => format!(", {busy} left alone because they are being delivered"),
    };
    let value = json!({"changed": total.changed, "busy": total.busy});
    print_as(selection.tenant.format(), &format!("{} {done}{busy}", total.changed), &value)?;
    if total.changed < selection.ids.len() as u64 {
        return Err(left_alone(&storage, &owner, &selection.ids).await?);
    }
    Ok(())
}

/// Why not all of the deliveries that were named were changed.
async fn left_alone(storage: &SqlStorage, owner: &Tenant, ids: &[JobId]) -> Result<Failure, Failure> {
    let filter = QueueFilter { ids: Some(ids.to_vec()), ..QueueFilter::default() };
    let items = storage.queue().items(owner.id, &filter, None, u32::MAX).await?;
    if let Some(id) = ids.iter().find(|id| !items.iter().any(|item| item.id == **id)) {
        return Ok(missing(owner, *id));
    }
    Ok(Failure::conflict("not all of them are in a state that allows this; see mairust queue show"))
}

async fn pause(what: &Paused) -> Result<(), Failure> {
    let (storage, owner, trail) = what.tenant.open_to_change().await?;
    let changed = pause::pause(&storage, owner.id, what.destination()).await?;
    if changed {
        let after = Changed::made(json!({"deliveries": 0}));
        trail.record(&storage, "queue.paused", ("queue", &what.destination().unwrap_or("*")), after).await?;
    }
    let text = format!("{} {}", what.name(), if changed { "paused" } else { "was paused before" });
    print_as(what.tenant.format(), &text, &json!({"destination": what.destination(), "changed": changed}))
}

async fn resume(what: &Paused) -> Result<(), Failure> {
    let (storage, owner, trail) = what.tenant.open_to_change().await?;
    let released = pause::resume(&storage, owner.id, what.destination(), SystemClock.now()).await?;
    let after = Changed::made(json!({"deliveries": released}));
    trail.record(&storage, "queue.resumed", ("queue", &what.destination().unwrap_or("*")), after).await?;
    let text = format!("{} resumed, {released} deliveries go on", what.name());
    print_as(what.tenant.format(), &text, &json!({"destination": what.destination(), "released": released}))
}

fn missing(owner: &Tenant, id: JobId) -> Failure {
    Failure::not_found(format_args!("{} has no delivery {id} in the queue", owner.name))
}

fn domain(text: &str) -> Result<Domain, String> {
    Domain::parse(text).map_err(|error| error.to_string())
}

fn reason(text: &str) -> Result<HoldReason, String> {
    HoldReason::parse(text).ok_or_else(|| format!("write {}", HoldReason::ALL.map(HoldReason::as_str).join(", ")))
}

impl Filter {
    fn filter(&self) -> QueueFilter {
        QueueFilter {
            ids: None,
            message: self.message,
            destination: self.destination.as_ref().map(|domain| domain.as_str().to_owned()),
            state: self.state.as_deref().and_then(ItemState::name),
            held: self.held_because,
        }
    }
}

impl Selection {
    fn filter(&self) -> Result<QueueFilter, Failure> {
        let filter = self.filter.filter();
        let none = self.ids.is_empty() && filter == QueueFilter::default();
        if none != self.all {
            let advice = "name deliveries by their ids, by conditions such as --destination, or all of them by --all";
            return Err(Failure::usage(advice));
        }
        if self.ids.len() > QueueFilter::MAX_IDS {
            return Err(Failure::usage(format_args!("{} ids at most", QueueFilter::MAX_IDS)));
        }
        Ok(QueueFilter { ids: Some(self.ids.clone()).filter(|ids| !ids.is_empty()), ..filter })
    }
}

impl Paused {
    fn destination(&self) -> Option<&str> {
        self.destination.as_ref().map(Domain::as_str)
    }

    fn name(&self) -> &str {
        self.destination().unwrap_or("everything")
    }
}

fn line(item: &QueueItem) -> String {
    let state = match item.state {
        ItemState::Held(reason) => format!("held ({})", reason.as_str()),
        state => state.as_str().to_owned(),
    };
    let next = match item.state {
        ItemState::Waiting => format!("  next attempt {}", item.not_before.to_rfc3339()),
        _ => String::new(),
    };
    let route = item.route.as_ref().map(|route| format!("  via {route}")).unwrap_or_default();
    let last = item.last_error.as_ref().map(|text| format!("  {text}")).unwrap_or_default();
    let (id, message, destination, attempts) = (item.id, item.message, &item.destination, item.attempts);
    format!("{id}  {destination}  {state}  message {message}  attempts {attempts}{next}{route}{last}")
}

fn recipient_as_json(recipient: &DeliveryRow, attempts: &[Value]) -> Value {
    json!({
        "email": recipient.address.to_string(),
        "status": recipient.state.as_str(),
        "attempts": attempts,
    })
}

fn attempt_as_json(attempt: &Attempt) -> Value {
    json!({
        "at": attempt.at.to_rfc3339(),
        "outcome": attempt.outcome.as_str(),
        "host": attempt.host,
        "result": attempt.result,
    })
}
