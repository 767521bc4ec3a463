//! What one message becomes in one tenant: a copy in each mailbox, and one that is sent on to
//! addresses elsewhere on behalf of aliases and catch-alls (RFC 5321 §3.9.1).
//!
//! Both come into being in one acceptance. What does not go to INBOX is not sent on but held, in the
//! same folder of the mailbox for forwards: mail that is suspect here must not go out in our name.

use aws_lc_rs::digest;
use mairust_core::{
    Body, Content, EmailAddress, MailboxId, MessageDsn, MessageId, Notify, RecipientDsn, RecipientId, Rejection,
    ReversePath, TenantId, Timestamp, TlsWish,
};
use mairust_hooks::{HookPoint, HookRunner, Hooks};
use mairust_store::{Acceptance, Direction, Folder, Marks, MessageStatus, NewJob, NewMessage, Placement, Spam};

use crate::events;
use crate::outbound::Outbound;
use crate::receipts::Fingerprint;
use crate::receive::trace::return_path;
use crate::work::job::Job;

/// Where mail for one recipient goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To a tenant here.
    Local(LocalDestination),
    /// To another server.
    Remote(RemoteDestination),
    /// Back to here: mail for one of our recipients.
    Returned(ReturnedDestination),
}

/// An address elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteDestination {
    pub(crate) address: EmailAddress,
    /// What the sender asks about notices.
    pub(crate) dsn: RecipientDsn,
}

/// Where a tenant wants mail for one of its addresses; at least one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalDestination {
    pub(crate) tenant: TenantId,
    /// The address as the sender wrote it.
    pub(crate) address: EmailAddress,
    pub(crate) mailboxes: Vec<MailboxId>,
    /// Addresses elsewhere, and the mailbox for what is sent on to them.
    pub(crate) forwards: Option<(MailboxId, Vec<EmailAddress>)>,
    /// What the sender asks about notices.
    pub(crate) dsn: RecipientDsn,
}

/// The return path of mail for one recipient of an outgoing message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReturnedDestination {
    /// The return path.
    pub(crate) address: EmailAddress,
    /// Where a copy goes: where mail for the sender of the outgoing message goes.
    pub(crate) local: LocalDestination,
    pub(crate) recipient: RecipientId,
    /// The address of this recipient.
    pub(crate) was_for: EmailAddress,
    /// What the sender asked about notices (RFC 3461 §4.1).
    pub(crate) notify: Option<Notify>,
    /// Why the sender takes no mail, if so. It is no reason against a report that changes something.
    pub(crate) refused: Option<Rejection>,
}

/// What a message becomes in one tenant; at least one copy.
#[derive(Debug)]
pub(crate) struct Distribution {
    pub(crate) tenant: TenantId,
    placements: Vec<Placement>,
    forward: Option<Forward>,
}

/// A copy that is sent on.
#[derive(Debug)]
struct Forward {
    placement: Placement,
    to: Vec<RemoteDestination>,
    outbound: Outbound,
}

/// Where a message that came in is to be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeping {
    pub(crate) folder: Folder,
    pub(crate) status: MessageStatus,
    pub(crate) outbound: Outbound,
    pub(crate) now: Timestamp,
    /// The message of which these are copies that were made later, and when they were due. Then their ids follow
    /// from it, so that each is there once, however often it is made.
    pub(crate) later_copies_of: Option<(MessageId, Timestamp)>,
}

/// What all copies of a message have in common.
#[derive(Debug)]
pub(crate) struct Original {
    /// The fields that are put in front, without Return-Path.
    pub(crate) prefix: String,
    pub(crate) body: Body,
    pub(crate) content: Content,
    pub(crate) sender: ReversePath,
    pub(crate) dsn: MessageDsn,
    pub(crate) tls: TlsWish,
    pub(crate) auth_results: Option<String>,
    pub(crate) spam: Option<Spam>,
    /// How it came in, for the timeline.
    pub(crate) arrival: Option<String>,
    /// What tells the transaction from others, if it may come again.
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) received_at: Timestamp,
    /// What is put on it.
    pub(crate) marks: Marks,
}

impl Destination {
    /// The address as the sender wrote it.
    pub(crate) fn address(&self) -> &EmailAddress {
        match self {
            Self::Local(LocalDestination { address, .. })
            | Self::Remote(RemoteDestination { address, .. })
            | Self::Returned(ReturnedDestination { address, .. }) => address,
        }
    }

    /// The same, with what the sender asks about notices.
    pub(crate) fn with_dsn(mut self, wanted: RecipientDsn) -> Self {
        match &mut self {
            Self::Local(LocalDestination { dsn, .. }) | Self::Remote(RemoteDestination { dsn, .. }) => *dsn = wanted,
            // What counts is what was asked about the mail that comes back.
            Self::Returned(_) => {}
        }
        self
    }

