//! Showing messages to hooks: what they say, and what they were asked.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use mairust_core::{MessageId, SystemClock};
use mairust_hooks::{Budgets, HookPoint, HookRunner, HookSettings};
use mairust_http::{HookControl, HookControlError, HookTrial, Shown, Subject};
use mairust_store::{HookBinding, StorageBackend};
use serde_json::{Value, json};

use super::Site;
use crate::cli::directory::InTenant;
use crate::cli::output::{Failure, print_as};
use crate::cli::trail::Changed;
use crate::cli::{dns, open, run};
use crate::hooks::{BoundHooks, CallbackDesk, Handlers};
use crate::metrics::Metrics;
use crate::outgoing_http::HttpClient;

/// `mairust hook test`.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Its name or id
    hook: String,
    /// Where it is called: one of its points [default: the first]
    #[arg(long = "on", value_name = "POINT", value_parser = point)]
    point: Option<HookPoint>,
    /// A file with a message as it would come by SMTP [default: a sample]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A message that is kept
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    message: Option<MessageId>,
    #[command(flatten)]
    tenant: InTenant,
}

/// `mairust hook replay`.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The id of the call: inv_…
    invocation: String,
    #[command(flatten)]
    tenant: InTenant,
}

impl Test {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let site = Site::open(&self.tenant).await?;
        let hook = site.find(&self.hook).await?;
        let points = HookSettings::kept(&hook.settings).map_err(Failure::failed)?.points;
        let point = match self.point {
            Some(point) if !points.contains(&point) => {
                let text = format!("{} is not called at {}; see mairust hook show", hook.plugin_id, point.as_str());
                return Err(Failure::usage(text));
            }
            chosen => chosen.or_else(|| points.first().copied()).ok_or_else(|| Failure::failed("it has no point"))?,
        };
        let subject = match (&self.file, self.message) {
            (Some(file), _) => {
                let octets = std::fs::read(file);
                Subject::Text(octets.map_err(|error| Failure::usage(format_args!("{}: {error}", file.display())))?)
            }
            (None, Some(message)) => Subject::Kept(message),
            (None, None) => Subject::Sample,
        };
        site.show(&self.tenant, &hook, Shown { point, subject, again: false }, "hook.tested").await
    }
}

impl Replay {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let site = Site::open(&self.tenant).await?;
        let id = &self.invocation;
        let missing = || Failure::not_found(format_args!("there is no call {id}; see mairust hook deliveries"));
        let call = site.storage.hooks().invocation(site.tenant.id, id).await?.ok_or_else(missing)?;
        let hook = site.find(&call.binding).await?;
        let unknown = || Failure::conflict("the message of this call was not kept, or is not known");
        let subject = Subject::Kept(call.message.ok_or_else(unknown)?);
        let point = HookPoint::parse(&call.point).ok_or_else(|| Failure::failed("the point is not known here"))?;
        site.show(&self.tenant, &hook, Shown { point, subject, again: true }, "hook.replayed").await
    }
}

impl Site {
    /// Shows a message to a hook, and prints what it was asked and said.
    async fn show(
        self,
        arguments: &InTenant,
        hook: &HookBinding,
        shown: Shown,
        event_type: &str,
    ) -> Result<(), Failure> {
        let config = open::load(&arguments.config)?;
        let roots = run::roots(&config)?;
        let storage = Arc::new(self.storage);
        let (clock, metrics) = (Arc::new(SystemClock), Arc::new(Metrics::new()));
        let handlers = Handlers {
            // Nothing is served here: the program is told of no way to call back.
            callbacks: Arc::new(CallbackDesk::new(storage.clone(), clock.clone(), metrics.clone())),
            storage: storage.clone(),
            sealer: Some(open::sealer(&config)?),
            http: HttpClient::new(&roots, Arc::new(dns::resolver(&config)?)),
            allow_private: config.hooks.allow_private_addresses,
            clock,
            metrics,
        };
        let runner = HookRunner::new(Vec::new(), Budgets::default());
        let hooks = BoundHooks::new(runner, storage.clone(), handlers);
        let trial = hooks.show(hook, shown).await.map_err(|error| match error {
            HookControlError::Gone => Failure::not_found("the message is gone"),
            HookControlError::Store(error) => error.into(),
            other => Failure::failed(other),
        })?;
        let told = Changed::made(json!({"delivery_id": trial.id}));
        self.trail.record(&storage, event_type, ("hook", &hook.id), told).await?;
        print_as(arguments.format(), &as_text(&trial), &as_json(&trial))?;
        match trial.error {
            Some(error) => Err(Failure::upstream(format_args!("the hook had no answer: {error}"))),
            None => Ok(()),
        }
    }
}

fn as_text(trial: &HookTrial) -> String {
    let HookTrial { id, request, outcome, response, denied, ms, .. } = trial;
    let mut lines = vec![format!("{id}  {outcome}  {ms} ms"), format!("it was asked {request:#}")];
    lines.extend(response.as_ref().map(|response| format!("it said {response:#}")));
    if !denied.is_empty() {
        lines.push(format!("it has no leave for {}", denied.join(", ")));
    }
    lines.join("\n")
}

fn as_json(trial: &HookTrial) -> Value {
    let HookTrial { id, request, outcome, response, denied, error, ms } = trial;
    json!({
        "delivery_id": id,
        "request": request,
        "outcome": outcome,
        "response": response,
        "denied": denied,
        "error": error,
        "ms": ms,
    })
}

fn point(text: &str) -> Result<HookPoint, String> {
    let known = || HookPoint::ALL.map(HookPoint::as_str).join(", ");
    HookPoint::parse(&text.replace('-', "_")).ok_or_else(|| format!("a point is one of {}", known()))
}
