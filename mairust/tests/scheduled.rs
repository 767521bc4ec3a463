//! Mail that is to be sent later: by the clock of the tests, to recipients here and elsewhere.

use std::time::Duration;

use mairust::testkit::{Act, Folder, Mishap, Server, ServerSetup, Sink, Step, StoreErrorKind};
use mairust::{Clock, DirectoryExt, EmailAddress};
use mairust_store::{
    DeliveryState, MessageQuery, MessageRow, MessageStatus, NewUser, PasswordRecord, QueueAction, QueueFilter,
    UserChange,
};

const ALICE: &str = "alice@here.example";
const BEN: &str = "ben@here.example";
const BOB: &str = "bob@remote.example";
const LETTER: &str = "From: alice@here.example\r\nSubject: later\r\n\r\nHello!\r\n";
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn here() -> ServerSetup {
    Server::builder().user(ALICE, "correct horse").user(BEN, "battery staple")
}

/// Alice writes to `to` a message that is to wait.
async fn write(server: &Server, to: &[&str], hold: Duration) {
    let replies = server.submit_for_later(ALICE, to, LETTER, hold).await.unwrap();
    assert!(replies.iter().all(mairust::Reply::is_positive), "{replies:?}");
    server.settled().await.unwrap();
}

async fn sent(server: &Server) -> MessageRow {
    server.folder(ALICE, Folder::Sent).await.unwrap().remove(0).row
}

async fn states(server: &Server) -> Vec<DeliveryState> {
    let sent = sent(server).await;
    let rows = server.storage().deliveries().recipients(sent.tenant, sent.id).await.unwrap();
    rows.iter().map(|row| row.state).collect()
}

#[tokio::test]
async fn what_is_to_wait_is_nowhere_before_its_time() {
    for setup in [here(), here().sqlite()] {
        let server = setup.start().await.unwrap();
        let remote = server.fleet().domain("remote.example", Sink::builder()).await.unwrap();
        write(&server, &[BEN, BOB], HOUR).await;
        server.pass(HOUR - SECOND).await.unwrap();
        assert!(server.inbox(BEN).await.unwrap().is_empty() && remote.sessions().is_empty());
        assert_eq!(states(&server).await, [DeliveryState::Pending; 2]);
        assert_eq!(sent(&server).await.status, MessageStatus::Queued);
        let due = server.clock().now().plus(SECOND);
        server.pass(SECOND).await.unwrap();
        assert_eq!(states(&server).await, [DeliveryState::Delivered; 2]);
        assert_eq!((sent(&server).await.status, remote.wait_for(1).await.len()), (MessageStatus::Sent, 1));
        let copies = server.inbox(BEN).await.unwrap();
        assert_eq!((copies.len(), copies[0].row.received_at), (1, due));
        assert!(copies[0].contains("Return-Path: <alice@here.example>") && copies[0].contains("Hello!"));
        assert!(server.inbox(ALICE).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn retries_and_delays_count_from_its_time_on() {
    let server = here().start().await.unwrap();
    let busy = Sink::builder().on(Step::Connect, Act::reply("421 4.3.2 busy"));
    let remote = server.fleet().domain("remote.example", busy).await.unwrap();
    write(&server, &[BOB], 20 * DAY).await;
    server.pass(20 * DAY + HOUR).await.unwrap();
    assert!(remote.wait_for_sessions(2).await.len() >= 2);
    assert_eq!((states(&server).await, server.inbox(ALICE).await.unwrap().len()), (vec![DeliveryState::Deferred], 0));
    // With the first attempt after four hours.
    server.pass(9 * HOUR).await.unwrap();
    assert_eq!(server.inbox(ALICE).await.unwrap().len(), 1, "it is told that it is late");
    server.pass(6 * DAY).await.unwrap();
    assert_eq!((states(&server).await, server.inbox(ALICE).await.unwrap().len()), (vec![DeliveryState::Bounced], 2));
}

#[tokio::test]
async fn what_is_cancelled_in_time_goes_nowhere() {
    let server = here().start().await.unwrap();
    let remote = server.fleet().domain("remote.example", Sink::builder()).await.unwrap();
    write(&server, &[BEN, BOB], HOUR).await;
    let (sent_row, now) = (sent(&server).await, server.clock().now());
    let filter = QueueFilter { message: Some(sent_row.id), ..QueueFilter::default() };
    let queue = server.storage().queue();
    let change = queue.change(sent_row.tenant, &filter, &QueueAction::cancel(), now, None, 10).await.unwrap();
    assert_eq!(change.changed, 2);
    server.pass(DAY).await.unwrap();
    assert_eq!(
        (states(&server).await, sent(&server).await.status),
        (vec![DeliveryState::Cancelled; 2], MessageStatus::Cancelled)
    );
    assert!(server.inbox(BEN).await.unwrap().is_empty() && remote.sessions().is_empty());
}

#[tokio::test]
async fn who_is_gone_by_then_is_told_of() {
    let server = here().start().await.unwrap();
    write(&server, &[BEN], HOUR).await;
    let (tenant, directory) = (sent(&server).await.tenant, server.storage().directory());
    let ben = directory.user_by_address(tenant, &EmailAddress::parse(BEN).unwrap()).await.unwrap().unwrap();
    let mut lock = UserChange::default();
    lock.enabled = Some(false);
    directory.change_user(tenant, ben.id, &lock).await.unwrap();
    server.pass(HOUR).await.unwrap();
    assert_eq!(states(&server).await, [DeliveryState::Bounced]);
    let notice = server.inbox(ALICE).await.unwrap().remove(0);
    assert!(notice.contains("Action: failed") && notice.contains("550 5.2.1"));
}

#[tokio::test]
async fn only_so_far_ahead() {
    let server = here().delivery(|settings| settings.max_future_release = DAY).start().await.unwrap();
    let refused = server.submit_for_later(ALICE, &[BEN], LETTER, DAY + SECOND).await.unwrap();
    assert_eq!(refused[0].code(), 501);
    write(&server, &[BEN], DAY).await;
    let off = here().delivery(|settings| settings.max_future_release = Duration::ZERO).start().await.unwrap();
    assert_eq!(off.submit_for_later(ALICE, &[BEN], LETTER, SECOND).await.unwrap()[0].code(), 555);
}

/// Copies for another tenant are accepted apart from the result: each is there once all the same.
#[tokio::test]
async fn copies_are_made_once_however_often_the_storage_fails() {
    const CAROL: &str = "carol@other.example";
    for spared in 0..4 {
        let server = here().sqlite().start().await.unwrap();
        let directory = server.storage().directory();
        let (other, carol) = (directory.ensure_tenant("other").await.unwrap().id, EmailAddress::parse(CAROL).unwrap());
        directory.create_domain(other, carol.domain()).await.unwrap();
        let carol = NewUser { address: carol, login: None, password: PasswordRecord::of_hash("none") };
        directory.create_user(other, carol).await.unwrap();
        write(&server, &[BEN, CAROL], HOUR).await;
        server.mishaps().once_after(spared, "messages.accept", Mishap::LoseAnswer(StoreErrorKind::Unavailable));
        server.pass(2 * HOUR).await.unwrap();
        assert_eq!(states(&server).await, [DeliveryState::Delivered; 2], "{spared}");
        assert_eq!(server.inbox(BEN).await.unwrap().len(), 1, "{spared}");
        let query = MessageQuery { limit: 10, ..MessageQuery::default() };
        let of_carol = server.storage().messages().list(other, &query).await.unwrap().items;
        assert_eq!(of_carol.iter().map(|row| row.arrival.clone()).collect::<Vec<_>>(), [None], "{spared}");
    }
}
