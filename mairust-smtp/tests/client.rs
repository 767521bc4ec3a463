//! The client against our own server and against sinks that follow a script.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{
    Body, Domain, EmailAddress, EnhancedCode, EnvelopeId, MessageDsn, Notify, OriginalRecipient, RecipientDsn, Return,
    ReversePath,
};
use mairust_smtp::client::{
    Client, ClientConfig, FakeResolver, LineEnds, MxHost, Notices, Outcome, Outgoing, RecipientReport, Relay, Route,
};
use mairust_smtp::server::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::live::read_line;
use crate::support::{PATIENCE, Running, config, with_tls};

/// What a sink does when a line starts with a word: answers, or cuts the connection.
pub(crate) type Rule = (&'static str, Option<&'static str>);

/// A host that follows rules; it ends with the lines it was sent.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    task: JoinHandle<Vec<String>>,
}

impl Sink {
    /// Serves `connections` connections. A rule for `.` is for the end of data, one for nothing
    /// is the greeting; what has no rule is answered 250.
    pub(crate) async fn start(connections: usize, rules: &'static [Rule]) -> Self {
        Self::listen("127.0.0.1:0", vec![rules; connections]).await
    }

    /// Serves one connection for each of these sets of rules, one after the other.
    pub(crate) async fn listen(address: &str, each: Vec<&'static [Rule]>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut heard = Vec::new();
            for rules in each {
                let (stream, _) = listener.accept().await.unwrap();
                serve(stream, rules, &mut heard).await;
            }
            heard
        });
        Self { address, task }
    }

    pub(crate) async fn heard(self) -> Vec<String> {
        timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

async fn serve(mut stream: TcpStream, rules: &[Rule], heard: &mut Vec<String>) {
    let rule = |line: &str| match line {
        "" => rules.iter().find(|(word, _)| word.is_empty()).map_or(Some("220 sink"), |rule| rule.1),
        line => {
            let found = rules.iter().find(|(word, _)| !word.is_empty() && line.starts_with(word));
            found.map_or(Some(if line == "DATA" { "354 go" } else { "250 fine" }), |rule| rule.1)
        }
    };
    let (mut line, mut in_data) = (String::new(), false);
    loop {
        if !in_data || line == "." {
            let Some(answer) = rule(&line) else { return };
            in_data = answer.starts_with("354");
            if stream.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                return;
            }
            if line == "STARTTLS" && answer.starts_with("220") {
                // A broken handshake: no TLS comes from here.
                let mut hello = [0; 16];
                let _ = stream.read(&mut hello).await;
                let _ = stream.write_all(b"this is no TLS record\r\n").await;
                return;
            }
            if line == "QUIT" {
                return;
            }
        }
        line = read_line(&mut stream).await;
        if line.is_empty() && !in_data {
            return;
        }
        heard.push(line.clone());
    }
}

fn client() -> Client {
    with_resolver(FakeResolver::new())
}

fn with_resolver(resolver: FakeResolver) -> Client {
    Client::new(settings(), Arc::new(resolver))
}

/// For a client that meets hosts of this machine, and keeps no connection.
pub(crate) fn settings() -> ClientConfig {
    let mut config = ClientConfig::new(Domain::parse("out.test").unwrap());
    config.allow_loopback = true;
    config.idle_time = Duration::ZERO;
    config
}

pub(crate) fn relay(address: SocketAddr) -> Route {
    Route::Relay(Relay::new(address.ip().to_string(), address.port()))
}

pub(crate) fn message(recipients: &[&str]) -> Outgoing {
    let sender = ReversePath::Address(EmailAddress::parse("me@out.test").unwrap());
    let recipients = recipients.iter().map(|text| EmailAddress::parse(text).unwrap());
    Outgoing::new(sender, recipients, Body::from(b"Subject: x\r\n\r\n.hello\r\n".to_vec()))
}

pub(crate) fn outcomes(reports: &[RecipientReport]) -> Vec<Outcome> {
    reports.iter().map(|report| report.outcome).collect()
}

