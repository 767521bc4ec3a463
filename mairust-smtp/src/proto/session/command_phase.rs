//! What a session does between messages: one command at a time.

use mairust_core::{EnhancedCode, ForwardPath, Reply, ReversePath};

use super::message_phase::Incoming;
use super::{Event, Hello, LoginPolicy, Phase, Question, Session, Step, TlsPolicy, Transaction};
use crate::proto::command::{Command, MailOptions};
use crate::proto::line::{AUTH_LIMIT, COMMAND_LIMIT, Line};
use crate::proto::sasl::{Exchange, Mechanism, Outcome};

type Next = (Phase, Step);

impl Session {
    /// Reads a command, in or outside of a transaction.
    pub(super) fn read_command(&mut self, transaction: Option<Transaction>) -> Next {
        // An AUTH command may carry the whole response, so its line may be longer (RFC 4954 §4).
        let is_auth = self.input.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"AUTH "));
        let limit = if is_auth { AUTH_LIMIT } else { COMMAND_LIMIT };
        let Some(line) = self.lines.next(&mut self.input, limit) else {
            return (resting(transaction), Step::Blocked);
        };
        let command = match line {
            Line::Complete(line) => Command::parse(&line).map_err(Reply::from),
            Line::Malformed => Err(Reply::new(500, EnhancedCode(5, 5, 2), "Lines end in CRLF")),
            Line::TooLong => Err(Reply::new(500, EnhancedCode(5, 5, 2), "Line too long")),
        };
        match command {
            Ok(command) => {
                self.activity.commands.push(command.verb());
                self.obey(command, transaction)
            }
            Err(reply) => {
                self.activity.commands.push("other");
                self.say(&reply, resting(transaction))
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

    fn obey(&mut self, command: Command, transaction: Option<Transaction>) -> Next {
        match command {
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial.as_deref(), transaction),
            Command::Data => self.data(transaction),
            Command::Ehlo(name) => {
                self.hello = Some(Hello { name, extended: true });
                let announcement = self.extensions().announce(self.config.hostname.as_str());
                self.say(&announcement, Phase::Ready)
            }
            Command::Helo(name) => {
                self.hello = Some(Hello { name, extended: false });
                let hostname = self.config.hostname.to_string();
                self.say(&Reply::plain(250, hostname), Phase::Ready)
            }
            Command::Mail { from, options, auth_parameter } => match transaction {
                Some(transaction) => self.out_of_order("MAIL was said already", Phase::Transaction(transaction)),
                None => self.mail(from, options, auth_parameter),
            },
            Command::Rcpt(to) => self.rcpt(to, transaction),
            Command::Rset => self.say(&Reply::new(250, EnhancedCode(2, 0, 0), "OK"), Phase::Ready),
            Command::StartTls => self.starttls(transaction),
            Command::Http => {
                let reply = Reply::new(421, EnhancedCode(4, 7, 0), "This is an SMTP server");
                self.say(&reply, Phase::Ready)
            }
            Command::Quit => {
                self.ending = true;
                self.say(&Reply::new(221, EnhancedCode(2, 0, 0), "Goodbye"), Phase::Ready)
            }
            Command::Expn | Command::Help | Command::Noop | Command::Unimplemented | Command::Vrfy => {
                self.say(&remark(&command), resting(transaction))
            }
        }
    }

    /// RFC 4954 §4.
    fn auth(&mut self, mechanism: Option<Mechanism>, initial: Option<&str>, transaction: Option<Transaction>) -> Next {
        let refusal = if self.config.login == LoginPolicy::Never {
            Reply::new(502, EnhancedCode(5, 5, 1), "Command not implemented")
        } else if self.tls != TlsPolicy::Active {
            Reply::new(538, EnhancedCode(5, 7, 11), "Encryption required: use STARTTLS first")
        } else if self.hello.is_none() {
            Reply::new(503, EnhancedCode(5, 5, 1), "Say EHLO first")
        } else if self.authenticated {
            Reply::new(503, EnhancedCode(5, 5, 1), "Already authenticated")
        } else if transaction.is_some() {
            Reply::new(503, EnhancedCode(5, 5, 1), "Not during a mail transaction")
        } else if let Some(mechanism) = mechanism {
            return self.exchange(Exchange::start(mechanism, initial));
        } else {
            Reply::new(504, EnhancedCode(5, 5, 4), "Mechanism not supported")
        };
        self.say(&refusal, resting(transaction))
    }

    fn exchange(&mut self, outcome: Outcome) -> Next {
        match outcome {
            Outcome::Challenge(exchange, text) => self.say(&Reply::plain(334, text), Phase::Sasl(exchange)),
            Outcome::Credentials(credentials) => {
                (Phase::Asking(Question::Login), Step::Tell(Event::Login(credentials)))
            }
            Outcome::Refused(reply) => self.say(&reply, Phase::Ready),
        }
    }

    fn mail(&mut self, sender: ReversePath, options: MailOptions, auth_parameter: bool) -> Next {
        let refusal = if self.hello.is_none() {
            Reply::new(503, EnhancedCode(5, 5, 1), "Say EHLO first")
        } else if self.config.login == LoginPolicy::Required && !self.authenticated {
            Reply::new(530, EnhancedCode(5, 7, 0), "Authentication required")
        } else if auth_parameter && self.config.login == LoginPolicy::Never {
            Reply::new(555, EnhancedCode(5, 5, 4), "Parameter not recognized")
        } else if options.size.is_some_and(|size| size > self.config.max_message_size) {
            too_large()
        } else {
            let event = Event::Mail(sender.clone(), options.clone());
            let transaction = Transaction { sender, options, recipients: Vec::new(), refused: false };
            return (Phase::Asking(Question::Mail(transaction)), Step::Tell(event));
        };
        self.say(&refusal, Phase::Ready)
    }

    fn rcpt(&mut self, to: ForwardPath, transaction: Option<Transaction>) -> Next {
        let Some(transaction) = transaction else {
            return self.out_of_order("Say MAIL first", Phase::Ready);
        };
        if transaction.recipients.iter().any(|known| same(known, &to)) {
            let reply = Reply::new(250, EnhancedCode(2, 1, 5), "Recipient OK");
            return self.say(&reply, Phase::Transaction(transaction));
        }
        if transaction.recipients.len() >= self.config.max_recipients {
            let reply = Reply::new(452, EnhancedCode(4, 5, 3), "Too many recipients");
            return self.say(&reply, Phase::Transaction(transaction));
        }
        (Phase::Asking(Question::Recipient(transaction, to.clone())), Step::Tell(Event::Recipient(to)))
    }

    fn data(&mut self, transaction: Option<Transaction>) -> Next {
        match transaction {
            Some(transaction) if !transaction.recipients.is_empty() => {
                self.reply(&Reply::plain(354, "End the message with a dot on a line of its own"));
                let incoming = Incoming::new(transaction, self.config.max_message_size);
                (Phase::Message(incoming), Step::Tell(Event::MessageStart))
            }
            Some(transaction) if transaction.refused => {
                let reply = Reply::new(554, EnhancedCode(5, 5, 1), "No valid recipients");
                self.say(&reply, Phase::Transaction(transaction))
            }
            other => self.out_of_order("Say MAIL and RCPT first", resting(other)),
        }
    }

    /// RFC 3207 §4; what came with the command in one go is dropped by `tls_started`.
    fn starttls(&mut self, transaction: Option<Transaction>) -> Next {
        match self.tls {
            TlsPolicy::Active => self.out_of_order("TLS is active already", resting(transaction)),
            TlsPolicy::Unavailable => {
                let reply = Reply::new(502, EnhancedCode(5, 5, 1), "Command not implemented");
                self.say(&reply, resting(transaction))
            }
            TlsPolicy::Offered => {
                self.reply(&Reply::new(220, EnhancedCode(2, 0, 0), "Ready to start TLS"));
                (Phase::Asking(Question::StartTls), Step::Tell(Event::StartTls))
            }
        }
    }

    fn out_of_order(&mut self, text: &str, phase: Phase) -> Next {
        self.say(&Reply::new(503, EnhancedCode(5, 5, 1), text), phase)
    }

    fn say(&mut self, reply: &Reply, phase: Phase) -> Next {
        self.reply(reply);
        (phase, Step::Again)
    }
}

/// 552 5.3.4, to SIZE and to a message.
pub(super) fn too_large() -> Reply {
    Reply::new(552, EnhancedCode(5, 3, 4), "Message too big")
}

/// The phase in which commands are read.
fn resting(transaction: Option<Transaction>) -> Phase {
    transaction.map_or(Phase::Ready, Phase::Transaction)
}

/// Answers to commands that change nothing.
fn remark(command: &Command) -> Reply {
    match command {
        // Whoever wants to know sends a message (RFC 5321 §3.5.3).
        Command::Vrfy => Reply::new(252, EnhancedCode(2, 0, 0), "Cannot verify, but will take a message"),
        Command::Help => Reply::new(214, EnhancedCode(2, 0, 0), "See RFC 5321"),
        Command::Noop => Reply::new(250, EnhancedCode(2, 0, 0), "OK"),
        _ => Reply::new(502, EnhancedCode(5, 5, 1), "Command not implemented"),
    }
}

fn same(one: &ForwardPath, other: &ForwardPath) -> bool {
    match (one, other) {
        (ForwardPath::Address(one), ForwardPath::Address(other)) => one.lookup_key() == other.lookup_key(),
        (one, other) => one == other,
    }
}
