//! Runs the dialogs: against the session without a socket, and against a live listener.
//!
//! A line of a dialog is `C:` and a line that the client sends, `C\` and raw octets with escapes,
//! `S:` and a line that the server answers, `S~` and the start of one, `S*` and the code of a whole
//! reply, whatever its lines, `X` for the end of the connection, `M:` and a message that was taken (`sender recipients body`, escaped), `!` and a
//! setting, `#` and a remark. Nothing else may be answered or taken.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use mairust_core::{Domain, Reply, Timestamp};
use mairust_smtp::proto::{
    Event, FutureRelease, LoginPolicy, Protocol, Session, SessionConfig, TlsPolicy, Transaction,
};
use mairust_smtp::server::Service;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::live::{LineStream, last_line, read_line, tls_over};
use crate::support::{self, Running, Taken};

#[derive(Debug, Clone)]
enum Step {
    Closed,
    Expect(String),
    ExpectReply(String),
    ExpectStart(String),
    Send(Vec<u8>),
}

struct Dialog {
    name: String,
    config: SessionConfig,
    live: bool,
    steps: Vec<Step>,
    /// Sender, recipients, body.
    taken: Vec<(String, String, Vec<u8>)>,
}

#[test]
fn dialogs_at_all_fragmentations() {
    let dialogs = dialogs();
    assert!(dialogs.len() >= 25, "{} dialogs", dialogs.len());
    for dialog in &dialogs {
        for chunk in [1, 2, 7, 4_096] {
            run_pure(dialog, chunk);
        }
    }
}

#[tokio::test]
async fn dialogs_against_a_live_listener() {
    let mut count = 0;
    for dialog in dialogs().into_iter().filter(|dialog| dialog.live) {
        run_live(&dialog).await;
        count += 1;
    }
    assert!(count >= 20, "{count} dialogs");
}

fn run_pure(dialog: &Dialog, chunk: usize) {
    let place = format!("{} at {chunk}", dialog.name);
    let mut peer = PurePeer::new(&dialog.config);
    peer.turn();
    for step in &dialog.steps {
        match step {
            Step::Send(bytes) => {
                for part in bytes.chunks(chunk) {
                    peer.session.receive(part);
                    peer.turn();
                }
            }
            Step::Expect(line) => assert_eq!(peer.line().as_ref(), Some(line), "{place}"),
            Step::ExpectStart(start) => {
                let line = peer.line().unwrap_or_default();
                assert!(line.starts_with(start), "{place}: {line:?} instead of {start:?}");
            }
            Step::ExpectReply(code) => loop {
                let line = peer.line().unwrap_or_default();
                assert!(line.starts_with(code), "{place}: {line:?} instead of a reply {code}");
                if !line[code.len()..].starts_with('-') {
                    break;
                }
            },
            Step::Closed => assert!(peer.closed, "{place}: the session goes on"),
        }
    }
    assert_eq!(peer.line(), None, "{place}: more was answered");
    assert_eq!(peer.taken, dialog.taken, "{place}");
}

/// What the driver and the handler do, in memory.
struct PurePeer {
    protocol: Protocol,
    session: Session,
    output: VecDeque<u8>,
    body: Vec<u8>,
    taken: Vec<(String, String, Vec<u8>)>,
    asked: Vec<String>,
    closed: bool,
}

impl PurePeer {
    fn new(config: &SessionConfig) -> Self {
        Self {
            protocol: config.protocol,
            session: Session::new(config.clone()),
            output: VecDeque::new(),
            body: Vec::new(),
            taken: Vec::new(),
            asked: Vec::new(),
            closed: false,
        }
    }

