//! Deliveries that stay here: mail that was held until its time, for addresses whose domain is ours.

use mairust_core::{Body, Content, ForwardPath, Rejection, Timestamp};
use mairust_store::{Acceptance, AttemptOutcome, DeliveryRow, Marks, MessageRow, StoreError, StoreErrorKind};

use super::Workers;
use super::deliver::{Attempted, Delivery};
use super::dsn::Action;
use super::tried::Tried;
use crate::distribution::{Destination, Distribution, Keeping, LocalDestination, Original};
use crate::expansion::{Expansion, expand};

/// The recipients of a delivery who are here, in their order: where their mail goes, or why nowhere.
pub(super) type Places = Vec<Result<LocalDestination, Rejection>>;

impl Workers {
    /// Where the mail of these recipients goes; `None` if their domain is not ours.
    pub(super) async fn places(&self, row: &MessageRow, waiting: &[DeliveryRow]) -> Result<Option<Places>, StoreError> {
        let Some(first) = waiting.first() else { return Ok(None) };
        if expand(self.storage.directory(), &first.address).await? == Expansion::Foreign {
            return Ok(None);
        }
        let mut places = Vec::with_capacity(waiting.len());
        for recipient in waiting {
            let path = ForwardPath::Address(recipient.address.clone());
            places.push(match self.recipients.for_author(&path, Some(row.size)).await {
                Ok(to) => match to.local() {
                    Some(local) => Ok(LocalDestination { dsn: recipient.dsn.clone(), ..local.clone() }),
                    None => return Ok(None),
                },
                Err(rejection) => Err(rejection),
            });
        }
        Ok(Some(places))
    }

    /// What becomes durable when the message is put into these places, and what it means for the recipients.
    pub(super) async fn put(
        &self,
        delivery: &Delivery,
        body: &Body,
        places: Places,
        last: bool,
    ) -> Result<Attempted, StoreError> {
        let now = self.clock.now();
        let results = delivery.waiting.iter().zip(&places).map(|(row, place)| tried(row, place, last)).collect();
        let destinations: Vec<_> = places.into_iter().flatten().map(Destination::Local).collect();
        let keeping =
            Keeping { later_copies_of: Some((delivery.row.id, delivery.due)), ..Keeping::inbox(self.outbound, now) };
        let original = original(&delivery.row, body, now).await?;
        let hooks = self.hooks.current().await?;
        let copy = |one: Distribution| one.acceptance(&original, hooks);
        let copies = Distribution::of(&destinations, keeping).into_iter().map(copy).collect();
        Ok(Attempted { results, copies })
    }

    /// Keeps the copies of other tenants, which are accepted before the result is recorded: each once, however often
    /// this is tried.
    pub(super) async fn keep_for_others(&self, copies: Vec<Acceptance>) -> Result<(), StoreError> {
        if copies.is_empty() {
            return Ok(());
        }
        for answer in self.storage.messages().accept(copies).await {
            match answer {
                Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {}
                answer => answer?,
            }
        }
        Ok(())
    }
}

/// The message as its recipients get it, with nothing in front of it yet. How it came in is for its sender.
async fn original(row: &MessageRow, body: &Body, now: Timestamp) -> Result<Original, StoreError> {
    let unreadable = |error: &dyn std::fmt::Display| StoreError::new(StoreErrorKind::Unavailable, "read body", error);
    let source = body.clone();
    let parsed = tokio::task::spawn_blocking(move || source.read_all().map(|raw| Content::parse(&raw))).await;
    let content = parsed.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
    Ok(Original {
        prefix: String::new(),
        body: body.clone(),
        content,
        sender: row.sender.clone(),
        dsn: row.dsn.clone(),
        tls: row.tls,
        auth_results: None,
        spam: None,
        arrival: None,
        fingerprint: None,
        received_at: now,
        marks: Marks::default(),
    })
}

fn tried(row: &DeliveryRow, place: &Result<LocalDestination, Rejection>, last: bool) -> Tried {
    match place {
        Ok(place) => Tried {
            // What is sent on takes the wishes about notices with it.
            arrived: (!place.mailboxes.is_empty()).then_some(Action::Delivered),
            ..Tried::new(row, AttemptOutcome::Delivered, "kept in the mailbox".to_owned(), last)
        },
        Err(rejection) => {
            let reply = rejection.reply();
            let outcome = if reply.code() < 500 { AttemptOutcome::Deferred } else { AttemptOutcome::Failed };
            let detail = format!("{} {}", reply.code(), reply.lines().join(" "));
            Tried { reply: Some(reply.clone()), ..Tried::new(row, outcome, detail, last) }
        }
    }
}
