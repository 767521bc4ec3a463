//! Cases for [`MessageStore`](crate::MessageStore).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::{join_all, select};
use mairust_core::{EnvelopeId, MailboxId, MessageDsn, MessageId, Return, ReversePath, Timestamp, TlsWish};
use serde_json::{Value, json};

use super::sample::{
    NOW, PREFIX, Person, Storage, accept, alice, entry, id, job, kind, message, nothing, outgoing, person, place,
    queue_stats, stored,
};
use crate::error::StoreErrorKind;
use crate::mark::{Marks, Metadata, MetadataChange};
use crate::message::{
    Direction, Folder, MessageChange, MessagePosition, MessageQuery, MessageRow, MessageStatus, Spam, SpamVerdict,
};

const RAW: &str = "From: Bob <bob@remote.example>\r\nTo: alice@a.example\r\nSubject: Hello\r\n\
    Message-ID: <one@remote.example>\r\nDate: Sat, 22 Nov 2025 03:04:06 +0000\r\n\r\nHow are you?\r\n";

/// Every column of a row, and the body with its prefix.
pub async fn reads_back_what_was_accepted(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let entry = entry(&alice, RAW);
    let id = id(&entry);
    accept(&storage, entry).await.unwrap();
    let row = storage.messages().get(alice.tenant, id).await.unwrap().unwrap();
    assert_eq!((row.id, row.tenant, row.mailbox, row.folder), (id, alice.tenant, alice.mailbox, Folder::Inbox));
    assert_eq!((row.uid, row.modseq, row.thread), (1, 1, id));
    assert_eq!((row.direction, row.status), (Direction::Inbound, MessageStatus::Stored));
    assert_eq!((row.sender.to_string().as_str(), &row.address), ("<sender@remote.example>", &alice.address));
    assert_eq!((row.subject.as_deref(), row.message_id.as_deref()), (Some("Hello"), Some("one@remote.example")));
    assert_eq!((row.from[0].name.as_deref(), row.from[0].address.as_str()), (Some("Bob"), "bob@remote.example"));
    assert_eq!((row.to[0].address.as_str(), row.cc.len()), ("alice@a.example", 0));
    assert_eq!((row.date, row.received_at), (Some(NOW), NOW));
    assert_eq!((row.preview.as_str(), row.attachments), ("How are you?", 0));
    assert!(row.flags.is_empty() && row.tags.is_empty());
    assert_eq!(row.object_key, format!("{}/{}/{id}.eml", alice.tenant, alice.mailbox));
    let body = stored(&storage, alice.tenant, id).await.unwrap();
    assert_eq!(body, format!("{PREFIX}{RAW}").into_bytes());
    assert_eq!(row.size, body.len() as u64);
    assert_eq!(list(&storage, &alice, &all()).await, [row]);
    assert_eq!(queue_stats(&storage, NOW).await.ready, 1);
}

/// One message to two mailboxes of a tenant is kept once and read from both.
pub async fn keeps_one_object_for_two_mailboxes(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let mut entry = entry(&alice, RAW);
    entry.messages[0].placements.push(place(&bob));
    let ids: Vec<_> = entry.messages[0].placements.iter().map(|place| place.id).collect();
    accept(&storage, entry).await.unwrap();
    let mut keys = BTreeSet::new();
    for id in ids {
        keys.insert(storage.messages().get(alice.tenant, id).await.unwrap().unwrap().object_key);
        assert!(stored(&storage, alice.tenant, id).await.unwrap().ends_with(RAW.as_bytes()));
    }
    assert_eq!(keys.len(), 1);
    assert_eq!(list(&storage, &bob, &MessageQuery { mailbox: Some(bob.mailbox), ..all() }).await.len(), 1);
}

