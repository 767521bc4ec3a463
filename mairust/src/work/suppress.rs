//! Addresses that do not exist: their servers have said so, and nobody is to try them again.

use mairust_core::{EmailAddress, EnhancedCode, Reply, SuppressionId, TenantId, Timestamp};
use mairust_store::suppression::MAX_SUPPRESSION_DETAIL;
use mairust_store::{NewSuppression, StoreError, SuppressionReason};

use super::Workers;

impl Workers {
    /// What the suppression list lacks of these addresses, each with the reply of its server.
    pub(super) async fn to_suppress(
        &self,
        tenant: TenantId,
        bounced: Vec<(EmailAddress, &Reply)>,
        now: Timestamp,
    ) -> Result<Vec<NewSuppression>, StoreError> {
        if bounced.is_empty() || !self.settings.suppress_bounced {
            return Ok(Vec::new());
        }
        let addresses: Vec<_> = bounced.iter().map(|(address, _)| address.clone()).collect();
        let listed = self.storage.suppressions().which(tenant, &addresses, now).await?;
        let listed: Vec<_> = listed.iter().map(|entry| entry.address.lookup_key()).collect();
        let new = |(address, reply): (EmailAddress, &Reply)| NewSuppression {
            id: SuppressionId::new(now),
            address,
            reason: SuppressionReason::Bounce,
            detail: Some(shortened(&reply.to_string())),
            created_at: now,
            expires_at: None,
        };
        Ok(bounced.into_iter().filter(|(address, _)| !listed.contains(&address.lookup_key())).map(new).collect())
    }

    /// Tells the audit log of addresses that were suppressed.
    pub(super) fn tell_suppressed(&self, tenant: TenantId, new: Vec<NewSuppression>) {
        for new in new {
            let address = &new.address;
            tracing::info!(component = "deliver", tenant_id = %tenant, %address, "the address is suppressed");
            if let Some(recorder) = &self.recorder {
                recorder.suppressed(tenant, &new.into());
            }
        }
    }
}

/// Whether a reply says for good that there is no such mailbox (RFC 3463 §3.2, RFC 7505 §4.2). A reply without an
/// enhanced code may mean anything.
pub(super) fn no_such_mailbox(reply: &Reply) -> bool {
    let codes = [1, 2, 6, 10].map(|detail| EnhancedCode(5, 1, detail));
    reply.is_permanent() && reply.enhanced().is_some_and(|code| codes.contains(&code))
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_SUPPRESSION_DETAIL)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_not_there_is_suppressed() {
        for (code, enhanced, expected) in [
            (550, Some((5, 1, 1)), true),
            (550, Some((5, 1, 2)), true),
            (550, Some((5, 1, 6)), true),
            (556, Some((5, 1, 10)), true),
            (550, None, false),
            (550, Some((5, 7, 1)), false),
            (550, Some((5, 1, 8)), false),
            (552, Some((5, 2, 2)), false),
            (450, Some((4, 1, 1)), false),
        ] {
            let reply = match enhanced {
                Some((class, subject, detail)) => Reply::new(code, EnhancedCode(class, subject, detail), "no"),
                None => Reply::plain(code, "no such user"),
            };
            assert_eq!(no_such_mailbox(&reply), expected, "{reply}");
        }
    }
}
