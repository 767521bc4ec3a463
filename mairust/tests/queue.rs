//! What operators do to deliveries, and deliveries of which nobody knows how they ended.

use std::time::Duration;

use mairust::testkit::{Act, Folder, Server, ServerSetup, Sink, Step};
use mairust::{Clock, InDoubt};
use mairust_store::{
    Acceptance, Attempt, AttemptOutcome, DeliveryState, HoldReason, ItemState, MessageRow, MessageStatus, QueueAction,
    QueueChange, QueueFilter, QueueItem, pause,
};

const ALICE: &str = "alice@here.example";
const BOB: &str = "bob@remote.example";
const DAY: Duration = Duration::from_secs(86_400);

fn here() -> ServerSetup {
    Server::builder().user(ALICE, "correct horse")
}

/// A server whose first attempt to reach Bob was deferred, and Bob's server.
async fn deferred(setup: ServerSetup) -> (Server, Sink) {
    let server = setup.start().await.unwrap();
    let busy = Sink::builder().on(Step::Connect, Act::reply("421 4.3.2 busy").times(1));
    let remote = server.fleet().domain("remote.example", busy).await.unwrap();
    write(&server).await;
    assert_eq!(state(&server).await, DeliveryState::Deferred);
    (server, remote)
}

async fn write(server: &Server) {
    let replies =
        server.submit(ALICE, &[BOB], "From: alice@here.example\r\nSubject: hello\r\n\r\nHello!\r\n").await.unwrap();
    assert!(replies[0].is_positive(), "{replies:?}");
    server.settled().await.unwrap();
}

async fn sent(server: &Server) -> MessageRow {
    server.folder(ALICE, Folder::Sent).await.unwrap().remove(0).row
}

async fn state(server: &Server) -> DeliveryState {
    let sent = sent(server).await;
    server.storage().deliveries().recipients(sent.tenant, sent.id).await.unwrap()[0].state
}

async fn outcomes(server: &Server) -> Vec<AttemptOutcome> {
    let sent = sent(server).await;
    let attempts = server.storage().deliveries().attempts(sent.tenant, sent.id).await.unwrap();
    attempts.into_iter().map(|attempt| attempt.outcome).collect()
}

async fn item(server: &Server) -> Option<QueueItem> {
    let sent = sent(server).await;
    server.storage().queue().items(sent.tenant, &QueueFilter::default(), None, 10).await.unwrap().pop()
}

async fn change(server: &Server, action: QueueAction) -> QueueChange {
    let (sent, now) = (sent(server).await, server.clock().now());
    let queue = server.storage().queue();
    let change = queue.change(sent.tenant, &QueueFilter::default(), &action, now, None, 10).await.unwrap();
    server.settled().await.unwrap();
    change
}

#[tokio::test]
async fn what_is_held_goes_on_when_it_is_released() {
    for setup in [here(), here().sqlite()] {
        let (server, remote) = deferred(setup).await;
        assert_eq!(change(&server, QueueAction::Hold(HoldReason::Operator)).await.changed, 1);
        server.pass(30 * DAY).await.unwrap();
        assert_eq!((state(&server).await, remote.sessions().len()), (DeliveryState::Held, 1));
        assert_eq!(change(&server, QueueAction::Release).await.changed, 1);
        assert_eq!((state(&server).await, remote.wait_for(1).await.len()), (DeliveryState::Delivered, 1));
        assert!(item(&server).await.is_none());
    }
}

#[tokio::test]
async fn what_is_retried_goes_before_its_time() {
    let (server, remote) = deferred(here()).await;
    assert_eq!(change(&server, QueueAction::Retry).await.changed, 1);
    assert_eq!((state(&server).await, remote.wait_for(1).await.len()), (DeliveryState::Delivered, 1));
}

#[tokio::test]
async fn what_is_cancelled_ends_with_a_notice_or_without() {
    let cancel = QueueAction::Cancel { reason: "not wanted".to_owned() };
    for (action, state_after, status, notices) in [
        (cancel, DeliveryState::Cancelled, MessageStatus::Cancelled, 0),
        (QueueAction::GiveUp, DeliveryState::Bounced, MessageStatus::Failed, 1),
    ] {
        let (server, remote) = deferred(here()).await;
        assert_eq!(change(&server, action).await.changed, 1);
        assert_eq!((state(&server).await, sent(&server).await.status), (state_after, status));
        let inbox = server.inbox(ALICE).await.unwrap();
        assert_eq!(inbox.len(), notices);
        assert!(inbox.iter().all(|notice| notice.contains("given up by an operator")));
        server.pass(30 * DAY).await.unwrap();
        assert_eq!(remote.sessions().len(), 1, "it is not tried any more");
    }
}

#[tokio::test]
async fn what_is_rerouted_goes_to_that_host() {
    let (server, remote) = deferred(here()).await;
    let other = Sink::builder().name("other.example").start().await.unwrap();
    assert_eq!(change(&server, QueueAction::Reroute(Some(other.address().to_string()))).await.changed, 1);
    assert_eq!((other.wait_for(1).await.len(), remote.messages().len()), (1, 0));
    assert_eq!(state(&server).await, DeliveryState::Delivered);
}

