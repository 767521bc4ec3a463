//! The one atomic step: rows, jobs and attempts of a whole batch in one transaction, and with them
//! the bodies, which [`spool`](super::spool) moves to the body store afterwards. Large bodies go
//! there first.
//!
//! The batch is written as a whole, in few statements. If that fails because of an entry, each is
//! written for itself, so that a bad one fails alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;

use bytes::Bytes;
use mairust_core::{MailboxId, MessageId, TenantId, Timestamp};
use sqlx::error::ErrorKind;

use super::changes::Change;
use super::delivery::{insert_attempt, insert_recipients, settle};
use super::driver::{Columns, Dialect, Query, Rows, Scope, Transaction, failed};
use super::event::insert_events;
use super::marks::insert_marks;
use super::queue::{complete_job, insert_jobs};
use super::search::{Search, insert_notes};
use super::storage::Parts;
use super::suppression::insert_suppressions;
use crate::body::{HASH_HERE, NewObject, StoredObject, digest_of_all, interrupted, io_error};
use crate::error::{StoreError, StoreErrorKind};
use crate::mark::changed_flags;
use crate::matching;
use crate::message::{Acceptance, NewMessage, Placement};
use crate::sql::{codec, statement};

/// An entry whose bodies are ready: what each tenant gets.
struct Entry {
    parts: Vec<Part>,
}

/// What one tenant gets.
struct Part {
    acceptance: Acceptance,
    /// The objects of its messages, in order.
    objects: Vec<Object>,
}

/// An object: what is known about it, and where it is.
struct Object {
    key: String,
    stored: StoredObject,
    /// Its bytes, if they are to be kept in the transaction; otherwise they are in the body store.
    spooled: Option<Bytes>,
}

/// One row of `messages`.
struct Row<'a> {
    tenant: TenantId,
    message: &'a NewMessage,
    object: &'a Object,
    place: &'a Placement,
}

/// Why a whole batch failed.
enum Failure {
    /// Nothing was committed.
    Before(StoreError),
    /// The commit itself failed: after a crash the rows may still be there.
    Commit(StoreError),
}

/// How many of the messages that one answers are looked for.
const ANCESTORS: usize = 100;

