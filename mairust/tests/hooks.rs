//! Hooks that fail, and what becomes of mail then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mairust::testkit::Server;
use mairust::{Answer, Binding, HookCall, HookError, HookHandler, HookPoint, OnFailure};

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
    assert_eq!(in_folder(mairust::testkit::Folder::Inbox).await, 3, "those at which it failed");
    assert_eq!(in_folder(mairust::testkit::Folder::Quarantine).await, 1);
}
