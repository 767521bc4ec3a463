//! The server's side of an SMTP session (RFC 5321).
//!
//! Give it what was read with [`Session::receive`], then call [`Session::poll`] until it returns
//! `None`, answer the events that ask something, and send what [`Session::transmit`] returns.
//! Pipelined input waits inside while a question is open, so memory is bounded by what was
//! received since `poll` last returned `None` plus one line.

use std::mem;

use bytes::{Buf, BytesMut};
use mairust_core::{EnhancedCode, Reply, ScramVerifier};

use super::extension::{Extensions, Limits};
use super::line::LineReader;
use super::sasl::Exchange;
use super::scram::ClientFirst;

mod command_phase;
mod message_phase;
mod vocabulary;

use message_phase::Incoming;
pub use vocabulary::{Activity, Event, LoginPolicy, Protocol, RcptTo, SessionConfig, TlsPolicy, Transaction};

/// A session with one client.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    /// EHLO or HELO, once it was said.
    hello: Option<Hello>,
    authenticated: bool,
    tls: TlsPolicy,
    messages: u32,
    /// Since the last message.
    commands: u32,
    errors: u32,
    failed_logins: u32,
    lines: LineReader,
    input: BytesMut,
    output: Vec<u8>,
    activity: Activity,
    /// Ends the session after the message that is being received.
    farewell: Option<Reply>,
    /// The end is decided; [`Phase::Closed`] once it is reported.
    ending: bool,
}

/// What the client called itself.
#[derive(Debug)]
struct Hello {
    name: String,
    extended: bool,
}

/// Where a session is; each variant owns what exists there and nowhere else.
#[derive(Debug)]
enum Phase {
    Asking(Question),
    /// Between two chunks of a message.
    Chunks(Incoming),
    Closed,
    /// A chunk that nobody wants is read to its end, then answered.
    Draining(Drain),
    Fresh,
    Message(Incoming),
    /// Commands are welcome, no transaction is open.
    Ready,
    Sasl(Exchange),
    Transaction(Transaction),
}

/// What the session wants to know.
#[derive(Debug)]
enum Question {
    Connect,
    Login,
    Mail(Transaction),
    /// The recipient of each reply that is due.
    Message(Vec<usize>),
    Recipient(Transaction, RcptTo),
    ScramVerifier(ClientFirst),
    StartTls,
    Xclient,
}

/// A chunk that is dropped.
#[derive(Debug)]
struct Drain {
    missing: u64,
    reply: Reply,
    transaction: Option<Transaction>,
}

/// What a phase did.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
enum Step {
    /// Something that the owner must know.
    Tell(Event),
    /// Something inside; there may be more to do.
    Again,
    /// Nothing: input is missing.
    Blocked,
}

impl Session {
    /// A session with a client that has just connected.
    pub fn new(config: SessionConfig) -> Self {
        Self {
            phase: Phase::Fresh,
            hello: None,
            authenticated: false,
            tls: config.tls,
            messages: 0,
            commands: 0,
            errors: 0,
            failed_logins: 0,
            lines: LineReader::default(),
            input: BytesMut::new(),
            output: Vec::new(),
            activity: Activity::default(),
            farewell: None,
            ending: false,
            config,
        }
    }

    /// Takes what was read from the client.
    ///
    /// Between [`Event::StartTls`] and [`tls_started`](Self::tls_started) input is dropped: it was
    /// sent in plain text, perhaps by somebody else (CVE-2011-0411).
    pub fn receive(&mut self, bytes: &[u8]) {
        if !self.ending && !matches!(self.phase, Phase::Asking(Question::StartTls)) {
            self.input.extend_from_slice(bytes);
        }
    }

    /// Whether something was received that was not looked at yet.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// What happened; `None` when a question is open or input is missing.
    pub fn poll(&mut self) -> Option<Event> {
        loop {
            if !matches!(self.phase, Phase::Message(_) | Phase::Asking(_))
                && let Some(farewell) = self.farewell.take()
            {
                self.close(&farewell);
            }
            if self.ending && !matches!(self.phase, Phase::Closed) {
                self.phase = Phase::Closed;
                return Some(Event::Closed);
            }
            let (phase, step) = match mem::replace(&mut self.phase, Phase::Closed) {
                Phase::Fresh => (Phase::Asking(Question::Connect), Step::Tell(Event::Connect)),
                phase @ (Phase::Asking(_) | Phase::Closed) => (phase, Step::Blocked),
                resting @ (Phase::Ready | Phase::Transaction(_) | Phase::Chunks(_)) => self.read_command(resting),
                Phase::Draining(drain) => self.drain(drain),
                Phase::Sasl(exchange) => self.read_sasl(exchange),
                Phase::Message(incoming) => self.read_message(incoming),
            };
            self.phase = phase;
            match step {
                Step::Tell(event) => return Some(event),
                Step::Again => {}
                Step::Blocked => return None,
            }
        }
    }