impl Parts {
    pub(super) async fn accept(&self, batch: Vec<Acceptance>) -> Vec<Result<(), StoreError>> {
        let entries = self.keep_bodies(batch).await;
        let mut answers: Vec<Result<(), StoreError>> = Vec::with_capacity(entries.len());
        let (mut places, mut ready) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Ok(entry) => {
                    places.push(answers.len());
                    ready.push(entry);
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
                for ((index, entry), result) in places.into_iter().zip(ready).zip(results) {
                    match &result {
                        Ok(()) => self.spool.added(entry.objects().filter_map(Object::spooled_bytes)),
                        Err(_) => orphans.extend(entry.into_objects()),
                    }
                    answers[index] = result;
                }
            }
            Err(failure) => {
                let keep_bodies = matches!(failure, Failure::Commit(_));
                let (Failure::Before(error) | Failure::Commit(error)) = failure;
                let cause = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(error = cause, entries = ready.len(), "a batch could not be committed");
                for (index, entry) in places.into_iter().zip(ready) {
                    answers[index] = Err(StoreError::new(error.kind(), "accept", format!("the batch failed: {error}")));
                    if !keep_bodies {
                        orphans.extend(entry.into_objects());
                    }
                }
            }
        }
        self.discard(orphans).await;
        answers
    }

    /// Makes the bodies of all entries ready: large ones are kept in the body store, of small ones
    /// the checksum is taken.
    async fn keep_bodies(&self, batch: Vec<Acceptance>) -> Vec<Result<Entry, StoreError>> {
        let has_bodies = |entry: &Acceptance| entry.parts().any(|part| !part.messages.is_empty());
        let refusal = match !batch.iter().any(has_bodies) {
            true => Ok(()),
            false => self.spool.check(&*self.bodies, &self.disk).await,
        };
        let mut checked = Vec::with_capacity(batch.len());
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for entry in batch {
            let entry = match (&refusal, has_bodies(&entry)) {
                (Err(error), true) => Err(StoreError::new(error.kind(), "accept", error)),
                _ => entry.check().map(|()| entry.into_parts()),
            };
            for object in entry.iter().flatten().flat_map(Acceptance::objects) {
                if self.spool.takes(object.len()) { small.push(object) } else { large.push(object) }
            }
            checked.push(entry);
        }
        let large_keys: Vec<_> = large.iter().map(|object| object.key.clone()).collect();
        let put = if large.is_empty() { Vec::new() } else { self.bodies.put(large).await };
        let put = large_keys.into_iter().zip(put);
        let put = put.map(|(key, stored)| stored.map(|stored| Object { key, stored, spooled: None }));
        let (mut small, mut large) = (take(small).await.into_iter(), put);
        let mut entries = Vec::with_capacity(checked.len());
        for entry in checked {
            entries.push(match entry {
                Ok(entry) => self.with_objects(entry, &mut small, &mut large).await,
                Err(error) => Err(error),
            });
        }
        entries
    }

    /// Takes the objects of one entry; if one of them is missing, removes the others.
    async fn with_objects(
        &self,
        acceptances: Vec<Acceptance>,
        small: &mut (dyn Iterator<Item = Result<Object, StoreError>> + Send),
        large: &mut (dyn Iterator<Item = Result<Object, StoreError>> + Send),
    ) -> Result<Entry, StoreError> {
        let (mut parts, mut failure) = (Vec::with_capacity(acceptances.len()), None);
        for acceptance in acceptances {
            let mut objects = Vec::with_capacity(acceptance.messages.len());
            for message in &acceptance.messages {
                let object = if self.spool.takes(message.object_len()) { small.next() } else { large.next() };
                match object {
                    Some(Ok(object)) => objects.push(object),
                    Some(Err(error)) => failure = failure.or(Some(error)),
                    None => {
                        let lost = StoreError::new(StoreErrorKind::Unavailable, "accept", "the writer was interrupted");
                        failure = failure.or(Some(lost));
                    }
                }
            }
            parts.push(Part { acceptance, objects });
        }
        let entry = Entry { parts };
        match failure {
            None => Ok(entry),
            Some(error) => {
                self.discard(entry.into_objects()).await;
                Err(error)
            }
        }
    }

    /// Writes entries in one transaction or, if one of them is bad, in another one by one; one answer for
    /// each.
    async fn write(&self, entries: &[Entry]) -> Result<Vec<Result<(), StoreError>>, Failure> {
        match self.write_together(entries).await {
            Ok(()) => Ok(entries.iter().map(|_| Ok(())).collect()),
            // The disk or the database fails, not an entry: written one by one they would fare no better.
            Err(Failure::Before(error)) if !error.is_temporary() => match entries.len() {
                1 => Ok(vec![Err(error)]),
                _ => self.write_apart(entries).await,
            },
            Err(failure) => Err(failure),
        }
    }

    async fn write_together(&self, entries: &[Entry]) -> Result<(), Failure> {
        let mut transaction = self.begin(entries).await?;
        let all: Vec<_> = entries.iter().flat_map(|entry| &entry.parts).collect();
        if !all.iter().all(|part| part.is_plain()) {
            self.write_rows(&mut transaction, &all).await?;
            return self.commit(transaction, &all).await;
        }
        let changes = changes(&all);
        let written = async {
            let mut queries = match insert_plain(&mut transaction, &all, self.clock.now(), self.is_noted()).await {
                Ok(queries) => queries,
                Err(error) => return Ok(Err(Failure::Before(error))),
            };
            queries.extend(self.changes.messages(transaction.dialect(), &changes));
            Ok(transaction.execute_and_commit(queries).await.map_err(|error| {
                let error = unwritten(error);
                if error.is_temporary() { Failure::Commit(error) } else { Failure::Before(error) }
            }))
        };
        self.database.within(written).await.map_err(|error| Failure::Commit(failed("accept", "write")(error)))??;
        self.announce(changes, &all);
        Ok(())
    }

    /// A bad entry fails alone.
    async fn write_apart(&self, entries: &[Entry]) -> Result<Vec<Result<(), StoreError>>, Failure> {
        let mut transaction = self.begin(entries).await?;
        let (mut answers, mut accepted) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for entry in entries {
            self.run(&mut transaction, "SAVEPOINT entry").await?;
            let parts: Vec<_> = entry.parts.iter().collect();
            match self.write_rows(&mut transaction, &parts).await {
                Err(Failure::Before(error)) if !error.is_temporary() => {
                    self.run(&mut transaction, "ROLLBACK TO entry").await?;
                    answers.push(Err(error));
                }
                written => {
                    written?;
                    accepted.extend(parts);
                    answers.push(Ok(()));
                }
            }
            self.run(&mut transaction, "RELEASE entry").await?;
        }
        self.commit(transaction, &accepted).await?;
        Ok(answers)
    }

    async fn begin(&self, entries: &[Entry]) -> Result<Transaction, Failure> {
        let tenants: BTreeSet<_> = entries.iter().flat_map(Entry::tenants).collect();
        let tenants: Vec<_> = tenants.into_iter().collect();
        self.database.begin(Scope::Tenants(&tenants)).await.map_err(before("begin"))
    }

    async fn run(&self, transaction: &mut Transaction, statement: &'static str) -> Result<(), Failure> {
        let run = self.database.within(transaction.execute(Query::new(statement))).await;
        run.map(drop).map_err(before("write"))
    }

    async fn write_rows(&self, transaction: &mut Transaction, parts: &[&Part]) -> Result<(), Failure> {
        let written = async { Ok(write_rows(transaction, parts, self.clock.now(), self.is_noted()).await) };
        let written = self.database.within(written).await.map_err(before("write"))?;
        written.map_err(Failure::Before)
    }

    /// Commits what was written of these, and tells everybody of it.
    async fn commit(&self, mut transaction: Transaction, parts: &[&Part]) -> Result<(), Failure> {
        let changes = changes(parts);
        let told = self.changes.messages(transaction.dialect(), &changes);
        self.database.within(transaction.execute_all(told)).await.map_err(before("notify"))?;
        let committed = self.database.within(transaction.commit()).await;
        committed.map_err(|error| Failure::Commit(failed("accept", "commit")(error)))?;
        self.announce(changes, parts);
        Ok(())
    }

    fn announce(&self, changes: Vec<Change>, parts: &[&Part]) {
        changes.into_iter().for_each(|change| self.changes.announce(change));
        if parts.iter().any(|part| !part.objects.is_empty()) {
            self.changes.search.bump();
        }
    }

    /// Whether a search index is to learn of messages.
    fn is_noted(&self) -> bool {
        !matches!(self.search, Search::Off)
    }

    async fn discard(&self, orphans: Vec<Object>) {
        for Object { key, .. } in orphans.into_iter().filter(|object| object.spooled.is_none()) {
            if let Err(error) = self.bodies.delete(&key).await {
                tracing::warn!(key, %error, "an orphaned body could not be removed");
            }
        }
    }
}

