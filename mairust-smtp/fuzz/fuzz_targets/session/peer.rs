//! The owner of a session, who believes nothing: each event is held against what must have come
//! before it.

use std::collections::VecDeque;

use mairust_core::{EmailAddress, EnhancedCode, ForwardPath, MessageDsn, Reply, ReversePath, ScramVerifier};
use mairust_smtp::proto::{
    BodyType, Event, LoginPolicy, MailOptions, Protocol, RcptOptions, Session, SessionConfig, TlsPolicy, Transaction,
};

use crate::settings::{Answer, Settings};
use crate::wire;

/// The verifier of the example in RFC 7677 §3, and the server's part of its nonce.
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

/// One end of a conversation.
pub struct Peer<'a> {
    settings: &'a Settings,
    config: SessionConfig,
    session: Session,
    /// Whether what the client has is received while a question is open, too.
    hasty: bool,
    /// What is on its way.
    network: VecDeque<&'a [u8]>,
    questions: usize,
    /// The events, without chunks.
    pub told: Vec<String>,
    /// What was sent.
    pub sent: Vec<u8>,
    authenticated: bool,
    /// Who wants to log in by SCRAM.
    challenged: Option<String>,
    tls: bool,
    /// TLS is there, and nothing was said under it.
    new_to_tls: bool,
    mail: Option<Mail>,
    closed: bool,
    /// A 421 was sent: nothing may follow it.
    farewell: bool,
}

/// What is known of a transaction.
struct Mail {
    sender: ReversePath,
    options: MailOptions,
    accepted: Vec<ForwardPath>,
    /// The octets, once there are some to come.
    body: Option<Vec<u8>>,
}

impl<'a> Peer<'a> {
    pub fn new(settings: &'a Settings, hasty: bool) -> Self {
        let config = settings.session();
        let mut peer = Self {
            settings,
            session: Session::new(config.clone()),
            hasty,
            network: VecDeque::new(),
            questions: 0,
            told: Vec::new(),
            sent: Vec::new(),
            authenticated: false,
            challenged: None,
            tls: config.tls == TlsPolicy::Active,
            new_to_tls: false,
            mail: None,
            closed: false,
            farewell: false,
            config,
        };
        peer.turn();
        peer
    }

    /// What the client sends before it waits.
    pub fn hear(&mut self, pieces: impl Iterator<Item = &'a [u8]>) {
        self.network.extend(pieces);
        while let Some(piece) = self.network.pop_front() {
            self.new_to_tls = false;
            self.session.receive(piece);
            self.turn();
        }
    }

    /// The client goes on: with one line, or with whatever it is in the midst of.
    pub fn flood(&mut self) {
        for _ in 0..64 {
            self.session.receive(&[b'A'; 2_048]);
            self.turn();
        }
    }

    /// All that a session holds is in its `Debug` form: that must not grow with what a client sends.
    pub fn check_memory(&self) {
        let size = format!("{:?}", self.session).len();
        assert!(size < 64_000 + 4_000 * self.config.max_recipients, "a client fills {size} octets");
    }

    fn turn(&mut self) {
        while let Some(event) = self.session.poll() {
            assert!(!self.closed, "{event:?} after the end");
            assert!(!self.new_to_tls || matches!(event, Event::Closed), "{event:?} of plain text");
            if !matches!(event, Event::Chunk(_)) {
                self.told.push(format!("{event:?}"));
                if self.settings.stop() == Some(self.told.len()) {
                    self.session.stop(Reply::new(421, EnhancedCode(4, 3, 2), "Service shutting down"));
                }
            }
            self.take(event);
        }
        self.transmit();
    }

