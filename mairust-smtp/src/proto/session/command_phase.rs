//! What a session does between messages: one command at a time.

use mairust_core::{EnhancedCode, ForwardPath, Reply, ReversePath};

use super::message_phase::{Incoming, too_large};
use super::{
    Drain, Event, Hello, LoginPolicy, Phase, Protocol, Question, RcptTo, Session, Step, TlsPolicy, Transaction,
};
use crate::proto::command::{BodyType, Command, CommandError, MailOptions, RcptOptions};
use crate::proto::line::{AUTH_LIMIT, COMMAND_LIMIT, Line};
use crate::proto::sasl::{Exchange, Mechanism, Outcome, wrong_credentials};
use crate::proto::xclient::ClientFacts;

type Next = (Phase, Step);

impl Session {
    /// Reads a command. `resting` is the phase that it finds: ready, in a transaction, or between
    /// two chunks of a message.
    pub(super) fn read_command(&mut self, resting: Phase) -> Next {
        // An AUTH command may carry the whole response, so its line may be longer (RFC 4954 §4).
        let is_auth = self.input.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"AUTH "));
        let limit = if is_auth { AUTH_LIMIT } else { COMMAND_LIMIT };
        let Some(line) = self.lines.next(&mut self.input, limit) else {
            return (resting, Step::Blocked);
        };
        self.commands += 1;
        if self.commands > self.config.max_commands {
            self.close(&Reply::new(421, EnhancedCode(4, 7, 0), "Too many commands without a message"));
            return (Phase::Ready, Step::Again);
        }
        let command = match line {
            Line::Complete(line) => Command::parse(&line),
            Line::Malformed => return self.not_a_command("Lines end in CRLF", resting),
            Line::TooLong => return self.not_a_command("Line too long", resting),
        };
        match command {
            Ok(command) => {
                self.activity.commands.push(command.verb());
                self.obey(command, resting)
            }
            Err(error) => {
                self.activity.commands.push("other");
                // How much of a message follows is not known, so nothing can be told apart.
                self.ending |= error == CommandError::ChunkSize;
                self.say(&error.into(), resting)
            }
        }
    }

    /// Reads a line of an AUTH exchange.
    pub(super) fn read_sasl(&mut self, exchange: Exchange) -> Next {
        match self.lines.next(&mut self.input, AUTH_LIMIT) {
            None => (Phase::Sasl(exchange), Step::Blocked),
            Some(Line::Complete(line)) => self.exchange(exchange.response(&line)),
            Some(Line::Malformed | Line::TooLong) => {
                self.say(&Reply::new(500, EnhancedCode(5, 5, 2), "Syntax error"), Phase::Ready)
            }
        }
    }

    pub(super) fn exchange(&mut self, outcome: Outcome) -> Next {
        match outcome {
            Outcome::Challenge(exchange, text) => self.say(&Reply::plain(334, text), Phase::Sasl(exchange)),
            Outcome::Credentials(credentials) => {
                (Phase::Asking(Question::Login), Step::Tell(Event::Login(credentials)))
            }
            Outcome::Proved(user) => (Phase::Asking(Question::Login), Step::Tell(Event::ScramLogin(user))),
            Outcome::Refused(reply) => self.say(&reply, Phase::Ready),
            Outcome::Unproved(user) => {
                self.fail_login(&wrong_credentials());
                (Phase::Ready, Step::Tell(Event::ScramFailed(user)))
            }
            Outcome::Verifier(first) => {
                let event = Event::ScramVerifier(first.user.clone());
                (Phase::Asking(Question::ScramVerifier(first)), Step::Tell(event))
            }
        }
    }

    fn obey(&mut self, command: Command, resting: Phase) -> Next {
        match command {
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial.as_deref(), resting),
            Command::Bdat { size, last } => self.bdat(size, last, resting),
            Command::Data => self.data(resting),
            Command::Ehlo(name) if self.config.protocol == Protocol::Smtp => self.hello(name, true, &resting),
            Command::Helo(name) if self.config.protocol == Protocol::Smtp => self.hello(name, false, &resting),
            Command::Lhlo(name) if self.config.protocol == Protocol::Lmtp => self.hello(name, true, &resting),
            Command::Ehlo(_) | Command::Helo(_) | Command::Lhlo(_) => self.say(&CommandError::Unknown.into(), resting),
            Command::Mail { from, options, auth_parameter } => self.mail(from, options, auth_parameter, resting),
            Command::Rcpt { to, options, international } => self.rcpt(to, options, international, resting),
            Command::Rset => {
                self.reply(&Reply::new(250, EnhancedCode(2, 0, 0), "OK"));
                (Phase::Ready, given_up(&resting))
            }
            Command::StartTls => self.starttls(resting),
            Command::Http => {
                let reply = Reply::new(421, EnhancedCode(4, 7, 0), "This is an SMTP server");
                self.say(&reply, Phase::Ready)
            }
            Command::Quit => {
                self.ending = true;
                self.say(&Reply::new(221, EnhancedCode(2, 0, 0), "Goodbye"), Phase::Ready)
            }
            Command::Xclient(facts) => self.xclient(facts, resting),
            Command::Expn | Command::Help | Command::Noop | Command::Unimplemented | Command::Vrfy => {
                self.say(&remark(&command), resting)
            }
        }
    }

    /// EHLO, HELO or LHLO; each ends a transaction (RFC 5321 §4.1.4).
    fn hello(&mut self, name: String, extended: bool, resting: &Phase) -> Next {
        self.hello = Some(Hello { name, extended });
        let hostname = self.config.hostname.as_str();
        let reply = if extended { self.extensions().announce(hostname) } else { Reply::plain(250, hostname) };
        self.reply(&reply);
        (Phase::Ready, given_up(resting))
    }

    /// RFC 4954 §4.
    fn auth(&mut self, mechanism: Option<Mechanism>, initial: Option<&str>, resting: Phase) -> Next {
        let offered = mechanism.filter(|mechanism| self.config.scram || *mechanism != Mechanism::ScramSha256);
        let refusal = if self.config.login == LoginPolicy::Never {
            not_implemented()
        } else if self.tls != TlsPolicy::Active {
            Reply::new(538, EnhancedCode(5, 7, 11), "Encryption required: use STARTTLS first")
        } else if self.hello.is_none() {
            return self.out_of_order("Say EHLO first", resting);
        } else if self.authenticated {
            return self.out_of_order("Already authenticated", resting);
        } else if !matches!(resting, Phase::Ready) {
            return self.out_of_order("Not during a mail transaction", resting);
        } else if let Some(mechanism) = offered {
            return self.exchange(Exchange::start(mechanism, initial));
        } else {
            Reply::new(504, EnhancedCode(5, 5, 4), "Mechanism not supported")
        };
        self.say(&refusal, resting)
    }

    fn mail(&mut self, sender: ReversePath, options: MailOptions, auth_parameter: bool, resting: Phase) -> Next {
        if !matches!(resting, Phase::Ready) {
            return self.out_of_order("MAIL was said already", resting);
        }
        let dsn_given = options.dsn != mairust_core::MessageDsn::default();
        let refusal = if self.hello.is_none() {
            return self.out_of_order("Say EHLO first", resting);
        } else if self.messages >= self.config.max_messages {
            Reply::new(421, EnhancedCode(4, 7, 0), "Too many messages in this session, please connect again")
        } else if self.config.login == LoginPolicy::Required && !self.authenticated {
            Reply::new(530, EnhancedCode(5, 7, 0), "Authentication required")
        } else if (auth_parameter && self.config.login == LoginPolicy::Never)
            || (dsn_given && !self.config.dsn)
            || (options.require_tls && !self.offers_require_tls())
            || (options.hold.is_some() && self.config.future_release.is_none())
        {
            CommandError::Parameter.into()
        } else if options
            .hold
            .is_some_and(|hold| self.config.future_release.is_some_and(|allowed| !allowed.allows(hold)))
        {
            // RFC 4865 §4: more than was announced.
            Reply::new(501, EnhancedCode(5, 5, 4), "That is too far ahead")
        } else if options.size.is_some_and(|size| size > self.config.max_message_size) {
            too_large()
        } else {
            let event = Event::Mail(sender.clone(), options.clone());
            let (recipients, answers) = (Vec::new(), Vec::new());
            let transaction = Transaction { sender, options, recipients, refused: false, answers };
            return (Phase::Asking(Question::Mail(transaction)), Step::Tell(event));
        };
        self.say(&refusal, Phase::Ready)
    }

    fn rcpt(&mut self, path: ForwardPath, options: RcptOptions, international: bool, resting: Phase) -> Next {
        let Phase::Transaction(mut transaction) = resting else {
            return self.out_of_order("Say MAIL first", resting);
        };
        if options != RcptOptions::default() && !self.config.dsn {
            return self.say(&CommandError::Parameter.into(), Phase::Transaction(transaction));
        }
        if international && !transaction.options.international {
            return self.say(&CommandError::International.into(), Phase::Transaction(transaction));
        }
        let taken = match self.config.protocol {
            Protocol::Lmtp => transaction.answers.len(),
            Protocol::Smtp => transaction.recipients.len(),
        };
        let known = transaction.recipients.iter().position(|known| same(&known.path, &path));
        // LMTP answers to each copy, SMTP needs no room for one.
        if taken >= self.config.max_recipients && (known.is_none() || self.config.protocol == Protocol::Lmtp) {
            let reply = Reply::new(452, EnhancedCode(4, 5, 3), "Too many recipients");
            return self.say(&reply, Phase::Transaction(transaction));
        }
        if let Some(place) = known {
            if self.config.protocol == Protocol::Lmtp {
                transaction.answers.push(place);
            }
            let reply = Reply::new(250, EnhancedCode(2, 1, 5), "Recipient OK");
            return self.say(&reply, Phase::Transaction(transaction));
        }
        let event = Event::Recipient(path.clone(), options.clone());
        (Phase::Asking(Question::Recipient(transaction, RcptTo { path, options })), Step::Tell(event))
    }

    fn data(&mut self, resting: Phase) -> Next {
        let transaction = match resting {
            Phase::Transaction(transaction) if !transaction.recipients.is_empty() => transaction,
            resting => return self.say(&self.no_message_yet(&resting), resting),
        };
        if transaction.options.body == BodyType::Binary {
            // RFC 3030 §3.
            return self.out_of_order("A binary message comes by BDAT", Phase::Transaction(transaction));
        }
        self.reply(&Reply::plain(354, "End the message with a dot on a line of its own"));
        let incoming = Incoming::data(transaction, self.config.max_message_size);
        (Phase::Message(incoming), Step::Tell(Event::MessageStart))
    }

    /// RFC 3030 §2. The octets of a chunk come in any case, so they are read in any case.
    fn bdat(&mut self, size: u64, last: bool, resting: Phase) -> Next {
        match resting {
            Phase::Chunks(mut incoming) => {
                incoming.begin_chunk(size, last);
                (Phase::Message(incoming), Step::Again)
            }
            Phase::Transaction(transaction) if !transaction.recipients.is_empty() => {
                let mut incoming = Incoming::chunks(transaction, self.config.max_message_size);
                incoming.begin_chunk(size, last);
                (Phase::Message(incoming), Step::Tell(Event::MessageStart))
            }
            resting => {
                let reply = self.no_message_yet(&resting);
                let transaction = match resting {
                    Phase::Transaction(transaction) => Some(transaction),
                    _ => None,
                };
                (Phase::Draining(Drain { missing: size, reply, transaction }), Step::Again)
            }
        }
    }

    /// The answer to DATA or BDAT where no message may begin.
    fn no_message_yet(&self, resting: &Phase) -> Reply {
        match resting {
            Phase::Transaction(transaction) if transaction.refused && self.config.protocol == Protocol::Smtp => {
                Reply::new(554, EnhancedCode(5, 5, 1), "No valid recipients")
            }
            Phase::Chunks(_) => bad_sequence("The message goes on by BDAT"),
            _ => bad_sequence("Say MAIL and RCPT first"),
        }
    }

    /// RFC 3207 §4; what came with the command in one go is dropped by `tls_started`.
    fn starttls(&mut self, resting: Phase) -> Next {
        match (self.tls, &resting) {
            (TlsPolicy::Unavailable, _) => self.say(&not_implemented(), resting),
            (TlsPolicy::Active, _) => self.out_of_order("TLS is active already", resting),
            (TlsPolicy::Offered, Phase::Chunks(_)) => self.out_of_order("Not during a message", resting),
            (TlsPolicy::Offered, _) => {
                self.reply(&Reply::new(220, EnhancedCode(2, 0, 0), "Ready to start TLS"));
                (Phase::Asking(Question::StartTls), Step::Tell(Event::StartTls))
            }
        }
    }

    fn xclient(&mut self, facts: ClientFacts, resting: Phase) -> Next {
        if !self.config.xclient {
            return self.say(&not_implemented(), resting);
        }
        if !matches!(resting, Phase::Ready) {
            return self.out_of_order("Not during a mail transaction", resting);
        }
        (Phase::Asking(Question::Xclient), Step::Tell(Event::Xclient(facts)))
    }

    fn not_a_command(&mut self, text: &str, resting: Phase) -> Next {
        self.activity.commands.push("other");
        self.say(&Reply::new(500, EnhancedCode(5, 5, 2), text), resting)
    }

    fn out_of_order(&mut self, text: &str, resting: Phase) -> Next {
        self.say(&bad_sequence(text), resting)
    }

    fn say(&mut self, reply: &Reply, phase: Phase) -> Next {
        self.reply(reply);
        (phase, Step::Again)
    }
}

/// What the owner must know when a phase is left early.
fn given_up(resting: &Phase) -> Step {
    if matches!(resting, Phase::Chunks(_)) { Step::Tell(Event::MessageDropped) } else { Step::Again }
}

fn bad_sequence(text: &str) -> Reply {
    Reply::new(503, EnhancedCode(5, 5, 1), text)
}

fn not_implemented() -> Reply {
    Reply::new(502, EnhancedCode(5, 5, 1), "Command not implemented")
}

/// Answers to commands that change nothing.
fn remark(command: &Command) -> Reply {
    match command {
        // Whoever wants to know sends a message (RFC 5321 §3.5.3).
        Command::Vrfy => Reply::new(252, EnhancedCode(2, 0, 0), "Cannot verify, but will take a message"),
        Command::Help => Reply::new(214, EnhancedCode(2, 0, 0), "See RFC 5321"),
        Command::Noop => Reply::new(250, EnhancedCode(2, 0, 0), "OK"),
        _ => not_implemented(),
    }
}

fn same(one: &ForwardPath, other: &ForwardPath) -> bool {
    match (one, other) {
        (ForwardPath::Address(one), ForwardPath::Address(other)) => one.lookup_key() == other.lookup_key(),
        (one, other) => one == other,
    }
}