impl Entry {
    fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.parts.iter().map(|part| part.acceptance.tenant)
    }

    fn objects(&self) -> impl Iterator<Item = &Object> {
        self.parts.iter().flat_map(|part| &part.objects)
    }

    fn into_objects(self) -> Vec<Object> {
        self.parts.into_iter().flat_map(|part| part.objects).collect()
    }
}

impl Part {
    /// Whether there are rows to insert and nothing else: no body that would have to be removed again, no
    /// row that has to be read first.
    fn is_plain(&self) -> bool {
        let Acceptance { attempts, completes, suppressions, .. } = &self.acceptance;
        attempts.is_empty()
            && completes.is_none()
            && suppressions.is_empty()
            && self.objects.iter().all(|object| object.spooled.is_some())
    }
}

impl Row<'_> {
    fn folder(&self) -> (TenantId, MailboxId, &'static str) {
        (self.tenant, self.place.mailbox, self.place.folder.as_str())
    }
}

impl Object {
    fn spooled_bytes(&self) -> Option<u64> {
        self.spooled.as_ref().map(|bytes| bytes.len() as u64)
    }
}

/// Reads small objects into memory and takes their checksums.
async fn take(objects: Vec<NewObject>) -> Vec<Result<Object, StoreError>> {
    let is_quick = objects.iter().all(|object| object.body.in_memory().is_some())
        && objects.iter().map(NewObject::len).sum::<u64>() <= HASH_HERE;
    let work = move || objects.into_iter().map(take_one).collect::<Vec<_>>();
    if is_quick {
        return work();
    }
    let taken = tokio::task::spawn_blocking(work).await;
    taken.unwrap_or_else(|error| vec![Err(interrupted("accept", error))])
}

