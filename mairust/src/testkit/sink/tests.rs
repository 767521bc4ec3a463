use mairust_core::{Body, EmailAddress, ManualClock, ReversePath};
use mairust_smtp::client::{Client, ClientConfig, Outcome, Outgoing, RecipientReport, Relay, RelayTls, Route};

use super::*;
use crate::testkit::Dns;

const MESSAGE: &str = "Subject: x\r\n\r\n.hello\r\n..\r\n";

async fn deliver(dns: &Dns, route: Route, recipients: &[&str]) -> Vec<RecipientReport> {
    let mut config = ClientConfig::new("out.test".parse().unwrap());
    (config.allow_loopback, config.idle_time) = (true, Duration::ZERO);
    let sender = ReversePath::Address(EmailAddress::parse("me@out.test").unwrap());
    let recipients = recipients.iter().map(|text| EmailAddress::parse(text).unwrap());
    let outgoing = Outgoing::new(sender, recipients, Body::from(MESSAGE.as_bytes().to_vec()));
    Client::new(config, Arc::new(dns.clone())).deliver(&route, &outgoing, &()).await
}

async fn send(sink: &Sink, recipients: &[&str]) -> Vec<(Outcome, String)> {
    let address = sink.address();
    let route = Route::Relay(Relay::new(address.ip().to_string(), address.port()));
    let reports = deliver(&Dns::new(), route, recipients).await;
    reports.into_iter().map(|report| (report.outcome, report.detail)).collect()
}

fn rcpt(address: &str) -> Step {
    Step::RcptTo(address.to_owned())
}

#[tokio::test]
async fn takes_mail_byte_for_byte() {
    let sink = Sink::builder().start().await.unwrap();
    assert_eq!(send(&sink, &["a@x.test", "b@x.test"]).await[0].0, Outcome::Delivered);
    let messages = sink.wait_for(1).await;
    assert_eq!(
        (messages[0].sender.as_str(), &messages[0].recipients[..]),
        ("me@out.test", &["a@x.test".to_owned(), "b@x.test".to_owned()][..])
    );
    assert_eq!(messages[0].body, MESSAGE.as_bytes());
    assert!(!messages[0].tls);
    let sessions = sink.wait_for_sessions(1).await;
    assert_eq!(sessions[0].commands.first().unwrap(), "EHLO out.test");
    assert_eq!(sessions[0].commands.last().unwrap(), "QUIT");
    assert_eq!(sessions[0].replies[0], "220 sink.test ESMTP");
}

#[tokio::test]
async fn does_at_each_step_what_it_is_told() {
    let sink = Sink::builder()
        .on(rcpt("No@x.test"), "550 5.1.1 unknown")
        .on(Step::Rcpt, Act::reply("451 4.2.1 later").times(1))
        .start()
        .await
        .unwrap();
    let outcomes = send(&sink, &["a@x.test", "no@X.test", "b@x.test"]).await;
    assert_eq!(outcomes[0], (Outcome::Deferred, "451 4.2.1 later".to_owned()));
    assert_eq!(outcomes[1], (Outcome::Failed, "550 5.1.1 unknown".to_owned()));
    assert_eq!(outcomes[2].0, Outcome::Delivered);
    for (step, act, outcome) in [
        (Step::Connect, Act::reply("421 4.3.2 busy"), Outcome::Deferred),
        (Step::Connect, Act::close(), Outcome::Deferred),
        (Step::Ehlo, Act::reply("nonsense"), Outcome::Deferred),
        (Step::Mail, Act::reply("550-no\n451 mixed"), Outcome::Deferred),
        (Step::Data, Act::reply("554 5.7.1 no"), Outcome::Failed),
        (Step::Message, Act::close(), Outcome::InDoubt),
        (Step::Message, Act::reply("554 5.7.1 spam").and_close(), Outcome::Failed),
    ] {
        sink.clear();
        sink.on(step.clone(), act.clone());
        assert_eq!(send(&sink, &["a@x.test"]).await[0].0, outcome, "{step:?} {act:?}");
    }
    assert_eq!(sink.messages().len(), 1, "what is not taken is no message");
}