/// What the server knows about a message besides the message itself.
pub async fn keeps_what_was_found_out(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (mut known, plain) = (entry(&alice, RAW), entry(&alice, RAW));
    let message = &mut known.messages[0];
    message.dsn = MessageDsn { ret: Some(Return::Headers), envelope_id: EnvelopeId::parse("QQ+2B314159") };
    message.auth_results = Some("{\"spf\":{\"result\":\"pass\"}}".to_owned());
    message.tls = TlsWish::Required;
    message.arrival = Some("{\"v\": 1, \"helo\": \"ü\"}".to_owned());
    message.spam = Some(Spam::new(-1.5, SpamVerdict::Ham));
    let mut odd = entry(&alice, RAW);
    odd.messages[0].tls = TlsWish::Relaxed;
    odd.messages[0].spam = Some(Spam::new(f64::NAN, SpamVerdict::Spam));
    let (expected, ids) = (known.messages[0].clone(), [id(&known), id(&plain), id(&odd)]);
    for answer in storage.messages().accept(vec![known, plain, odd]).await {
        answer.unwrap();
    }
    let mut rows = Vec::new();
    for id in ids {
        rows.push(storage.messages().get(alice.tenant, id).await.unwrap().unwrap());
    }
    assert_eq!(rows[0].dsn, expected.dsn);
    let wishes = [TlsWish::Required, TlsWish::AsDemanded, TlsWish::Relaxed];
    assert_eq!(rows.iter().map(|row| row.tls).collect::<Vec<_>>(), wishes);
    assert_eq!((&rows[0].auth_results, rows[0].spam), (&expected.auth_results, expected.spam));
    assert_eq!((&rows[1].dsn, rows[1].auth_results.as_deref(), rows[1].spam), (&MessageDsn::default(), None, None));
    assert_eq!((&rows[0].arrival, &rows[1].arrival), (&expected.arrival, &None));
    assert_eq!(rows[2].spam, Some(Spam::new(0.0, SpamVerdict::Spam)));
    assert!(list(&storage, &alice, &all()).await.contains(&rows[0]));
}

/// What tells transactions apart, of those that are recent.
pub async fn remembers_fingerprints(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (mut old, mut recent, plain) = (entry(&alice, RAW), entry(&alice, RAW), entry(&alice, RAW));
    old.messages[0].fingerprint = Some([1; 32]);
    recent.messages[0].fingerprint = Some([2; 32]);
    recent.messages[0].received_at = at(60);
    let second = place(&alice);
    let ids = [id(&recent), second.id];
    recent.messages[0].placements.push(second);
    for answer in storage.messages().accept(vec![old, recent, plain]).await {
        answer.unwrap();
    }
    let known = storage.messages().fingerprints(at(60)).await.unwrap();
    assert!(!known.is_empty() && known.iter().all(|(print, id)| *print == [2; 32] && ids.contains(id)), "{known:?}");
    assert!(
        storage.messages().fingerprints(NOW).await.unwrap().contains(&([1; 32], id_of_first(&storage, &alice).await))
    );
    assert!(storage.messages().fingerprints(at(61)).await.unwrap().is_empty());
}

async fn id_of_first(storage: &Storage, person: &Person) -> MessageId {
    list(storage, person, &all()).await.into_iter().min_by_key(|row| row.uid).unwrap().id
}

/// The null reverse-path, NUL characters (which may come back as U+FFFD from texts), quotes, bytes that are no UTF-8, an empty body.
pub async fn keeps_odd_content(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut odd = entry(&alice, "");
    let bytes = b"Subject: x\r\n\r\n\x00\xff\xfe\r\n".to_vec();
    odd.messages[0].body = bytes.clone().into();
    odd.messages[0].sender = ReversePath::Null;
    odd.messages[0].content.subject = Some("a\u{0}\"'\\%_ü".to_owned());
    odd.messages[0].content.preview = "\u{0}é".to_owned();
    let mut empty = entry(&alice, "");
    empty.messages[0].prefix = bytes::Bytes::new();
    let ids = [id(&odd), id(&empty)];
    for answer in storage.messages().accept(vec![odd, empty]).await {
        answer.unwrap();
    }
    let row = storage.messages().get(alice.tenant, ids[0]).await.unwrap().unwrap();
    let replaced = |text: &str| text.replace('\0', "\u{fffd}");
    assert_eq!((row.sender, row.subject.as_deref().map(replaced)), (ReversePath::Null, Some(replaced("a\0\"'\\%_ü"))));
    assert_eq!(replaced(&row.preview), replaced("\0é"));
    assert!(stored(&storage, alice.tenant, ids[0]).await.unwrap().ends_with(&bytes));
    assert!(stored(&storage, alice.tenant, ids[1]).await.unwrap().is_empty());
}

