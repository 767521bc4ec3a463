//! Hooks that fail, and what becomes of mail then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mairust::hook_protocol::Action;
use mairust::testkit::{Folder, Server, Sink};
use mairust::{
    Answer, Binding, HealthReport, HealthStatus, HookCall, HookError, HookHandler, HookPoint, Mail, OnFailure, Verdict,
};
use mairust_store::{HoldReason, Metadata, QueueFilter, StorageBackend};
use serde_json::{Value, json};
use tokio::sync::Notify;

const ALICE: &str = "alice@here.example";

/// Answers as long as nothing is wrong with it.
#[derive(Debug, Default)]
struct Fragile {
    calls: AtomicU32,
    is_broken: AtomicU32,
}

#[async_trait::async_trait]
impl HookHandler for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }

    fn points(&self) -> &[HookPoint] {
        &[HookPoint::PreReceive, HookPoint::PostReceive]
    }

    async fn call(&self, call: &HookCall) -> Result<Answer, HookError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.is_broken.load(Ordering::SeqCst) > 0 {
            return Err(HookError::new("no idea"));
        }
        let answer = Answer::allow();
        Ok(if call.point == HookPoint::PostReceive { answer.tag("seen") } else { answer })
    }
}

/// What a hook wants done that may do all.
fn wishes() -> Answer {
    let action = |value| serde_json::from_value::<Action>(value).unwrap();
    Answer::allow()
        .tag("seen")
        .then(action(json!({"op": "flag.add", "flags": ["\\Flagged"]})))
        .then(action(json!({"op": "move", "folder": "Junk"})))
        .then(action(json!({"op": "metadata.set", "key": "model", "value": {"v": 3}})))
        .then(action(json!({"op": "header.add", "name": "X-Score", "value": "七 7.5"})))
}

fn metadata(owner: &str, key: &str, value: Value) -> Metadata {
    Metadata { owner: owner.to_owned(), key: key.to_owned(), value }
}