    fn turn(&mut self) {
        while let Some(event) = self.session.poll() {
            let answer = match event {
                Event::Connect => Ok(()),
                Event::Login(credentials) => support::login_rule(&credentials),
                Event::ScramLogin(_) => Ok(()),
                Event::ScramVerifier(user) => {
                    self.session.challenge(support::verifier(&user), "nonce");
                    continue;
                }
                Event::Xclient(_) => Ok(()),
                Event::Mail(from, _) => {
                    self.asked.clear();
                    support::sender_rule(&from)
                }
                Event::Recipient(to, _) => {
                    let asked = to.to_string().to_lowercase();
                    let refused = support::recipient_rule(&to);
                    assert!(refused.is_err() || !self.asked.contains(&asked), "asked twice for {asked}");
                    self.asked.push(asked);
                    refused
                }
                Event::StartTls => {
                    self.session.tls_started();
                    continue;
                }
                Event::Closed => {
                    self.closed = true;
                    continue;
                }
                Event::MessageStart => {
                    self.body.clear();
                    continue;
                }
                Event::Chunk(bytes) => {
                    self.body.extend_from_slice(&bytes);
                    continue;
                }
                Event::MessageEnd(transaction) => {
                    self.message(&transaction);
                    continue;
                }
                _ => continue,
            };
            match answer {
                Ok(()) => self.session.accept(),
                Err(rejection) => self.session.refuse(rejection.reply()),
            }
        }
        self.output.extend(self.session.transmit());
    }

    fn message(&mut self, transaction: &Transaction) {
        let body = std::mem::take(&mut self.body);
        let recipients: Vec<String> = transaction.recipients.iter().map(|to| to.path.to_string()).collect();
        match support::message_rule(&body) {
            Ok(reply) => {
                self.taken.push((transaction.sender.to_string(), recipients.join(","), body));
                if self.protocol == Protocol::Lmtp {
                    let answer = |to: &String| support::reply_for(to, &reply);
                    self.session.answer_each(&recipients.iter().map(answer).collect::<Vec<_>>());
                } else {
                    self.session.accept_with(&reply);
                }
            }
            Err(rejection) => self.session.refuse(rejection.reply()),
        }
    }

    fn line(&mut self) -> Option<String> {
        let end = self.output.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = self.output.drain(..=end).collect();
        Some(String::from_utf8(line).unwrap().trim_end().to_owned())
    }
}

async fn run_live(dialog: &Dialog) {
    let mut config = support::config();
    config.max_message_size = dialog.config.max_message_size;
    config.max_recipients = dialog.config.max_recipients;
    config.max_messages = dialog.config.max_messages;
    config.max_commands = dialog.config.max_commands;
    config.max_errors = dialog.config.max_errors;
    config.max_failed_logins = dialog.config.max_failed_logins;
    if dialog.config.xclient {
        config.xclient_from = vec!["127.0.0.0/8".parse().unwrap()];
    }
    if dialog.config.tls != TlsPolicy::Unavailable {
        config = support::with_tls(config);
    }
    let service = match (dialog.config.login, dialog.config.tls) {
        (LoginPolicy::Never, _) if dialog.config.protocol == Protocol::Lmtp => Service::Lmtp,
        (LoginPolicy::Never, _) => Service::Mx,
        (LoginPolicy::Required, TlsPolicy::Active) => Service::Submissions,
        (LoginPolicy::Required, _) => Service::Submission,
    };
    let mut server = Running::start(config, service);
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let mut stream: Box<dyn LineStream> =
        if service == Service::Submissions { Box::new(tls_over(tcp).await) } else { Box::new(tcp) };
    for step in &dialog.steps {
        match step {
            Step::Send(bytes) => stream.write_all(bytes).await.unwrap(),
            Step::Expect(line) => assert_eq!(&read_line(&mut stream).await, line, "{} live", dialog.name),
            Step::ExpectStart(start) => {
                let line = read_line(&mut stream).await;
                assert!(line.starts_with(start), "{} live: {line:?} instead of {start:?}", dialog.name);
            }
            Step::ExpectReply(code) => {
                let line = last_line(&mut stream).await;
                assert!(line.starts_with(code), "{} live: {line:?} instead of a reply {code}", dialog.name);
            }
            Step::Closed => assert_eq!(read_line(&mut stream).await, "", "{} live", dialog.name),
        }
    }
    drop(stream);
    server.stop();
    let script = server.script.clone();
    server.ended().await;
    let taken =
        script.taken().into_iter().map(|Taken { sender, recipients, body, .. }| (sender, recipients.join(","), body));
    assert_eq!(taken.collect::<Vec<_>>(), dialog.taken, "{} live", dialog.name);
}

