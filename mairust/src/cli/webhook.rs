//! `mairust webhook`: programs elsewhere that are told what happens.

use std::time::Duration;

use clap::Subcommand;
use mairust_core::{Clock, SystemClock, Timestamp, WebhookDeliveryId, WebhookId, parse_duration};
use mairust_hooks::event::WebhookTest;
use mairust_hooks::{EndpointUrl, EventKind, SigningSecret};
use mairust_store::webhook::work::webhook_job;
use mairust_store::webhook::{keys, work};
use mairust_store::{
    NewWebhook, Page, SigningKey, SqlStorage, StorageBackend, StoreErrorKind, Tenant, Webhook, WebhookChange,
    WebhookDelivery, WebhookDeliveryQuery, WebhookDeliveryState, WebhookState,
};
use serde_json::{Value, json};

use super::directory::{InTenant, print_list};
use super::open;
use super::output::{Failure, print_as};
use super::trail::{Changed, Trail};

#[derive(Debug, Subcommand)]
pub(super) enum WebhookCommand {
    /// Make a webhook; the key that requests are signed with is printed once
    Add {
        /// Where requests go: https://…
        url: EndpointUrl,
        /// The type of event that it is told of; may be given several times. Without it, all
        #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
        types: Vec<String>,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// List webhooks
    List {
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Show a webhook
    Show {
        /// Its id
        id: WebhookId,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Remove a webhook with its key and what is known about its deliveries
    Rm {
        /// Its id
        id: WebhookId,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Tell a webhook of events again, of those that happen from now on
    Enable {
        /// Its id
        id: WebhookId,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Tell a webhook of nothing
    Disable {
        /// Its id
        id: WebhookId,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Send a webhook an event of the type webhook.test, as soon as the server runs
    Test {
        /// Its id
        id: WebhookId,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Make a new key for a webhook; it is printed once
    RotateSecret {
        /// Its id
        id: WebhookId,
        /// For how long requests are signed with the key before it, too; 0s ends older keys at once
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = grace)]
        grace: Duration,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// List what became of events on their way to a webhook, newest first
    Deliveries {
        /// Its id
        id: WebhookId,
        /// Of which this became
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Option<WebhookDeliveryState>,
        /// How many at most
        #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Begin a delivery again that has ended
    Replay {
        /// The id of the delivery
        delivery: WebhookDeliveryId,
        #[command(flatten)]
        tenant: InTenant,
    },
}

/// What the commands that change something work with.
struct Site {
    storage: SqlStorage,
    tenant: Tenant,
    trail: Trail,
}

pub(super) async fn run(command: WebhookCommand) -> Result<(), Failure> {
    match command {
        WebhookCommand::Add { url, types, description, tenant } => add(url, types, description, &tenant).await,
        WebhookCommand::List { tenant: arguments } => {
            let (storage, tenant) = arguments.open().await?;
            let found = storage.webhooks().list(tenant.id).await?;
            print_list(arguments.format(), found.iter().map(|webhook| (as_text(webhook), as_json(webhook))))
        }
        WebhookCommand::Show { id, tenant: arguments } => {
            let (storage, tenant) = arguments.open().await?;
            let webhook = find(&storage, &tenant, id).await?;
            print_as(arguments.format(), &in_full(&webhook), &as_json(&webhook))
        }
        WebhookCommand::Rm { id, tenant } => remove(id, &tenant).await,
        WebhookCommand::Enable { id, tenant } => set(id, WebhookState::Enabled, &tenant).await,
        WebhookCommand::Disable { id, tenant } => {
            set(id, WebhookState::Disabled("disabled by an operator".to_owned()), &tenant).await
        }
        WebhookCommand::Test { id, tenant } => test(id, &tenant).await,
        WebhookCommand::RotateSecret { id, grace, tenant } => rotate(id, grace, &tenant).await,
        WebhookCommand::Deliveries { id, state, limit, tenant } => deliveries(id, state, limit, &tenant).await,
        WebhookCommand::Replay { delivery, tenant } => replay(delivery, &tenant).await,
    }
}

async fn add(url: EndpointUrl, kinds: Vec<String>, description: String, arguments: &InTenant) -> Result<(), Failure> {
    let config = open::load(&arguments.config)?;
    url.check(config.webhooks.allow_private_addresses).map_err(Failure::usage)?;
    let (sealer, site) = (open::sealer(&config)?, Site::open(arguments).await?);
    let new = NewWebhook { id: WebhookId::new(SystemClock.now()), url: url.to_string(), description, kinds };
    let made = keys::create(&site.storage, &sealer, site.tenant.id, new).await;
    let (webhook, key) = made.map_err(|error| match error.kind() {
        StoreErrorKind::Conflict => {
            Failure::conflict("the tenant has too many webhooks; remove one: mairust webhook rm")
        }
        StoreErrorKind::Invalid => Failure::usage(crate::error::chain(&error)),
        _ => error.into(),
    })?;
    site.record("webhook.created", webhook.id, Changed::made(as_json(&webhook))).await?;
    let secret = reveal(&key)?;
    let mut json = as_json(&webhook);
    json["secret"] = secret.clone().into();
    let text = format!("{}\nkey  {secret}\nnext: mairust webhook test {}", in_full(&webhook), webhook.id);
    print_as(arguments.format(), &text, &json)
}

async fn remove(id: WebhookId, arguments: &InTenant) -> Result<(), Failure> {
    let site = Site::open(arguments).await?;
    let webhook = site.find(id).await?;
    keys::remove(&site.storage, site.tenant.id, id).await?;
    site.record("webhook.removed", id, Changed::removed(as_json(&webhook))).await?;
    print_as(arguments.format(), &format!("{id}  removed"), &as_json(&webhook))
}

async fn set(id: WebhookId, state: WebhookState, arguments: &InTenant) -> Result<(), Failure> {
    let site = Site::open(arguments).await?;
    let before = site.find(id).await?;
    let action = if state.is_enabled() { "webhook.enabled" } else { "webhook.disabled" };
    let change = WebhookChange { state: Some(state), ..WebhookChange::default() };
    let after = site.storage.webhooks().change(site.tenant.id, id, &change).await?;
    site.record(action, id, Changed::from(Some(as_json(&before)), as_json(&after))).await?;
    print_as(arguments.format(), &as_text(&after), &as_json(&after))
}

async fn test(id: WebhookId, arguments: &InTenant) -> Result<(), Failure> {
    let site = Site::open(arguments).await?;
    let webhook = site.find(id).await?;
    let data = json!(WebhookTest { webhook_id: id.to_string() });
    let kind = EventKind::WebhookTest.as_str();
    let delivery = work::test(&site.storage, &webhook, kind, data, SystemClock.now()).await?;
    let json = json!({"delivery_id": delivery.to_string()});
    site.record("webhook.tested", id, Changed::made(json.clone())).await?;
    let text = format!("{delivery}  is sent by the server\nnext: mairust webhook deliveries {id}");
    print_as(arguments.format(), &text, &json)
}

async fn rotate(id: WebhookId, grace: Duration, arguments: &InTenant) -> Result<(), Failure> {
    let sealer = open::sealer(&open::load(&arguments.config)?)?;
    let site = Site::open(arguments).await?;
    site.find(id).await?;
    let now = SystemClock.now();
    let made = keys::rotate(&site.storage, &sealer, (site.tenant.id, id), grace, now).await;
    let key = made.map_err(|error| match error.kind() {
        StoreErrorKind::Conflict => Failure::conflict(
            "it has two keys already: wait until the older one has ended, or end it at once with --grace 0s",
        ),
        _ => error.into(),
    })?;
    let until = (!grace.is_zero()).then(|| now.plus(grace).to_rfc3339());
    site.record("webhook.secret_rotated", id, Changed::made(json!({"previous_until": until}))).await?;
    let secret = reveal(&key)?;
    let note = match &until {
        Some(until) => format!("requests are signed with the key before it, too, until {until}"),
        None => "requests are signed with no other key any more".to_owned(),
    };
    let json = json!({"secret": secret, "previous_until": until});
    print_as(arguments.format(), &format!("key  {secret}\n{note}"), &json)
}

async fn deliveries(
    id: WebhookId,
    state: Option<WebhookDeliveryState>,
    limit: u32,
    arguments: &InTenant,
) -> Result<(), Failure> {
    let (storage, tenant) = arguments.open().await?;
    find(&storage, &tenant, id).await?;
    let query = WebhookDeliveryQuery { state, before: None, limit };
    let Page { items, .. } = storage.webhooks().list_deliveries(tenant.id, id, &query).await?;
    print_list(arguments.format(), items.iter().map(|delivery| (delivery_text(delivery), delivery_json(delivery))))
}

async fn replay(id: WebhookDeliveryId, arguments: &InTenant) -> Result<(), Failure> {
    let site = Site::open(arguments).await?;
    let tenant = site.tenant.id;
    let missing = || Failure::not_found(format_args!("there is no delivery {id}; see mairust webhook deliveries"));
    let delivery = site.storage.webhooks().delivery(tenant, id).await?.ok_or_else(missing)?;
    let webhook = site.find(delivery.webhook).await?;
    if !webhook.state.is_enabled() {
        let text = format!("the webhook is disabled; enable it first: mairust webhook enable {}", webhook.id);
        return Err(Failure::conflict(text));
    }
    let job = webhook_job(tenant, webhook.id, id, SystemClock.now());
    site.storage.webhooks().replay(tenant, id, job).await.map_err(|error| match error.kind() {
        StoreErrorKind::Conflict => Failure::conflict("it has not ended yet"),
        _ => error.into(),
    })?;
    let json = json!({"delivery_id": id.to_string()});
    site.record("webhook.replayed", webhook.id, Changed::made(json.clone())).await?;
    print_as(arguments.format(), &format!("{id}  begins again"), &json)
}

impl Site {
    async fn open(arguments: &InTenant) -> Result<Self, Failure> {
        let (storage, tenant, trail) = arguments.open_to_change().await?;
        Ok(Self { storage, tenant, trail })
    }

    async fn find(&self, id: WebhookId) -> Result<Webhook, Failure> {
        find(&self.storage, &self.tenant, id).await
    }

    async fn record(&self, event_type: &str, id: WebhookId, changed: Changed) -> Result<(), Failure> {
        self.trail.record(&self.storage, event_type, ("webhook", &id), changed).await
    }
}

async fn find(storage: &SqlStorage, tenant: &Tenant, id: WebhookId) -> Result<Webhook, Failure> {
    let missing = || Failure::not_found(format_args!("there is no webhook {id}; see mairust webhook list"));
    storage.webhooks().get(tenant.id, id).await?.ok_or_else(missing)
}

fn reveal(key: &SigningKey) -> Result<String, Failure> {
    let secret = SigningSecret::from_bytes(key.expose());
    secret.map(|secret| secret.reveal()).ok_or_else(|| Failure::failed("the key is of no use"))
}

fn kind(text: &str) -> Result<String, String> {
    let known = || EventKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    EventKind::parse(text).map(|kind| kind.as_str().to_owned()).ok_or_else(|| format!("a type is one of {}", known()))
}

fn state(text: &str) -> Result<WebhookDeliveryState, String> {
    let known = || WebhookDeliveryState::ALL.map(WebhookDeliveryState::as_str).join(", ");
    WebhookDeliveryState::parse(text).ok_or_else(|| format!("a state is one of {}", known()))
}

fn grace(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

fn as_text(webhook: &Webhook) -> String {
    let state = webhook.state.reason().map_or_else(String::new, |reason| format!("  (disabled: {reason})"));
    format!("{}  {}  {}{state}", webhook.id, webhook.url, types(webhook))
}

fn in_full(webhook: &Webhook) -> String {
    let state = webhook.state.reason().map_or_else(|| "enabled".to_owned(), |reason| format!("disabled: {reason}"));
    let Webhook { id, url, description, .. } = webhook;
    let made = webhook.created_at.to_rfc3339();
    format!("{id}\nurl  {url}\ntypes  {}\ndescription  {description}\nstate  {state}\nmade  {made}", types(webhook))
}

fn types(webhook: &Webhook) -> String {
    if webhook.kinds.is_empty() { "all types".to_owned() } else { webhook.kinds.join(",") }
}

fn as_json(webhook: &Webhook) -> Value {
    json!({
        "id": webhook.id.to_string(),
        "url": webhook.url,
        "description": webhook.description,
        "types": webhook.kinds,
        "enabled": webhook.state.is_enabled(),
        "disabled_because": webhook.state.reason(),
        "created_at": webhook.created_at.to_rfc3339(),
    })
}

fn delivery_text(delivery: &WebhookDelivery) -> String {
    let last = delivery.attempts.last();
    let result = last.map_or_else(String::new, |attempt| match (&attempt.error, attempt.status) {
        (Some(error), _) => format!("  {error}"),
        (None, status) => format!("  {}", status.unwrap_or_default()),
    });
    let next = delivery.next_attempt.map_or_else(String::new, |at| format!("  next {}", at.to_rfc3339()));
    let WebhookDelivery { id, kind, tries, .. } = delivery;
    format!("{id}  {kind}  {}  {tries} attempts{result}{next}", delivery.state.as_str())
}

fn delivery_json(delivery: &WebhookDelivery) -> Value {
    let attempts = delivery.attempts.iter().map(|attempt| {
        json!({
            "at": attempt.at.to_rfc3339(),
            "status": attempt.status,
            "ms": attempt.took_ms,
            "error": attempt.error,
            "response": attempt.response,
        })
    });
    json!({
        "id": delivery.id.to_string(),
        "event_id": delivery.event.to_string(),
        "event_type": delivery.kind,
        "state": delivery.state.as_str(),
        "attempts": delivery.tries,
        "next_attempt_at": delivery.next_attempt.map(Timestamp::to_rfc3339),
        "created_at": delivery.created_at.to_rfc3339(),
        "history": Value::from_iter(attempts),
    })
}
