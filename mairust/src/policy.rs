//! The policy engine that comes with MaiRust: limits first, then a score.

use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{Content, EmailAddress, TenantId, Timestamp};
use mairust_hooks::{Decision, PolicyEngine, PolicyError, PolicyRequest, Score};
use mairust_store::{StorageBackend, StoreError};

pub(crate) mod limits;
pub(crate) mod score;

use self::limits::SendingLimits;
use self::score::Scoring;

/// Keeps to limits, and looks for signs of abuse. What it has seen is in the storage, which all servers over one
/// database share.
#[derive(Debug)]
pub(crate) struct BuiltinPolicy {
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) limits: SendingLimits,
    /// `None` gives no message a score.
    pub(crate) scoring: Option<Scoring>,
}

#[async_trait]
impl PolicyEngine for BuiltinPolicy {
    async fn evaluate(&self, request: &PolicyRequest, now: Timestamp) -> Result<Decision, PolicyError> {
        let decision = self.limits.decide(&*self.storage, request, now).await?;
        if let (Some(sender), false, Decision::Reject { .. } | Decision::Tempfail { .. }) =
            (request.sender.address(), request.dry_run, &decision)
        {
            self.refused(request.tenant, sender, 1, now).await;
        }
        Ok(decision)
    }

    async fn score(&self, request: &PolicyRequest, content: &Content, now: Timestamp) -> Result<Score, PolicyError> {
        match &self.scoring {
            // Who has limits of their own does not write like a person.
            Some(scoring) if self.limits.exception(&request.account).is_none() => {
                scoring.score(&*self.storage, (request, self.limits.user_hourly), content, now).await
            }
            _ => Ok(Score::default()),
        }
    }

    async fn bounced(&self, tenant: TenantId, sender: &EmailAddress, recipients: u32, now: Timestamp) {
        self.refused(tenant, sender, recipients, now).await;
    }
}

impl BuiltinPolicy {
    async fn refused(&self, tenant: TenantId, sender: &EmailAddress, recipients: u32, now: Timestamp) {
        if self.scoring.is_none() {
            return;
        }
        let spent = [(score::refusals(sender), recipients)];
        if let Err(error) = self.storage.allowances().spend(tenant, &spent, now).await {
            let error = crate::error::chain(&error);
            tracing::warn!(component = "policy", error, "a refusal was not counted");
        }
    }
}

/// Whose mail a message is, for the names of buckets.
fn account_scope(request: &PolicyRequest) -> String {
    match &request.user {
        Some(user) => format!("user:{user}"),
        None => format!("address:{}", request.account.lookup_key()),
    }
}

fn unavailable(error: &StoreError) -> PolicyError {
    PolicyError::new(crate::error::chain(error))
}