/// One answer for each entry, in order; a bad one takes no other with it.
pub async fn fails_a_bad_entry_alone(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let first = entry(&alice, RAW);
    let mut twice = entry(&alice, RAW);
    twice.messages[0].placements[0].id = id(&first);
    let mut nowhere = entry(&alice, RAW);
    nowhere.messages[0].placements.clear();
    let mut astray = entry(&alice, RAW);
    astray.messages[0].placements[0].mailbox = MailboxId::new(NOW);
    let last = entry(&alice, RAW);
    let good = BTreeSet::from([id(&first), id(&last)]);
    let answers = storage.messages().accept(vec![first, twice, nowhere, astray, last]).await;
    let kinds: Vec<_> = answers.into_iter().map(|answer| answer.err().map(|error| error.kind())).collect();
    let (exists, invalid, missing) = (StoreErrorKind::AlreadyExists, StoreErrorKind::Invalid, StoreErrorKind::NotFound);
    assert_eq!(kinds, [None, Some(exists), Some(invalid), Some(missing), None]);
    let rows = list(&storage, &alice, &all()).await;
    assert_eq!(rows.iter().map(|row| row.id).collect::<BTreeSet<_>>(), good);
    assert_eq!(queue_stats(&storage, NOW).await.ready, 2);
    for id in good {
        assert!(stored(&storage, alice.tenant, id).await.is_ok());
    }
}

/// An entry whose last part is bad leaves nothing behind, not even an object in the way of the
/// next try.
pub async fn shows_nothing_of_a_failed_entry(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let good = entry(&alice, RAW);
    let mut bad = good.clone();
    bad.messages.push(message(&alice, RAW));
    bad.messages[1].placements[0].mailbox = MailboxId::new(NOW);
    assert_eq!(kind(accept(&storage, bad).await), StoreErrorKind::NotFound);
    let mut doubled = good.clone();
    doubled.jobs.push(good.jobs[0].clone());
    assert_eq!(kind(accept(&storage, doubled).await), StoreErrorKind::AlreadyExists);
    let mut foreign = good.clone();
    foreign.jobs[0].tenant = mairust_core::TenantId::new(NOW);
    assert_eq!(kind(accept(&storage, foreign).await), StoreErrorKind::Invalid);
    assert!(list(&storage, &alice, &all()).await.is_empty());
    assert_eq!(queue_stats(&storage, NOW).await.ready, 0);
    let id = id(&good);
    accept(&storage, good).await.unwrap();
    assert_eq!(storage.messages().get(alice.tenant, id).await.unwrap().unwrap().uid, 1);
}

/// What several tenants get in one step is there for all of them, or for none; a large body, too.
pub async fn accepts_for_several_tenants_together(storage: Storage) {
    let (alice, carol) = (alice(&storage, "a.example").await, alice(&storage, "b.example").await);
    let mut good = entry(&alice, RAW);
    good.messages[0].fingerprint = Some([3; 32]);
    let mut other = entry(&carol, &format!("{RAW}{}", "x".repeat(2 << 20)));
    other.messages[0].fingerprint = Some([3; 32]);
    let ids = [id(&good), id(&other)];
    good.others = vec![other];
    let mut astray = good.clone();
    astray.others[0].messages[0].placements[0].mailbox = MailboxId::new(NOW);
    let beside = entry(&alice, RAW);
    let answers = storage.messages().accept(vec![astray, beside]).await;
    let kinds: Vec<_> = answers.into_iter().map(|answer| answer.err().map(|error| error.kind())).collect();
    assert_eq!(kinds, [Some(StoreErrorKind::NotFound), None]);
    assert_eq!(list(&storage, &alice, &all()).await.len(), 1);
    assert!(storage.messages().fingerprints(NOW).await.unwrap().is_empty());
    let mut twice = good.clone();
    twice.others[0].tenant = alice.tenant;
    let mut nested = good.clone();
    nested.others[0].others = vec![nothing(mairust_core::TenantId::new(NOW))];
    for wrong in [twice, nested] {
        assert_eq!(kind(accept(&storage, wrong).await), StoreErrorKind::Invalid);
    }
    accept(&storage, good.clone()).await.unwrap();
    for (person, id) in [&alice, &carol].into_iter().zip(ids) {
        assert!(storage.messages().get(person.tenant, id).await.unwrap().is_some());
        assert!(stored(&storage, person.tenant, id).await.unwrap().starts_with(PREFIX.as_bytes()));
    }
    assert!(storage.messages().get(alice.tenant, ids[1]).await.unwrap().is_none());
    assert_eq!(kind(accept(&storage, good).await), StoreErrorKind::AlreadyExists);
    assert_eq!(storage.messages().get(carol.tenant, ids[1]).await.unwrap().unwrap().uid, 1);
    assert_eq!(queue_stats(&storage, NOW).await.ready, 3);
}

