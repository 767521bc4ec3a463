//! `mairust message`: what becomes of messages that are there.

use clap::{Args, Subcommand};
use mairust_core::{Clock, MessageId, SystemClock};
use mairust_store::{Lifecycle, MessageRow, Purge, SqlStorage, StorageBackend, StoreError, StoreErrorKind, Tenant};
use serde_json::{Value, json};

use super::directory::{InTenant, print_list};
use super::output::Failure;
use super::trace::TraceArgs;
use super::trail::{Changed, Trail};
use crate::audit::of_message;

#[derive(Debug, Subcommand)]
pub(super) enum MessageCommand {
    /// Hide messages; they can be restored until the server removes them for good
    Delete {
        /// Remove them for good, with their content; also those that were deleted before
        #[arg(long)]
        permanent: bool,
        #[command(flatten)]
        messages: Messages,
    },
    /// Bring deleted messages back into their folders
    Restore {
        #[command(flatten)]
        messages: Messages,
    },
    /// Move the content of messages under archive/ in the storage; they can be read as before
    Archive {
        #[command(flatten)]
        messages: Messages,
    },
    /// Put messages on legal hold: until they are released, nothing removes them for good
    Hold {
        #[command(flatten)]
        messages: Messages,
    },
    /// End the legal hold of messages
    Release {
        #[command(flatten)]
        messages: Messages,
    },
    /// Print what happened to a message, and why it is still here
    Trace(TraceArgs),
}

/// Which messages.
#[derive(Debug, Args)]
pub(super) struct Messages {
    /// Their ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<MessageId>,
    #[command(flatten)]
    tenant: InTenant,
}

/// What is done to messages.
#[derive(Debug, Clone, Copy)]
enum Act {
    Archive,
    Delete,
    Hold,
    Purge,
    Release,
    Restore,
}

pub(super) async fn run(command: MessageCommand) -> Result<(), Failure> {
    match command {
        MessageCommand::Archive { messages } => all(Act::Archive, &messages).await,
        MessageCommand::Delete { permanent: false, messages } => all(Act::Delete, &messages).await,
        MessageCommand::Delete { permanent: true, messages } => all(Act::Purge, &messages).await,
        MessageCommand::Hold { messages } => all(Act::Hold, &messages).await,
        MessageCommand::Release { messages } => all(Act::Release, &messages).await,
        MessageCommand::Restore { messages } => all(Act::Restore, &messages).await,
        MessageCommand::Trace(args) => super::trace::run(&args).await,
    }
}

/// One message after the other. What was done before one fails is done, and printed.
async fn all(act: Act, messages: &Messages) -> Result<(), Failure> {
    let (storage, tenant, trail) = messages.tenant.open_to_change().await?;
    let (mut done, mut outcome) = (Vec::new(), Ok(()));
    for id in &messages.ids {
        match one(act, &storage, &tenant, &trail, *id).await {
            Ok(entry) => done.push(entry),
            Err(failure) => {
                outcome = Err(failure);
                break;
            }
        }
    }
    print_list(messages.tenant.format(), done)?;
    outcome
}

async fn one(
    act: Act,
    storage: &SqlStorage,
    tenant: &Tenant,
    trail: &Trail,
    id: MessageId,
) -> Result<(String, Value), Failure> {
    let lifecycle = storage.lifecycle();
    let missing = || Failure::not_found(format_args!("{} has no message {id}", tenant.name));
    let before = lifecycle.kept(tenant.id, id).await?.ok_or_else(missing)?;
    let changed = act.perform(lifecycle, tenant, id).await.map_err(|error| match error {
        Refused::Failed(error) if error.kind() == StoreErrorKind::NotFound => {
            Failure::not_found(format_args!("the content of {id} is gone: {}", crate::error::chain(&error)))
        }
        Refused::Failed(error) => error.into(),
        Refused::InUse => {
            Failure::conflict(format_args!("{id} is still on its way; it can be removed for good when it has arrived"))
        }
        Refused::OnHold => Failure::conflict(format_args!(
            "{id} is on legal hold; see mairust message release, user release and tenant release"
        )),
    })?;
    let after = lifecycle.kept(tenant.id, id).await?;
    if changed {
        let changes = Changed { before: Some(of_message(&before)), after: after.as_ref().map(of_message) };
        trail.record(storage, act.event_type(), ("message", &id), changes).await?;
    }
    let note = if changed { act.done() } else { act.done_before() };
    Ok((format!("{id} {note}"), as_json(id, changed, after.as_ref())))
}

/// Why nothing was done.
enum Refused {
    Failed(StoreError),
    InUse,
    OnHold,
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Act {
    /// Does it; whether that changed anything.
    async fn perform(self, lifecycle: &dyn Lifecycle, tenant: &Tenant, id: MessageId) -> Result<bool, Refused> {
        Ok(match self {
            Self::Archive => lifecycle.archive(tenant.id, id).await?,
            Self::Delete => lifecycle.delete(tenant.id, id, SystemClock.now()).await?,
            Self::Hold => lifecycle.set_legal_hold(tenant.id, id, true).await?,
            Self::Purge => match lifecycle.purge(tenant.id, id).await? {
                Purge::Done => true,
                Purge::OnHold => return Err(Refused::OnHold),
                _ => return Err(Refused::InUse),
            },
            Self::Release => lifecycle.set_legal_hold(tenant.id, id, false).await?,
            Self::Restore => lifecycle.restore(tenant.id, id).await?,
        })
    }

    fn event_type(self) -> &'static str {
        match self {
            Self::Archive => "message.archived",
            Self::Delete => "message.deleted",
            Self::Hold => "message.held",
            Self::Purge => "message.purged",
            Self::Release => "message.released",
            Self::Restore => "message.restored",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Archive => "archived",
            Self::Delete => "deleted",
            Self::Hold => "on legal hold",
            Self::Purge => "removed for good",
            Self::Release => "released",
            Self::Restore => "restored",
        }
    }

    fn done_before(self) -> &'static str {
        match self {
            Self::Archive => "was archived before",
            Self::Delete => "was deleted before",
            Self::Hold => "was on legal hold before",
            Self::Purge => "was removed before",
            Self::Release => "was not on a legal hold of its own",
            Self::Restore => "was not deleted",
        }
    }
}

fn as_json(id: MessageId, changed: bool, row: Option<&MessageRow>) -> Value {
    json!({
        "id": id.to_string(),
        "changed": changed,
        "purged": row.is_none(),
        "deleted_at": row.and_then(|row| row.deleted_at).map(|at| at.to_rfc3339()),
        "legal_hold": row.is_some_and(|row| row.legal_hold),
        "archived": row.is_some_and(MessageRow::is_archived),
    })
}
