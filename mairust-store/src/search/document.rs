//! What an index knows of a message.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use mairust_core::{Domain, EmailAddress, MailboxId, NamedAddress, SearchText, TenantId};

use super::query::SearchFact;
use super::words;
use crate::message::MessageRow;

/// A message to be indexed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SearchDocument {
    /// What is known of it now. An index that keeps copies of what may change (folder, status, tags)
    /// must be told of each change; the index of the database reads them from the row itself.
    pub row: MessageRow,
    /// What its body says; never changes.
    pub text: SearchText,
}

/// The words of a document by field, with a space between them: what never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) subject: String,
    pub(crate) from: String,
    /// To, and the recipient of the envelope.
    pub(crate) to: String,
    pub(crate) cc: String,
    pub(crate) body: String,
    pub(crate) file_names: String,
}

impl SearchDocument {
    /// A message and what its body says.
    pub fn new(row: MessageRow, text: SearchText) -> Self {
        Self { row, text }
    }

    /// As far as a message is known without its body: of the text, the beginning.
    pub fn of_row(row: MessageRow) -> Self {
        let mut text = SearchText::default();
        text.body.clone_from(&row.preview);
        Self { row, text }
    }

    pub(crate) fn words(&self) -> Words {
        let row = &self.row;
        let mut to = addresses(&row.to);
        words::append(&mut to, &row.address.to_string());
        Words {
            subject: of(row.subject.iter().map(String::as_str)),
            from: addresses(&row.from),
            to,
            cc: addresses(&row.cc),
            body: of([self.text.body.as_str()]),
            file_names: of(self.text.file_names.iter().map(String::as_str)),
        }
    }

    /// What is known besides words, as words that no text has: letters and digits, with a space between
    /// them.
    pub(crate) fn facts(&self) -> String {
        let row = &self.row;
        let mut facts = vec![of_tenant(row.tenant), of_mailbox(row.mailbox)];
        facts.extend(row.message_id.as_deref().map(of_message_id));
        facts.extend(self.domains().iter().map(of_domain));
        let has = [
            (SearchFact::Attachment, row.attachments > 0),
            (SearchFact::Html, self.text.html),
            (SearchFact::Remote, self.text.remote),
        ];
        facts.extend(has.iter().filter(|(_, has)| *has).map(|(fact, _)| of_fact(*fact)));
        facts.join(" ")
    }

    /// The domains of From, To, Cc and the envelope.
    pub(crate) fn domains(&self) -> BTreeSet<Domain> {
        let row = &self.row;
        let named = [&row.from, &row.to, &row.cc].into_iter().flatten();
        let written = named.filter_map(|entry| Domain::parse(entry.address.rsplit_once('@')?.1).ok());
        let envelope = row.sender.address().into_iter().chain([&row.address]).map(EmailAddress::domain).cloned();
        written.chain(envelope).collect()
    }
}

/// The fact that a message has whose tenant this is.
pub(crate) fn of_tenant(tenant: TenantId) -> String {
    format!("t{}", hex(tenant.as_bytes()))
}

/// The fact that a message has that lies in this mailbox.
pub(crate) fn of_mailbox(mailbox: MailboxId) -> String {
    format!("m{}", hex(mailbox.as_bytes()))
}

/// The fact of this name.
pub(crate) fn of_fact(fact: SearchFact) -> String {
    format!("h{}", fact.as_str())
}

/// The fact that a message has with an address of this domain.
pub(crate) fn of_domain(domain: &Domain) -> String {
    format!("d{}", hex(domain.as_str().as_bytes()))
}

/// The fact that a message has with this Message-ID. These may be of any length, so it is a hash.
pub(crate) fn of_message_id(id: &str) -> String {
    format!("i{}", hex(digest(&SHA256, id.as_bytes()).as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let mut list = String::new();
    texts.into_iter().for_each(|text| words::append(&mut list, text));
    list
}

fn addresses(addresses: &[NamedAddress]) -> String {
    of(addresses.iter().flat_map(|entry| entry.name.as_deref().into_iter().chain([entry.address.as_str()])))
}
