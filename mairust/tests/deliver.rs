//! Deliveries over days, to hosts that follow scripts: by the clock of the tests, on the code that runs elsewhere.

use std::time::{Duration, Instant};

use mairust::testkit::{
    Act, DnsFailure, Folder, Mishap, Server, ServerSetup, Sink, SinkSession, Step, StoreErrorKind, StoredMessage,
};
use mairust::{Clock, RetryPolicy, Timestamp};
use mairust_store::{DeliveryState, MessageRow, MessageStatus};

const ALICE: &str = "alice@here.example";
const BOB: &str = "bob@remote.example";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn here() -> ServerSetup {
    Server::builder().user(ALICE, "correct horse")
}

async fn start() -> Server {
    here().start().await.unwrap()
}

/// Alice writes to `to`, and the first attempt is made.
async fn write(server: &Server, to: &[&str]) {
    let replies =
        server.submit(ALICE, to, "From: alice@here.example\r\nSubject: hello\r\n\r\nHello!\r\n").await.unwrap();
    assert!(replies.iter().all(mairust::Reply::is_positive), "{replies:?}");
    server.settled().await.unwrap();
}

/// The row of what Alice sent.
async fn sent(server: &Server) -> MessageRow {
    server.folder(ALICE, Folder::Sent).await.unwrap().remove(0).row
}

/// How the delivery stands, for each recipient.
async fn states(server: &Server) -> Vec<(DeliveryState, u32)> {
    let sent = sent(server).await;
    let rows = server.storage().deliveries().recipients(sent.tenant, sent.id).await.unwrap();
    rows.iter().map(|row| (row.state, row.attempts)).collect()
}

/// What Alice was told, the oldest first.
async fn notices(server: &Server) -> Vec<StoredMessage> {
    let mut notices = server.inbox(ALICE).await.unwrap();
    notices.sort_by_key(|notice| notice.row.received_at);
    notices
}

/// Whether an attempt came when it should: the waits double from 2 minutes to 4 hours, and the jitter shortens
/// each by up to a fifth.
fn check_schedule(begin: Timestamp, sessions: &[SinkSession]) {
    let mut longest = 2 * MINUTE;
    assert_eq!(sessions[0].at, begin);
    for pair in sessions.windows(2) {
        let wait = pair[1].at.since(pair[0].at);
        assert!(wait <= longest && wait >= longest.mul_f64(0.8), "{wait:?} instead of {longest:?}");
        longest = (2 * longest).min(4 * HOUR);
    }
    // The attempt at which the message is too old is the last one.
    let ages: Vec<_> = sessions.iter().map(|session| session.at.since(begin)).collect();
    let (last, before) = (ages[ages.len() - 1], ages[ages.len() - 2]);
    assert!(before < 5 * DAY && last >= 5 * DAY && last <= 5 * DAY + 4 * HOUR, "{before:?}, {last:?}");
}

#[tokio::test]
async fn five_days_of_retries_end_in_a_bounce() {
    let server = start().await;
    let remote =
        server.fleet().domain("remote.example", Sink::builder().on(Step::Connect, "421 4.3.2 busy")).await.unwrap();
    let (began, begin) = (Instant::now(), server.clock().now());
    write(&server, &[BOB]).await;
    server.pass(5 * DAY - MINUTE).await.unwrap();
    assert_eq!(states(&server).await[0].0, DeliveryState::Deferred);
    server.pass(DAY).await.unwrap();
    let real_time = began.elapsed();
    let sessions = remote.wait_for_sessions(30).await;
    check_schedule(begin, &sessions);
    assert_eq!(states(&server).await, [(DeliveryState::Bounced, u32::try_from(sessions.len()).unwrap())]);
    let [delay, failure] = <[_; 2]>::try_from(notices(&server).await).unwrap();
    for part in ["Action: failed", "Final-Recipient: rfc822; bob@remote.example", "421 4.3.2 busy", "Subject: hello"] {
        assert!(failure.contains(part), "{part}");
    }
    assert_eq!(failure.row.received_at, sessions.last().unwrap().at, "told with the last attempt");
    let until = format!("Will-Retry-Until: {}", begin.plus(5 * DAY).to_rfc5322());
    for part in ["Action: delayed", "Final-Recipient: rfc822; bob@remote.example", "Status: 4.3.2", &until] {
        assert!(delay.contains(part), "{part}");
    }
    let late = sessions.iter().find(|session| session.at.since(begin) >= 4 * HOUR).unwrap();
    assert_eq!(delay.row.received_at, late.at, "told with the first attempt after four hours");
    // Loose, for busy machines; a pause in real time with each of the 38 attempts would not fit.
    assert!(real_time < Duration::from_secs(10), "{real_time:?} for {} attempts", sessions.len());
    server.pass(30 * DAY).await.unwrap();
    assert_eq!(remote.sessions().len(), sessions.len(), "nothing is tried after the end");
}