#[tokio::test]
async fn nothing_goes_to_a_paused_destination() {
    let server = here().start().await.unwrap();
    let remote = server.fleet().domain("remote.example", Sink::builder()).await.unwrap();
    let other = server.fleet().domain("other.example", Sink::builder()).await.unwrap();
    write(&server).await;
    let tenant = sent(&server).await.tenant;
    remote.wait_for(1).await;
    for destination in [Some("remote.example"), None] {
        let before = remote.messages().len();
        assert!(pause::pause(&**server.storage(), tenant, destination).await.unwrap());
        write(&server).await;
        let letter = "From: alice@here.example\r\n\r\nHello!\r\n";
        server.submit(ALICE, &["carol@other.example"], letter).await.unwrap();
        server.pass(DAY).await.unwrap();
        assert_eq!(item(&server).await.map(|item| item.state), Some(ItemState::Held(HoldReason::Paused)));
        assert_eq!(remote.messages().len(), before);
        let held = if destination.is_some() { 1 } else { 2 };
        let now = server.clock().now();
        assert_eq!(pause::resume(&**server.storage(), tenant, destination, now).await.unwrap(), held);
        server.settled().await.unwrap();
        remote.wait_for(before + 1).await;
        assert!(item(&server).await.is_none());
    }
    assert_eq!(other.wait_for(2).await.len(), 2);
}

#[tokio::test]
async fn what_is_in_doubt_is_held_where_that_is_wanted() {
    let setup = here().delivery(|settings| settings.in_doubt = InDoubt::Hold);
    let server = setup.start().await.unwrap();
    let script = Sink::builder().on(Step::Message, Act::lose_reply().times(1));
    let remote = server.fleet().domain("remote.example", script).await.unwrap();
    write(&server).await;
    server.pass(30 * DAY).await.unwrap();
    assert_eq!(state(&server).await, DeliveryState::InDoubt);
    assert_eq!(item(&server).await.map(|item| item.state), Some(ItemState::Held(HoldReason::InDoubt)));
    assert_eq!((remote.sessions().len(), outcomes(&server).await), (1, vec![AttemptOutcome::InDoubt]));
    assert_eq!(change(&server, QueueAction::Release).await.changed, 1);
    assert_eq!((state(&server).await, remote.wait_for(2).await.len()), (DeliveryState::Delivered, 2));
}

/// As after a crash: the attempt of a worker that is gone has begun, and nobody knows how it ended.
async fn break_off(server: &Server) {
    let sent = sent(server).await;
    let recipient = server.storage().deliveries().recipients(sent.tenant, sent.id).await.unwrap().remove(0).id;
    let begun = Attempt {
        recipient,
        at: server.clock().now(),
        outcome: AttemptOutcome::Begun,
        host: Some("mx.remote.example".to_owned()),
        result: "begun".to_owned(),
        notice: None,
        facts: None,
    };
    let acceptance = Acceptance { attempts: vec![begun], ..Acceptance::new(sent.tenant) };
    server.storage().messages().accept(vec![acceptance]).await.remove(0).unwrap();
}

#[tokio::test]
async fn an_attempt_that_broke_off_is_in_doubt() {
    for (policy, expected) in [
        (InDoubt::Resend, vec![AttemptOutcome::Deferred, AttemptOutcome::InDoubt, AttemptOutcome::Delivered]),
        (InDoubt::Hold, vec![AttemptOutcome::Deferred, AttemptOutcome::InDoubt]),
    ] {
        let (server, remote) = deferred(here().delivery(|settings| settings.in_doubt = policy)).await;
        break_off(&server).await;
        server.pass(DAY).await.unwrap();
        assert_eq!(outcomes(&server).await, expected);
        let (state_after, messages) = match policy {
            InDoubt::Resend => (DeliveryState::Delivered, 1),
            _ => (DeliveryState::InDoubt, 0),
        };
        assert_eq!((state(&server).await, remote.messages().len()), (state_after, messages));
    }
}

#[tokio::test]
async fn what_is_on_its_way_is_left_alone() {
    let server = here().start().await.unwrap();
    server.fleet().domain("remote.example", Sink::builder().on(Step::Message, Act::hang())).await.unwrap();
    let letter = "From: alice@here.example\r\n\r\nHello!\r\n";
    server.submit(ALICE, &[BOB], letter).await.unwrap();
    let begun = server.mishaps().until(|| async { outcomes(&server).await == [AttemptOutcome::Begun] });
    tokio::time::timeout(Duration::from_secs(30), begun).await.unwrap();
    let (sent, now, queue) = (sent(&server).await, server.clock().now(), server.storage().queue());
    let cancel = QueueAction::Cancel { reason: "too late".to_owned() };
    let refused = queue.change(sent.tenant, &QueueFilter::default(), &cancel, now, None, 10).await.unwrap();
    assert_eq!((refused.changed, refused.busy), (0, 1));
    assert_eq!(state(&server).await, DeliveryState::Pending);
}