    /// Answers the open question with yes. Without an open question nothing happens.
    pub fn accept(&mut self) {
        self.accept_with(&Reply::new(250, EnhancedCode(2, 0, 0), "OK"));
    }

    /// Answers the open question with yes; `reply` is the answer to a message, other questions
    /// have answers of their own.
    pub fn accept_with(&mut self, reply: &Reply) {
        self.phase = match self.take_question() {
            None => return,
            Some(question @ (Question::ScramVerifier(_) | Question::StartTls)) => Phase::Asking(question),
            Some(Question::Connect) => {
                self.greet();
                Phase::Ready
            }
            Some(Question::Xclient) => {
                self.hello = None;
                self.authenticated = false;
                self.greet();
                Phase::Ready
            }
            Some(Question::Login) => {
                self.authenticated = true;
                self.reply(&Reply::new(235, EnhancedCode(2, 7, 0), "Authentication succeeded"));
                Phase::Ready
            }
            Some(Question::Mail(transaction)) => {
                self.messages += 1;
                self.commands = 0;
                self.reply(&Reply::new(250, EnhancedCode(2, 1, 0), "Sender OK"));
                Phase::Transaction(transaction)
            }
            Some(Question::Recipient(mut transaction, to)) => {
                transaction.answers.push(transaction.recipients.len());
                transaction.recipients.push(to);
                self.reply(&Reply::new(250, EnhancedCode(2, 1, 5), "Recipient OK"));
                Phase::Transaction(transaction)
            }
            Some(Question::Message(answers)) => {
                self.reply_to_each(answers.iter().map(|_| reply));
                Phase::Ready
            }
        };
    }

    /// Answers the open question with no. A reply that is not 4yz or 5yz becomes 451, and after
    /// 421 the session is over, as it is after a refusal of the connection.
    pub fn refuse(&mut self, reply: &Reply) {
        let reply = negative(reply);
        self.phase = match self.take_question() {
            None => return,
            // There is no way back from here: the client begins its handshake.
            Some(Question::StartTls) => {
                self.ending = true;
                return;
            }
            Some(Question::Connect | Question::Xclient) => {
                self.ending = true;
                Phase::Ready
            }
            Some(Question::Login | Question::ScramVerifier(_)) => {
                self.phase = Phase::Ready;
                return self.fail_login(&reply);
            }
            Some(Question::Mail(_)) => Phase::Ready,
            Some(Question::Message(answers)) => {
                self.phase = Phase::Ready;
                return self.reply_to_each(answers.iter().map(|_| &reply));
            }
            Some(Question::Recipient(mut transaction, _)) => {
                transaction.refused = true;
                Phase::Transaction(transaction)
            }
        };
        self.reply(&reply);
    }

    /// Answers a failed login; too many of them end the session.
    fn fail_login(&mut self, reply: &Reply) {
        self.failed_logins += 1;
        self.reply(reply);
        if self.failed_logins >= self.config.max_failed_logins {
            self.close(&Reply::new(421, EnhancedCode(4, 7, 0), "Too many failed logins"));
        }
    }

    /// Answers for each recipient of a message, in their order, what became of it there: the
    /// replies of LMTP (RFC 2033 §4.2). A recipient without an answer gets 451. Outside of
    /// [`Event::MessageEnd`] nothing happens.
    pub fn answer_each(&mut self, replies: &[Reply]) {
        match self.take_question() {
            Some(Question::Message(answers)) => {
                self.phase = Phase::Ready;
                let unanswered = unavailable();
                let reply_for = |recipient: usize| replies.get(recipient).unwrap_or(&unanswered);
                self.reply_to_each(answers.into_iter().map(reply_for));
            }
            Some(question) => self.phase = Phase::Asking(question),
            None => {}
        }
    }

    /// Answers [`Event::ScramVerifier`]. `nonce` is new, hard to guess and printable, without
    /// commas. Without that question nothing happens.
    pub fn challenge(&mut self, verifier: ScramVerifier, nonce: &str) {
        match self.take_question() {
            Some(Question::ScramVerifier(first)) => {
                let (phase, _) = self.exchange(Exchange::challenge(first, verifier, nonce));
                self.phase = phase;
            }
            Some(question) => self.phase = Phase::Asking(question),
            None => {}
        }
    }

    /// The message that is being received can't be kept: the rest of it is read and dropped, and
    /// then answered with `reply`. Outside of a message nothing happens.
    pub fn fail_message(&mut self, reply: &Reply) {
        if let Phase::Message(incoming) = &mut self.phase {
            incoming.fail(negative(reply));
        }
    }

    /// The handshake is done. Everything that was said before it is forgotten (RFC 3207 §4.2).
    pub fn tls_started(&mut self) {
        if !matches!(self.phase, Phase::Asking(Question::StartTls)) {
            return;
        }
        self.input.clear();
        self.lines = LineReader::default();
        self.hello = None;
        self.authenticated = false;
        self.tls = TlsPolicy::Active;
        self.phase = Phase::Ready;
    }

