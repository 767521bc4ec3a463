//! Cases for [`SearchIndex`](crate::SearchIndex) and [`SearchOutbox`](crate::SearchOutbox).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::collections::BTreeSet;
use std::time::Duration;

use mairust_core::{MessageId, SearchText, TenantId, Timestamp};

use super::sample::{NOW, Person, Storage, accept, alice, entry, id, outgoing, person, place};
use crate::message::{Acceptance, Folder, MessageChange, MessagePosition, MessageStatus, Spam, SpamVerdict};
use crate::search::feed::feed;
use crate::search::parse::{MAX_DEPTH, MAX_TERMS};
use crate::search::{SearchDocument, SearchQuery, SearchRequest, UnindexedMessage, matches};

const TTL: Duration = Duration::from_secs(60);

/// Each field by itself, and a text without a field.
pub async fn finds_words_in_every_field(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let invoice = keep(
        &storage,
        entry(
            &alice,
            "From: Tanaka Taro <t.tanaka@mail.example.co.jp>\r\nTo: Alice <alice@a.example>\r\n\
             Cc: sales@example.net\r\nSubject: Invoice INV-2026-00123\r\n\
             Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nPlease pay the amount by Friday.\r\n\
             --b\r\nContent-Disposition: attachment; filename=\"bill.pdf\"\r\n\r\nx\r\n--b--\r\n",
        ),
    )
    .await;
    let other =
        keep(&storage, entry(&alice, "From: Sato <sato@b.example>\r\nSubject: Lunch\r\n\r\non friday?\r\n")).await;
    let cases: [(&str, &[MessageId]); 21] = [
        ("from:tanaka", &[invoice]),
        ("FROM:TANAKA", &[invoice]),
        ("from:example.co.jp", &[invoice]),
        ("from:\"tanaka taro\"", &[invoice]),
        ("from:\"taro tanaka\"", &[]),
        ("to:alice", &[other, invoice]),
        ("to:sales", &[invoice]),
        ("cc:sales", &[invoice]),
        ("cc:alice", &[]),
        ("subject:inv-2026-00123", &[invoice]),
        ("subject:friday", &[]),
        ("body:friday", &[other, invoice]),
        ("body:\"the amount\"", &[invoice]),
        ("body:invoice", &[]),
        ("filename:bill.pdf", &[invoice]),
        ("bill", &[]),
        ("friday", &[other, invoice]),
        ("lunch", &[other]),
        ("sato@b.example", &[other]),
        ("00123", &[invoice]),
        ("nothing", &[]),
    ];
    agree(&storage, &alice, &cases).await;
}

/// Words of a language that puts no spaces between them, in every way that they are written.
pub async fn finds_japanese(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let raw = |subject: &str, body: &str| {
        let head = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8";
        entry(&alice, &format!("Subject: {subject}\r\n{head}\r\n\r\n{body}\r\n"))
    };
    let meeting = keep(&storage, raw("第3回会議のご案内", "東京都庁にて。請求\r\n書を持参")).await;
    let kana = keep(&storage, raw("ｶﾀｶﾅのﾃｽﾄ", "全角ＡＢＣ１２３と㈱田中")).await;
    let kyoto = keep(&storage, raw("京都と東京", "Kyoto 2026年11月")).await;
    let cases: [(&str, &[MessageId]); 14] = [
        ("会議", &[meeting]),
        ("subject:会議", &[meeting]),
        ("body:会議", &[]),
        ("請求書", &[meeting]),
        ("東京都", &[meeting]),
        ("京都", &[kyoto, meeting]),
        ("都", &[kyoto, meeting]),
        ("庁", &[meeting]),
        ("第3回", &[meeting]),
        ("カタカナ", &[kana]),
        ("ﾃｽﾄ", &[kana]),
        ("abc123と", &[kana]),
        ("株", &[kana]),
        ("２０２６年", &[kyoto]),
    ];
    agree(&storage, &alice, &cases).await;
}

