//! Mail that comes back after other servers took it, to return paths that are made for each recipient.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mairust::testkit::{Act, Folder, Server, ServerSetup, Sink, Step, StoredMessage};
use mairust::{
    Clock, Decision, EmailAddress, InDoubt, PolicyEngine, PolicyError, PolicyRequest, ReturnPath, ServerKey, TenantId,
    Timestamp,
};
use mairust_store::{
    Acceptance, Attempt, AttemptOutcome, DeliveryRow, DeliveryState, EventQuery, MessageRow, MessageStatus, NewAlias,
    QueueFilter, Suppression, SuppressionReason,
};
use serde_json::{Value, json};

const ALICE: &str = "alice@here.example";
const BOB: &str = "bob@remote.example";
const EVE: &str = "eve@remote.example";
const MESSAGE: &str = "From: alice@here.example\r\nMessage-ID: <m1@here.example>\r\nSubject: hello\r\n\r\nHello!\r\n";

fn here() -> ServerSetup {
    let setup = Server::builder().user(ALICE, "correct horse");
    setup.delivery(|delivery| delivery.return_path = ReturnPath::Verp).with(|b| b.server_key(ServerKey::new([7; 32])))
}

/// A server, and a host that takes mail for `remote.example`.
async fn start(setup: ServerSetup) -> (Server, Sink) {
    let server = setup.start().await.unwrap();
    let remote = server.fleet().domain("remote.example", Sink::builder()).await.unwrap();
    (server, remote)
}

async fn write(server: &Server, to: &[&str]) {
    let replies = server.submit(ALICE, to, MESSAGE).await.unwrap();
    assert!(replies.iter().all(mairust::Reply::is_positive), "{replies:?}");
    server.settled().await.unwrap();
}

/// What a host answers to mail for an address, without a sender.
async fn bring(server: &Server, to: &str, message: &str) -> String {
    let reply = server.receive("", &[to], message).await.unwrap().remove(0).to_string();
    server.settled().await.unwrap();
    reply
}

/// A report as Postfix writes it.
fn report(action: &str, status: &str, diagnostic: &str) -> String {
    format!(
        "From: MAILER-DAEMON@remote.example\r\nSubject: Undelivered Mail Returned to Sender\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\nMIME-Version: 1.0\r\n\r\n\
         --b\r\n\r\nSorry.\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; mx.remote.example\r\n\r\nFinal-Recipient: rfc822; somebody@inside.example\r\n\
         Action: {action}\r\nStatus: {status}\r\nRemote-MTA: dns; inside.example\r\nDiagnostic-Code: {diagnostic}\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nSubject: hello\r\n\r\n--b--\r\n"
    )
}

fn no_such_user() -> String {
    report("failed", "5.1.1", "smtp; 550 5.1.1 no such user")
}

async fn sent(server: &Server) -> MessageRow {
    server.folder(ALICE, Folder::Sent).await.unwrap().remove(0).row
}

async fn recipients(server: &Server) -> Vec<DeliveryRow> {
    let sent = sent(server).await;
    server.storage().deliveries().recipients(sent.tenant, sent.id).await.unwrap()
}

async fn states(server: &Server) -> Vec<DeliveryState> {
    recipients(server).await.iter().map(|row| row.state).collect()
}

async fn suppressed(server: &Server) -> Vec<Suppression> {
    let tenant = sent(server).await.tenant;
    server.storage().suppressions().list(tenant, None, 100).await.unwrap().items
}

/// What was told of mail that failed.
async fn bounces(server: &Server) -> Vec<Value> {
    let query = EventQuery { kinds: vec!["message.bounced".to_owned()], limit: 100, ..EventQuery::default() };
    let tenant = sent(server).await.tenant;
    let events = server.storage().events().list(tenant, &query).await.unwrap().items;
    events.into_iter().map(|event| event.data).collect()
}

async fn inbox(server: &Server) -> Vec<StoredMessage> {
    server.inbox(ALICE).await.unwrap()
}