fn take_one(object: NewObject) -> Result<Object, StoreError> {
    let NewObject { key, prefix, body } = object;
    let read = || -> io::Result<Bytes> {
        let body = body.read_all()?;
        Ok(if prefix.is_empty() { body } else { [&prefix[..], &body[..]].concat().into() })
    };
    let bytes = read().map_err(|error| io_error("accept", &key, error))?;
    let stored = StoredObject { size: bytes.len() as u64, sha256: digest_of_all(&bytes) };
    Ok(Object { key, stored, spooled: Some(bytes) })
}

/// What these change, each named once.
fn changes(parts: &[&Part]) -> Vec<Change> {
    let (mut tenants, mut queue) = (BTreeSet::new(), false);
    for entry in parts.iter().map(|part| &part.acceptance) {
        if entry.changes_messages() {
            tenants.insert(entry.tenant);
        }
        queue |= !entry.jobs.is_empty();
    }
    tenants.into_iter().map(Change::Messages).chain(queue.then_some(Change::Queue)).collect()
}

/// A failure of the database before anything was committed.
fn before(context: &'static str) -> impl FnOnce(sqlx::Error) -> Failure {
    move |error| Failure::Before(failed("accept", context)(error))
}

/// What an error means that came when rows were inserted.
fn unwritten(error: sqlx::Error) -> StoreError {
    let violated = error.as_database_error().filter(|error| error.kind() == ErrorKind::NotNullViolation);
    if violated.is_some_and(|error| error.message().contains("folder_id")) {
        return StoreError::new(StoreErrorKind::NotFound, "accept", "the mailbox").with_source(error);
    }
    failed("accept", "write")(error)
}

/// Writes what tenants get; `noted` says whether a search index is to learn of them.
async fn write_rows(
    transaction: &mut Transaction,
    parts: &[&Part],
    now: Timestamp,
    noted: bool,
) -> Result<(), StoreError> {
    let queries = insert_rows(transaction, parts, now, noted).await?;
    transaction.execute_all(queries).await.map_err(unwritten)?;
    for part in parts {
        let mut moved = HashSet::new();
        for attempt in &part.acceptance.attempts {
            moved.extend(insert_attempt(transaction, part.acceptance.tenant, attempt).await?);
        }
        for message in moved {
            settle(transaction, part.acceptance.tenant, message).await?;
        }
        transaction
            .execute_all(insert_suppressions(part.acceptance.tenant, &part.acceptance.suppressions))
            .await
            .map_err(failed("accept", "suppress addresses"))?;
        if let Some(lease) = &part.acceptance.completes {
            transaction.execute(complete_job(lease)).await.map_err(failed("accept", lease.job))?;
        }
    }
    // Mailboxes come last: whoever deletes a message locks its folder before its mailbox.
    let queries = add_to_use(transaction, parts).await?;
    transaction.execute_all(queries).await.map_err(failed("accept", "count the use of mailboxes"))?;
    transaction.execute_all(events(parts)).await.map_err(failed("accept", "add events"))
}