/// The same id a second time is refused, and what is there stays.
pub async fn refuses_a_known_id(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let first = entry(&alice, RAW);
    let id = id(&first);
    let mut second = entry(&alice, "Subject: other\r\n\r\nother\r\n");
    second.messages[0].placements[0].id = id;
    accept(&storage, first).await.unwrap();
    assert_eq!(kind(accept(&storage, second).await), StoreErrorKind::AlreadyExists);
    assert!(stored(&storage, alice.tenant, id).await.unwrap().ends_with(RAW.as_bytes()));
    assert_eq!(list(&storage, &alice, &all()).await.len(), 1);
}

/// A future that is dropped at any point leaves a whole entry or none.
pub async fn accepts_whole_or_not_at_all_when_dropped(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut ids = Vec::new();
    for steps in 0..32 {
        let entry = outgoing(&alice, 1);
        ids.push(id(&entry));
        let accepting = storage.messages().accept(vec![entry]);
        let steps = async {
            for _ in 0..steps {
                tokio::task::yield_now().await;
            }
        };
        drop(select(accepting, Box::pin(steps)).await);
    }
    accept(&storage, entry(&alice, RAW)).await.unwrap();
    for id in ids {
        // Read in turns: the commit of a dropped call may still be under way.
        let before = storage.deliveries().recipients(alice.tenant, id).await.unwrap().len();
        let row = storage.messages().get(alice.tenant, id).await.unwrap();
        let after = storage.deliveries().recipients(alice.tenant, id).await.unwrap().len();
        assert!(before == 0 || row.is_some(), "a recipient without a message");
        assert!(row.is_none() || after == 1, "a message without its recipient");
        if row.is_some() {
            assert!(stored(&storage, alice.tenant, id).await.is_ok(), "a message without its body");
        }
    }
}

/// Many callers at once: everything arrives once, with its own uid.
pub async fn accepts_many_at_once(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let calls = (0..40).map(|_| accept(&storage, entry(&alice, RAW)));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    let rows = list(&storage, &alice, &all()).await;
    assert_eq!(rows.iter().map(|row| row.uid).collect::<BTreeSet<_>>(), (1..=40).collect());
    assert_eq!(queue_stats(&storage, NOW).await.ready, 40);
}

/// Uids ascend within each folder for itself.
pub async fn counts_uids_within_a_folder(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut found = Vec::new();
    for folder in [Folder::Inbox, Folder::Junk, Folder::Inbox] {
        let mut entry = entry(&alice, RAW);
        entry.messages[0].placements[0].folder = folder;
        let id = id(&entry);
        accept(&storage, entry).await.unwrap();
        let row = storage.messages().get(alice.tenant, id).await.unwrap().unwrap();
        found.push((row.folder, row.uid, row.modseq));
    }
    assert_eq!(found, [(Folder::Inbox, 1, 1), (Folder::Junk, 1, 1), (Folder::Inbox, 2, 2)]);
}

/// An answer joins the thread of what it answers, in the same mailbox only.
pub async fn joins_threads_within_a_mailbox(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let raw = [
        "Message-ID: <one@x>\r\n\r\n",
        "Message-ID: <two@x>\r\nIn-Reply-To: <one@x>\r\n\r\n",
        "Message-ID: <three@x>\r\nReferences: <lost@x> <two@x>\r\n\r\n",
    ];
    let (mut ids, mut threads) = (Vec::new(), Vec::new());
    for (to, raw) in raw.iter().map(|raw| (&alice, raw)).chain([(&bob, &raw[2])]) {
        let entry = entry(to, raw);
        let id = id(&entry);
        accept(&storage, entry).await.unwrap();
        ids.push(id);
        threads.push(storage.messages().get(alice.tenant, id).await.unwrap().unwrap().thread);
    }
    assert_eq!(threads, [ids[0], ids[0], ids[0], ids[3]]);
}