#[tokio::test]
async fn a_report_bounces_a_recipient_once() {
    for setup in [here(), here().sqlite()] {
        let (server, remote) = start(setup).await;
        write(&server, &[BOB]).await;
        let return_path = remote.messages()[0].sender.clone();
        let (local, domain) = return_path.split_once('@').unwrap();
        assert!(local.starts_with("bounces+") && local.len() <= 64 && domain == "here.example", "{return_path}");
        assert_eq!(states(&server).await, [DeliveryState::Delivered]);
        server.pass(Duration::from_secs(3_600)).await.unwrap();
        let (reported_at, mut first) = (server.clock().now(), None);
        for (copies, to) in [(1, return_path.to_uppercase()), (2, return_path.clone())] {
            assert!(bring(&server, &to, &no_such_user()).await.starts_with("250 2.0.0 "));
            let row = recipients(&server).await.remove(0);
            assert_eq!((row.state, row.attempts, row.updated_at), (DeliveryState::Bounced, 1, reported_at));
            assert_eq!(sent(&server).await.status, MessageStatus::Failed);
            let all = inbox(&server).await;
            assert_eq!(all.len(), copies, "each report comes to the sender");
            first = first.or(all.into_iter().next());
            assert_eq!((bounces(&server).await.len(), suppressed(&server).await.len()), (1, 1));
        }
        let copy = first.unwrap();
        assert_eq!(copy.row.address.to_string(), ALICE);
        assert!(copy.contains("Action: failed") && copy.contains("Return-Path: <>"));
        let told = bounces(&server).await.remove(0);
        assert_eq!((&told["late"], &told["attempt"], &told["recipient"]), (&json!(true), &json!(1), &json!(BOB)));
        assert_eq!((&told["host"], &told["mail_from"]), (&json!("mx.remote.example"), &json!(ALICE)));
        assert_eq!(told["reply"], json!({"code": 550, "enhanced": "5.1.1", "text": "no such user"}));
        assert_eq!(told["result"], "it came back: inside.example said 550 5.1.1 no such user");
        assert_eq!(told["notice_id"], copy.row.id.to_string());
        let entry = suppressed(&server).await.remove(0);
        assert_eq!((entry.address.to_string().as_str(), entry.reason), (BOB, SuppressionReason::Bounce));
        assert_eq!(entry.detail.as_deref(), Some("550 5.1.1 no such user"));
        let sent = sent(&server).await;
        let attempts = server.storage().deliveries().attempts(sent.tenant, sent.id).await.unwrap();
        let outcomes: Vec<_> = attempts.iter().map(|attempt| (attempt.outcome, attempt.notice)).collect();
        assert_eq!(outcomes, [(AttemptOutcome::Delivered, None), (AttemptOutcome::Reported, Some(copy.row.id))]);
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_reports_no_failure_only_comes_to_the_sender() {
    let (server, remote) = start(here()).await;
    write(&server, &[BOB]).await;
    let return_path = remote.messages()[0].sender.clone();
    let others = [
        "Subject: I am away\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n".to_owned(),
        report("delayed", "4.4.1", "smtp; 451 4.4.1 later"),
        report("relayed", "2.0.0", "smtp; 250 2.0.0 passed on"),
        no_such_user().replace("message/delivery-status", "text/plain"),
    ];
    for (copies, message) in (1..).zip(others) {
        assert!(bring(&server, &return_path, &message).await.starts_with("250 "));
        assert_eq!((states(&server).await, inbox(&server).await.len()), (vec![DeliveryState::Delivered], copies));
    }
    assert!(bounces(&server).await.is_empty() && suppressed(&server).await.is_empty());
    let full = report("failed", "5.2.2", "smtp; 552 5.2.2 mailbox full");
    assert!(server.receive("mailer@remote.example", &[&return_path], full).await.unwrap()[0].is_positive());
    assert_eq!(states(&server).await, [DeliveryState::Bounced], "whoever the report says that it is from");
    assert!(suppressed(&server).await.is_empty(), "there is such a mailbox");
}

#[tokio::test]
async fn nobody_reports_for_others() {
    let (server, remote) = start(here()).await;
    write(&server, &[BOB, EVE]).await;
    let mut paths: Vec<_> = remote.messages().iter().map(|message| message.sender.clone()).collect();
    paths.dedup();
    assert_eq!(paths.len(), 2, "each recipient has a return path");
    let changed = paths[0].replace("bounces+", "bounces+a");
    let forged = format!("{}{}", &changed[..8], if &changed[9..10] == "a" { "b" } else { "a" }) + &paths[0][9..];
    assert!(bring(&server, &forged, &no_such_user()).await.starts_with("550 5.1.1 "));
    assert!(bring(&server, "bounces@here.example", &no_such_user()).await.starts_with("550 5.1.1 "));
    // That the report names whomever it likes does not matter.
    let other = no_such_user().replace("somebody@inside.example", EVE);
    assert!(bring(&server, &paths[0], &other).await.starts_with("250 "));
    let bounced: Vec<_> = recipients(&server).await.into_iter().filter(|r| r.state == DeliveryState::Bounced).collect();
    let of_first = remote.messages()[0].recipients[0].clone();
    assert_eq!(bounced.iter().map(|row| row.address.to_string()).collect::<Vec<_>>(), [of_first]);
}

/// Hears of refusals.
#[derive(Debug, Clone, Default)]
struct Listening(Arc<Mutex<Vec<(String, u32)>>>);

#[async_trait]
impl PolicyEngine for Listening {
    async fn evaluate(&self, _: &PolicyRequest, _: Timestamp) -> Result<Decision, PolicyError> {
        Ok(Decision::Allow)
    }

    async fn bounced(&self, _: TenantId, sender: &EmailAddress, recipients: u32, _: Timestamp) {
        self.0.lock().unwrap().push((sender.to_string(), recipients));
    }
}

#[tokio::test]
async fn the_policy_hears_of_refusals_that_come_late() {
    let heard = Listening::default();
    let engine = heard.clone();
    let (server, remote) = start(here().with(|builder| builder.policy(engine))).await;
    write(&server, &[BOB, EVE]).await;
    let paths: Vec<_> = remote.messages().iter().map(|message| message.sender.clone()).collect();
    bring(&server, &paths[0], &no_such_user()).await;
    bring(&server, &paths[0], &no_such_user()).await;
    bring(&server, &paths[1], &report("failed", "4.4.1", "x-unix; nobody answered for days")).await;
    assert_eq!(states(&server).await, [DeliveryState::Bounced; 2]);
    assert_eq!(*heard.0.lock().unwrap(), [(ALICE.to_owned(), 1)]);
}

#[tokio::test]
async fn what_comes_back_comes_alone() {
    let (server, remote) = start(here()).await;
    write(&server, &[BOB]).await;
    let path = remote.messages()[0].sender.clone();
    for to in [[ALICE, &path], [&path, ALICE]] {
        let replies = server.receive("", &to, no_such_user()).await.unwrap();
        assert!(replies[0].is_positive() && replies[1].to_string().starts_with("452 4.5.3 "), "{replies:?}");
    }
    assert_eq!((states(&server).await, inbox(&server).await.len()), (vec![DeliveryState::Bounced], 2));
}

#[tokio::test]
async fn without_the_setting_the_sender_stays() {
    let setup = here().delivery(|delivery| delivery.return_path = ReturnPath::Sender);
    let (server, remote) = start(setup).await;
    write(&server, &[BOB, EVE]).await;
    assert_eq!((remote.messages().len(), remote.messages()[0].sender.as_str()), (1, ALICE));
}

#[tokio::test]
async fn what_is_sent_on_keeps_its_sender() {
    let (server, remote) = start(here()).await;
    let directory = server.storage().directory();
    let tenant = directory.tenants().await.unwrap()[0].id;
    let address = |text: &str| EmailAddress::parse(text).unwrap();
    let alias = NewAlias { address: address("team@here.example"), targets: vec![address(BOB)] };
    directory.create_alias(tenant, alias).await.unwrap();
    for sender in ["carol@sender.example", ALICE] {
        assert!(server.receive(sender, &["team@here.example"], MESSAGE).await.unwrap()[0].is_positive());
        server.settled().await.unwrap();
        assert_eq!(remote.messages().last().unwrap().sender, sender);
    }
}

#[tokio::test]
async fn each_recipient_fares_apart() {
    let setup = here().delivery(|delivery| delivery.idle_time = Duration::from_secs(5));
    let (server, remote) = start(setup).await;
    remote.on(Step::RcptTo(EVE.to_owned()), "550 5.1.1 no such user");
    let many: Vec<_> = (0..5).map(|number| format!("r{number}@remote.example")).collect();
    let mut to: Vec<_> = many.iter().map(String::as_str).collect();
    to.insert(2, EVE);
    write(&server, &to).await;
    let mut reached: Vec<_> = remote.messages().iter().flat_map(|message| message.recipients.clone()).collect();
    reached.sort_unstable();
    assert_eq!(reached, many);
    let bounced = states(&server).await.iter().filter(|state| **state == DeliveryState::Bounced).count();
    assert_eq!((bounced, bounces(&server).await[0]["late"].clone()), (1, json!(false)));
    assert_eq!((inbox(&server).await.len(), suppressed(&server).await.len()), (1, 1));
    assert_eq!(remote.sessions().len(), 1, "one transaction after the other");
}

#[tokio::test]
async fn who_could_not_be_tried_waits_with_the_others() {
    for (answer, asked) in [("421 4.3.2 enough", 2), ("451 4.7.1 too many messages", 2), ("451 4.7.1 greylisted", 6)] {
        let (server, remote) = start(here()).await;
        remote.on(Step::Mail, Act::reply("250 2.1.0 fine").times(1));
        remote.on(Step::Mail, answer);
        let many: Vec<_> = (0..6).map(|number| format!("r{number}@remote.example")).collect();
        write(&server, &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(remote.messages().len(), 1);
        let commands: Vec<_> = remote.sessions().into_iter().flat_map(|session| session.commands).collect();
        assert_eq!(commands.iter().filter(|command| command.starts_with("MAIL")).count(), asked, "{answer}");
        let rows = recipients(&server).await;
        let waiting: Vec<_> = rows.iter().filter(|row| row.state == DeliveryState::Deferred).collect();
        assert!(waiting.len() == 5 && waiting.iter().all(|row| row.attempts == 1), "{rows:?}");
        remote.clear();
        server.pass(Duration::from_secs(300)).await.unwrap();
        assert_eq!((remote.messages().len(), sent(&server).await.status), (6, MessageStatus::Sent));
    }
}

#[tokio::test]
async fn each_recipient_counts_for_the_rate_of_the_domain() {
    let limited = |delivery: &mut mairust::DeliverySettings| {
        delivery.return_path = ReturnPath::Verp;
        delivery.rate_per_domain = Some("2/1m".parse().unwrap());
    };
    let (server, remote) = start(here().delivery(limited)).await;
    let other = server.fleet().domain("other.example", Sink::builder()).await.unwrap();
    write(&server, &["a@remote.example", "b@remote.example", "c@remote.example", "d@remote.example"]).await;
    assert_eq!(remote.messages().len(), 4);
    // Two more than there might be: the next one has to wait for three.
    server.submit(ALICE, &[BOB], MESSAGE).await.unwrap();
    server.clock().advance(Duration::from_secs(80));
    // What comes in has the workers look.
    server.submit(ALICE, &["carol@other.example"], MESSAGE).await.unwrap();
    assert_eq!((other.wait_for(1).await.len(), remote.messages().len()), (1, 4));
    server.clock().advance(Duration::from_secs(20));
    assert_eq!(remote.wait_for(5).await.len(), 5);
    server.settled().await.unwrap();
}

#[tokio::test]
async fn a_full_mailbox_is_in_no_reports_way() {
    let setup = here().with(|builder| builder.mailbox_quota(1_000));
    let (server, remote) = start(setup).await;
    write(&server, &[BOB]).await;
    let return_path = remote.messages()[0].sender.clone();
    let large = format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(100));
    server.receive("carol@sender.example", &[ALICE], large).await.unwrap();
    assert!(bring(&server, ALICE, "Subject: x\r\n\r\n").await.starts_with("452 4.2.2 "));
    assert!(bring(&server, &return_path, "Subject: x\r\n\r\n").await.starts_with("452 4.2.2 "));
    let before = inbox(&server).await.len();
    assert!(bring(&server, &return_path, &no_such_user()).await.starts_with("250 "));
    assert_eq!((states(&server).await, inbox(&server).await.len()), (vec![DeliveryState::Bounced], before + 1));
    assert!(bring(&server, &return_path, &no_such_user()).await.starts_with("452 4.2.2 "), "it changes nothing");
}

#[tokio::test]
async fn a_report_settles_what_was_in_doubt() {
    let (server, remote) = start(here().delivery(|delivery| delivery.in_doubt = InDoubt::Hold)).await;
    remote.on(Step::Message, Act::lose_reply().times(1));
    write(&server, &[BOB]).await;
    assert_eq!(states(&server).await, [DeliveryState::InDoubt]);
    let session = remote.sessions().remove(0);
    let mail = session.commands.iter().find_map(|command| command.strip_prefix("MAIL FROM:<")).unwrap();
    let return_path = mail.split('>').next().unwrap().to_owned();
    let (sent, recipient) = (sent(&server).await, recipients(&server).await.remove(0).id);
    let begun = Attempt {
        recipient,
        at: server.clock().now(),
        outcome: AttemptOutcome::Begun,
        host: None,
        result: "being sent".to_owned(),
        notice: None,
        facts: None,
    };
    let record = async |attempt: Attempt| {
        let acceptance = Acceptance { attempts: vec![attempt], ..Acceptance::new(sent.tenant) };
        server.storage().messages().accept(vec![acceptance]).await.remove(0).unwrap();
    };
    record(begun.clone()).await;
    assert!(bring(&server, &return_path, &no_such_user()).await.starts_with("451 4.3.0 "), "it is being sent again");
    assert!(inbox(&server).await.is_empty());
    record(Attempt { outcome: AttemptOutcome::InDoubt, ..begun }).await;
    assert!(bring(&server, &return_path, &no_such_user()).await.starts_with("250 "));
    assert_eq!(states(&server).await, [DeliveryState::Bounced]);
    let items = server.storage().queue().items(sent.tenant, &QueueFilter::default(), None, 10).await.unwrap();
    assert!(items.is_empty(), "nothing is held that nobody waits for: {items:?}");
    assert_eq!(remote.sessions().len(), 1);
}

#[tokio::test]
async fn mail_that_is_not_kept_any_more_does_not_come_back() {
    for setup in [here(), here().sqlite()] {
        let (server, remote) = start(setup).await;
        write(&server, &[BOB, EVE]).await;
        let (paths, sent) = (remote.messages(), sent(&server).await);
        let (lifecycle, deliveries) = (server.storage().lifecycle(), server.storage().deliveries());
        lifecycle.delete(sent.tenant, sent.id, server.clock().now()).await.unwrap();
        assert!(bring(&server, &paths[0].sender, &no_such_user()).await.starts_with("250 "), "deleted is not purged");
        let rows = deliveries.recipients(sent.tenant, sent.id).await.unwrap();
        assert_eq!(rows.iter().filter(|row| row.state == DeliveryState::Bounced).count(), 1);
        lifecycle.purge(sent.tenant, sent.id).await.unwrap();
        assert!(bring(&server, &paths[1].sender, &no_such_user()).await.starts_with("550 5.1.1 "));
    }
}