#[tokio::test]
async fn each_recipient_has_an_answer_of_its_own() {
    let rules: &[Rule] = &[
        ("EHLO", Some("250-sink\r\n250-PIPELINING\r\n250 SIZE 100")),
        ("RCPT TO:<later@", Some("451 4.2.1 later")),
        ("RCPT TO:<\"no body\"@", Some("550 5.1.1 unknown")),
        (".", Some("250 2.0.0 queued")),
    ];
    let sink = Sink::start(1, rules).await;
    let reports = client()
        .deliver(&relay(sink.address), &message(&["a@x.y", "later@x.y", "\"no body\"@x.y", "b@x.y"]), &())
        .await;
    assert_eq!(outcomes(&reports), [Outcome::Delivered, Outcome::Deferred, Outcome::Failed, Outcome::Delivered]);
    assert_eq!(reports[2].reply.as_ref().unwrap().enhanced(), Some(EnhancedCode(5, 1, 1)));
    assert_eq!(reports[0].detail, "250 2.0.0 queued");
    assert_eq!(reports[1].recipient.to_string(), "later@x.y");
    let port = sink.address.port();
    assert_eq!(reports[0].host.as_deref(), Some(&*format!("127.0.0.1[127.0.0.1]:{port}")));
    let heard = sink.heard().await;
    assert_eq!(heard[1], "MAIL FROM:<me@out.test> SIZE=22");
    assert!(heard.contains(&"..hello".to_owned()), "{heard:?}");
    assert_eq!(heard.last().unwrap(), "QUIT");
}

#[tokio::test]
async fn a_refused_message_fails_for_those_who_were_accepted() {
    let sink = Sink::start(1, &[("RCPT TO:<later@", Some("450 later")), (".", Some("554 5.7.1 spam"))]).await;
    let reports = client().deliver(&relay(sink.address), &message(&["a@x.y", "later@x.y"]), &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Failed, Outcome::Deferred]);
    assert_eq!(reports[0].detail, "554 5.7.1 spam");
}

#[tokio::test]
async fn a_refused_sender_and_a_refusing_host_are_for_everyone() {
    for (rules, outcome) in [
        (&[("MAIL", Some("550 5.7.1 no"))] as &'static [Rule], Outcome::Failed),
        (&[("MAIL", Some("451 4.7.1 later"))], Outcome::Deferred),
        (&[("", Some("554 no mail here"))], Outcome::Failed),
        (&[("", Some("421 busy"))], Outcome::Deferred),
        (&[("EHLO", Some("502 what")), ("HELO", Some("550 no"))], Outcome::Failed),
        (&[("DATA", Some("451 4.3.0 later"))], Outcome::Deferred),
        (&[("DATA", Some("554 5.0.0 no"))], Outcome::Failed),
        (&[("RCPT", Some("250-x\r\n550 mixed"))], Outcome::Deferred),
        (&[("EHLO", None)], Outcome::Deferred),
    ] {
        let sink = Sink::start(1, rules).await;
        let reports = client().deliver(&relay(sink.address), &message(&["a@x.y", "b@x.y"]), &()).await;
        assert_eq!(outcomes(&reports), [outcome; 2], "{rules:?}");
    }
}

#[tokio::test]
async fn a_host_without_ehlo_gets_helo() {
    let sink = Sink::start(1, &[("EHLO", Some("500 what"))]).await;
    let reports = client().deliver(&relay(sink.address), &message(&["a@x.y"]), &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Delivered]);
    assert_eq!(sink.heard().await[1..3], ["HELO out.test", "MAIL FROM:<me@out.test>"]);
}

/// A domain with two exchangers at one port: `first.test`, which follows these rules, and `second.test`.
async fn two_exchangers(rules: &'static [Rule]) -> (Vec<RecipientReport>, [Vec<String>; 2]) {
    let first = Sink::start(1, rules).await;
    let port = first.address.port();
    let second = Sink::listen(&format!("127.0.0.2:{port}"), vec![&[]]).await;
    let domain = Domain::parse("example.org").unwrap();
    let mx = |preference, host: &str| MxHost { preference, host: host.to_owned() };
    let resolver = FakeResolver::new()
        .with_mx(domain.as_str(), Ok(vec![mx(20, "second.test"), mx(10, "first.test"), mx(5, "gone.test")]))
        .with_addresses("first.test", Ok(vec!["127.0.0.1".parse().unwrap()]))
        .with_addresses("second.test", Ok(vec!["127.0.0.2".parse().unwrap()]));
    let route = Route::Mx { domain, port };
    let reports = with_resolver(resolver).deliver(&route, &message(&["a@example.org", "b@example.org"]), &()).await;
    if outcomes(&reports) != [Outcome::Delivered; 2] {
        second.task.abort();
        return (reports, [first.heard().await, Vec::new()]);
    }
    assert_eq!(reports[0].host.as_deref(), Some(&*format!("second.test[127.0.0.2]:{port}")));
    (reports, [first.heard().await, second.heard().await])
}

