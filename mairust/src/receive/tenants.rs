//! A message for several tenants: it is judged for each of them apart, and all of them give one answer.

use std::collections::HashSet;

use futures::{StreamExt, stream};
use mairust_core::{EmailAddress, Rejection};
use mairust_smtp::server::HangUp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inspect::Inspected;
use super::judge::{Judged, judge};
use super::scan::{Scanned, refusal};
use super::verify::Verified;
use crate::distribution::Destination;
use crate::hooks::{About, BoundHooks};

/// What becomes of a message for recipients of several tenants, if its client gets one answer for all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CrossTenant {
    /// The first recipient decides whose message it is. A recipient of another tenant is told to come in a new
    /// transaction (452 4.5.3), as most clients do at once.
    #[default]
    Defer,
    /// Each tenant gets a copy, and its hooks decide about that. If one wants it later, all do; what only some refuse is
    /// taken, and goes into their quarantine.
    Split,
}

/// So many tenants are asked about a message at a time.
pub(crate) const AT_A_TIME: usize = 8;

impl Verified {
    /// The message of each tenant, in the order of their first recipients: nobody sees recipients of others.
    pub(super) fn split(self) -> Vec<Self> {
        let mut seen = HashSet::new();
        let mut tenants: Vec<_> = self.inspected.destinations.iter().map(Destination::tenant).collect();
        tenants.retain(|tenant| seen.insert(*tenant));
        if tenants.len() < 2 {
            return vec![self];
        }
        let of = |tenant| Self { inspected: self.inspected.of(|to| to.tenant() == tenant), ..self.clone() };
        tenants.into_iter().map(of).collect()
    }
}

impl Inspected {
    /// The message, for some of its recipients.
    fn of(&self, is_meant: impl Fn(&Destination) -> bool) -> Self {
        let mut part = self.clone();
        part.destinations.retain(is_meant);
        part.envelope.recipients =
            part.destinations.iter().map(Destination::address).map(EmailAddress::clone).collect();
        part
    }
}

/// Judges the message of each tenant. What comes back is to be kept; a refusal is the answer to the peer.
pub(super) async fn judge_all(
    scanned: Vec<Scanned>,
    hooks: &BoundHooks,
    hang_up: &HangUp,
) -> Result<Vec<Judged>, Rejection> {
    let by_scanner = scanned.iter().filter_map(|one| one.report().and_then(refusal));
    if let Some(rejection) = by_scanner.into_iter().find(is_temporary) {
        return Err(rejection);
    }
    let mut asked = stream::iter(scanned).map(|one| judge(one, hooks, hang_up)).buffered(AT_A_TIME);
    let (mut judged, mut failure) = (Vec::new(), None);
    while let Some(one) = asked.next().await {
        match one {
            Ok(one) => judged.push(one),
            Err(rejection) => failure = failure.or(Some(rejection)),
        }
    }
    match failure.or_else(|| refused(&judged)) {
        Some(rejection) => {
            judged.iter().for_each(|one| one.note(hooks));
            Err(rejection)
        }
        None => {
            judged.iter().filter_map(|one| one.refusal.as_ref()).for_each(kept_apart);
            Ok(judged)
        }
    }
}

/// Why a message is not taken, if so: one of its tenants wants it later, or all of them refuse it. What one refuses and
/// another takes is not sent back: its sender would be told of a failure, and may be anybody.
fn refused(judged: &[Judged]) -> Option<Rejection> {
    let refusals: Vec<_> = judged.iter().filter_map(|one| one.refusal.as_ref()).collect();
    let later = refusals.iter().find(|refusal| is_temporary(refusal));
    let by_all = refusals.first().filter(|_| refusals.len() == judged.len());
    later.or(by_all).map(|refusal| (*refusal).clone())
}

fn is_temporary(refusal: &Rejection) -> bool {
    refusal.reply().code() < 500
}

fn kept_apart(refusal: &Rejection) {
    let reason = refusal.reason();
    tracing::info!(component = "receive", reason, "message goes into quarantine, for other tenants take it");
}

impl Judged {
    /// Has it written down what hooks came to about a message that is not taken.
    fn note(&self, hooks: &BoundHooks) {
        let Inspected { envelope, .. } = &self.verified.inspected;
        let Some(tenant) = self.verified.inspected.tenant() else { return };
        let (sender, recipients) = (&envelope.sender, &envelope.recipients[..]);
        hooks.note(&self.runs, &About { tenant, sender, recipients, message: None, actions: &[] });
    }
}