/// The statements that tell what happened. The last ones: from the first of them to the commit nobody else tells
/// of something for the same tenants, so that events become visible in their order.
fn events(parts: &[&Part]) -> Vec<Query> {
    insert_events(parts.iter().map(|part| (part.acceptance.tenant, part.acceptance.events.as_slice())))
}

/// The statements that write what has no attempts.
async fn insert_plain(
    transaction: &mut Transaction,
    parts: &[&Part],
    now: Timestamp,
    noted: bool,
) -> Result<Vec<Query>, StoreError> {
    let mut queries = insert_rows(transaction, parts, now, noted).await?;
    queries.extend(add_to_use(transaction, parts).await?);
    queries.extend(events(parts));
    Ok(queries)
}

/// The statements that insert all of it but the attempts, and leave the use of mailboxes as it is.
async fn insert_rows(
    transaction: &mut Transaction,
    parts: &[&Part],
    now: Timestamp,
    noted: bool,
) -> Result<Vec<Query>, StoreError> {
    let rows: Vec<_> = parts.iter().flat_map(|part| rows(part)).collect();
    let mut queries = Vec::new();
    if !rows.is_empty() {
        queries.extend(insert_messages(transaction, &rows).await?);
        queries.extend(spool_bodies(parts, now));
        if noted {
            queries.extend(insert_notes(rows.iter().map(|row| (row.tenant, row.place.id))));
        }
    }
    let recipients = parts.iter().flat_map(|part| {
        let tenant = part.acceptance.tenant;
        part.acceptance.recipients.iter().map(move |recipient| (tenant, recipient))
    });
    queries.extend(insert_recipients(recipients, now));
    queries.extend(insert_jobs(parts.iter().flat_map(|part| &part.acceptance.jobs), now));
    Ok(queries)
}

fn rows(part: &Part) -> impl Iterator<Item = Row<'_>> {
    let tenant = part.acceptance.tenant;
    part.acceptance.messages.iter().zip(&part.objects).flat_map(move |(message, object)| {
        message.placements.iter().map(move |place| Row { tenant, message, object, place })
    })
}

