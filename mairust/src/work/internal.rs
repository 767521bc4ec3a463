//! Mail of the server itself, as the hooks at `pre_send` see it that want to: what they want is done with it, and none of
//! them refuses it or holds it up.

use std::future::pending;

use mairust_core::{Body, Content, EmailAddress, Envelope, Mail, MessageId, Origin, ReversePath, TenantId};
use mairust_hooks::protocol::{ActionOutcome, ActionResult, Merged};
use mairust_hooks::{Abandoned, HookPoint, HookRun, Stage};
use mairust_store::StoreError;

use crate::hooks::wanted::possible;
use crate::hooks::{About, BoundHooks, Wanted, Way};

/// A message that hooks have seen, if any wanted to.
#[derive(Debug)]
pub(crate) struct Shown {
    tenant: TenantId,
    envelope: Envelope,
    runs: Vec<HookRun>,
    outcomes: Vec<ActionOutcome>,
    /// What they want done with it.
    pub(crate) wanted: Wanted,
}

impl Shown {
    /// Shows a message to the hooks of its tenant.
    ///
    /// # Errors
    /// When the store can't tell which hooks there are.
    pub(crate) async fn new(
        hooks: &BoundHooks,
        tenant: TenantId,
        receiver: &EmailAddress,
        body: &Body,
        content: &Content,
    ) -> Result<Self, StoreError> {
        let envelope = Envelope { sender: ReversePath::Null, recipients: vec![receiver.clone()] };
        let (runs, outcomes, wanted) = (Vec::new(), Vec::new(), Wanted::default());
        let mut shown = Self { tenant, envelope, runs, outcomes, wanted };
        let (point, of_tenant) = (HookPoint::PreSend, hooks.current().await?.of(tenant));
        if !of_tenant.want_internal(&shown.envelope.recipients) {
            return Ok(shown);
        }
        let mail = Mail::new(tenant, shown.envelope.clone(), Origin::default(), body.clone(), content.clone());
        let facts = match Way::internal().facts(&mail).await {
            Ok(facts) => facts,
            Err(rejection) => {
                let reason = rejection.reason();
                tracing::error!(component = "hooks", reason, "mail of the server itself can't be shown to hooks");
                return Ok(shown);
            }
        };
        let stage = Stage { deadline: of_tenant.deadline(point), ..Stage::new(point, mail, facts) };
        match of_tenant.ask(&stage, pending()).await {
            Ok(asked) => {
                let merged = stays(possible(asked.merged, point));
                shown.outcomes.clone_from(&merged.outcomes);
                shown.wanted.add(merged, &asked.runs);
                shown.runs = asked.runs;
            }
            // Nobody waits who could go away.
            Err(Abandoned { runs }) => shown.runs = runs,
        }
        Ok(shown)
    }

    /// Has it written down what calls came to; `message` is the id under which the message is kept.
    pub(crate) fn note(&self, hooks: &BoundHooks, message: Option<MessageId>) {
        let (sender, recipients) = (&self.envelope.sender, &self.envelope.recipients[..]);
        hooks.note(&self.runs, &About { tenant: self.tenant, sender, recipients, message, actions: &self.outcomes });
    }
}

/// It goes where mail for its recipient goes, which may be elsewhere: no hook moves it.
fn stays(mut merged: Merged) -> Merged {
    merged.folder = None;
    let moves = merged.outcomes.iter_mut().filter(|outcome| outcome.op == "move");
    moves
        .filter(|outcome| outcome.result == ActionResult::Applied)
        .for_each(|outcome| outcome.result = ActionResult::Impossible);
    merged
}
