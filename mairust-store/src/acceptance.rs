//! What every backend asks of an [`Acceptance`] before it writes anything.

use std::collections::HashSet;

use mairust_core::TenantId;

use crate::body::{NewObject, object_key};
use crate::error::{StoreError, StoreErrorKind};
use crate::event::NewEvent;
use crate::message::{Acceptance, NewMessage};
use crate::suppression::NewSuppression;

impl Acceptance {
    /// Nothing yet.
    pub fn new(tenant: TenantId) -> Self {
        let (messages, recipients, jobs, attempts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (events, completes, suppressions, others) = (Vec::new(), None, Vec::new(), Vec::new());
        Self { tenant, messages, recipients, jobs, attempts, events, completes, suppressions, others }
    }

    /// What each tenant gets, one after the other.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// The same, apart.
    pub(crate) fn into_parts(mut self) -> Vec<Self> {
        let others = std::mem::take(&mut self.others);
        std::iter::once(self).chain(others).collect()
    }

    /// Refuses what makes no sense in any backend: a message without a place, work for another
    /// tenant, others within others.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let mut tenants = HashSet::new();
        if !self.parts().all(|part| tenants.insert(part.tenant)) {
            return Err(StoreError::new(StoreErrorKind::Invalid, "accept", "a tenant is named twice"));
        }
        if self.others.iter().any(|other| !other.others.is_empty()) {
            return Err(StoreError::new(StoreErrorKind::Invalid, "accept", "others have others"));
        }
        self.parts().try_for_each(Self::check_part)
    }

    fn check_part(&self) -> Result<(), StoreError> {
        let invalid = |why: &str| Err(StoreError::new(StoreErrorKind::Invalid, "accept", why));
        if self.messages.iter().any(|message| message.placements.is_empty()) {
            return invalid("a message goes to no mailbox");
        }
        let completed = self.completes.iter().map(|lease| lease.tenant);
        if self.jobs.iter().map(|job| job.tenant).chain(completed).any(|tenant| tenant != self.tenant) {
            return invalid("a job is another tenant's");
        }
        self.suppressions.iter().try_for_each(NewSuppression::check)?;
        self.events.iter().try_for_each(NewEvent::check)
    }

    /// Whether this changes what the tenant's messages look like, or tells of something; others apart.
    pub(crate) fn changes_messages(&self) -> bool {
        let Self { messages, recipients, attempts, events, .. } = self;
        !(messages.is_empty() && recipients.is_empty() && attempts.is_empty() && events.is_empty())
    }

    /// Size of the bodies in bytes, prefixes included.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.parts().flat_map(|part| &part.messages).map(NewMessage::object_len).sum()
    }

    /// What is to be kept in the body store: one object for each message, under the key of its
    /// first place; others apart. Only after [`check`](Self::check).
    pub(crate) fn objects(&self) -> Vec<NewObject> {
        let object = |message: &NewMessage| {
            let first = message.placements.first()?;
            let key = object_key(self.tenant, first.mailbox, first.id);
            Some(NewObject { key, prefix: message.prefix.clone(), body: message.body.clone() })
        };
        self.messages.iter().filter_map(object).collect()
    }
}

impl NewMessage {
    /// Size of its object in bytes.
    pub(crate) fn object_len(&self) -> u64 {
        self.prefix.len() as u64 + self.body.len()
    }

    /// The messages that this one answers or continues.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.content.references.iter().chain(&self.content.in_reply_to).map(String::as_str)
    }
}
