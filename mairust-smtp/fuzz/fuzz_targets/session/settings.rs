//! What is decided before a conversation begins.

use std::time::Duration;

use mairust_core::{Domain, EnhancedCode, Reply, Timestamp};
use mairust_smtp::proto::{FutureRelease, LoginPolicy, Protocol, SessionConfig, TlsPolicy};

/// The octets of settings in front of an input: the service, the limits, two lengths of fragments,
/// the habits of the client, when the server stops, and answers of the handler, which come in turn.
pub const OCTETS: usize = 16;

/// The name of the server.
pub const HOSTNAME: &str = "mx.test";

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    service: u8,
    limits: u8,
    pub lengths: [u8; 2],
    habits: u8,
    stop: u8,
    answers: [u8; 10],
}

/// What the handler answers to a question.
pub enum Answer {
    /// Yes.
    Accept,
    /// Yes, with this reply where it matters.
    AcceptWith(Reply),
    /// The owner ends the session instead.
    Close,
    /// To as many recipients.
    Each(Vec<Reply>),
    /// No, or yes where only that is possible.
    Refuse(Reply),
}

impl Settings {
    pub fn new(octets: [u8; OCTETS]) -> Self {
        let [service, limits, one, other, habits, stop, answers @ ..] = octets;
        Self { service, limits, lengths: [one, other], habits, stop, answers }
    }

    pub fn session(&self) -> SessionConfig {
        let bit = |place: u8| self.service >> place & 1 == 1;
        let choice = |place: u8| usize::from(self.limits >> place & 3);
        SessionConfig {
            protocol: if bit(0) { Protocol::Lmtp } else { Protocol::Smtp },
            hostname: Domain::parse(HOSTNAME).expect("a domain"),
            max_message_size: [1_000, 10, 64, u64::MAX][choice(0)],
            max_recipients: [3, 1, 2, 100][choice(2)],
            max_messages: [1_000, 1, 2, 3][choice(6)],
            max_commands: [1_000, 5, 10, 50][choice(6)],
            max_errors: [1_000, 1, 3, 20][choice(4)],
            max_failed_logins: [1_000, 1, 2, 3][choice(4)],
            login: if bit(1) { LoginPolicy::Required } else { LoginPolicy::Never },
            tls: match (bit(2), bit(3)) {
                (true, _) => TlsPolicy::Active,
                (false, true) => TlsPolicy::Offered,
                (false, false) => TlsPolicy::Unavailable,
            },
            scram: bit(4),
            dsn: bit(5),
            future_release: bit(7).then(|| FutureRelease::at(Timestamp::default(), Duration::from_secs(60))),
            xclient: bit(6),
        }
    }

    /// Whether the client sends all it has while a question is open.
    pub fn is_hasty(&self) -> bool {
        self.habits & 1 == 1
    }

    /// Whether the client goes on without end.
    pub fn is_flooded(&self) -> bool {
        self.habits & 0x0E == 2
    }

    /// How many events there are before the server stops; `None` if it does not.
    pub fn stop(&self) -> Option<usize> {
        (self.stop & 0x80 != 0).then_some(usize::from(self.stop & 0x7F))
    }

    /// The answer to the question with this number.
    pub fn answer(&self, question: usize) -> Answer {
        let octet = self.answers[question % self.answers.len()];
        match octet >> 5 {
            7 => Answer::Refuse(reply(octet)),
            6 => Answer::AcceptWith(reply(octet)),
            5 => Answer::Each((0..octet & 7).map(|place| reply(octet.wrapping_add(place))).collect()),
            4 if octet & 0x1F == 0 => Answer::Close,
            _ => Answer::Accept,
        }
    }
}

/// What handlers answer: good replies, wrong ones, and those that want to say more.
fn reply(choice: u8) -> Reply {
    match choice & 7 {
        0 => Reply::new(550, EnhancedCode(5, 1, 1), "Nobody here"),
        1 => Reply::new(451, EnhancedCode(4, 3, 0), "Later"),
        2 => Reply::new(250, EnhancedCode(2, 0, 0), "Taken as 17"),
        3 => Reply::new(550, EnhancedCode(5, 7, 1), "no\r\n250 2.0.0 yes\r\n"),
        4 => Reply::new(554, EnhancedCode(5, u16::MAX, u16::MAX), "a long story ".repeat(60)),
        5 => Reply::new(421, EnhancedCode(4, 7, 0), "Goodbye"),
        6 => Reply::new(552, EnhancedCode(5, 2, 2), "\0\u{e9}\u{1f4a9}\n\n\rfull"),
        _ => Reply::new(250, EnhancedCode(2, 1, 5), ""),
    }
}