/// Several messages at once, in the order asked for; what is not there is left out.
pub async fn reads_several_at_once(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let entries: Vec<_> = (0..5).map(|_| entry(&alice, RAW)).collect();
    let mut ids: Vec<_> = entries.iter().map(id).collect();
    for answer in storage.messages().accept(entries).await {
        answer.unwrap();
    }
    ids.swap(0, 3);
    let mut named = ids.clone();
    named.insert(2, MessageId::new(NOW));
    let rows = storage.messages().get_all(alice.tenant, &named).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids);
    assert_eq!(Some(&rows[1]), storage.messages().get(alice.tenant, ids[1]).await.unwrap().as_ref());
    assert!(storage.messages().get_all(alice.tenant, &[]).await.unwrap().is_empty());
}

/// Walking through pages meets every message once, in order, whatever comes in meanwhile.
pub async fn pages_are_stable(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut expected = Vec::new();
    for number in 0..7 {
        // Some are received at the same moment.
        let received_at = at(number / 3);
        let mut entry = entry(&alice, RAW);
        entry.messages[0].received_at = received_at;
        expected.push((received_at, id(&entry)));
        accept(&storage, entry).await.unwrap();
    }
    expected.sort_unstable();
    expected.reverse();
    let (mut found, mut query) = (Vec::new(), MessageQuery { limit: 3, ..all() });
    loop {
        let page = storage.messages().list(alice.tenant, &query).await.unwrap();
        found.extend(page.items.iter().map(|row| (row.received_at, row.id)));
        assert!(page.items.len() <= 3);
        if !page.has_more {
            break;
        }
        query.after = page.items.last().map(|row| MessagePosition { received_at: row.received_at, id: row.id });
        let mut newer = entry(&alice, RAW);
        newer.messages[0].received_at = at(100);
        accept(&storage, newer).await.unwrap();
    }
    assert_eq!(found, expected);
    assert!(list(&storage, &alice, &MessageQuery { limit: 0, ..all() }).await.is_empty());
    let exact = storage.messages().list(alice.tenant, &MessageQuery { limit: 9, ..all() }).await.unwrap();
    assert_eq!((exact.items.len(), exact.has_more), (9, false));
}

/// Each condition of a query by itself, and two together.
pub async fn filters(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let (inbound, outbound) = (entry(&alice, RAW), outgoing(&alice, 1));
    let mut junk = entry(&bob, RAW);
    junk.messages[0].placements[0].folder = Folder::Junk;
    junk.messages[0].received_at = at(1);
    let [a, b, c] = [id(&inbound), id(&outbound), id(&junk)];
    for answer in storage.messages().accept(vec![inbound, outbound, junk]).await {
        answer.unwrap();
    }
    let cases = [
        (MessageQuery { mailbox: Some(alice.mailbox), ..all() }, vec![a, b]),
        (MessageQuery { folder: Some(Folder::Junk), ..all() }, vec![c]),
        (MessageQuery { mailbox: Some(alice.mailbox), folder: Some(Folder::Inbox), ..all() }, vec![a]),
        (MessageQuery { mailbox: Some(bob.mailbox), folder: Some(Folder::Inbox), ..all() }, vec![]),
        (MessageQuery { mailbox: Some(MailboxId::new(NOW)), ..all() }, vec![]),
        (MessageQuery { direction: Some(Direction::Outbound), ..all() }, vec![b]),
        (MessageQuery { status: Some(MessageStatus::Queued), ..all() }, vec![b]),
        (MessageQuery { since: Some(at(1)), ..all() }, vec![c]),
        (MessageQuery { until: Some(at(1)), ..all() }, vec![a, b]),
    ];
    for (query, expected) in cases {
        let found: BTreeSet<_> = list(&storage, &alice, &query).await.iter().map(|row| row.id).collect();
        assert_eq!(found, expected.into_iter().collect(), "{query:?}");
    }
}

