//! Calls a `post_receive` hook with a stored message and applies what it wants done.

use std::sync::Arc;
use std::time::Duration;

use mairust_core::{Envelope, Mail, MessageId};
use mairust_hooks::protocol::request::SessionOrigin;
use mairust_hooks::protocol::{MailFacts, Merged, merge};
use mairust_hooks::{Fingerprint, HookCall, HookPoint, Verdict};
use mairust_store::{Lease, StoreErrorKind};

use super::retry::{Next, RetryPolicy, jitter};
use super::{Disposition, Workers};
use crate::hooks::wanted::{change, quarantine};

/// A hook that failed is called again for a day.
const RETRY: RetryPolicy = RetryPolicy {
    first: Duration::from_secs(10),
    max: Duration::from_secs(3_600),
    give_up_after: Duration::from_secs(86_400),
};

impl Workers {
    pub(super) async fn post_receive(&self, lease: &Lease, message: MessageId, hook: &str) -> Disposition {
        let again = |why: String| self.again(lease, why);
        let mail = match self.stored_mail(lease, message).await {
            Ok(Some(mail)) => mail,
            // Purged in the meantime.
            Ok(None) => return Disposition::Complete,
            Err(error) => return again(error),
        };
        let facts = match Fingerprint::of(mail.body()).await {
            Ok(fingerprint) => Arc::new(MailFacts::new(fingerprint, SessionOrigin::Smtp)),
            Err(error) => return again(format!("the message can't be read: {error}")),
        };
        let mut call = HookCall::new(HookPoint::PostReceive, mail, facts, self.clock.now());
        call.attempt = lease.attempts;
        let Some(called) = self.hooks.of(lease.tenant).call(hook, call).await else {
            return Disposition::Bury(format!("there is no post_receive hook named {hook} any more"));
        };
        if !called.run.outcome.is_done() {
            return again(called.run.outcome.to_string());
        }
        let merged = merge([(hook.to_owned(), called.answer)]);
        self.apply(lease, message, merged).await
    }

    async fn apply(&self, lease: &Lease, message: MessageId, wanted: Merged) -> Disposition {
        let change = match &wanted.verdict {
            Verdict::Quarantine { .. } => quarantine(change(wanted)),
            _ => change(wanted),
        };
        if change.is_empty() {
            return Disposition::Complete;
        }
        match self.storage.messages().change(lease.tenant, message, &change).await {
            Ok(()) => Disposition::Complete,
            Err(error) if error.kind() == StoreErrorKind::NotFound => Disposition::Complete,
            Err(error) => self.again(lease, crate::error::chain(&error)),
        }
    }

    /// The message as hooks see it; `None` if it is gone.
    async fn stored_mail(&self, lease: &Lease, id: MessageId) -> Result<Option<Mail>, String> {
        let store = self.storage.lifecycle();
        let text = |error: mairust_store::StoreError| crate::error::chain(&error);
        let Some(row) = store.kept(lease.tenant, id).await.map_err(text)? else { return Ok(None) };
        let body = store.kept_body(lease.tenant, id).await.map_err(text)?;
        let content = crate::receive::parse(body.clone()).await.map_err(|rejection| rejection.reason().to_owned())?;
        let envelope = Envelope { sender: row.sender, recipients: vec![row.address] };
        Ok(Some(Mail::stored(id, lease.tenant, envelope, body, content)))
    }

    pub(super) fn again(&self, lease: &Lease, why: String) -> Disposition {
        let age = self.clock.now().since(lease.created_at);
        match RETRY.next(lease.attempts, age, jitter(lease.job, lease.attempts)) {
            Next::After(wait) => Disposition::Retry(wait, why),
            Next::GiveUp => Disposition::Bury(why),
        }
    }
}
