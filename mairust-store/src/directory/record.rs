//! What the directory holds, what is to be added to it, and what can be changed about it.

use mairust_core::{AliasId, ApiKeyId, Domain, DomainId, EmailAddress, MailboxId, TenantId, Timestamp, UserId};

use super::resolution::{Quota, QuotaLimit};
use crate::error::{StoreError, StoreErrorKind};
use crate::lifecycle::MAX_RETENTION_DAYS;
use crate::password::PasswordRecord;

/// The largest number of targets of an alias. More is a mailing list, and that needs software which
/// lets its members leave.
pub const MAX_ALIAS_TARGETS: usize = 100;

/// The longest pattern of a [`SenderRule`] in bytes: the longest address has 320.
pub const MAX_SENDER_PATTERN: usize = 320;

/// A tenant to be made.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct NewTenant {
    /// Unique name.
    pub name: String,
    /// Whether its users may send from any address, their own or not.
    pub any_sender: bool,
}

/// An organisation that owns domains and users.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its unique name.
    pub name: String,
    /// Whether its users may send from any address.
    pub any_sender: bool,
    /// Whether its addresses take mail, its users log in and its API keys work.
    pub enabled: bool,
    /// The mailbox of what is sent on for its aliases and catch-alls. It belongs to nobody.
    pub forwards: MailboxId,
    /// Whether none of its messages may be purged.
    pub legal_hold: bool,
    /// For how many days its deleted messages are kept; without a number, as long as the server keeps
    /// them.
    pub deleted_messages_days: Option<u32>,
}

/// What to change about a tenant.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TenantChange {
    /// Whether it is enabled.
    pub enabled: Option<bool>,
    /// Whether it is on legal hold.
    pub legal_hold: Option<bool>,
    /// For how many days its deleted messages are kept, at most
    /// [`MAX_RETENTION_DAYS`](crate::lifecycle::MAX_RETENTION_DAYS); `Some(None)` as long as the server keeps
    /// them.
    pub deleted_messages_days: Option<Option<u32>>,
}

/// A mail domain of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainRow {
    /// Its id.
    pub id: DomainId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name.
    pub name: Domain,
    /// Whether its addresses take mail.
    pub enabled: bool,
    /// The domain of the same tenant whose addresses are the addresses of this one, too.
    pub alias_of: Option<Domain>,
    /// Who takes mail for its addresses that nobody has.
    pub catch_all: Option<EmailAddress>,
}

/// What to change about a domain.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DomainChange {
    /// Whether it is enabled.
    pub enabled: Option<bool>,
    /// Its catch-all; `Some(None)` takes it away.
    pub catch_all: Option<Option<EmailAddress>>,
}

/// A user to be made, with a mailbox and an address.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The address; its domain must be one of the tenant's.
    pub address: EmailAddress,
    /// The name to log in with, besides the address.
    pub login: Option<String>,
    /// From [`PasswordHasher::record`](crate::password::PasswordHasher::record).
    pub password: PasswordRecord,
}

/// Somebody who can log in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The tenant.
    pub tenant: TenantId,
    /// The primary address.
    pub address: EmailAddress,
    /// The mailbox behind it.
    pub mailbox: MailboxId,
    /// When the user was made.
    pub created_at: Timestamp,
    /// Whether the user may log in, and the address takes mail.
    pub enabled: bool,
    /// How much the mailbox may hold, and holds.
    pub quota: Quota,
    /// Whether no message of the mailbox may be purged.
    pub legal_hold: bool,
    /// Why the user may not send, as long as that is so.
    pub suspension: Option<Suspension>,
}

/// The right to send, taken from a user who may still log in and gets mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// Since when.
    pub since: Timestamp,
    /// Why, for administrators.
    pub reason: String,
    /// When it ends by itself, if it does.
    pub until: Option<Timestamp>,
}

impl Suspension {
    /// Whether it still holds.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// What to change about a user.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct UserChange {
    /// Whether the user is enabled.
    pub enabled: Option<bool>,
    /// How much the mailbox may hold.
    pub quota: Option<QuotaLimit>,
    /// Whether the mailbox is on legal hold.
    pub legal_hold: Option<bool>,
    /// Why the user may not send; `Some(None)` lets the user send again.
    pub suspension: Option<Option<Suspension>>,
}

/// What is needed to check a password.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Login {
    /// Who it is, if the password is right.
    pub user: User,
    /// What is kept of the password.
    pub password: PasswordRecord,
    /// Whether the user and the tenant are enabled. Who is not gets the answer of a wrong
    /// password, and after the same time: check the password all the same.
    pub enabled: bool,
}

/// An alias to be made.
#[derive(Debug, Clone)]
pub struct NewAlias {
    /// The address; its domain must be one of the tenant's.
    pub address: EmailAddress,
    /// The addresses that it leads to, here or elsewhere: 1 to [`MAX_ALIAS_TARGETS`].
    pub targets: Vec<EmailAddress>,
}