/// The reply without the id of the call.
async fn send(server: &Server, subject: &str) -> String {
    let letter = format!("From: bob@remote.example\r\nSubject: {subject}\r\n\r\nHello!\r\n");
    let replies = server.receive("bob@remote.example", &[ALICE], letter).await.unwrap();
    if replies[0].is_positive() {
        "250".to_owned()
    } else {
        replies[0].to_string().split(" [inv_").next().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn mail_waits_for_a_required_hook_and_the_hook_is_left_alone() {
    let (hook, unavailable) =
        (Arc::new(Fragile::default()), "451 4.3.0 Policy service unavailable, please try again later");
    let bound = hook.clone();
    let setup = Server::builder()
        .user(ALICE, "correct horse")
        .with(|builder| builder.bind_hook(Binding::new(bound).required()));
    let server = setup.start().await.unwrap();
    assert_eq!(send(&server, "first").await, "250");
    server.settled().await.unwrap();
    hook.is_broken.store(1, Ordering::SeqCst);
    for subject in ["one", "two", "three"] {
        assert_eq!(send(&server, subject).await, unavailable);
    }
    let calls = hook.calls.load(Ordering::SeqCst);
    for _ in 0..10 {
        assert_eq!(send(&server, "four").await, unavailable);
    }
    assert_eq!(hook.calls.load(Ordering::SeqCst), calls, "it is not called");
    hook.is_broken.store(0, Ordering::SeqCst);
    server.clock().advance(Duration::from_secs(70));
    for subject in ["four", "five", "six"] {
        assert_eq!(send(&server, subject).await, "250");
    }
    server.settled().await.unwrap();
    let inbox = server.inbox(ALICE).await.unwrap();
    assert_eq!(inbox.len(), 4);
    assert!(inbox.iter().all(|mail| mail.row.tags == ["seen"]));
}

#[tokio::test]
async fn while_a_hook_is_left_alone_mail_goes_its_own_way() {
    let hook = Arc::new(Fragile::default());
    hook.is_broken.store(1, Ordering::SeqCst);
    let mut binding = Binding::new(hook.clone());
    binding.on_open = Some(OnFailure::Quarantine);
    let setup = Server::builder().user(ALICE, "correct horse").with(|builder| builder.bind_hook(binding));
    let server = setup.start().await.unwrap();
    for subject in ["one", "two", "three", "four"] {
        assert_eq!(send(&server, subject).await, "250");
    }
    let in_folder = async |folder| server.folder(ALICE, folder).await.unwrap().len();
    assert_eq!(in_folder(Folder::Inbox).await, 3, "those at which it failed");
    assert_eq!(in_folder(Folder::Quarantine).await, 1);
}

#[tokio::test]
async fn what_a_hook_wants_is_there_when_the_message_is() {
    let setup = Server::builder().user(ALICE, "correct horse").with(|builder| {
        let fails = |_: Mail| async { Err::<Verdict, _>("no idea") };
        builder.pre_receive("a-fails", fails).pre_receive("b-wants", |_: Mail| async { wishes() })
    });
    let server = setup.start().await.unwrap();
    assert_eq!(send(&server, "one").await, "250");
    let mail = server.folder(ALICE, Folder::Junk).await.unwrap().remove(0);
    assert_eq!((&mail.row.tags[..], &mail.row.flags[..]), (&["seen".to_owned()][..], &["\\Flagged".to_owned()][..]));
    let text = String::from_utf8(mail.raw.clone()).unwrap();
    let (received, score) = (text.find("Received: ").unwrap(), text.find("X-Score: =?utf-8?").unwrap());
    assert!(received < score && score < text.find("From: bob").unwrap(), "{text}");
    let kept = server.storage().messages().metadata(mail.row.tenant, mail.row.id).await.unwrap();
    assert_eq!(kept[1], metadata("b-wants", "model", json!({"v": 3})));
    let skipped = &kept[0].value[0];
    assert_eq!((kept[0].owner.as_str(), kept[0].key.as_str()), ("_core", "hook_skipped"));
    assert_eq!((&skipped["plugin"], &skipped["outcome"]), (&json!("a-fails"), &json!("crash")));
}

#[tokio::test]
async fn a_hook_changes_what_is_stored() {
    for quarantines in [false, true] {
        let setup = Server::builder().user(ALICE, "correct horse").with(move |builder| {
            builder.post_receive("late", move |_: Mail| async move {
                let verdict = if quarantines { Verdict::quarantine("odd") } else { Verdict::Allow };
                Answer { verdict, ..wishes() }
            })
        });
        let server = setup.start().await.unwrap();
        assert_eq!(send(&server, "one").await, "250");
        server.settled().await.unwrap();
        let folder = if quarantines { Folder::Quarantine } else { Folder::Junk };
        let mail = server.folder(ALICE, folder).await.unwrap().remove(0);
        assert_eq!(
            (&mail.row.tags[..], &mail.row.flags[..]),
            (&["seen".to_owned()][..], &["\\Flagged".to_owned()][..])
        );
        let kept = server.storage().messages().metadata(mail.row.tenant, mail.row.id).await.unwrap();
        assert_eq!(kept, [metadata("late", "model", json!({"v": 3}))]);
    }
}

#[tokio::test]
async fn hooks_see_what_is_sent_and_what_they_add_goes_out() {
    let setup = Server::builder().user(ALICE, "correct horse").with(|builder| {
        builder.pre_send("adds", |mail: Mail| async move {
            assert!(mail.header("message-id").is_some(), "as it is going to be signed");
            match mail.subject() {
                Some("secret") => Verdict::reject("Not this").into(),
                Some("odd") => Verdict::quarantine("odd").into(),
                _ => wishes(),
            }
        })
    });
    let server = setup.start().await.unwrap();
    let sink = server.fleet().domain("remote.example", Sink::builder()).await.unwrap();
    let letter = |subject: &str| format!("From: {ALICE}\r\nSubject: {subject}\r\n\r\nHello!\r\n");
    server.submit(ALICE, &["bob@remote.example"], &letter("fine")).await.unwrap();
    server.settled().await.unwrap();
    let sent = sink.messages().remove(0);
    let sent = std::str::from_utf8(&sent.body).unwrap();
    assert!(sent.contains("\r\nX-Score: =?utf-8?"), "{sent:?}");
    let copy = server.folder(ALICE, Folder::Junk).await.unwrap().remove(0);
    assert_eq!(copy.row.tags, ["seen"], "the copy of the sender goes where the hook wants it");

    let refused = server.submit(ALICE, &["bob@remote.example"], &letter("secret")).await.unwrap().remove(0);
    assert_eq!(refused.to_string(), "550 5.7.1 Not this");

    server.submit(ALICE, &["bob@remote.example"], &letter("odd")).await.unwrap();
    let filter = QueueFilter { held: Some(HoldReason::Hook), ..QueueFilter::default() };
    let tenant = copy.row.tenant;
    assert_eq!(server.storage().queue().items(tenant, &filter, None, 9).await.unwrap().len(), 1);
}

/// Answers at `pre_receive` once it is told to.
#[derive(Debug, Default)]
struct Late {
    answers: AtomicU32,
    health: AtomicU32,
    asked: Notify,
}

/// Has time pass until the hook was asked so often how it does.
async fn checked(server: &Server, hook: &Late, times: u32) {
    for _ in 0..times {
        // The server may be about to wait only now, from a later moment on.
        while tokio::time::timeout(Duration::from_millis(50), hook.asked.notified()).await.is_err() {
            server.clock().advance(Duration::from_secs(33));
        }
    }
}

#[async_trait::async_trait]
impl HookHandler for Late {
    fn name(&self) -> &str {
        "late"
    }

    fn points(&self) -> &[HookPoint] {
        &[HookPoint::PreReceive]
    }

    async fn call(&self, call: &HookCall) -> Result<Answer, HookError> {
        match (self.answers.load(Ordering::SeqCst), call.mode.as_str()) {
            (0, _) => Err(HookError::new("no idea")),
            (_, "catch_up") if call.mail.subject() == Some("bad") => Ok(Verdict::reject("too late").into()),
            (_, mode) => Ok(Answer::allow().tag(mode)),
        }
    }

    async fn health(&self) -> Option<HealthReport> {
        self.asked.notify_one();
        let status = if self.health.load(Ordering::SeqCst) == 0 { HealthStatus::Ok } else { HealthStatus::Error };
        Some(HealthReport { status, details: String::new() })
    }
}

#[tokio::test]
async fn what_passed_without_a_hook_is_shown_to_it_later() {
    let hook = Arc::new(Late::default());
    let mut binding = Binding::new(hook.clone());
    binding.catch_up = true;
    let setup = Server::builder().user(ALICE, "correct horse").with(|builder| builder.bind_hook(binding));
    let server = setup.start().await.unwrap();
    for subject in ["good", "bad", "good as well"] {
        assert_eq!(send(&server, subject).await, "250");
    }
    assert_eq!(server.inbox(ALICE).await.unwrap().len(), 3);
    hook.answers.store(1, Ordering::SeqCst);
    server.pass(Duration::from_secs(300)).await.unwrap();
    let inbox = server.inbox(ALICE).await.unwrap();
    assert!(inbox.len() == 2 && inbox.iter().all(|mail| mail.row.tags == ["catch_up"]), "{inbox:?}");
    let put_aside = server.folder(ALICE, Folder::Quarantine).await.unwrap();
    assert_eq!((put_aside.len(), put_aside[0].row.subject.as_deref()), (1, Some("bad")));
}

#[tokio::test]
async fn a_hook_that_says_it_does_not_work_is_left_alone() {
    let hook = Arc::new(Late::default());
    hook.answers.store(1, Ordering::SeqCst);
    let bound = hook.clone();
    let setup = Server::builder()
        .user(ALICE, "correct horse")
        .with(|builder| builder.bind_hook(Binding::new(bound).required()));
    let server = setup.start().await.unwrap();
    assert_eq!(send(&server, "one").await, "250");
    hook.health.store(1, Ordering::SeqCst);
    // What comes after a check knows its result.
    checked(&server, &hook, 5).await;
    assert!(send(&server, "two").await.starts_with("451 4.3.0"));
    hook.health.store(0, Ordering::SeqCst);
    checked(&server, &hook, 4).await;
    assert_eq!(send(&server, "three").await, "250");
}
