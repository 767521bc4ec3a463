//! The one atomic step: bodies durable first, then rows, jobs and attempts of the whole batch in
//! one transaction. Each entry has a savepoint, so that a bad one fails alone.

use std::collections::{BTreeSet, HashSet};

use mairust_core::{MailboxId, MessageId, TenantId};

use super::changes::Change;
use super::delivery::{insert_attempt, insert_recipient, settle};
use super::driver::{Columns, Query, Scope, Transaction, failed};
use super::queue::insert_jobs;
use super::storage::Parts;
use crate::body::StoredObject;
use crate::error::{StoreError, StoreErrorKind};
use crate::matching;
use crate::message::{Acceptance, NewMessage, Placement};
use crate::sql::{codec, statement};

/// An entry whose bodies are kept.
struct Entry {
    acceptance: Acceptance,
    /// The objects of its messages, in order.
    kept: Vec<Kept>,
}

struct Kept {
    key: String,
    object: StoredObject,
}

/// How many of the messages that one answers are looked for.
const ANCESTORS: usize = 100;

/// Why a whole batch failed.
enum Failure {
    /// Nothing was committed.
    Before(StoreError),
    /// The commit itself failed: after a crash the rows may still be there.
    Commit(StoreError),
}

impl Parts {
    pub(super) async fn accept(&self, batch: Vec<Acceptance>) -> Vec<Result<(), StoreError>> {
        let entries = self.keep_bodies(batch).await;
        let mut answers: Vec<Result<(), StoreError>> = Vec::with_capacity(entries.len());
        let mut ready = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry {
                Ok(entry) => {
                    ready.push((answers.len(), entry));
                    answers.push(Ok(()));
                }
                Err(error) => answers.push(Err(error)),
            }
        }
        if ready.is_empty() {
            return answers;
        }
        let mut orphans = Vec::new();
        match self.write(&ready).await {
            Ok(results) => {
                for ((index, entry), result) in ready.into_iter().zip(results) {
                    if result.is_err() {
                        orphans.extend(entry.kept);
                    }
                    answers[index] = result;
                }
            }
            Err(failure) => {
                let keep_bodies = matches!(failure, Failure::Commit(_));
                let (Failure::Before(error) | Failure::Commit(error)) = failure;
                let cause = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(error = cause, entries = ready.len(), "a batch could not be committed");
                for (index, entry) in ready {
                    answers[index] = Err(StoreError::new(error.kind(), "accept", format!("the batch failed: {error}")));
                    if !keep_bodies {
                        orphans.extend(entry.kept);
                    }
                }
            }
        }
        self.discard(orphans).await;
        answers
    }

    /// Makes the bodies of all entries durable; the entries whose bodies are.
    async fn keep_bodies(&self, batch: Vec<Acceptance>) -> Vec<Result<Entry, StoreError>> {
        let checked: Vec<_> = batch.into_iter().map(|entry| entry.check().map(|()| entry)).collect();
        let objects: Vec<_> = checked.iter().flatten().flat_map(Acceptance::objects).collect();
        let keys: Vec<_> = objects.iter().map(|object| object.key.clone()).collect();
        let put = if objects.is_empty() { Vec::new() } else { self.bodies.put(objects).await };
        let mut put = keys.into_iter().zip(put);
        let mut entries = Vec::with_capacity(checked.len());
        for acceptance in checked {
            entries.push(match acceptance {
                Ok(acceptance) => self.with_bodies(acceptance, &mut put).await,
                Err(error) => Err(error),
            });
        }
        entries
    }

    /// Takes the objects of one entry; if one of them is missing, removes the others.
    async fn with_bodies(
        &self,
        acceptance: Acceptance,
        put: &mut (dyn Iterator<Item = (String, Result<StoredObject, StoreError>)> + Send),
    ) -> Result<Entry, StoreError> {
        let (mut kept, mut failure) = (Vec::new(), None);
        for (key, object) in put.take(acceptance.messages.len()) {
            match object {
                Ok(object) => kept.push(Kept { key, object }),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            None => Ok(Entry { acceptance, kept }),
            Some(error) => {
                self.discard(kept).await;
                Err(error)
            }
        }
    }

    /// Writes entries in one transaction; one answer for each, valid once this has returned.
    async fn write(&self, entries: &[(usize, Entry)]) -> Result<Vec<Result<(), StoreError>>, Failure> {
        let before = |context| move |error| Failure::Before(failed("accept", context)(error));
        let mut tenants: Vec<_> = entries.iter().map(|(_, entry)| entry.acceptance.tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        let mut transaction = self.database.begin(Scope::Tenants(&tenants)).await.map_err(before("begin"))?;
        let mut answers = Vec::with_capacity(entries.len());
        for (_, entry) in entries {
            transaction.execute(Query::new("SAVEPOINT entry")).await.map_err(before("savepoint"))?;
            let written = self.write_entry(&mut transaction, entry).await;
            match &written {
                // The disk or the database fails, not the entry: the others would fare no better.
                Err(error) if error.is_temporary() => return written.map(|()| answers).map_err(Failure::Before),
                Err(_) => {
                    let undone = transaction.execute(Query::new("ROLLBACK TO entry")).await;
                    undone.map_err(before("undo an entry"))?;
                }
                Ok(()) => {}
            }
            transaction.execute(Query::new("RELEASE entry")).await.map_err(before("release"))?;
            answers.push(written);
        }
        let accepted = entries.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        let changes = changes(accepted.map(|((_, entry), _)| &entry.acceptance));
        for change in &changes {
            self.changes.tell(&mut transaction, *change).await.map_err(before("notify"))?;
        }
        transaction.commit().await.map_err(|error| Failure::Commit(failed("accept", "commit")(error)))?;
        changes.into_iter().for_each(|change| self.changes.announce(change));
        Ok(answers)
    }

    async fn write_entry(&self, transaction: &mut Transaction, entry: &Entry) -> Result<(), StoreError> {
        let Acceptance { tenant, messages, recipients, jobs, attempts } = &entry.acceptance;
        let now = self.clock.now();
        for (message, kept) in messages.iter().zip(&entry.kept) {
            for place in &message.placements {
                insert_message(transaction, *tenant, message, place, kept).await?;
            }
        }
        for recipient in recipients {
            insert_recipient(transaction, *tenant, recipient, now).await?;
        }
        insert_jobs("accept", transaction, jobs, now).await?;
        let mut moved = HashSet::new();
        for attempt in attempts {
            moved.extend(insert_attempt(transaction, *tenant, attempt).await?);
        }
        for message in moved {
            settle(transaction, *tenant, message).await?;
        }
        Ok(())
    }

    async fn discard(&self, orphans: Vec<Kept>) {
        for Kept { key, .. } in orphans {
            if let Err(error) = self.bodies.delete(&key).await {
                tracing::warn!(key, %error, "an orphaned body could not be removed");
            }
        }
    }
}

/// What entries change, each named once.
fn changes<'a>(entries: impl Iterator<Item = &'a Acceptance> + Clone) -> Vec<Change> {
    let tenants: BTreeSet<_> =
        entries.clone().filter(|entry| entry.changes_messages()).map(|entry| entry.tenant).collect();
    let queue = entries.clone().any(|entry| !entry.jobs.is_empty()).then_some(Change::Queue);
    tenants.into_iter().map(Change::Messages).chain(queue).collect()
}