/// What is known without looking at words, by itself and together with words.
pub async fn filters_what_it_finds(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let mut first = entry(&alice, "Message-ID: <one@x>\r\nFrom: a@example.co.jp\r\n\r\nreport one\r\n");
    first.messages[0].received_at = at(0);
    let mut spam = entry(
        &bob,
        "From: b@spam.example\r\nContent-Type: text/html\r\n\r\n<img src=\"http://x.test/\">report <b>two</b>\r\n",
    );
    spam.messages[0].received_at = at(10);
    spam.messages[0].spam = Some(Spam::new(9.5, SpamVerdict::Spam));
    spam.messages[0].placements[0].folder = Folder::Junk;
    let mut sent = outgoing(&alice, 1);
    sent.messages[0].received_at = at(20);
    sent.messages[0].body = format!("Subject: out\r\n\r\nreport {}\r\n", "x".repeat(4_000)).into_bytes().into();
    let attached = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nreport\r\n\
        --b\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--\r\n";
    let mut held = entry(&alice, attached);
    held.messages[0].received_at = at(30);
    held.messages[0].placements[0].status = MessageStatus::Quarantined;
    held.messages[0].placements[0].folder = Folder::Quarantine;
    let (first, spam, sent, held) = (
        keep(&storage, first).await,
        keep(&storage, spam).await,
        keep(&storage, sent).await,
        keep(&storage, held).await,
    );
    let change = MessageChange::tags(["to do"]);
    storage.messages().change(alice.tenant, sent, &change).await.unwrap();
    let cases: [(&str, &[MessageId]); 27] = [
        ("in:junk", &[spam]),
        ("in:inbox report", &[first]),
        ("-in:inbox report", &[held, sent, spam]),
        ("is:spam", &[spam]),
        ("-is:spam report", &[held, sent, first]),
        ("is:quarantined", &[held]),
        ("is:bounced", &[]),
        ("status:queued", &[sent]),
        ("tag:\"to do\"", &[sent]),
        ("tag:\"to do\" OR one", &[sent, first]),
        ("report -tag:\"to do\"", &[held, spam, first]),
        ("has:attachment", &[held]),
        ("has:html", &[spam]),
        ("has:remote report", &[spam]),
        ("-has:html", &[held, sent, first]),
        ("domain:example.co.jp", &[first]),
        ("domain:co.jp", &[]),
        ("domain:a.example", &[held, sent, spam, first]),
        ("msgid:<one@x>", &[first]),
        ("msgid:ONE@x", &[]),
        ("larger:2K", &[sent]),
        ("smaller:2K report", &[held, spam, first]),
        ("newer:15s", &[held, sent]),
        ("older:15s report", &[spam, first]),
        ("after:2025-11-22T03:04:26Z", &[held, sent]),
        ("before:2025-11-22T03:04:26Z", &[spam, first]),
        ("(is:spam OR one) -(has:html two)", &[first]),
    ];
    agree_at(&storage, &alice, &cases, at(30)).await;
    let in_mailbox = |mailbox| SearchRequest { mailbox: Some(mailbox), ..request("report") };
    assert_eq!(found(&storage, alice.tenant, &in_mailbox(bob.mailbox)).await, [spam]);
    assert_eq!(found(&storage, alice.tenant, &in_mailbox(alice.mailbox)).await, [held, sent, first]);
}

/// Many messages and many queries, all answered as looking at each message would answer.
pub async fn agrees_with_looking_at_each_message(storage: Storage) {
    const WORDS: [&str; 8] = ["a", "b", "会議", "議会", "会", "東京都", "x.jp", "7"];
    const TERMS: [&str; 14] = [
        "a",
        "b",
        "会議",
        "会",
        "京都",
        "\"a 会議\"",
        "subject:a",
        "body:b",
        "from:x.jp",
        "in:junk",
        "tag:t",
        "larger:300",
        "has:html",
        "older:5s",
    ];
    let alice = alice(&storage, "a.example").await;
    let mut random = 0x9E37_79B9_u64;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((random >> 33) % bound).unwrap()
    };
    let mut documents = Vec::new();
    for number in 0..40 {
        let mut text = || (0..below(5)).map(|_| WORDS[below(8)]).collect::<Vec<_>>().join(" ");
        let (subject, from, body) = (text(), text(), text());
        let kind = ["plain", "html"][below(2)];
        let raw = format!(
            "Subject: {subject}\r\nFrom: \"{from}\" <s@x.jp>\r\nContent-Type: text/{kind}; charset=utf-8\r\n\r\n{body}\r\n"
        );
        let mut entry = entry(&alice, &raw);
        entry.messages[0].received_at = at(number / 2);
        entry.messages[0].placements[0].folder = Folder::ALL[below(2)];
        let id = keep(&storage, entry).await;
        if below(3) == 0 {
            let change = MessageChange::tags(["t"]);
            storage.messages().change(alice.tenant, id, &change).await.unwrap();
        }
        let row = storage.messages().get(alice.tenant, id).await.unwrap().unwrap();
        documents.push(SearchDocument::new(row, SearchText::parse(raw.as_bytes())));
    }
    index(&storage, NOW).await;
    for _ in 0..150 {
        let mut term = || format!("{}{}", ["", "", "-"][below(3)], TERMS[below(14)]);
        let text = match (term(), term(), term()) {
            (one, two, three) if one.len() % 3 == 0 => format!("({one} {two}) OR {three}"),
            (one, two, three) if two.len() % 2 == 0 => format!("{one} OR {two} {three}"),
            (one, two, three) => format!("{one} -({two} OR {three})"),
        };
        let query: SearchQuery = text.parse().unwrap();
        let wanted = documents.iter().filter(|document| matches(&query, document, &document.words(), at(20)));
        let expected: BTreeSet<_> = wanted.map(|document| document.row.id).collect();
        let found = found(&storage, alice.tenant, &SearchRequest { now: at(20), ..request(&text) }).await;
        assert_eq!(found.len(), expected.len(), "{text}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{text}");
    }
}