    fn transmit(&mut self) {
        let replies = self.session.activity().replies.clone();
        let output = self.session.transmit();
        assert_eq!(wire::check(&output, &self.config, self.tls), replies);
        for code in replies {
            assert!(!self.farewell, "{code} after 421");
            assert!(!self.new_to_tls || code == 421, "{code} to plain text");
            self.farewell = code == 421;
        }
        self.sent.extend(output);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Connect => {
                assert_eq!(self.told.len(), 1, "who was there is there again");
                self.ask(Self::settle);
            }
            Event::Login(_) => {
                self.check_login();
                self.authenticated = self.ask(Self::settle);
            }
            Event::ScramVerifier(user) => {
                self.check_login();
                self.challenged = Some(user);
                self.ask(Self::challenge);
            }
            Event::ScramLogin(user) => {
                self.check_login();
                assert_eq!(self.challenged.take(), Some(user), "somebody else than who was challenged");
                self.authenticated = self.ask(Self::settle);
            }
            Event::ScramFailed(user) => {
                self.check_login();
                assert_eq!(self.challenged.take(), Some(user), "somebody else than who was challenged");
            }
            Event::Xclient(_) => {
                assert!(self.config.xclient && self.mail_in_progress().is_none());
                self.authenticated = false;
                self.mail = None;
                self.ask(Self::settle);
            }
            Event::StartTls => self.start_tls(),
            Event::Mail(sender, options) => self.mail(sender, options),
            Event::Recipient(path, options) => self.recipient(path, &options),
            Event::MessageStart => self.message_start(),
            Event::Chunk(octets) => {
                let limit = self.config.max_message_size;
                let body = self.mail_in_progress().and_then(|mail| mail.body.as_mut()).expect("a message began");
                body.extend_from_slice(&octets);
                assert!(body.len() as u64 <= limit, "more than the limit");
            }
            Event::MessageDropped => self.mail = self.mail.take().filter(|mail| mail.body.is_none()),
            Event::MessageRefused(transaction, reply) => {
                assert!(reply.code() >= 400);
                self.message_over(&transaction);
            }
            Event::MessageEnd(transaction) => self.message_end(&transaction),
            Event::Closed => self.closed = true,
            other => panic!("what is {other:?}?"),
        }
    }

    /// A question is open: nothing but its answer counts. Whether it was answered with yes.
    fn ask(&mut self, settle: fn(&mut Self, Answer) -> bool) -> bool {
        let replies = self.session.activity().replies.len();
        assert!(self.session.poll().is_none(), "two questions are open");
        if self.hasty {
            self.network.drain(..).for_each(|piece| self.session.receive(piece));
        }
        self.session.tls_started();
        self.session.fail_message(&Reply::plain(550, "wrong"));
        assert!(self.session.poll().is_none(), "an answer to another question counts");
        assert_eq!(self.session.activity().replies.len(), replies, "a question is answered already");
        let answer = self.settings.answer(self.questions);
        self.questions += 1;
        settle(self, answer)
    }

    fn settle(&mut self, answer: Answer) -> bool {
        match answer {
            Answer::Accept | Answer::AcceptWith(_) | Answer::Each(_) => self.session.accept(),
            Answer::Close => self.session.close(&Reply::new(421, EnhancedCode(4, 4, 2), "Timeout")),
            Answer::Refuse(reply) => {
                self.session.refuse(&reply);
                return false;
            }
        }
        true
    }

    fn challenge(&mut self, answer: Answer) -> bool {
        self.session.accept();
        self.session.answer_each(&[]);
        assert!(self.session.poll().is_none(), "a user without a verifier is let in");
        match answer {
            Answer::Refuse(_) | Answer::Close => self.settle(answer),
            _ => {
                let verifier: ScramVerifier = VERIFIER.parse().expect("a verifier");
                self.session.challenge(verifier, NONCE);
                true
            }
        }
    }

    fn answer_message(&mut self, answer: Answer) -> bool {
        match answer {
            Answer::AcceptWith(reply) => self.session.accept_with(&reply),
            Answer::Each(replies) => self.session.answer_each(&replies),
            answer => return self.settle(answer),
        }
        true
    }

    /// RFC 3207 §4.2: the rest of what the client sent in plain text never counts.
    fn start_tls(&mut self) {
        assert!(self.config.tls == TlsPolicy::Offered && !self.tls && self.mail_in_progress().is_none());
        self.transmit();
        self.network.drain(..).for_each(|piece| self.session.receive(piece));
        self.session.accept();
        assert!(self.session.poll().is_none(), "the handshake is not done");
        let answer = self.settings.answer(self.questions);
        self.questions += 1;
        match answer {
            Answer::Refuse(reply) => self.session.refuse(&reply),
            _ => {
                self.session.tls_started();
                assert_eq!(self.session.client_name(), None);
                self.tls = true;
                self.authenticated = false;
                self.mail = None;
                self.new_to_tls = true;
            }
        }
    }

    fn check_login(&mut self) {
        assert!(self.config.login == LoginPolicy::Required && self.tls, "nobody can log in here");
        assert!(!self.authenticated && self.session.client_name().is_some() && self.mail_in_progress().is_none());
    }

    fn mail(&mut self, sender: ReversePath, options: MailOptions) {
        assert!(self.mail_in_progress().is_none(), "a message in a message");
        assert!(self.session.client_name().is_some(), "EHLO comes first");
        assert!(self.authenticated || self.config.login == LoginPolicy::Never, "nobody logged in");
        assert!(options.size.is_none_or(|size| size <= self.config.max_message_size));
        assert!(self.config.dsn || options.dsn == MessageDsn::default());
        let may_wait = |hold| self.config.future_release.is_some_and(|allowed| allowed.allows(hold));
        assert!(options.hold.is_none_or(may_wait));
        assert!(!options.require_tls || self.tls);
        if let ReversePath::Address(address) = &sender {
            check_address(address, &options);
        }
        let accepted = self.ask(Self::settle);
        self.mail = accepted.then(|| Mail { sender, options, accepted: Vec::new(), body: None });
    }

    fn recipient(&mut self, path: ForwardPath, options: &RcptOptions) {
        assert!(self.config.dsn || *options == RcptOptions::default());
        assert!(self.mail_in_progress().is_none(), "a recipient in a message");
        let mail = self.mail.as_ref().expect("MAIL comes first");
        assert!(mail.accepted.len() < self.config.max_recipients, "more than the limit");
        assert!(!mail.accepted.iter().any(|known| key(known) == key(&path)), "asked twice");
        if let ForwardPath::Address(address) = &path {
            check_address(address, &mail.options);
        }
        if self.ask(Self::settle)
            && let Some(mail) = &mut self.mail
        {
            mail.accepted.push(path);
        }
    }

    fn message_start(&mut self) {
        assert!(self.mail_in_progress().is_none(), "a message in a message");
        let mail = self.mail.as_mut().expect("MAIL comes first");
        assert!(!mail.accepted.is_empty(), "a message for nobody");
        mail.body = Some(Vec::new());
        assert!(self.session.in_message());
        let answer = self.settings.answer(self.questions);
        self.questions += 1;
        if let Answer::Refuse(reply) = answer {
            self.session.fail_message(&reply);
        }
    }

    fn message_end(&mut self, transaction: &Transaction) {
        let (body, expected) = self.message_over(transaction);
        let text = String::from_utf8_lossy(&body).replace("\r\n", "");
        assert!(transaction.options.body == BodyType::Binary || !text.contains(['\r', '\n']), "a lone CR or LF");
        self.told.push(body.escape_ascii().to_string());
        let before = self.session.activity().replies.len();
        self.ask(Self::answer_message);
        let replies = self.session.activity().replies[before..].iter().filter(|code| **code != 421).count();
        assert!(replies <= self.config.max_recipients, "more answers than were asked for");
        let ended = self.session.activity().replies[before..].contains(&421);
        assert!(ended || if self.config.protocol == Protocol::Lmtp { replies >= expected } else { replies == 1 });
    }

    /// The body and the number of recipients.
    fn message_over(&mut self, transaction: &Transaction) -> (Vec<u8>, usize) {
        let mail = self.mail.take().expect("MAIL comes first");
        let paths: Vec<ForwardPath> = transaction.recipients.iter().map(|to| to.path.clone()).collect();
        assert_eq!(
            (&mail.sender, &mail.options, &mail.accepted),
            (&transaction.sender, &transaction.options, &paths),
            "not what was accepted"
        );
        (mail.body.expect("a message began"), paths.len())
    }

    /// The transaction, once its message began.
    fn mail_in_progress(&mut self) -> Option<&mut Mail> {
        self.mail.as_mut().filter(|mail| mail.body.is_some())
    }
}

/// The form in which recipients are compared.
fn key(path: &ForwardPath) -> String {
    match path {
        ForwardPath::Address(address) => address.lookup_key(),
        ForwardPath::Postmaster => String::new(),
    }
}

fn check_address(address: &EmailAddress, options: &MailOptions) {
    assert!(options.international || !address.is_international(), "outside of ASCII without SMTPUTF8");
    assert_eq!(EmailAddress::parse(&address.to_string()).as_ref(), Ok(address));
}
