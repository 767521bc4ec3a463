//! Clients that hang up while somebody looks at their message.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mairust::testkit::{Folder, Server};
use mairust::{
    Answer, Binding, HookCall, HookError, HookHandler, HookPoint, ScanAction, ScanError, ScanReport, ScanRequest,
    Scanner, Service, StorageBackend,
};
use mairust_store::{HookInvocation, HookInvocationQuery};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

const ALICE: &str = "alice@here.example";
const BOB: &str = "bob@remote.example";
/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
enum Does {
    Answer,
    Fail,
    Hang,
}

/// Does as it is told.
#[derive(Debug)]
struct Moody {
    points: [HookPoint; 1],
    does: Mutex<Does>,
    asked: Notify,
    dropped: Notify,
}

/// Tells when it is dropped.
struct Dropped<'a>(&'a Notify);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Moody {
    fn at(point: HookPoint) -> Arc<Self> {
        let does = Mutex::new(Does::Answer);
        Arc::new(Self { points: [point], does, asked: Notify::new(), dropped: Notify::new() })
    }

    fn now(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }
}

#[async_trait]
impl HookHandler for Moody {
    fn name(&self) -> &str {
        "moody"
    }

    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    async fn call(&self, _: &HookCall) -> Result<Answer, HookError> {
        let does = *self.does.lock().unwrap();
        match does {
            Does::Answer => Ok(Answer::allow()),
            Does::Fail => Err(HookError::new("no idea")),
            Does::Hang => {
                let _dropped = Dropped(&self.dropped);
                self.asked.notify_one();
                pending().await
            }
        }
    }
}

/// The code of the reply to a message that comes to this point.
async fn bring(server: &Server, point: HookPoint, subject: &str) -> u16 {
    let sender = if point == HookPoint::PreSend { ALICE } else { BOB };
    let letter = format!("From: {sender}\r\nSubject: {subject}\r\n\r\nThis is about {subject}.\r\n");
    let replies = match point {
        HookPoint::PreSend => server.submit(ALICE, &[ALICE], letter).await,
        _ => server.receive(BOB, &[ALICE], letter).await,
    };
    replies.unwrap()[0].code()
}

/// Brings a message, and hangs up once this has happened.
async fn hang_up(server: &Server, point: HookPoint, subject: &str, once: &Notify) {
    tokio::select! {
        code = bring(server, point, subject) => panic!("it was answered by {code}"),
        happened = tokio::time::timeout(PATIENCE, once.notified()) => happened.expect("somebody looks at the message"),
    }
}