/// The statements that take places for messages, and insert them there.
async fn insert_messages(transaction: &mut Transaction, rows: &[Row<'_>]) -> Result<Vec<Query>, StoreError> {
    let mut places: BTreeMap<(TenantId, MailboxId, &str), i64> = BTreeMap::new();
    for row in rows {
        *places.entry(row.folder()).or_default() += 1;
    }
    if transaction.dialect() == Dialect::Postgres && places.len() > 1 {
        lock_in_order(transaction, statement::message::LOCK_FOLDERS, &places).await?;
    }
    let (head, tail) = statement::message::TAKE_PLACES;
    let mut updates = Rows::new(head, 4, tail);
    for ((tenant, mailbox, folder), count) in &places {
        updates.bind(tenant.as_bytes()).bind(mailbox.as_bytes()).bind(*folder).bind(*count);
    }
    // Threads of this batch: what is answered may have come in the same one.
    let mut threads: HashMap<(MailboxId, &str), MessageId> = HashMap::new();
    let (head, tail) = statement::message::INSERT_MESSAGES;
    let mut inserts = Rows::new(head, 35, tail);
    for row in rows {
        let Row { tenant, message, place, .. } = row;
        let thread = match find_thread(transaction, *tenant, place.mailbox, message).await? {
            Some(thread) => thread,
            None => message.ancestors().find_map(|id| threads.get(&(place.mailbox, id))).copied().unwrap_or(place.id),
        };
        if let Some(id) = &message.content.message_id {
            threads.entry((place.mailbox, id)).or_insert(thread);
        }
        let left = places.entry(row.folder()).or_default();
        bind_message(&mut inserts, row, *left, thread);
        *left -= 1;
    }
    let mut queries = updates.queries();
    queries.extend(inserts.queries());
    queries.extend(rows.iter().flat_map(|row| insert_marks(row.tenant, row.place.id, &row.message.marks)));
    Ok(queries)
}

/// `places`: how many places there are from that of the message to the last one that was taken.
fn bind_message(inserts: &mut Rows, row: &Row<'_>, places: i64, thread: MessageId) {
    let Row { tenant, message, object, place } = row;
    let content = &message.content;
    inserts
        .bind(tenant.as_bytes())
        .bind(place.id.as_bytes())
        .bind(place.mailbox.as_bytes())
        .bind(place.folder.as_str())
        .bind(places)
        .bind(place.direction.as_str())
        .bind(place.status.as_str())
        .bind(codec::sender(&message.sender))
        .bind(place.address.to_string())
        .bind(object.key.as_str())
        .bind(object.stored.size)
        .bind(&object.stored.sha256)
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
        .bind(message.spam.map(|spam| spam.verdict.as_str()))
        .bind(message.fingerprint.as_ref())
        .bind(message.arrival.as_deref())
        .bind(message.tls.as_str())
        .bind(codec::texts(changed_flags(&[], &message.marks.flags, &[]).iter().map(String::as_str)));
}

/// Several servers may write to the same folders; whoever locks them in the same order does not wait
/// for another that waits for it.
async fn lock_in_order(
    transaction: &mut Transaction,
    (head, tail): (&'static str, &'static str),
    folders: &BTreeMap<(TenantId, MailboxId, &str), i64>,
) -> Result<(), StoreError> {
    let mut locks = Rows::new(head, 3, tail);
    for (tenant, mailbox, folder) in folders.keys() {
        locks.bind(tenant.as_bytes()).bind(mailbox.as_bytes()).bind(*folder);
    }
    for query in locks.queries() {
        transaction.fetch_all(query).await.map_err(failed("accept", "lock folders"))?;
    }
    Ok(())
}

/// The thread of the oldest message of the mailbox that this one answers or continues.
async fn find_thread(
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

/// The statements that count the sizes of messages that came into mailboxes.
async fn add_to_use(transaction: &mut Transaction, parts: &[&Part]) -> Result<Vec<Query>, StoreError> {
    let mut sizes: BTreeMap<(TenantId, MailboxId), u64> = BTreeMap::new();
    for row in parts.iter().flat_map(|part| rows(part)) {
        *sizes.entry((row.tenant, row.place.mailbox)).or_default() += row.object.stored.size;
    }
    if transaction.dialect() == Dialect::Postgres && sizes.len() > 1 {
        let folders = sizes.keys().map(|(tenant, mailbox)| ((*tenant, *mailbox, ""), 0)).collect();
        lock_in_order(transaction, statement::message::LOCK_MAILBOXES, &folders).await?;
    }
    let (head, tail) = statement::message::ADD_TO_USE;
    let mut updates = Rows::new(head, 3, tail);
    for ((tenant, mailbox), size) in sizes {
        updates.bind(tenant.as_bytes()).bind(mailbox.as_bytes()).bind(size);
    }
    Ok(updates.queries())
}

fn spool_bodies(parts: &[&Part], now: Timestamp) -> Vec<Query> {
    let mut inserts = Rows::to_insert(statement::spool::INSERT, 4);
    for part in parts {
        for object in &part.objects {
            if let Some(bytes) = &object.spooled {
                inserts.bind(part.acceptance.tenant.as_bytes()).bind(object.key.as_str()).bind(now).bind(bytes.clone());
            }
        }
    }
    inserts.queries()
}