/// Texts match anywhere, whatever the case, and hold no wildcards.
pub async fn finds_text_as_it_is(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let raw = "From: =?utf-8?q?=C3=89mile?= <E@remote.example>\r\nTo: list@x.example\r\nCc: Carol <c@x.example>\r\n\
        Subject: 100%_SALE \\o/\r\n\r\n";
    accept(&storage, entry(&alice, raw)).await.unwrap();
    let text = |text: &str| Some(text.to_owned());
    let found = [
        MessageQuery { from: text("éMILE"), ..all() },
        MessageQuery { from: text("e@REMOTE"), ..all() },
        MessageQuery { to: text("LIST@"), ..all() },
        MessageQuery { to: text("carol"), ..all() },
        MessageQuery { to: text("Alice@A"), ..all() },
        MessageQuery { subject: text("100%_sale"), ..all() },
        MessageQuery { subject: text("\\O/"), ..all() },
        MessageQuery { subject: text(""), ..all() },
    ];
    for query in found {
        assert_eq!(list(&storage, &alice, &query).await.len(), 1, "{query:?}");
    }
    let long = "x".repeat(100_000);
    for missing in ["10%_sale", "1__%", "'", "100%%", long.as_str()] {
        let query = MessageQuery { subject: text(missing), ..all() };
        assert!(list(&storage, &alice, &query).await.is_empty(), "{missing:.20}");
    }
}

/// Tags are sorted, each is there once, and only a real change is counted.
pub async fn adds_tags_once(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let entry = entry(&alice, RAW);
    let id = id(&entry);
    accept(&storage, entry).await.unwrap();
    let change = MessageChange::tags(["b", "a", "b"]);
    for _ in 0..2 {
        storage.messages().change(alice.tenant, id, &change).await.unwrap();
        let row = storage.messages().get(alice.tenant, id).await.unwrap().unwrap();
        assert_eq!((row.tags, row.modseq), (vec!["a".to_owned(), "b".to_owned()], 2));
    }
    let unknown = storage.messages().change(alice.tenant, MessageId::new(NOW), &change).await;
    assert_eq!(kind(unknown), StoreErrorKind::NotFound);
}

/// Marks are there from the beginning, each once.
pub async fn puts_marks_on_what_is_accepted(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut entry = entry(&alice, RAW);
    let id = id(&entry);
    let metadata = vec![keeps("spam", "model", json!({"v": [3, "三"]})), keeps("echo", "n", json!(1))];
    entry.messages[0].marks =
        Marks { tags: texts(["b", "a", "b"]), flags: texts(["\\Seen", "\\Flagged"]), metadata: metadata.clone() };
    accept(&storage, entry).await.unwrap();
    let row = storage.messages().get(alice.tenant, id).await.unwrap().unwrap();
    assert_eq!((row.tags, row.flags, row.modseq), (texts(["a", "b"]), texts(["\\Flagged", "\\Seen"]), 1));
    let kept = storage.messages().metadata(alice.tenant, id).await.unwrap();
    assert_eq!(kept, [metadata[1].clone(), metadata[0].clone()]);
}

/// Only what differs is a change; what is kept is no change that others see.
pub async fn changes_marks(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let mut entry = entry(&alice, RAW);
    let id = id(&entry);
    entry.messages[0].marks.tags = texts(["old"]);
    accept(&storage, entry).await.unwrap();
    let messages = storage.messages();
    let change = MessageChange {
        add_tags: texts(["new"]),
        remove_tags: texts(["old", "none"]),
        add_flags: texts(["\\Seen"]),
        remove_flags: texts(["\\Draft"]),
        ..MessageChange::default()
    };
    for _ in 0..2 {
        messages.change(alice.tenant, id, &change).await.unwrap();
        let row = messages.get(alice.tenant, id).await.unwrap().unwrap();
        assert_eq!((row.tags, row.flags, row.modseq), (texts(["new"]), texts(["\\Seen"]), 2));
    }
    let keep = |value| MetadataChange::Keep(keeps("echo", "n", value));
    let forget = |key: &str| MetadataChange::Forget { owner: "echo".to_owned(), key: key.to_owned() };
    for (metadata, expected) in [
        (vec![keep(json!(1)), keep(json!(null)), forget("m")], vec![keeps("echo", "n", json!(null))]),
        (vec![forget("n")], vec![]),
    ] {
        let change = MessageChange { metadata, ..MessageChange::default() };
        messages.change(alice.tenant, id, &change).await.unwrap();
        assert_eq!(messages.metadata(alice.tenant, id).await.unwrap(), expected);
        assert_eq!(messages.get(alice.tenant, id).await.unwrap().unwrap().modseq, 2);
        assert_eq!(messages.metadata(other.tenant, id).await.unwrap(), []);
    }
}