/// Waits until this many calls are written down; the newest first.
async fn calls(server: &Server, count: usize) -> Vec<HookInvocation> {
    let tenant = server.inbox(ALICE).await.unwrap()[0].row.tenant;
    let query = HookInvocationQuery { limit: 100, ..HookInvocationQuery::default() };
    let found = async {
        loop {
            let found = server.storage().hooks().invocations(tenant, &query).await.unwrap().items;
            if found.len() >= count {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("they are written down")
}

#[tokio::test]
async fn the_next_message_gets_the_probe_of_a_client_that_hung_up() {
    for (point, failures, successes) in [(HookPoint::PreReceive, 3, 2), (HookPoint::PreSend, 10, 1)] {
        let hook = Moody::at(point);
        let bound = hook.clone();
        let setup = Server::builder()
            .user(ALICE, "correct horse")
            .with(|builder| builder.bind_hook(Binding::new(bound).required()));
        let server = setup.start().await.unwrap();
        // While the breaker is closed; more often than it could fail.
        hook.now(Does::Hang);
        for number in 0..failures + 1 {
            hang_up(&server, point, &format!("closed {number}"), &hook.asked).await;
            hook.dropped.notified().await;
        }
        hook.now(Does::Answer);
        assert_eq!(bring(&server, point, "closed 0").await, 250, "the message is no poison");

        hook.now(Does::Fail);
        for number in 0..failures {
            assert_eq!(bring(&server, point, &format!("fails {number}")).await, 451);
        }
        hook.now(Does::Answer);
        assert_eq!(bring(&server, point, "open").await, 451, "it is not called");
        server.clock().advance(Duration::from_secs(70));
        hook.now(Does::Hang);
        hang_up(&server, point, "probe", &hook.asked).await;
        hook.dropped.notified().await;
        hook.now(Does::Answer);
        for number in 0..successes {
            assert_eq!(bring(&server, point, &format!("good {number}")).await, 250);
        }
        // Closed: one failure opens nothing.
        hook.now(Does::Fail);
        assert_eq!(bring(&server, point, "fails once").await, 451);
        hook.now(Does::Answer);
        assert_eq!(bring(&server, point, "fine").await, 250);

        let kept = server.inbox(ALICE).await.unwrap();
        let kept: Vec<_> = kept.iter().map(|mail| mail.row.subject.clone().unwrap_or_default()).collect();
        assert_eq!(kept.len(), 1 + successes + 1, "{kept:?}");
        let sent = server.folder(ALICE, Folder::Sent).await.unwrap().len();
        assert_eq!(sent, if point == HookPoint::PreSend { kept.len() } else { 0 });
        let calls = calls(&server, 2 * failures + successes + 6).await;
        let cancelled: Vec<_> = calls.iter().filter(|call| call.outcome == "cancelled").collect();
        assert_eq!(cancelled.len(), failures + 2);
        assert!(
            cancelled
                .iter()
                .all(|call| call.message.is_none() && !call.report.let_pass && !call.report.rcpt_to.is_empty())
        );
    }
}

/// Looks at messages until it is let go on.
#[derive(Debug)]
struct Slow {
    asked: Notify,
    may_go_on: Semaphore,
}

impl Default for Slow {
    fn default() -> Self {
        Self { asked: Notify::new(), may_go_on: Semaphore::new(0) }
    }
}

/// The same scanner for the server and the test.
#[derive(Debug, Clone)]
struct Shared(Arc<Slow>);

#[async_trait]
impl Scanner for Shared {
    fn name(&self) -> &str {
        "slow"
    }

    async fn scan(&self, _: &ScanRequest) -> Result<ScanReport, ScanError> {
        self.0.asked.notify_one();
        self.0.may_go_on.acquire().await.expect("it is not closed").forget();
        Ok(ScanReport::new("slow", ScanAction::Accept, 0.0))
    }
}

#[tokio::test]
async fn only_hooks_are_not_waited_for() {
    for has_hook in [false, true] {
        let (scanner, hook) = (Shared(Arc::default()), Moody::at(HookPoint::PreReceive));
        let (used, bound) = (scanner.clone(), hook.clone());
        let setup = Server::builder().user(ALICE, "correct horse").with(move |builder| {
            let builder = builder.scanner(used);
            if has_hook { builder.bind_hook(Binding::new(bound)) } else { builder }
        });
        let server = setup.start().await.unwrap();
        hang_up(&server, HookPoint::PreReceive, "hung up", &scanner.0.asked).await;
        // The server has seen it: it has greeted somebody who came later.
        let (_, address) = server.addresses().smtp.iter().find(|(service, _)| *service == Service::Mx).unwrap();
        TcpStream::connect(address).await.unwrap().read_u8().await.unwrap();
        scanner.0.may_go_on.add_permits(2);
        assert_eq!(bring(&server, HookPoint::PreReceive, "stays").await, 250);
        let kept = async {
            loop {
                let inbox = server.inbox(ALICE).await.unwrap();
                if has_hook || inbox.len() == 2 {
                    return inbox;
                }
                tokio::task::yield_now().await;
            }
        };
        let kept = tokio::time::timeout(PATIENCE, kept).await.expect("it is stored");
        if has_hook {
            assert_eq!(kept[0].row.subject.as_deref(), Some("stays"));
            let calls = calls(&server, 1).await;
            assert_eq!(
                (kept.len(), calls.len(), calls[0].outcome.as_str()),
                (1, 1, "allow"),
                "the hook saw one of them"
            );
        }
    }
}