async fn insert_message(
    transaction: &mut Transaction,
    tenant: TenantId,
    message: &NewMessage,
    place: &Placement,
    kept: &Kept,
) -> Result<(), StoreError> {
    let folder = transaction
        .fetch_optional(
            Query::new(statement::message::NEXT_UID)
                .bind(tenant.as_bytes())
                .bind(place.mailbox.as_bytes())
                .bind(place.folder.as_str()),
        )
        .await
        .map_err(failed("accept", place.mailbox))?;
    let folder = folder.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "accept", place.mailbox))?;
    let columns = Columns::new("accept", &folder);
    let thread = thread(transaction, tenant, place.mailbox, message).await?.unwrap_or(place.id);
    let content = &message.content;
    transaction
        .execute(
            Query::new(statement::message::INSERT_MESSAGE)
                .bind(tenant.as_bytes())
                .bind(place.id.as_bytes())
                .bind(place.mailbox.as_bytes())
                .bind(&columns.id("id")?)
                .bind(columns.value::<i64>("uid")?)
                .bind(columns.value::<i64>("modseq")?)
                .bind(place.direction.as_str())
                .bind(place.status.as_str())
                .bind(codec::sender(&message.sender))
                .bind(place.address.to_string())
                .bind(kept.key.as_str())
                .bind(kept.object.size)
                .bind(&kept.object.sha256)
                .bind(content.subject.as_deref())
                .bind(codec::addresses(&content.from))
                .bind(codec::addresses(&content.to))
                .bind(codec::addresses(&content.cc))
                .bind(content.date)
                .bind(message.received_at)
                .bind(content.message_id.as_deref())
                .bind(codec::texts(message.ancestors()))
                .bind(thread.as_bytes())
                .bind(u32::try_from(content.attachments.len()).unwrap_or(u32::MAX))
                .bind(matching::addresses_text(&content.from))
                .bind(matching::recipients_text(&content.to, &content.cc, &place.address))
                .bind(matching::needle(content.subject.as_deref().unwrap_or_default()))
                .bind(content.preview.as_str())
                .bind(message.dsn.ret.map(mairust_core::Return::as_str))
                .bind(message.dsn.envelope_id.as_ref().map(ToString::to_string))
                .bind(message.auth_results.as_deref())
                .bind(message.spam.map(|spam| spam.score))
                .bind(message.spam.map(|spam| spam.verdict.as_str())),
        )
        .await
        .map_err(failed("accept", place.id))?;
    transaction
        .execute(
            Query::new(statement::message::ADD_TO_USE)
                .bind(tenant.as_bytes())
                .bind(place.mailbox.as_bytes())
                .bind(kept.object.size),
        )
        .await
        .map_err(failed("accept", place.mailbox))?;
    Ok(())
}

/// The thread of the oldest message of the mailbox that this one answers or continues.
async fn thread(
    transaction: &mut Transaction,
    tenant: TenantId,
    mailbox: MailboxId,
    message: &NewMessage,
) -> Result<Option<MessageId>, StoreError> {
    if message.ancestors().next().is_none() {
        return Ok(None);
    }
    let mut query = Query::new(statement::message::SELECT_THREAD).bind(tenant.as_bytes()).bind(mailbox.as_bytes());
    for (index, ancestor) in message.ancestors().take(ANCESTORS).enumerate() {
        query.push(if index == 0 { "" } else { ", " }).push_bind(ancestor);
    }
    query.push(") ORDER BY received_at, id LIMIT 1");
    let found = transaction.fetch_optional(query).await.map_err(failed("accept", "find thread"))?;
    found.map(|row| Columns::new("accept", &row).id("thread_id").map(MessageId::from_bytes)).transpose()
}
