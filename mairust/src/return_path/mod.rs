//! MAIL FROM of mail to other servers, and what it means when mail comes back to it.
//!
//! With an address for each recipient (VERP), a host that reports long after it took a message says with the address
//! alone whose mail has failed. The addresses of [`token`] can't be guessed, so nobody reports for others.

mod returns;
mod token;

use std::sync::Arc;

use mairust_core::{Clock, Domain, EmailAddress, RecipientId, ReversePath};
use mairust_hooks::PolicyEngine;
use mairust_store::{DeliveryRow, MessageRow, StorageBackend, StoreError};

pub(crate) use self::returns::Returned;
use self::token::Token;
pub(crate) use self::token::TokenKey;
use crate::metrics::Metrics;
use crate::suppress::Suppressing;

/// MAIL FROM of mail to other servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReturnPath {
    /// The sender, as submitted.
    #[default]
    Sender,
    /// An address for each recipient, at the sender's domain. Each recipient gets a transaction of their own.
    Verp,
}

/// Makes return paths, and takes what comes back to them.
#[derive(Debug)]
pub(crate) struct ReturnPaths {
    pub(crate) key: TokenKey,
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) suppressing: Arc<Suppressing>,
    pub(crate) policy: Arc<dyn PolicyEngine>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A recipient whose mail comes back, and the message.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) recipient: DeliveryRow,
    pub(crate) message: MessageRow,
}

impl ReturnPaths {
    /// The domain at which a message may come back; `None` if its sender stays: it has none, it is sent on for an
    /// alias, or mail for its sender's domain does not come here.
    pub(crate) async fn domain(&self, message: &MessageRow) -> Result<Option<Domain>, StoreError> {
        let ReversePath::Address(sender) = &message.sender else { return Ok(None) };
        let directory = self.storage.directory();
        let forwards = directory.tenant(message.tenant).await?.map(|tenant| tenant.forwards);
        if forwards.is_none_or(|forwards| forwards == message.mailbox) {
            return Ok(None);
        }
        let domain = directory.domain(sender.domain()).await?;
        let is_ours = domain.is_some_and(|domain| domain.enabled && domain.tenant == message.tenant);
        Ok(is_ours.then(|| sender.domain().clone()))
    }

    /// MAIL FROM for a recipient.
    pub(crate) fn sender(&self, recipient: RecipientId, domain: &Domain) -> ReversePath {
        ReversePath::Address(self.key.address(recipient, domain))
    }

    /// Whose mail comes back to an address; `None` if it is an address as any other, or the message is not kept any
    /// more.
    pub(crate) async fn owner(&self, address: &EmailAddress) -> Result<Option<Owner>, StoreError> {
        let token = self.key.read(address);
        if token == Token::None {
            return Ok(None);
        }
        let domain = self.storage.directory().domain(address.domain()).await?;
        let Some(domain) = domain.filter(|domain| domain.enabled) else { return Ok(None) };
        let Token::Of(recipient) = token else {
            self.metrics.came_back("forged");
            return Ok(None);
        };
        let Some(recipient) = self.storage.deliveries().recipient(domain.tenant, recipient).await? else {
            return Ok(None);
        };
        let message = self.storage.lifecycle().kept(domain.tenant, recipient.message).await?;
        Ok(message.map(|message| Owner { recipient, message }))
    }
}
