//! `mairust hook`: programs that are asked about mail.

use std::time::Duration;

use clap::Subcommand;
use mairust_core::{Clock, HookId, SystemClock, parse_duration};
use mairust_hooks::settings::NO_LEAVE;
use mairust_hooks::{Circuit, HookSettings, HookTransport, SettingsError, SigningSecret};
use mairust_store::hook::keys;
use mairust_store::{
    HookBinding, HookChange, HookState, NewHookBinding, SigningKey, SqlStorage, StorageBackend, StoreErrorKind, Tenant,
};
use serde_json::{Map, Value, json};

use self::options::Options;
use super::directory::{InTenant, print_list};
use super::open;
use super::output::{Failure, print_as};
use super::trail::{Changed, Trail};

mod calls;
mod health;
mod options;
mod show;
mod trial;

#[derive(Debug, Subcommand)]
pub(super) enum HookCommand {
    /// Bind a hook; the key that requests to it are signed with is printed once
    ///
    /// For example: mairust hook add com.example.spam --on pre_receive --http https://spam.example/hook
    /// --grant read-headers --grant read-body=preview --grant write-tags --grant decide=quarantine --mode shadow
    Add {
        /// The name of the program, by which it knows itself: com.example.spam-filter
        plugin_id: String,
        #[command(flatten)]
        options: Box<Options>,
        /// Do not call it yet
        #[arg(long)]
        disabled: bool,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// List hooks
    List {
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Show a hook with all its settings
    Show {
        /// Its name or id
        hook: String,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Change settings of a hook; the next message is treated by them
    Change {
        /// Its name or id
        hook: String,
        #[command(flatten)]
        options: Box<Options>,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Remove a hook with its key; what is known about its calls is kept
    Rm {
        /// Its name or id
        hook: String,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Call a hook again
    Enable {
        /// Its name or id
        hook: String,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Do not call a hook any more
    Disable {
        /// Its name or id
        hook: String,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Make a new key for a hook; it is printed once
    RotateSecret {
        /// Its name or id
        hook: String,
        /// For how long requests are signed with the key before it, too; 0s ends older keys at once
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = grace)]
        grace: Duration,
        /// Make no new key, but end the one before the current one at once
        #[arg(long, conflicts_with = "grace")]
        revoke_previous: bool,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Say when a hook is left alone: breakers open and close by themselves, or stay as they are told
    Circuit {
        /// Its name or id
        hook: String,
        /// What is wanted
        #[arg(value_enum)]
        wanted: Wanted,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// List what calls of a hook came to, newest first
    Deliveries(calls::Deliveries),
    /// Say what became of a message by one call of a hook
    Explain(calls::Explain),
    /// Make calls once more that were given up at post_receive, or in catching up; what comes of them is done
    Retry(calls::Retry),
    /// Show a message to a hook and print what it says; nothing comes of it
    Test(trial::Test),
    /// Show the message of a call to the hook again, as it is granted to see it now; nothing comes of it
    Replay(trial::Replay),
}

/// What somebody wants of the breakers of a hook.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Wanted {
    /// They open and close by themselves
    Automatic,
    /// They count, and never open
    Disable,
    /// They stay open: the hook is not called
    ForceOpen,
    /// They forget what was, and begin anew
    Reset,
}

/// What the commands that change something work with.
struct Site {
    storage: SqlStorage,
    tenant: Tenant,
    trail: Trail,
}

pub(super) async fn run(command: HookCommand) -> Result<(), Failure> {
    match command {
        HookCommand::Add { plugin_id, options, disabled, tenant } => add(plugin_id, &options, disabled, &tenant).await,
        HookCommand::List { tenant: arguments } => {
            let (storage, tenant) = arguments.open().await?;
            let found = storage.hooks().list(tenant.id).await?;
            let health = storage.hooks().health(tenant.id, None).await?;
            let entry = |hook| {
                let health = health::of(hook, &health);
                (show::line(hook) + &health::word(health), health::with(show::json(hook), health))
            };
            print_list(arguments.format(), found.iter().map(entry))
        }
        HookCommand::Show { hook, tenant: arguments } => {
            let (storage, tenant) = arguments.open().await?;
            let hook = find(&storage, &tenant, &hook).await?;
            let health = storage.hooks().health(tenant.id, Some(hook.id)).await?;
            let health = health::of(&hook, &health);
            let text = show::in_full(&hook) + &health::in_full(health);
            print_as(arguments.format(), &text, &health::with(show::json(&hook), health))
        }
        HookCommand::Change { hook, options, tenant } => change(&hook, options.patch()?, &tenant).await,
        HookCommand::Rm { hook, tenant } => remove(&hook, &tenant).await,
        HookCommand::Enable { hook, tenant } => set(&hook, HookState::Enabled, &tenant).await,
        HookCommand::Disable { hook, tenant } => {
            set(&hook, HookState::Disabled("disabled by an operator".to_owned()), &tenant).await
        }
        HookCommand::RotateSecret { hook, revoke_previous: true, tenant, .. } => revoke(&hook, &tenant).await,
        HookCommand::RotateSecret { hook, grace, tenant, .. } => rotate(&hook, grace, &tenant).await,
        HookCommand::Circuit { hook, wanted, tenant } => circuit(&hook, wanted, &tenant).await,
        HookCommand::Deliveries(arguments) => arguments.run().await,
        HookCommand::Explain(arguments) => arguments.run().await,
        HookCommand::Retry(arguments) => arguments.run().await,
        HookCommand::Test(arguments) => arguments.run().await,
        HookCommand::Replay(arguments) => arguments.run().await,
    }
}

async fn add(plugin_id: String, options: &Options, disabled: bool, arguments: &InTenant) -> Result<(), Failure> {
    if !mairust_store::hook::is_plugin_id(&plugin_id) {
        return Err(Failure::usage(
            "a name has labels of letters a to z, digits and hyphens with dots between them, such as \
            com.example.spam-filter; up to 128 characters",
        ));
    }
    let config = open::load(&arguments.config)?;
    let settings = HookSettings::made(&options.patch()?, config.hooks.allow_private_addresses).map_err(wrong)?;
    let state = if disabled { HookState::Disabled("not enabled yet".to_owned()) } else { HookState::Enabled };
    let (id, name) = (HookId::new(SystemClock.now()), plugin_id.clone());
    let new = NewHookBinding { id, plugin_id, settings: settings.to_json(), state };
    let (sealer, site) = (open::sealer(&config)?, Site::open(arguments).await?);
    let made = match settings.transport {
        HookTransport::Process { .. } => {
            site.storage.hooks().create(site.tenant.id, new).await.map(|hook| (hook, None))
        }
        _ => {
            let made = keys::create(&site.storage, &sealer, site.tenant.id, new).await;
            made.map(|(hook, key)| (hook, Some(key)))
        }
    };
    let (hook, key) = made.map_err(|error| match error.kind() {
        StoreErrorKind::AlreadyExists => Failure::conflict(format_args!("there is a hook {name} already")),
        StoreErrorKind::Conflict => Failure::conflict("the tenant has too many hooks; remove one: mairust hook rm"),
        StoreErrorKind::Invalid => Failure::usage(crate::error::chain(&error)),
        _ => error.into(),
    })?;
    site.record("hook.created", &hook, Changed::made(show::json(&hook))).await?;
    let mut json = show::json(&hook);
    let mut text = show::in_full(&hook);
    if let Some(key) = key {
        let secret = reveal(&key)?;
        text.push_str(&format!("\nkey  {secret}"));
        json["secret"] = secret.into();
    }
    print_as(arguments.format(), &text, &json)
}

async fn change(hook: &str, patch: Map<String, Value>, arguments: &InTenant) -> Result<(), Failure> {
    if patch.is_empty() {
        return Err(Failure::usage("say what is to be changed; see mairust hook change --help"));
    }
    let allow_private = open::load(&arguments.config)?.hooks.allow_private_addresses;
    let site = Site::open(arguments).await?;
    let before = site.find(hook).await?;
    let settings =
        HookSettings::kept(&before.settings).map_err(Failure::failed)?.patched(&patch, allow_private).map_err(wrong)?;
    let after = site.change("hook.changed", &before, Some(settings.to_json()), None).await?;
    print_as(arguments.format(), &show::in_full(&after), &show::json(&after))
}

async fn remove(hook: &str, arguments: &InTenant) -> Result<(), Failure> {
    let site = Site::open(arguments).await?;
    let hook = site.find(hook).await?;
    keys::remove(&site.storage, (site.tenant.id, hook.id), None).await?;
    site.record("hook.removed", &hook, Changed::removed(show::json(&hook))).await?;
    print_as(arguments.format(), &format!("{}  removed", hook.plugin_id), &show::json(&hook))
}

async fn set(hook: &str, state: HookState, arguments: &InTenant) -> Result<(), Failure> {
    let site = Site::open(arguments).await?;
    let before = site.find(hook).await?;
    let action = if state.is_enabled() { "hook.enabled" } else { "hook.disabled" };
    let after = site.change(action, &before, None, Some(state)).await?;
    print_as(arguments.format(), &show::line(&after), &show::json(&after))
}

async fn circuit(hook: &str, wanted: Wanted, arguments: &InTenant) -> Result<(), Failure> {
    let site = Site::open(arguments).await?;
    let before = site.find(hook).await?;
    let circuit = match wanted {
        Wanted::Automatic => Some(Circuit::Automatic),
        Wanted::Disable => Some(Circuit::Disabled),
        Wanted::ForceOpen => Some(Circuit::ForcedOpen),
        Wanted::Reset => None,
    };
    let (settings, action) = match circuit {
        Some(circuit) => {
            let mut settings = HookSettings::kept(&before.settings).map_err(Failure::failed)?;
            settings.circuit = circuit;
            (Some(settings.to_json()), "hook.circuit_changed")
        }
        None => (None, "hook.circuit_reset"),
    };
    let after = site.change(action, &before, settings, None).await?;
    print_as(arguments.format(), &show::in_full(&after), &show::json(&after))
}

async fn rotate(hook: &str, grace: Duration, arguments: &InTenant) -> Result<(), Failure> {
    let sealer = open::sealer(&open::load(&arguments.config)?)?;
    let site = Site::open(arguments).await?;
    let hook = site.find(hook).await?;
    let now = SystemClock.now();
    let made = keys::rotate(&site.storage, &sealer, (site.tenant.id, hook.id), grace, now).await;
    let key = made.map_err(|error| match error.kind() {
        StoreErrorKind::Conflict => Failure::conflict(
            "it has two keys already: wait until the older one has ended, or end it at once with --revoke-previous",
        ),
        StoreErrorKind::NotFound => no_key(&hook),
        _ => error.into(),
    })?;
    let until = (!grace.is_zero()).then(|| now.plus(grace).to_rfc3339());
    site.record("hook.secret_rotated", &hook, Changed::made(json!({"previous_until": until}))).await?;
    let secret = reveal(&key)?;
    let note = match &until {
        Some(until) => format!("requests are signed with the key before it, too, until {until}"),
        None => "requests are signed with no other key any more".to_owned(),
    };
    let json = json!({"secret": secret, "previous_until": until});
    print_as(arguments.format(), &format!("key  {secret}\n{note}"), &json)
}

async fn revoke(hook: &str, arguments: &InTenant) -> Result<(), Failure> {
    let sealer = open::sealer(&open::load(&arguments.config)?)?;
    let site = Site::open(arguments).await?;
    let hook = site.find(hook).await?;
    let revoked = keys::revoke_previous(&site.storage, &sealer, (site.tenant.id, hook.id)).await;
    let revoked = revoked.map_err(|error| match error.kind() {
        StoreErrorKind::NotFound => no_key(&hook),
        _ => error.into(),
    })?;
    if revoked {
        site.record("hook.secret_revoked", &hook, Changed::made(json!({"previous_until": null}))).await?;
    }
    let text = if revoked { "the key before the current one has ended" } else { "there is no other key" };
    print_as(arguments.format(), text, &json!({"revoked": revoked}))
}

impl Site {
    async fn open(arguments: &InTenant) -> Result<Self, Failure> {
        let (storage, tenant, trail) = arguments.open_to_change().await?;
        Ok(Self { storage, tenant, trail })
    }

    async fn find(&self, hook: &str) -> Result<HookBinding, Failure> {
        find(&self.storage, &self.tenant, hook).await
    }

    /// Changes a hook, unless somebody else has changed it meanwhile.
    async fn change(
        &self,
        event_type: &str,
        before: &HookBinding,
        settings: Option<Value>,
        state: Option<HookState>,
    ) -> Result<HookBinding, Failure> {
        let change = HookChange { settings, state, expected: Some(before.generation) };
        let changed = self.storage.hooks().change(self.tenant.id, before.id, &change).await;
        let after = changed.map_err(|error| match error.kind() {
            StoreErrorKind::Conflict => Failure::conflict("somebody else has changed it meanwhile; look again"),
            StoreErrorKind::Invalid => Failure::usage(crate::error::chain(&error)),
            _ => error.into(),
        })?;
        let changed = Changed::from(Some(show::json(before)), show::json(&after));
        self.record(event_type, &after, changed).await?;
        Ok(after)
    }

    async fn record(&self, event_type: &str, hook: &HookBinding, changed: Changed) -> Result<(), Failure> {
        self.trail.record(&self.storage, event_type, ("hook", &hook.id), changed).await
    }
}

/// The hook of this name or id.
async fn find(storage: &SqlStorage, tenant: &Tenant, wanted: &str) -> Result<HookBinding, Failure> {
    let id = wanted.parse::<HookId>().ok();
    let mut found = storage.hooks().list(tenant.id).await?.into_iter();
    found
        .find(|hook| hook.plugin_id == wanted || Some(hook.id) == id)
        .ok_or_else(|| Failure::not_found(format_args!("there is no hook {wanted}; see mairust hook list")))
}

fn no_key(hook: &HookBinding) -> Failure {
    Failure::conflict(format_args!("{} has no key: only requests by HTTP are signed", hook.plugin_id))
}

/// All that is wrong about settings.
#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn wrong(errors: Vec<SettingsError>) -> Failure {
    let mut lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    if errors.iter().any(|error| error.message.contains(NO_LEAVE)) {
        lines.push("to give it leave: --private-address".to_owned());
    }
    Failure::usage(lines.join("\n       "))
}

fn reveal(key: &SigningKey) -> Result<String, Failure> {
    let secret = SigningSecret::from_bytes(key.expose());
    secret.map(|secret| secret.reveal()).ok_or_else(|| Failure::failed("the key is of no use"))
}

fn grace(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}