#[tokio::test]
async fn what_may_pass_leads_to_the_next_host() {
    for rules in [
        &[("", Some("421 busy"))] as &'static [Rule],
        &[("", None)],
        &[("EHLO", Some("451 later"))],
        &[("EHLO", None)],
        &[("MAIL", Some("451 4.7.1 later"))],
        &[("MAIL", Some("421 4.7.1 enough"))],
        &[("MAIL", None)],
        &[("RCPT", None)],
    ] {
        let (reports, heard) = two_exchangers(rules).await;
        assert_eq!(outcomes(&reports), [Outcome::Delivered; 2], "{rules:?}");
        assert!(!heard[0].contains(&"DATA".to_owned()) && heard[1].contains(&"DATA".to_owned()), "{rules:?}");
    }
}

#[tokio::test]
async fn what_is_decided_does_not_go_on() {
    for (rules, expected) in [
        (&[("MAIL", Some("550 5.7.1 no"))] as &'static [Rule], [Outcome::Failed; 2]),
        (&[("RCPT TO:<a@", Some("450 4.2.1 full"))], [Outcome::Deferred, Outcome::Delivered]),
        (&[("RCPT TO:<a@", Some("550 5.1.1 no")), ("RCPT TO:<b@", None)], [Outcome::Failed, Outcome::Deferred]),
        (&[("DATA", Some("451 4.3.0 later"))], [Outcome::Deferred; 2]),
        (&[(".", Some("451 4.3.0 later"))], [Outcome::Deferred; 2]),
        (&[(".", None)], [Outcome::InDoubt; 2]),
    ] {
        let (reports, heard) = two_exchangers(rules).await;
        assert_eq!(outcomes(&reports), expected, "{rules:?}");
        assert_eq!(heard[1], [] as [String; 0], "{rules:?}");
    }
}

#[tokio::test]
async fn a_refused_sender_and_a_cut_connection_fail_nobody() {
    // The reply to RCPT says nothing, for there is no sender.
    let rules: &[Rule] = &[
        ("EHLO", Some("250-sink\r\n250 PIPELINING")),
        ("MAIL", Some("451 4.7.1 later")),
        ("RCPT TO:<a@", Some("550 5.5.1 no sender")),
        ("RCPT TO:<b@", None),
    ];
    let sink = Sink::start(1, rules).await;
    let reports = client().deliver(&relay(sink.address), &message(&["a@x.y", "b@x.y"]), &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Deferred; 2]);
    assert_eq!(reports[0].detail, "451 4.7.1 later");
}

#[tokio::test]
async fn mail_to_our_own_server_goes_under_tls() {
    let server = Running::start(with_tls(config()), Service::Mx);
    let mut outgoing = message(&["a@x.y", "nobody@x.y"]);
    outgoing.body = Body::from("Subject: ü\n\n.\n.\r\nbare\rend".as_bytes().to_vec());
    let reports = client().deliver(&relay(server.address), &outgoing, &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Delivered, Outcome::Failed]);
    let taken = server.script.taken();
    assert!(taken[0].tls);
    assert_eq!(taken[0].recipients, ["<a@x.y>"]);
    assert_eq!(taken[0].body, "Subject: ü\r\n\r\n.\r\n.\r\nbare\r\nend\r\n".as_bytes());
}

#[tokio::test]
async fn a_broken_handshake_leads_to_plain_text() {
    let sink = Sink::start(2, &[("EHLO", Some("250-sink\r\n250 STARTTLS")), ("STARTTLS", Some("220 go"))]).await;
    let reports = client().deliver(&relay(sink.address), &message(&["a@x.y"]), &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Delivered]);
    let heard = sink.heard().await;
    assert_eq!(heard.iter().filter(|line| *line == "STARTTLS").count(), 1);
    assert_eq!(heard.iter().filter(|line| *line == "DATA").count(), 1);
}