#[tokio::test]
async fn a_host_that_keeps_silent_keeps_some_workers_only() {
    for setup in [here(), here().sqlite()] {
        let bounded = setup.delivery(|settings| (settings.workers, settings.max_connections_per_host) = (4, 2));
        let server = bounded.start().await.unwrap();
        let fleet = server.fleet();
        let silent = fleet.domain("silent.example", Sink::builder().on(Step::Connect, Act::hang())).await.unwrap();
        let remote = fleet.domain("remote.example", Sink::builder()).await.unwrap();
        let letter = "From: alice@here.example\r\n\r\nHello!\r\n";
        for number in 0..6 {
            let recipient = format!("{number}@silent.example");
            assert!(server.submit(ALICE, &[&recipient], letter).await.unwrap()[0].is_positive());
        }
        server.submit(ALICE, &[BOB], letter).await.unwrap();
        let arrived = tokio::time::timeout(Duration::from_secs(30), remote.wait_for(1)).await;
        assert_eq!((arrived.unwrap().len(), silent.messages().len()), (1, 0));
        assert!(silent.sessions().len() <= 2);
    }
}

#[tokio::test]
async fn what_is_given_up_in_doubt_says_so() {
    let (server, remote) = deferred(here()).await;
    break_off(&server).await;
    assert_eq!(change(&server, QueueAction::GiveUp).await.changed, 1);
    let expected = [AttemptOutcome::Deferred, AttemptOutcome::InDoubt, AttemptOutcome::Failed];
    assert_eq!(outcomes(&server).await, expected);
    assert_eq!((state(&server).await, remote.messages().len()), (DeliveryState::Bounced, 0));
}

#[tokio::test]
async fn a_way_that_leads_nowhere_is_not_replaced_by_the_usual_one() {
    let (server, remote) = deferred(here()).await;
    assert_eq!(change(&server, QueueAction::Reroute(Some("nowhere".to_owned()))).await.changed, 1);
    let held = item(&server).await.unwrap();
    assert_eq!((held.state, remote.sessions().len()), (ItemState::Held(HoldReason::Operator), 1));
    assert!(held.last_error.unwrap().contains("by way of nowhere"));
    assert_eq!(change(&server, QueueAction::Reroute(None)).await.changed, 1);
    assert_eq!(change(&server, QueueAction::Release).await.changed, 1);
    assert_eq!((state(&server).await, remote.wait_for(1).await.len()), (DeliveryState::Delivered, 1));
}

#[tokio::test]
async fn a_domain_gets_so_much_within_a_time() {
    let limited = |delivery: &mut mairust::DeliverySettings| delivery.rate_per_domain = Some("2/1m".parse().unwrap());
    for setup in [here(), here().sqlite()] {
        let server = setup.delivery(limited).start().await.unwrap();
        let remote = server.fleet().domain("remote.example", Sink::builder()).await.unwrap();
        let other = server.fleet().domain("other.example", Sink::builder()).await.unwrap();
        let letter = "From: alice@here.example\r\n\r\nHello!\r\n";
        for _ in 0..4 {
            server.submit(ALICE, &[BOB], letter).await.unwrap();
        }
        remote.wait_for(2).await;
        server.submit(ALICE, &["carol@other.example"], letter).await.unwrap();
        other.wait_for(1).await;
        for count in 3..=4 {
            assert_eq!(remote.messages().len(), count - 1);
            server.clock().advance(Duration::from_secs(29));
            // What comes in has the workers look.
            server.submit(ALICE, &["carol@other.example"], letter).await.unwrap();
            other.wait_for(count - 1).await;
            assert_eq!(remote.messages().len(), count - 1);
            server.clock().advance(Duration::from_secs(1));
            remote.wait_for(count).await;
        }
        server.settled().await.unwrap();
    }
}

#[tokio::test]
async fn a_host_that_gets_too_much_gets_less_at_once() {
    let server = here().delivery(|delivery| delivery.idle_time = Duration::ZERO).start().await.unwrap();
    let busy = Act::reply("421 4.7.0 Too many connections from you").times(8);
    let remote = server.fleet().domain("remote.example", Sink::builder().on(Step::Connect, busy)).await.unwrap();
    for _ in 0..8 {
        write(&server).await;
    }
    server.settled().await.unwrap();
    assert_eq!(remote.messages().len(), 0);
    remote.on(Step::Mail, Act::hang());
    server.clock().advance(Duration::from_secs(180));
    // One at a time: the others wait for the one that hangs.
    let letter = "From: alice@here.example\r\n\r\nHello!\r\n";
    let other = server.fleet().domain("other.example", Sink::builder()).await.unwrap();
    server.submit(ALICE, &["carol@other.example"], letter).await.unwrap();
    other.wait_for(1).await;
    assert!(remote.sessions().len() <= 9, "{:?}", remote.sessions());
}