    /// Where it is here, if it is.
    pub(crate) fn local(&self) -> Option<&LocalDestination> {
        match self {
            Self::Local(local) | Self::Returned(ReturnedDestination { local, .. }) => Some(local),
            Self::Remote(_) => None,
        }
    }

    /// Where it is elsewhere, if it is.
    pub(crate) fn remote(&self) -> Option<&RemoteDestination> {
        match self {
            Self::Remote(remote) => Some(remote),
            Self::Local(_) | Self::Returned(_) => None,
        }
    }

    /// Whose mail comes back, if it is a return path.
    pub(crate) fn returned(&self) -> Option<&ReturnedDestination> {
        match self {
            Self::Returned(returned) => Some(returned),
            Self::Local(_) | Self::Remote(_) => None,
        }
    }

    /// Whose address it is, if it is one of ours.
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        self.local().map(|local| local.tenant)
    }
}

impl Keeping {
    /// As mail is kept that nothing speaks against.
    pub(crate) fn inbox(outbound: Outbound, now: Timestamp) -> Self {
        let (folder, status) = (Folder::Inbox, MessageStatus::Stored);
        Self { folder, status, outbound, now, later_copies_of: None }
    }

    /// The id of the copy for an address in a mailbox.
    fn id(&self, address: &EmailAddress, mailbox: MailboxId) -> MessageId {
        let Some((original, due)) = self.later_copies_of else { return MessageId::new(self.now) };
        let mut seed = digest::Context::new(&digest::SHA256);
        for part in [original.as_bytes(), mailbox.as_bytes(), address.lookup_key().as_bytes()] {
            seed.update(part);
        }
        MessageId::of_seed(due, seed.finish().as_ref())
    }
}

impl Distribution {
    /// What a message becomes in each tenant that has a recipient, in order of their first ones.
    pub(crate) fn of(destinations: &[Destination], keeping: Keeping) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for destination in destinations.iter().filter_map(Destination::local) {
            let known = all.iter().position(|one| one.tenant == destination.tenant);
            let index = known.unwrap_or_else(|| {
                all.push(Self { tenant: destination.tenant, placements: Vec::new(), forward: None });
                all.len() - 1
            });
            all[index].add(destination, keeping);
        }
        all
    }

    /// The id by which the message is known: that of its first copy.
    pub(crate) fn id(&self) -> Option<MessageId> {
        let forward = self.forward.as_ref().map(|forward| &forward.placement);
        self.placements.first().or(forward).map(|placement| placement.id)
    }

    /// Everything that becomes durable together.
    pub(crate) fn acceptance(self, original: &Original, hooks: &HookRunner) -> Acceptance {
        let (tenant, now) = (self.tenant, original.received_at);
        let mut acceptance = Acceptance::new(tenant);
        if !self.placements.is_empty() {
            let hooks = hooks.of(tenant);
            let hook_jobs = |placement: &Placement| hook_jobs(&hooks, tenant, placement, now);
            acceptance.jobs.extend(self.placements.iter().flat_map(hook_jobs));
            let message = original.copy(&return_path(&original.sender), self.placements);
            acceptance.events.extend(message.placements.iter().map(|place| events::received(&message, place)));
            acceptance.messages.push(message);
        }
        if let Some(Forward { placement, to, outbound }) = self.forward {
            acceptance.recipients = outbound.recipients(placement.id, &to, now);
            acceptance.jobs.extend(outbound.jobs(placement.id, &to, tenant, (now, now)));
            let message = original.copy("", vec![placement.clone()]);
            let addresses = to.iter().map(|to| &to.address);
            acceptance.events.push(events::accepted(&message, &placement, addresses));
            acceptance.messages.push(message);
        }
        acceptance
    }

    /// One copy for each mailbox, however many of its addresses are recipients.
    fn add(&mut self, destination: &LocalDestination, keeping: Keeping) {
        for mailbox in &destination.mailboxes {
            self.place(*mailbox, destination, keeping);
        }
        let Some((mailbox, to)) = &destination.forwards else { return };
        if keeping.folder != Folder::Inbox {
            return self.place(*mailbox, destination, keeping);
        }
        let forward = self.forward.get_or_insert_with(|| Forward {
            placement: Placement {
                id: keeping.id(&destination.address, *mailbox),
                mailbox: *mailbox,
                folder: Folder::Sent,
                address: destination.address.clone(),
                direction: Direction::Outbound,
                status: keeping.outbound.status(),
            },
            to: Vec::new(),
            outbound: keeping.outbound,
        });
        for address in to {
            if forward.to.iter().all(|known| known.address.lookup_key() != address.lookup_key()) {
                // RFC 3461 §5.2.7.1: what was asked goes on with the message.
                forward.to.push(RemoteDestination { address: address.clone(), dsn: destination.dsn.clone() });
            }
        }
    }

    fn place(&mut self, mailbox: MailboxId, destination: &LocalDestination, keeping: Keeping) {
        if self.placements.iter().all(|placement| placement.mailbox != mailbox) {
            self.placements.push(Placement {
                id: keeping.id(&destination.address, mailbox),
                mailbox,
                folder: keeping.folder,
                address: destination.address.clone(),
                direction: Direction::Inbound,
                status: keeping.status,
            });
        }
    }
}