    /// Ends the session with `reply` (421) as soon as no message is being received and no question
    /// is open; [`poll`](Self::poll) then reports [`Event::Closed`].
    pub fn stop(&mut self, reply: Reply) {
        self.farewell = Some(reply);
    }

    /// Ends the session now with `reply` (421); an open question or a message is dropped.
    pub fn close(&mut self, reply: &Reply) {
        if !self.ending {
            self.put(reply);
            self.ending = true;
        }
    }

    /// What is to be sent: all replies since the last call.
    pub fn transmit(&mut self) -> Vec<u8> {
        self.activity = Activity::default();
        if self.input.is_empty() && !self.in_message() {
            // A session that waits should not keep the room that a message took.
            self.input = BytesMut::new();
        }
        mem::take(&mut self.output)
    }

    /// What was done since the last [`transmit`](Self::transmit).
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Logins that were refused.
    pub fn failed_logins(&self) -> u32 {
        self.failed_logins
    }

    /// Whether a message is being received.
    pub fn in_message(&self) -> bool {
        matches!(self.phase, Phase::Message(_) | Phase::Chunks(_))
    }

    /// The argument of EHLO or HELO; `None` before it.
    pub fn client_name(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| hello.name.as_str())
    }

    /// Whether the client said EHLO rather than HELO.
    pub fn is_extended(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.extended)
    }

    fn extensions(&self) -> Extensions {
        let login = self.config.login == LoginPolicy::Required && self.tls == TlsPolicy::Active;
        let mechanisms = ["SCRAM-SHA-256", "PLAIN", "LOGIN"].into_iter().skip(usize::from(!self.config.scram));
        Extensions {
            auth: mechanisms.filter(|_| login).map(str::to_owned).collect(),
            binary: true,
            chunking: true,
            dsn: self.config.dsn,
            eight_bit: true,
            enhanced_codes: true,
            future_release: self.config.future_release,
            international: true,
            limits: Limits {
                mail_max: Some(self.config.max_messages),
                rcpt_max: u32::try_from(self.config.max_recipients).ok(),
            },
            pipelining: true,
            require_tls: self.offers_require_tls(),
            size: Some(self.config.max_message_size),
            starttls: self.tls == TlsPolicy::Offered,
            xclient: self.config.xclient,
        }
    }

    /// Only under TLS (RFC 8689 §2).
    fn offers_require_tls(&self) -> bool {
        self.tls == TlsPolicy::Active
    }

    fn greet(&mut self) {
        let protocol = match self.config.protocol {
            Protocol::Lmtp => "LMTP",
            Protocol::Smtp => "ESMTP",
        };
        self.reply(&Reply::plain(220, format!("{} {protocol} MaiRust", self.config.hostname)));
    }

    /// Drops the octets of a chunk that nobody wants; they must never be taken for commands.
    fn drain(&mut self, mut drain: Drain) -> (Phase, Step) {
        let count = usize::try_from(drain.missing).unwrap_or(usize::MAX).min(self.input.len());
        self.input.advance(count);
        drain.missing -= count as u64;
        if drain.missing > 0 {
            return (Phase::Draining(drain), Step::Blocked);
        }
        self.reply(&drain.reply);
        (drain.transaction.map_or(Phase::Ready, Phase::Transaction), Step::Again)
    }

    fn take_question(&mut self) -> Option<Question> {
        match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Asking(question) => Some(question),
            phase => {
                self.phase = phase;
                None
            }
        }
    }

    /// Writes a reply, and ends the session when there were too many errors.
    fn reply(&mut self, reply: &Reply) {
        self.put(reply);
        if reply.code() == 421 {
            self.ending = true;
        }
        // A long list of recipients is no error: the first ones are kept (RFC 5321 §4.5.3.1.10).
        if reply.code() >= 400 && reply.enhanced() != Some(EnhancedCode(4, 5, 3)) {
            self.errors += 1;
            if self.errors >= self.config.max_errors {
                self.close(&Reply::new(421, EnhancedCode(4, 7, 0), "Too many errors"));
            }
        }
    }

    /// Writes the replies to a message; none follows the one that ends the session.
    fn reply_to_each<'r>(&mut self, replies: impl Iterator<Item = &'r Reply>) {
        for reply in replies {
            if self.ending {
                break;
            }
            self.reply(reply);
        }
    }

    fn put(&mut self, reply: &Reply) {
        self.activity.replies.push(reply.code());
        self.output.extend_from_slice(&reply.to_wire());
    }
}

/// A handler that refuses with a positive reply would make the peer believe the opposite.
fn negative(reply: &Reply) -> Reply {
    if reply.is_transient() || reply.is_permanent() { reply.clone() } else { unavailable() }
}

fn unavailable() -> Reply {
    Reply::new(451, EnhancedCode(4, 3, 0), "Temporary failure, please try again later")
}