fn dialogs() -> Vec<Dialog> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|path| parse(path.file_stem().unwrap().to_str().unwrap(), &std::fs::read_to_string(path).unwrap()))
        .collect()
}

fn parse(name: &str, text: &str) -> Dialog {
    let config = SessionConfig {
        protocol: Protocol::Smtp,
        hostname: Domain::parse("mx.test").unwrap(),
        max_message_size: 1_000,
        max_recipients: 3,
        max_messages: 100,
        max_commands: 100,
        max_errors: 20,
        max_failed_logins: 3,
        login: LoginPolicy::Never,
        tls: TlsPolicy::Unavailable,
        scram: true,
        dsn: false,
        future_release: None,
        xclient: false,
    };
    let mut dialog = Dialog { name: name.to_owned(), config, live: true, steps: Vec::new(), taken: Vec::new() };
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        match mark {
            "C:" => dialog.steps.push(Step::Send(format!("{rest}\r\n").into_bytes())),
            "C\\" => dialog.steps.push(Step::Send(unescape(rest))),
            "S:" => dialog.steps.push(Step::Expect(rest.to_owned())),
            "S~" => dialog.steps.push(Step::ExpectStart(rest.to_owned())),
            "S*" => dialog.steps.push(Step::ExpectReply(rest.to_owned())),
            "X" => dialog.steps.push(Step::Closed),
            "M:" => {
                let parts: Vec<&str> = rest.splitn(3, ' ').collect();
                dialog.taken.push((parts[0].to_owned(), parts[1].to_owned(), unescape(parts.get(2).unwrap_or(&""))));
            }
            "!" => set(&mut dialog, rest),
            _ => panic!("{name}: what is {line:?}?"),
        }
    }
    dialog
}

fn set(dialog: &mut Dialog, setting: &str) {
    let config = &mut dialog.config;
    match setting.split_once(' ').unwrap() {
        // What the listener does for its services.
        ("login", "required") => (config.login, config.dsn) = (LoginPolicy::Required, true),
        ("protocol", "lmtp") => config.protocol = Protocol::Lmtp,
        ("recipients", count) => config.max_recipients = count.parse().unwrap(),
        ("tls", "active") => config.tls = TlsPolicy::Active,
        ("tls", "offered") => config.tls = TlsPolicy::Offered,
        ("future_release", seconds) => {
            let interval = Duration::from_secs(seconds.parse().unwrap());
            config.future_release = Some(FutureRelease::at(Timestamp::default(), interval));
        }
        ("xclient", "trusted") => config.xclient = true,
        ("live", "no") => dialog.live = false,
        ("messages", count) => config.max_messages = count.parse().unwrap(),
        ("commands", count) => config.max_commands = count.parse().unwrap(),
        ("errors", count) => config.max_errors = count.parse().unwrap(),
        ("failed_logins", count) => config.max_failed_logins = count.parse().unwrap(),
        other => panic!("{}: what is {other:?}?", dialog.name),
    }
}

/// `\r`, `\n`, `\0`, `\xHH`, `\\`, and `{x*n}` for a character x that comes n times.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => bytes.push(match rest.next().unwrap() {
                'r' => b'\r',
                'n' => b'\n',
                '0' => 0,
                'x' => {
                    let (digits, tail) = rest.as_str().split_at(2);
                    rest = tail.chars();
                    u8::from_str_radix(digits, 16).unwrap()
                }
                other => u8::try_from(other).unwrap(),
            }),
            '{' => {
                let (repeat, tail) = rest.as_str().split_once('}').unwrap();
                let (what, count) = repeat.split_once('*').unwrap();
                bytes.extend_from_slice(what.repeat(count.parse().unwrap()).as_bytes());
                rest = tail.chars();
            }
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[test]
fn a_refusal_with_a_positive_reply_is_still_a_refusal() {
    let config = parse("refusal", "").config;
    let mut session = Session::new(config);
    assert!(matches!(session.poll(), Some(Event::Connect)));
    session.refuse(&Reply::plain(250, "welcome"));
    assert!(matches!(session.poll(), Some(Event::Closed)));
    assert!(session.transmit().starts_with(b"451 4.3.0 "));
}