impl Original {
    /// A copy with `first` in front of the prefix.
    pub(crate) fn copy(&self, first: &str, placements: Vec<Placement>) -> NewMessage {
        NewMessage {
            prefix: format!("{first}{}", self.prefix).into(),
            body: self.body.clone(),
            content: self.content.clone(),
            sender: self.sender.clone(),
            received_at: self.received_at,
            dsn: self.dsn.clone(),
            tls: self.tls,
            auth_results: self.auth_results.clone(),
            spam: self.spam,
            arrival: self.arrival.clone(),
            fingerprint: self.fingerprint,
            marks: self.marks.clone(),
            placements,
        }
    }
}

/// One job for each `post_receive` hook.
fn hook_jobs(hooks: &Hooks, tenant: TenantId, place: &Placement, now: Timestamp) -> Vec<NewJob> {
    let names = hooks.names(HookPoint::PostReceive, std::slice::from_ref(&place.address));
    let job = |hook: &str| Job::PostReceive { message: place.id, hook: hook.to_owned() }.queued(tenant, now);
    names.into_iter().map(job).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_763_780_646);

    fn address(text: &str) -> EmailAddress {
        EmailAddress::parse(text).unwrap()
    }

    fn to(tenant: TenantId, text: &str, mailboxes: &[MailboxId], forwards: Option<(MailboxId, &str)>) -> Destination {
        let forwards = forwards.map(|(mailbox, text)| (mailbox, vec![address(text)]));
        let (address, mailboxes) = (address(text), mailboxes.to_vec());
        let dsn = RecipientDsn::default();
        Destination::Local(LocalDestination { tenant, address, mailboxes, forwards, dsn })
    }

    #[test]
    fn one_copy_for_each_mailbox_and_one_to_send_on() {
        let (first, second) = (TenantId::new(NOW), TenantId::new(NOW));
        let (alice, bob, forwards) = (MailboxId::new(NOW), MailboxId::new(NOW), MailboxId::new(NOW));
        let destinations = [
            to(first, "alice@a.example", &[alice], None),
            to(first, "team@a.example", &[bob, alice], Some((forwards, "x@remote.example"))),
            Destination::Remote(RemoteDestination {
                address: address("y@remote.example"),
                dsn: RecipientDsn::default(),
            }),
            to(second, "carol@b.example", &[MailboxId::new(NOW)], None),
            to(first, "x@a.example", &[], Some((forwards, "X@remote.example"))),
        ];
        let all = Distribution::of(&destinations, Keeping::inbox(Outbound::Deliver, NOW));
        assert_eq!(all.iter().map(|one| one.tenant).collect::<Vec<_>>(), [first, second]);
        let placed: Vec<_> = all[0].placements.iter().map(|p| (p.mailbox, p.address.to_string())).collect();
        assert_eq!(placed, [(alice, "alice@a.example".to_owned()), (bob, "team@a.example".to_owned())]);
        let forward = all[0].forward.as_ref().unwrap();
        assert_eq!((forward.placement.mailbox, forward.placement.status), (forwards, MessageStatus::Queued));
        assert_eq!(
            (forward.placement.address.clone(), &forward.to[..]),
            (
                address("team@a.example"),
                &[RemoteDestination { address: address("x@remote.example"), dsn: RecipientDsn::default() }][..]
            )
        );
        assert!(all[1].forward.is_none());
    }

    #[test]
    fn what_is_suspect_is_held_and_not_sent_on() {
        let (tenant, forwards) = (TenantId::new(NOW), MailboxId::new(NOW));
        let destinations = [to(tenant, "x@a.example", &[], Some((forwards, "x@remote.example")))];
        let (folder, status) = (Folder::Quarantine, MessageStatus::Quarantined);
        let keeping = Keeping { folder, status, ..Keeping::inbox(Outbound::Deliver, NOW) };
        let one = Distribution::of(&destinations, keeping).remove(0);
        assert!(one.forward.is_none());
        let held = &one.placements[0];
        assert_eq!(
            (held.mailbox, held.folder, held.status, held.direction),
            (forwards, folder, status, Direction::Inbound)
        );
        assert_eq!(one.id(), Some(held.id));
    }
}
