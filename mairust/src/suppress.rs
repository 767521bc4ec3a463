//! Addresses that do not exist: their servers have said so, and nobody is to try them again.

use std::sync::Arc;

use mairust_core::{EmailAddress, EnhancedCode, SuppressionId, TenantId, Timestamp};
use mairust_store::suppression::MAX_SUPPRESSION_DETAIL;
use mairust_store::{NewSuppression, StorageBackend, StoreError, SuppressionReason};

use crate::audit::Recorder;

/// Puts addresses on suppression lists that do not exist.
#[derive(Debug)]
pub(crate) struct Suppressing {
    pub(crate) storage: Arc<dyn StorageBackend>,
    /// Otherwise nothing is put there.
    pub(crate) enabled: bool,
    /// `None`: no audit log is kept.
    pub(crate) recorder: Option<Arc<Recorder>>,
}

impl Suppressing {
    /// What the suppression list lacks of these addresses, each with what its server said.
    pub(crate) async fn lacking(
        &self,
        tenant: TenantId,
        bounced: Vec<(EmailAddress, String)>,
        now: Timestamp,
    ) -> Result<Vec<NewSuppression>, StoreError> {
        if bounced.is_empty() || !self.enabled {
            return Ok(Vec::new());
        }
        let addresses: Vec<_> = bounced.iter().map(|(address, _)| address.clone()).collect();
        let listed = self.storage.suppressions().which(tenant, &addresses, now).await?;
        let listed: Vec<_> = listed.iter().map(|entry| entry.address.lookup_key()).collect();
        let new = |(address, said): (EmailAddress, String)| NewSuppression {
            id: SuppressionId::new(now),
            address,
            reason: SuppressionReason::Bounce,
            detail: Some(shortened(&said)),
            created_at: now,
            expires_at: None,
        };
        Ok(bounced.into_iter().filter(|(address, _)| !listed.contains(&address.lookup_key())).map(new).collect())
    }

    /// Tells the audit log of addresses that were suppressed.
    pub(crate) fn tell(&self, tenant: TenantId, new: Vec<NewSuppression>) {
        for new in new {
            let address = &new.address;
            tracing::info!(component = "deliver", tenant_id = %tenant, %address, "the address is suppressed");
            if let Some(recorder) = &self.recorder {
                recorder.suppressed(tenant, &new.into());
            }
        }
    }
}

/// Whether a code says for good that there is no such mailbox (RFC 3463 §3.2, RFC 7505 §4.2). A reply without an
/// enhanced code may mean anything.
pub(crate) fn no_such_mailbox(code: Option<EnhancedCode>) -> bool {
    let codes = [1, 2, 6, 10].map(|detail| EnhancedCode(5, 1, detail));
    code.is_some_and(|code| codes.contains(&code))
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_SUPPRESSION_DETAIL)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_not_there_is_suppressed() {
        for (code, expected) in [
            (Some((5, 1, 1)), true),
            (Some((5, 1, 2)), true),
            (Some((5, 1, 6)), true),
            (Some((5, 1, 10)), true),
            (None, false),
            (Some((5, 7, 1)), false),
            (Some((5, 1, 8)), false),
            (Some((5, 2, 2)), false),
            (Some((4, 1, 1)), false),
        ] {
            let code = code.map(|(class, subject, detail)| EnhancedCode(class, subject, detail));
            assert_eq!(no_such_mailbox(code), expected, "{code:?}");
        }
    }
}