/// An address that leads to others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alias {
    /// The id.
    pub id: AliasId,
    /// The tenant.
    pub tenant: TenantId,
    /// The address.
    pub address: EmailAddress,
    /// The addresses that it leads to, in the order given.
    pub targets: Vec<EmailAddress>,
    /// Whether it takes mail.
    pub enabled: bool,
}

/// What to change about an alias.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AliasChange {
    /// Whether it is enabled.
    pub enabled: Option<bool>,
    /// Where it leads.
    pub targets: Option<Vec<EmailAddress>>,
}

/// What a tenant has decided about a sender. What a pattern matches is decided by whoever asks for
/// the rules: an address, a domain, `*.domain`, an IP address or a network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SenderRule {
    /// In lower case; not empty, no white space, at most [`MAX_SENDER_PATTERN`] bytes.
    pub pattern: String,
    /// What is decided.
    pub action: SenderAction,
}

/// What is decided about a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SenderAction {
    /// Its mail is welcome.
    Allow,
    /// Its mail is not.
    Block,
}

/// An API key to be made.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// The public part of the key; unique.
    pub key_id: String,
    /// What the key is for.
    pub name: String,
    /// HMAC-SHA256 of the secret part under the server's master key.
    pub secret_hash: [u8; 32],
    /// Scopes, for example `messages:read`.
    pub scopes: Vec<String>,
}

/// An API key, without its secret.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The public part.
    pub key_id: String,
    /// What it is for.
    pub name: String,
    /// HMAC-SHA256 of the secret part.
    pub secret_hash: [u8; 32],
    /// Scopes.
    pub scopes: Vec<String>,
}

impl SenderRule {
    /// A rule; the pattern is put into the form in which it is kept.
    ///
    /// # Errors
    /// `Invalid` if it is empty, too long, or holds white space or control characters.
    pub fn new(pattern: &str, action: SenderAction) -> Result<Self, StoreError> {
        Ok(Self { pattern: sender_pattern(pattern)?, action })
    }
}

impl SenderAction {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Allow, Self::Block];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
        }
    }

    /// The action of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

/// The form in which patterns of senders are kept and compared.
pub(crate) fn sender_pattern(text: &str) -> Result<String, StoreError> {
    let pattern = text.trim().to_lowercase();
    let odd = |character: char| character.is_whitespace() || character.is_control();
    if pattern.is_empty() || pattern.len() > MAX_SENDER_PATTERN || pattern.contains(odd) {
        let advice = "write an address, a domain, *.domain, an IP address or a network";
        return Err(StoreError::new(StoreErrorKind::Invalid, "sender rule", format!("{text:?}: {advice}")));
    }
    Ok(pattern)
}

/// Refuses a time that no backend could reckon with.
pub(crate) fn check_retention(id: TenantId, change: &TenantChange) -> Result<(), StoreError> {
    match change.deleted_messages_days {
        Some(Some(days)) if days > MAX_RETENTION_DAYS => Err(StoreError::new(
            StoreErrorKind::Invalid,
            "change tenant",
            format_args!("{id}: deleted messages are kept for {MAX_RETENTION_DAYS} days at most"),
        )),
        _ => Ok(()),
    }
}

/// Refuses targets that make no sense in any backend: none, too many, the address itself.
pub(crate) fn check_targets(address: &EmailAddress, targets: &[EmailAddress]) -> Result<(), StoreError> {
    let invalid = |why: &str| Err(StoreError::new(StoreErrorKind::Invalid, "alias", format_args!("{address}: {why}")));
    let key = address.lookup_key();
    if targets.is_empty() {
        return invalid("an alias leads to one address at least");
    }
    if targets.len() > MAX_ALIAS_TARGETS {
        return invalid(&format!("an alias leads to {MAX_ALIAS_TARGETS} addresses at most"));
    }
    if targets.iter().any(|target| target.lookup_key() == key) {
        return invalid("an alias can't lead to itself");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_one_form() {
        let rule = SenderRule::new(" *.Spam.EXAMPLE ", SenderAction::Block).unwrap();
        assert_eq!(rule.pattern, "*.spam.example");
        for text in ["", "  ", "a b", "a\u{0}b", &"x".repeat(321)] {
            assert_eq!(sender_pattern(text).unwrap_err().kind(), StoreErrorKind::Invalid, "{text:?}");
        }
    }

    #[test]
    fn an_alias_leads_somewhere_else() {
        let address = |text: &str| EmailAddress::parse(text).unwrap();
        let alias = address("info@a.example");
        assert!(check_targets(&alias, &[address("x@b.example")]).is_ok());
        let many = vec![address("x@b.example"); MAX_ALIAS_TARGETS + 1];
        for targets in [&[][..], &[address("INFO@a.example")], &many] {
            assert_eq!(check_targets(&alias, targets).unwrap_err().kind(), StoreErrorKind::Invalid);
        }
    }
}