/// A message that is moved takes the next place in its new folder, and both folders have changed.
pub async fn moves_messages(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (first, second) = (entry(&alice, RAW), entry(&alice, RAW));
    let ids = [id(&first), id(&second)];
    accept(&storage, first).await.unwrap();
    accept(&storage, second).await.unwrap();
    let messages = storage.messages();
    let (folder, status) = (Some(Folder::Quarantine), Some(MessageStatus::Quarantined));
    let change = MessageChange { folder, status, ..MessageChange::default() };
    for (id, uid) in ids.into_iter().zip(1..) {
        for _ in 0..2 {
            messages.change(alice.tenant, id, &change).await.unwrap();
            let row = messages.get(alice.tenant, id).await.unwrap().unwrap();
            assert_eq!((row.folder, row.status, row.uid), (Folder::Quarantine, MessageStatus::Quarantined, uid));
        }
    }
    let third = entry(&alice, RAW);
    let id = id(&third);
    accept(&storage, third).await.unwrap();
    let row = messages.get(alice.tenant, id).await.unwrap().unwrap();
    assert_eq!((row.folder, row.uid, row.modseq), (Folder::Inbox, 3, 5), "two came, two went");
}

fn keeps(owner: &str, key: &str, value: Value) -> Metadata {
    Metadata { owner: owner.to_owned(), key: key.to_owned(), value }
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// Who waits is woken by an acceptance and by a change, not by another tenant's mail.
pub async fn wakes_who_waits_for_messages(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let messages = storage.messages();
    let (seen, seen_by_other) = (messages.version(alice.tenant), messages.version(other.tenant));
    let entry = entry(&alice, RAW);
    let id = id(&entry);
    let (woken, accepted) = futures::join!(messages.changed(alice.tenant, seen), accept(&storage, entry));
    accepted.unwrap();
    assert!(woken > seen);
    assert_eq!(messages.changed(alice.tenant, seen).await, messages.version(alice.tenant));
    assert_eq!(messages.version(other.tenant), seen_by_other);
    let seen = messages.version(alice.tenant);
    let change = MessageChange::tags(["x"]);
    let (woken, changed) =
        futures::join!(messages.changed(alice.tenant, seen), messages.change(alice.tenant, id, &change));
    changed.unwrap();
    assert!(woken > seen);
}

/// Every method with a tenant argument, tried by another tenant.
pub async fn hides_messages_from_other_tenants(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let own = entry(&alice, RAW);
    let id = id(&own);
    accept(&storage, own).await.unwrap();
    let messages = storage.messages();
    assert!(messages.get(other.tenant, id).await.unwrap().is_none());
    assert!(messages.get_all(other.tenant, &[id]).await.unwrap().is_empty());
    let by_mailbox = MessageQuery { mailbox: Some(alice.mailbox), folder: Some(Folder::Inbox), ..all() };
    for query in [all(), by_mailbox] {
        assert!(list(&storage, &other, &query).await.is_empty());
    }
    assert_eq!(kind(messages.body(other.tenant, id).await), StoreErrorKind::NotFound);
    let change = MessageChange::tags(["x"]);
    assert_eq!(kind(messages.change(other.tenant, id, &change).await), StoreErrorKind::NotFound);
    let mut into_foreign_mailbox = entry(&alice, RAW);
    into_foreign_mailbox.tenant = other.tenant;
    into_foreign_mailbox.jobs = vec![job(other.tenant, NOW)];
    assert_eq!(kind(accept(&storage, into_foreign_mailbox).await), StoreErrorKind::NotFound);
    let rows = list(&storage, &alice, &all()).await;
    assert_eq!((rows.len(), rows[0].tags.len()), (1, 0));
    assert!(accept(&storage, nothing(other.tenant)).await.is_ok());
    assert_eq!(messages.version(other.tenant), 0);
}

fn all() -> MessageQuery {
    MessageQuery { limit: 100, ..MessageQuery::default() }
}

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

async fn list(storage: &Storage, person: &Person, query: &MessageQuery) -> Vec<MessageRow> {
    storage.messages().list(person.tenant, query).await.unwrap().items
}