#[tokio::test]
async fn a_connection_cut_after_the_final_dot_leaves_a_doubt() {
    let sink = Sink::start(1, &[("RCPT TO:<no@", Some("550 no")), (".", None)]).await;
    let reports = client().deliver(&relay(sink.address), &message(&["a@x.y", "no@x.y"]), &()).await;
    assert_eq!(outcomes(&reports), [Outcome::InDoubt, Outcome::Failed]);
    assert_eq!(reports[0].reply, None);
    assert!(sink.heard().await.contains(&".".to_owned()));
}

#[tokio::test]
async fn nobody_at_home_is_deferred() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let reports = client().deliver(&relay(address), &message(&["a@x.y"]), &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Deferred]);
    let route = Route::Relay(Relay::new("unknown.test", 25));
    assert_eq!(outcomes(&client().deliver(&route, &message(&["a@x.y"]), &()).await), [Outcome::Deferred]);
}

#[tokio::test]
async fn international_addresses_need_a_host_that_takes_them() {
    let ascii = Sink::start(1, &[("EHLO", Some("250-sink\r\n250 8BITMIME"))]).await;
    let reports = client().deliver(&relay(ascii.address), &message(&["佐藤@例え.jp", "a@例え.jp"]), &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Failed, Outcome::Delivered]);
    assert_eq!(reports[0].reply.as_ref().unwrap().enhanced(), Some(EnhancedCode(5, 6, 7)));
    assert!(ascii.heard().await.contains(&"RCPT TO:<a@xn--r8jz45g.jp>".to_owned()));
    let able = Sink::start(1, &[("EHLO", Some("250-sink\r\n250-8BITMIME\r\n250 SMTPUTF8"))]).await;
    let reports = client().deliver(&relay(able.address), &message(&["佐藤@例え.jp"]), &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Delivered]);
    let heard = able.heard().await;
    assert_eq!(heard[1..3], ["MAIL FROM:<me@out.test> SMTPUTF8", "RCPT TO:<佐藤@xn--r8jz45g.jp>"]);
}

#[tokio::test]
async fn what_is_asked_about_notices_goes_on() {
    let mut asking = message(&["a@x.y"]);
    asking.dsn = MessageDsn { ret: Some(Return::Headers), envelope_id: EnvelopeId::parse("QQ+2B1") };
    asking.recipients[0].dsn = RecipientDsn {
        notify: Some(Notify { success: true, ..Notify::default() }),
        original: OriginalRecipient::parse("rfc822;a+2Bb@x.y"),
    };
    let able = Sink::start(1, &[("EHLO", Some("250-sink\r\n250 DSN"))]).await;
    let reports = client().deliver(&relay(able.address), &asking, &()).await;
    assert_eq!((reports[0].outcome, reports[0].notices), (Outcome::Delivered, Notices::PassedOn));
    let heard = able.heard().await;
    let expected =
        ["MAIL FROM:<me@out.test> RET=HDRS ENVID=QQ+2B1", "RCPT TO:<a@x.y> NOTIFY=SUCCESS ORCPT=rfc822;a+2Bb@x.y"];
    assert_eq!(heard[1..3], expected);
    let unable = Sink::start(1, &[]).await;
    let reports = client().deliver(&relay(unable.address), &asking, &()).await;
    assert_eq!((reports[0].outcome, reports[0].notices), (Outcome::Delivered, Notices::StayHere));
    assert_eq!(unable.heard().await[1..3], ["MAIL FROM:<me@out.test>", "RCPT TO:<a@x.y>"]);
}

#[tokio::test]
async fn a_binary_message_goes_by_bdat_or_not_at_all() {
    let mut binary = message(&["a@x.y"]);
    binary.line_ends = LineEnds::Keep;
    binary.body = Body::from(b"Subject: x\r\n\r\na\nb\r.\0".to_vec());
    let server = Running::start(config(), Service::Mx);
    let reports = client().deliver(&relay(server.address), &binary, &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Delivered], "{reports:?}");
    assert_eq!(server.script.taken()[0].body, b"Subject: x\r\n\r\na\nb\r.\0");
    let lines = Sink::start(1, &[("EHLO", Some("250-sink\r\n250 8BITMIME"))]).await;
    let reports = client().deliver(&relay(lines.address), &binary, &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Failed]);
    assert_eq!(reports[0].reply.as_ref().unwrap().enhanced(), Some(EnhancedCode(5, 6, 3)));
    assert!(!lines.heard().await.iter().any(|line| line.starts_with("MAIL")));
}