/// Walking through pages meets every message once, the newest first, whatever comes in meanwhile.
pub async fn pages_of_hits_are_stable(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let mut expected = BTreeSet::new();
    for number in [5, 0, 3, 1, 4, 2] {
        let mut entry = entry(&alice, "\r\nreport\r\n");
        // Received at the same moment.
        entry.messages[0].placements.push(place(&bob));
        entry.messages[0].received_at = at(number);
        expected.extend(entry.messages[0].placements.iter().map(|place| (at(number), place.id)));
        keep(&storage, entry).await;
        index(&storage, NOW).await;
    }
    let mut walked: Vec<(Timestamp, MessageId)> = Vec::new();
    let mut request = SearchRequest { limit: 5, ..request("report") };
    loop {
        let page = storage.search_index().search(alice.tenant, &request).await.unwrap();
        assert!(page.items.len() <= 5);
        walked.extend(page.items.iter().map(|position| (position.received_at, position.id)));
        request.after = page.items.last().copied();
        if !page.has_more {
            break;
        }
        let mut newer = entry(&alice, "\r\nreport\r\n");
        newer.messages[0].received_at = at(100);
        keep(&storage, newer).await;
        index(&storage, NOW).await;
    }
    assert!(walked.is_sorted_by_key(|(received_at, _)| std::cmp::Reverse(*received_at)));
    assert_eq!(walked.len(), expected.len());
    assert_eq!(walked.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(found(&storage, alice.tenant, &SearchRequest { limit: 0, ..self::request("report") }).await.is_empty());
    let behind_all = SearchRequest {
        after: Some(MessagePosition { received_at: at(0), id: MessageId::from_bytes([0; 16]) }),
        ..self::request("report")
    };
    let rest = storage.search_index().search(alice.tenant, &behind_all).await.unwrap();
    // Where a position is no message, what was received at that moment may come once more.
    assert!(rest.items.iter().all(|position| position.received_at == at(0)) && !rest.has_more);
}

/// A document that comes again takes the place of the one before; what is removed is not found.
pub async fn replaces_and_removes_documents(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (one, two) =
        (keep(&storage, entry(&alice, "\r\nfirst\r\n")).await, keep(&storage, entry(&alice, "\r\nfirst\r\n")).await);
    index(&storage, NOW).await;
    let row = storage.messages().get(alice.tenant, one).await.unwrap().unwrap();
    let mut text = SearchText::default();
    text.body = "second".to_owned();
    for _ in 0..2 {
        storage.search_index().index(vec![SearchDocument::new(row.clone(), text.clone())]).await.unwrap();
    }
    assert_eq!(found(&storage, alice.tenant, &request("first")).await, [two]);
    assert_eq!(found(&storage, alice.tenant, &request("second")).await, [one]);
    for _ in 0..2 {
        storage.search_index().remove(alice.tenant, &[one, MessageId::new(NOW)]).await.unwrap();
    }
    assert!(found(&storage, alice.tenant, &request("second")).await.is_empty());
    storage.search_index().clear().await.unwrap();
    assert!(found(&storage, alice.tenant, &request("first")).await.is_empty());
    storage.search_index().index(Vec::new()).await.unwrap();
    storage.search_index().index(vec![SearchDocument::new(row, text)]).await.unwrap();
    assert_eq!(found(&storage, alice.tenant, &request("second")).await, [one]);
}

/// Messages that hold nothing, or much, or what is grammar to a database.
pub async fn indexes_odd_content(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let kind = "Content-Type: text/plain; charset=utf-8\r\n\r\n";
    let empty = keep(&storage, entry(&alice, "")).await;
    let quotes =
        keep(&storage, entry(&alice, &format!("{kind}\"a\" AND NEAR(b) c* 'd' {{e}} \u{0}f^ | & ! <-> %\r\n"))).await;
    let long =
        keep(&storage, entry(&alice, &format!("{kind}{} needle {}\r\n", "words ".repeat(20_000), "会".repeat(60_000))))
            .await;
    index(&storage, NOW).await;
    assert_eq!(found(&storage, alice.tenant, &request("to:alice")).await.len(), 3);
    for text in ["\"a AND near\"", "NEAR", "\"c d\"", "e", "f", "\"AND\"", "\"e f\""] {
        assert_eq!(found(&storage, alice.tenant, &request(text)).await, [quotes], "{text}");
    }
    for text in ["needle", "会会会", "\"words needle 会\""] {
        assert_eq!(found(&storage, alice.tenant, &request(text)).await, [long], "{text}");
    }
    assert_eq!(found(&storage, alice.tenant, &request("-body:needle -body:near")).await, [empty]);
    // As much as the grammar takes.
    let (many, deep) = (["needle"; MAX_TERMS].join(" OR "), format!("{}needle", "-".repeat(MAX_DEPTH)));
    let (all, mixed) = (["needle"; MAX_TERMS].join(" "), ["(needle OR tag:x)"; MAX_TERMS / 2].join(" "));
    for text in [many, all, deep, mixed] {
        assert_eq!(found(&storage, alice.tenant, &request(&text)).await, [long], "{text}");
    }
}

/// Every method with a tenant argument, tried by another tenant.
pub async fn hides_documents_from_other_tenants(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let own = keep(&storage, entry(&alice, "Message-ID: <one@x>\r\n\r\nsecret\r\n")).await;
    let foreign = keep(&storage, entry(&other, "\r\nother\r\n")).await;
    index(&storage, NOW).await;
    let in_mailbox = SearchRequest { mailbox: Some(alice.mailbox), ..request("secret") };
    assert!(found(&storage, other.tenant, &in_mailbox).await.is_empty());
    for text in [
        "secret",
        "-nothing",
        "secret OR -secret",
        "-(-secret)",
        "msgid:one@x",
        "domain:a.example",
        "in:inbox",
        "larger:0",
        "secret OR in:inbox",
        "-in:junk",
        "to:alice",
    ] {
        let found = found(&storage, other.tenant, &request(text)).await;
        assert!(found.is_empty() || found == [foreign], "{text}: {found:?}");
    }
    storage.search_index().remove(other.tenant, &[own]).await.unwrap();
    assert_eq!(found(&storage, alice.tenant, &request("secret")).await, [own]);
    assert!(found(&storage, TenantId::new(NOW), &request("secret OR other")).await.is_empty());
}

/// Accepting notes each copy of each message; settling removes the note.
pub async fn notes_what_was_accepted(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let seen = storage.search_outbox().version();
    let mut two = entry(&alice, "\r\nx\r\n");
    two.messages[0].placements.push(place(&bob));
    let expected: Vec<_> = two.messages[0].placements.iter().map(|place| (alice.tenant, place.id)).collect();
    let (woken, accepted) = futures::join!(storage.search_outbox().changed(seen), accept(&storage, two.clone()));
    accepted.unwrap();
    assert!(woken > seen);
    assert!(accept(&storage, two).await.is_err());
    assert_eq!(storage.search_outbox().pending().await.unwrap(), 2);
    let notes = claim(&storage, NOW, 10).await;
    let noted: Vec<_> = notes.iter().map(|note| (note.tenant, note.message)).collect();
    assert_eq!(noted, expected);
    storage.search_outbox().settle(&notes[..1]).await.unwrap();
    storage.search_outbox().settle(&notes[..1]).await.unwrap();
    assert_eq!(storage.search_outbox().pending().await.unwrap(), 1);
    storage.search_outbox().settle(&notes).await.unwrap();
    assert_eq!(storage.search_outbox().pending().await.unwrap(), 0);
}

/// A note goes to one caller at a time, and to the next one when its claim has ended.
pub async fn claims_a_note_once(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    for _ in 0..3 {
        keep(&storage, entry(&alice, "\r\nx\r\n")).await;
    }
    assert!(claim(&storage, NOW, 0).await.is_empty());
    let (first, second) = futures::join!(claim(&storage, NOW, 2), claim(&storage, NOW, 2));
    let numbers: BTreeSet<_> = first.iter().chain(&second).map(|note| note.number).collect();
    assert_eq!((numbers.len(), first.len() + second.len()), (3, 3));
    assert!(claim(&storage, at(59), 9).await.is_empty());
    let again = claim(&storage, at(60), 9).await;
    assert!(again.is_sorted_by_key(|note| note.number));
    assert_eq!(again.iter().map(|note| note.number).collect::<BTreeSet<_>>(), numbers);
    storage.search_outbox().settle(&[]).await.unwrap();
    assert_eq!(storage.search_outbox().pending().await.unwrap(), 3);
}

/// Making the index again notes every message of every tenant, also when it is begun anew halfway.
pub async fn rebuilds_from_all_messages(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let mut ids = BTreeSet::new();
    for person in [&alice, &other] {
        for _ in 0..4 {
            ids.insert(keep(&storage, entry(person, "\r\nreport\r\n")).await);
        }
    }
    index(&storage, NOW).await;
    storage.search_index().clear().await.unwrap();
    let outbox = storage.search_outbox();
    assert!(!outbox.is_rebuilding().await.unwrap());
    assert_eq!(outbox.refill(9).await.unwrap(), 0);
    let seen = outbox.version();
    outbox.rebuild().await.unwrap();
    assert!(outbox.version() > seen);
    assert_eq!((outbox.pending().await.unwrap(), outbox.is_rebuilding().await.unwrap()), (0, true));
    assert_eq!(outbox.refill(3).await.unwrap(), 3);
    outbox.rebuild().await.unwrap();
    let mut written = Vec::new();
    loop {
        written.push(outbox.refill(3).await.unwrap());
        if written.last() == Some(&0) {
            break;
        }
    }
    assert_eq!(written.iter().sum::<u32>(), 8);
    assert!(!outbox.is_rebuilding().await.unwrap());
    let noted: BTreeSet<_> = claim(&storage, NOW, 99).await.iter().map(|note| note.message).collect();
    assert_eq!(noted, ids);
    index(&storage, at(60)).await;
    assert_eq!(found(&storage, alice.tenant, &request("report")).await.len(), 4);
    assert_eq!(found(&storage, other.tenant, &request("report")).await.len(), 4);
}

/// A message that is gone, a batch that was dropped, a batch that is done twice.
pub async fn feeding_may_stop_anywhere(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let one = keep(&storage, entry(&alice, "\r\nreport\r\n")).await;
    // Somebody took the note and died.
    assert_eq!(claim(&storage, NOW, 9).await.len(), 1);
    assert_eq!(feed(&*storage, NOW, 9).await.unwrap(), 0);
    assert_eq!(feed(&*storage, at(60), 9).await.unwrap(), 1);
    storage.search_outbox().rebuild().await.unwrap();
    assert_eq!(storage.search_outbox().refill(9).await.unwrap(), 1);
    drop(feed(&*storage, at(61), 9));
    assert_eq!(feed(&*storage, at(61), 9).await.unwrap(), 1);
    assert_eq!(feed(&*storage, at(200), 9).await.unwrap(), 0);
    assert_eq!(found(&storage, alice.tenant, &request("report")).await, [one]);
}

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn request(text: &str) -> SearchRequest {
    SearchRequest { limit: 100, ..SearchRequest::new(text.parse().unwrap(), NOW) }
}

/// Accepts one message; the index does not know it yet.
async fn keep(storage: &Storage, entry: Acceptance) -> MessageId {
    let id = id(&entry);
    accept(storage, entry).await.unwrap();
    id
}

async fn claim(storage: &Storage, now: Timestamp, max: u32) -> Vec<UnindexedMessage> {
    storage.search_outbox().claim(now, max, TTL).await.unwrap()
}

/// Indexes everything of which there are notes.
async fn index(storage: &Storage, now: Timestamp) {
    while feed(&**storage, now, 7).await.unwrap() > 0 {}
}

async fn found(storage: &Storage, tenant: TenantId, request: &SearchRequest) -> Vec<MessageId> {
    let page = storage.search_index().search(tenant, request).await.unwrap();
    assert!(!page.has_more || request.limit == 0);
    page.items.into_iter().map(|position| position.id).collect()
}

async fn agree(storage: &Storage, person: &Person, cases: &[(&str, &[MessageId])]) {
    agree_at(storage, person, cases, NOW).await;
}

/// Indexes everything; then each query finds exactly its messages, in whatever order those have that
/// were received at the same time.
async fn agree_at(storage: &Storage, person: &Person, cases: &[(&str, &[MessageId])], now: Timestamp) {
    index(storage, now).await;
    for (text, expected) in cases {
        let found = found(storage, person.tenant, &SearchRequest { now, ..request(text) }).await;
        let expected: BTreeSet<_> = expected.iter().copied().collect();
        assert_eq!(found.len(), expected.len(), "{text}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{text}");
    }
}