#[tokio::test]
async fn a_delay_is_told_with_the_attempt_that_is_recorded() {
    for setup in [here(), here().sqlite()] {
        let server = setup.start().await.unwrap();
        let script = Sink::builder().on(Step::Mail, "451 4.3.0 later");
        let remote = server.fleet().domain("remote.example", script).await.unwrap();
        write(&server, &[BOB, "eve@remote.example"]).await;
        server.pass(3 * HOUR).await.unwrap();
        assert!(notices(&server).await.is_empty());
        // As if another worker had told of it meanwhile: the attempt counts, and the next one tells.
        server.mishaps().once("messages.accept", Mishap::Fail(StoreErrorKind::Conflict));
        let tried = remote.sessions().len();
        while notices(&server).await.is_empty() {
            server.pass(HOUR).await.unwrap();
        }
        let [notice] = <[_; 1]>::try_from(notices(&server).await).unwrap();
        assert!(notice.contains("rfc822; bob@remote.example") && notice.contains("rfc822; eve@remote.example"));
        let later = remote.sessions().len() - tried;
        assert!(later >= 2, "{later} attempts");
        let sent = sent(&server).await;
        let attempts = server.storage().deliveries().attempts(sent.tenant, sent.id).await.unwrap();
        let told: Vec<_> = attempts.iter().filter(|attempt| attempt.notice == Some(notice.row.id)).collect();
        assert_eq!(told.iter().map(|attempt| attempt.at).collect::<Vec<_>>(), [notice.row.received_at; 2]);
        server.pass(DAY).await.unwrap();
        assert_eq!(notices(&server).await.len(), 1);
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_delay_is_not_told_where_that_is_off() {
    let server = here().delivery(|delivery| delivery.delay_notice_after = Duration::ZERO).start().await.unwrap();
    server.fleet().domain("remote.example", Sink::builder().on(Step::Connect, "421 4.3.2 busy")).await.unwrap();
    write(&server, &[BOB]).await;
    server.pass(6 * DAY).await.unwrap();
    let [notice] = <[_; 1]>::try_from(notices(&server).await).unwrap();
    assert!(notice.contains("Action: failed"));
}

#[tokio::test]
async fn a_greylisted_message_comes_with_the_first_attempt_after_the_wait() {
    for setup in [here(), here().sqlite()] {
        let server = setup.start().await.unwrap();
        let remote = server.fleet().domain("remote.example", Sink::builder().greylist(4 * MINUTE)).await.unwrap();
        write(&server, &[BOB]).await;
        assert_eq!(states(&server).await, [(DeliveryState::Deferred, 1)]);
        server.pass(HOUR).await.unwrap();
        let sessions = remote.wait_for_sessions(3).await;
        let message = &remote.wait_for(1).await[0];
        assert_eq!((message.session, message.at), (2, sessions[2].at), "after about 2 and 4 minutes more");
        assert_eq!((message.sender.as_str(), message.recipients.as_slice()), (ALICE, &[BOB.to_owned()][..]));
        assert!(message.body.ends_with(b"\r\n\r\nHello!\r\n"));
        assert_eq!(states(&server).await, [(DeliveryState::Delivered, 3)]);
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_dead_mail_exchanger_leads_to_the_next_one() {
    let server = start().await;
    let fleet = server.fleet();
    fleet.dead_host("mx1.remote.example");
    let busy = fleet.host("mx2.remote.example", Sink::builder().on(Step::Connect, Act::close())).await.unwrap();
    let good = fleet.host("mx3.remote.example", Sink::builder()).await.unwrap();
    for (preference, host) in [(30, "mx3"), (10, "mx1"), (20, "mx2")] {
        server.dns().add_mx("remote.example", preference, &format!("{host}.remote.example"));
    }
    write(&server, &[BOB]).await;
    assert_eq!((busy.sessions().len(), good.messages().len()), (1, 1));
    assert_eq!(states(&server).await, [(DeliveryState::Delivered, 1)]);
}

#[tokio::test]
async fn what_dns_says_is_final_or_not() {
    let server = start().await;
    server.dns().add_null_mx("silent.example");
    let waiting = ["x@servfail.example", "x@slow.example", "x@refused.example"];
    for (domain, failure) in [
        ("servfail.example", DnsFailure::ServFail),
        ("slow.example", DnsFailure::Timeout),
        ("refused.example", DnsFailure::Refused),
    ] {
        server.dns().fail(domain, failure);
    }
    write(&server, &[&waiting[..], &["x@nowhere.example", "x@silent.example"]].concat()).await;
    let mut notices = server.inbox(ALICE).await.unwrap();
    notices.sort_by_key(|notice| notice.contains("silent.example"));
    assert_eq!(notices.len(), 2, "one for each domain that can't take mail");
    for (notice, domain, code) in [(&notices[0], "nowhere.example", "5.1.2"), (&notices[1], "silent.example", "5.1.10")]
    {
        assert!(notice.contains(&format!("rfc822; x@{domain}")), "{domain}");
        assert!(notice.contains(&format!("Status: {code}")), "{domain}");
    }
    let states = states(&server).await;
    let deferred = states.iter().filter(|(state, _)| *state == DeliveryState::Deferred).count();
    assert_eq!(deferred, waiting.len(), "{states:?}");
    for recipient in waiting {
        let domain = recipient.rsplit('@').next().unwrap();
        server.dns().heal(domain);
        server.fleet().domain(domain, Sink::builder()).await.unwrap();
    }
    server.pass(2 * MINUTE).await.unwrap();
    assert_eq!(sent(&server).await.status, MessageStatus::Failed, "two were not reached");
    let delivered = self::states(&server).await.iter().filter(|(state, _)| *state == DeliveryState::Delivered).count();
    assert_eq!(delivered, waiting.len());
}

#[tokio::test]
async fn a_lost_final_reply_is_no_delivery() {
    let server = start().await;
    let script = Sink::builder().on(Step::Message, Act::lose_reply().times(1));
    let remote = server.fleet().domain("remote.example", script).await.unwrap();
    write(&server, &[BOB]).await;
    assert_eq!(states(&server).await, [(DeliveryState::InDoubt, 1)]);
    server.pass(2 * MINUTE).await.unwrap();
    let messages = remote.wait_for(2).await;
    assert_eq!(messages.len(), 2, "the host has it twice: better than not at all");
    assert_eq!(messages[0].body, messages[1].body);
    assert_eq!(states(&server).await, [(DeliveryState::Delivered, 2)]);
}

#[tokio::test]
async fn each_recipient_has_a_fate_of_its_own() {
    let server = start().await;
    let script = Sink::builder()
        .on(Step::RcptTo("no@remote.example".into()), "550 5.1.1 No such user")
        .on(Step::RcptTo("later@remote.example".into()), Act::reply("452 4.2.2 Mailbox full").times(2));
    let remote = server.fleet().domain("remote.example", script).await.unwrap();
    write(&server, &[BOB, "no@remote.example", "later@remote.example"]).await;
    assert_eq!(remote.messages()[0].recipients, [BOB]);
    assert!(server.inbox(ALICE).await.unwrap()[0].contains("5.1.1"));
    server.pass(HOUR).await.unwrap();
    let recipients: Vec<_> = remote.messages().into_iter().map(|message| message.recipients).collect();
    assert_eq!(recipients, [vec![BOB.to_owned()], vec!["later@remote.example".to_owned()]]);
}

#[tokio::test]
async fn retries_go_on_at_their_time_when_the_storage_failed_in_between() {
    let mut retry = RetryPolicy::default();
    retry.max = 10 * MINUTE;
    let server = here().delivery(|delivery| delivery.retry = retry).start().await.unwrap();
    let script = Sink::builder().on(Step::Mail, Act::reply("451 4.3.0 later").times(3));
    let remote = server.fleet().domain("remote.example", script).await.unwrap();
    write(&server, &[BOB]).await;
    server.mishaps().once("deliveries.recipients", Mishap::Fail(StoreErrorKind::Unavailable));
    server.pass(HOUR).await.unwrap();
    assert_eq!(remote.messages().len(), 1);
    let sessions = remote.sessions();
    assert_eq!(sessions.len(), 4);
    assert!(sessions.windows(2).all(|pair| pair[1].at.since(pair[0].at) <= 10 * MINUTE + 10 * Duration::from_secs(1)));
}