#[tokio::test]
async fn a_lost_reply_leaves_the_message_behind() {
    let sink = Sink::builder().on(Step::Message, Act::lose_reply().times(1)).start().await.unwrap();
    assert_eq!(send(&sink, &["a@x.test"]).await[0].0, Outcome::InDoubt);
    assert_eq!(sink.messages().len(), 1);
    assert_eq!(send(&sink, &["a@x.test"]).await[0].0, Outcome::Delivered);
    assert_eq!(sink.messages().len(), 2);
}

#[tokio::test]
async fn waits_before_its_replies() {
    let delay = Duration::from_millis(20);
    let sink = Sink::builder().tarpit(delay).on(Step::Data, Act::reply("354 go").after(delay)).start().await.unwrap();
    let begin = std::time::Instant::now();
    assert_eq!(send(&sink, &["a@x.test"]).await[0].0, Outcome::Delivered);
    // Greeting, EHLO, MAIL, RCPT, DATA and once more, message.
    assert!(begin.elapsed() >= delay * 7, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn tls_works_or_is_broken() {
    for (tls, encrypted, sessions) in [
        (SinkTls::SelfSigned, true, 1),
        (SinkTls::SelfSignedFor("other.test".into()), true, 1),
        (SinkTls::Broken, false, 2),
    ] {
        let sink = Sink::builder().tls(tls.clone()).start().await.unwrap();
        assert_eq!(send(&sink, &["a@x.test"]).await[0].0, Outcome::Delivered, "{tls:?}");
        assert_eq!(sink.messages()[0].tls, encrypted, "{tls:?}");
        assert_eq!(sink.wait_for_sessions(sessions).await.len(), sessions, "{tls:?}");
    }
}

#[tokio::test]
async fn tls_from_the_first_octet() {
    let sink = Sink::builder().implicit_tls().start().await.unwrap();
    let address = sink.address();
    let mut relay = Relay::new(address.ip().to_string(), address.port());
    relay.tls = RelayTls::Implicit;
    let reports = deliver(&Dns::new(), Route::Relay(relay), &["a@x.test"]).await;
    // Nobody believes its certificate, but the handshake comes as far as that.
    assert_eq!(reports[0].outcome, Outcome::Deferred);
    assert!(reports[0].detail.contains("certificate"), "{}", reports[0].detail);
}

#[tokio::test]
async fn greylisting_goes_by_the_clock() {
    let clock = Arc::new(ManualClock::default());
    let sink = Sink::builder().clock(clock.clone()).greylist(Duration::from_secs(300)).start().await.unwrap();
    assert_eq!(send(&sink, &["a@x.test"]).await[0].0, Outcome::Deferred);
    clock.advance(Duration::from_secs(299));
    assert_eq!(send(&sink, &["a@x.test"]).await[0].0, Outcome::Deferred);
    clock.advance(Duration::from_secs(1));
    let outcomes = send(&sink, &["a@x.test", "b@x.test"]).await;
    assert_eq!((outcomes[0].0, outcomes[1].0), (Outcome::Delivered, Outcome::Deferred));
}

#[tokio::test]
async fn a_fleet_is_found_by_dns() {
    let dns = Dns::new();
    let fleet = Fleet::new(&dns).unwrap();
    let good = fleet.host("mx2.remote.test", Sink::builder()).await.unwrap();
    fleet.dead_host("mx1.remote.test");
    dns.add_mx("remote.test", 10, "mx1.remote.test").add_mx("remote.test", 20, "mx2.remote.test");
    let only = fleet.domain("other.test", Sink::builder()).await.unwrap();
    for (domain, sink) in [("remote.test", &good), ("other.test", &only)] {
        let route = Route::Mx { domain: domain.parse().unwrap(), port: fleet.port() };
        let reports = deliver(&dns, route, &[&format!("a@{domain}")]).await;
        assert_eq!(reports[0].outcome, Outcome::Delivered, "{reports:?}");
        assert_eq!(sink.messages().len(), 1);
    }
    assert_eq!(good.sessions()[0].replies[0], "220 mx2.remote.test ESMTP");
}
