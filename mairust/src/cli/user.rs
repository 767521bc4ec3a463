//! `mairust user`.

use clap::Subcommand;
use mairust_core::{ByteSize, Clock, EmailAddress, SystemClock};
use mairust_store::password::PasswordHasher;
use mairust_store::{
    NewUser, QuotaLimit, SqlStorage, StorageBackend, StoreErrorKind, Suspension, Tenant, User, UserChange,
};
use serde_json::{Value, json};

use super::directory::{InTenant, hold_note, print_list, state_note};
use super::output::{Failure, print_as};
use super::password::PasswordSource;
use super::trail::Changed;

/// The longest reason of a suspension, in bytes.
const MAX_REASON: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user; without --password-stdin a password is made and printed once
    Add {
        /// The address; its domain must have been added
        address: EmailAddress,
        #[command(flatten)]
        password: PasswordSource,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// List the users
    List {
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Set a user's password; without --password-stdin one is made and printed once
    SetPassword {
        /// The address
        address: EmailAddress,
        #[command(flatten)]
        password: PasswordSource,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Let a user neither log in nor get mail
    Lock {
        /// The address
        address: EmailAddress,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Let a locked user log in and get mail again
    Unlock {
        /// The address
        address: EmailAddress,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Put a user's mailbox on legal hold: until it is released, nothing in it is removed for good
    Hold {
        /// The address
        address: EmailAddress,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// End the legal hold of a user's mailbox
    Release {
        /// The address
        address: EmailAddress,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Let a user send nothing; logging in and getting mail go on
    SuspendSending {
        /// The address
        address: EmailAddress,
        /// Why, for administrators
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Let a suspended user send again
    ResumeSending {
        /// The address
        address: EmailAddress,
        #[command(flatten)]
        tenant: InTenant,
    },
    /// Set how much a user's mailbox may hold
    SetQuota {
        /// The address
        address: EmailAddress,
        /// A size such as 5GiB, `none` for no limit, or `default` for that of the configuration
        #[arg(value_parser = quota)]
        quota: QuotaLimit,
        #[command(flatten)]
        tenant: InTenant,
    },
}

pub(super) async fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { address, password, tenant } => add(address, &password, &tenant).await,
        UserCommand::List { tenant } => list(&tenant).await,
        UserCommand::SetPassword { address, password, tenant } => set_password(&address, &password, &tenant).await,
        UserCommand::Lock { address, tenant } => change(&address, enabled(false), &tenant).await,
        UserCommand::Unlock { address, tenant } => change(&address, enabled(true), &tenant).await,
        UserCommand::Hold { address, tenant } => change(&address, legal_hold(true), &tenant).await,
        UserCommand::Release { address, tenant } => change(&address, legal_hold(false), &tenant).await,
        UserCommand::SuspendSending { address, reason, tenant } => {
            let suspended = Suspension { since: SystemClock.now(), reason, until: None };
            change(&address, suspension(Some(suspended)), &tenant).await
        }
        UserCommand::ResumeSending { address, tenant } => change(&address, suspension(None), &tenant).await,
        UserCommand::SetQuota { address, quota, tenant } => {
            let mut limit = UserChange::default();
            limit.quota = Some(quota);
            change(&address, limit, &tenant).await
        }
    }
}

async fn add(address: EmailAddress, password: &PasswordSource, arguments: &InTenant) -> Result<(), Failure> {
    let password = password.take()?;
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let record = PasswordHasher::default().record(&password.secret).await?;
    let new = NewUser { address: address.clone(), login: None, password: record };
    let user = storage.directory().create_user(tenant.id, new).await.map_err(|error| match error.kind() {
        StoreErrorKind::AlreadyExists => Failure::conflict(format_args!("the address {address} is taken")),
        StoreErrorKind::NotFound => Failure::not_found(format_args!(
            "the domain of {address} is not known here; add it first: mairust domain add {}",
            address.domain()
        )),
        StoreErrorKind::Invalid => Failure::usage(error),
        _ => error.into(),
    })?;
    trail.record(&storage, "user.created", ("user", &address), Changed::made(as_json(&user))).await?;
    let json = json!({"id": user.id.to_string(), "address": address.to_string(), "password": password.made()});
    print_as(arguments.format(), &password.describe(&format!("added {address}")), &json)
}

async fn list(arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant) = arguments.open().await?;
    let users = storage.directory().users(tenant.id).await?;
    print_list(arguments.format(), users.iter().map(|user| (as_text(user), as_json(user))))
}

async fn set_password(address: &EmailAddress, password: &PasswordSource, arguments: &InTenant) -> Result<(), Failure> {
    let password = password.take()?;
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let user = user(&storage, &tenant, address).await?;
    let record = PasswordHasher::default().record(&password.secret).await?;
    storage.directory().set_password(tenant.id, user.id, record).await?;
    trail.record(&storage, "user.password_set", ("user", address), Changed::default()).await?;
    let json = json!({"id": user.id.to_string(), "address": address.to_string(), "password": password.made()});
    print_as(arguments.format(), &password.describe(&format!("password of {address} set")), &json)
}

async fn change(address: &EmailAddress, change: UserChange, arguments: &InTenant) -> Result<(), Failure> {
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let before = user(&storage, &tenant, address).await?;
    storage.directory().change_user(tenant.id, before.id, &change).await?;
    let user = user(&storage, &tenant, address).await?;
    let changed = Changed::from(Some(as_json(&before)), as_json(&user));
    trail.record(&storage, "user.changed", ("user", address), changed).await?;
    print_as(arguments.format(), &as_text(&user), &as_json(&user))
}

async fn user(storage: &SqlStorage, tenant: &Tenant, address: &EmailAddress) -> Result<User, Failure> {
    storage.directory().user_by_address(tenant.id, address).await?.ok_or_else(|| {
        Failure::not_found(format_args!("there is no user {address}; add one: mairust user add {address}"))
    })
}

fn enabled(enabled: bool) -> UserChange {
    let mut change = UserChange::default();
    change.enabled = Some(enabled);
    change
}

fn legal_hold(on_hold: bool) -> UserChange {
    let mut change = UserChange::default();
    change.legal_hold = Some(on_hold);
    change
}

fn suspension(suspension: Option<Suspension>) -> UserChange {
    let mut change = UserChange::default();
    change.suspension = Some(suspension);
    change
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("write why, for whoever looks at it later".to_owned()),
        reason if reason.len() > MAX_REASON => Err(format!("write {MAX_REASON} bytes at most")),
        reason => Ok(reason.to_owned()),
    }
}

fn quota(text: &str) -> Result<QuotaLimit, String> {
    match text {
        "default" => Ok(QuotaLimit::Default),
        "none" => Ok(QuotaLimit::Unlimited),
        _ => text
            .parse()
            .map(|ByteSize(bytes)| QuotaLimit::Bytes(bytes))
            .map_err(|_| "write a size such as 5GiB, none, or default".to_owned()),
    }
}

fn as_text(user: &User) -> String {
    let limit = match user.quota.limit {
        QuotaLimit::Bytes(bytes) => format!(" of {}", ByteSize(bytes)),
        QuotaLimit::Default => String::new(),
        QuotaLimit::Unlimited => ", no limit".to_owned(),
    };
    let (state, hold) = (state_note(user.enabled), hold_note(user.legal_hold));
    let suspended = match &user.suspension {
        Some(suspension) => {
            let until = suspension.until.map(|until| format!(" until {}", until.to_rfc3339())).unwrap_or_default();
            format!("  (sending suspended{until}: {})", suspension.reason)
        }
        None => String::new(),
    };
    format!("{}  {} bytes{limit}{state}{hold}{suspended}", user.address, user.quota.used)
}

fn as_json(user: &User) -> Value {
    let quota = match user.quota.limit {
        QuotaLimit::Bytes(bytes) => json!(bytes),
        QuotaLimit::Default => json!("default"),
        QuotaLimit::Unlimited => json!("none"),
    };
    let until = user.suspension.as_ref().and_then(|suspension| suspension.until);
    json!({
        "id": user.id.to_string(),
        "address": user.address.to_string(),
        "enabled": user.enabled,
        "quota": quota,
        "used": user.quota.used,
        "legal_hold": user.legal_hold,
        "sending_suspended_at": user.suspension.as_ref().map(|suspension| suspension.since.to_rfc3339()),
        "sending_suspended_because": user.suspension.as_ref().map(|suspension| &suspension.reason),
        "sending_suspended_until": until.map(|until| until.to_rfc3339()),
    })
}
