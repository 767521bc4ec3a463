//! What a sink does at each step of a session.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use mairust_core::Timestamp;

/// A step of an SMTP session at which a [`Sink`](super::Sink) can be told what to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The connection is made; what comes is the greeting.
    Connect,
    /// `EHLO`.
    Ehlo,
    /// `HELO`.
    Helo,
    /// `STARTTLS`.
    StartTls,
    /// `MAIL`.
    Mail,
    /// `RCPT`, for any address.
    Rcpt,
    /// `RCPT` for this address, in lower case; goes before [`Rcpt`](Self::Rcpt).
    RcptTo(String),
    /// `DATA`.
    Data,
    /// The message is complete: the final dot of `DATA`, or the last chunk of `BDAT`.
    Message,
    /// `QUIT`.
    Quit,
    /// Any other command, by its word in upper case: `RSET`, `AUTH`.
    Command(String),
}

/// What a [`Sink`](super::Sink) does at a [`Step`]: always, unless it says how often. A text is a reply.
#[derive(Debug, Clone)]
#[must_use]
pub struct Act {
    pub(super) kind: Kind,
    pub(super) delay: Duration,
    times: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Close,
    Hang,
    LoseReply,
    Reply { text: String, close: bool },
}

impl Act {
    /// Replies with this text, whatever it is; its lines are sent as they are, with CRLF behind each. The session
    /// goes on as its first code says.
    pub fn reply(text: impl Into<String>) -> Self {
        Self::of(Kind::Reply { text: text.into(), close: false })
    }

    /// Cuts the connection instead of a reply. A message that is complete is not taken.
    pub fn close() -> Self {
        Self::of(Kind::Close)
    }

    /// Never replies, until the client gives up.
    pub fn hang() -> Self {
        Self::of(Kind::Hang)
    }

    /// Does what a positive reply would lead to, a message is taken, but cuts the connection instead of the reply.
    pub fn lose_reply() -> Self {
        Self::of(Kind::LoseReply)
    }

    /// Cuts the connection behind a reply.
    pub fn and_close(mut self) -> Self {
        if let Kind::Reply { close, .. } = &mut self.kind {
            *close = true;
        }
        self
    }

    /// Only so often; then what was said next for the same step, in the end what a sink does by itself.
    pub fn times(mut self, count: u32) -> Self {
        self.times = Some(count);
        self
    }

    /// Waits before it, in real time.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn of(kind: Kind) -> Self {
        Self { kind, delay: Duration::ZERO, times: None }
    }

    /// The code of a reply; what is lost was positive.
    pub(super) fn code(&self) -> u16 {
        match &self.kind {
            Kind::Reply { text, .. } => text.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or_default(),
            Kind::LoseReply => 250,
            Kind::Close | Kind::Hang => 0,
        }
    }
}

impl From<&str> for Act {
    fn from(text: &str) -> Self {
        Self::reply(text)
    }
}

impl From<String> for Act {
    fn from(text: String) -> Self {
        Self::reply(text)
    }
}

/// All that a sink was told, and how often it did it.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    acts: HashMap<Step, Vec<Act>>,
    /// Waited before each reply.
    pub(super) tarpit: Duration,
    greylist: Option<Greylist>,
}

#[derive(Debug, Clone)]
struct Greylist {
    delay: Duration,
    /// When a client asked first for a sender and a recipient.
    seen: HashMap<(IpAddr, String, String), Timestamp>,
}

impl Script {
    pub(super) fn add(&mut self, step: Step, act: Act) {
        let step = match step {
            Step::RcptTo(address) => Step::RcptTo(address.to_ascii_lowercase()),
            Step::Command(word) => Step::Command(word.to_ascii_uppercase()),
            step => step,
        };
        self.acts.entry(step).or_default().push(act);
    }

    pub(super) fn greylist(&mut self, delay: Duration) {
        self.greylist = Some(Greylist { delay, seen: HashMap::new() });
    }

    /// Forgets what was said for all steps.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What is to be done at a step; counted as done. `None`: nothing special.
    pub(super) fn next(&mut self, step: &Step) -> Option<Act> {
        let act = self.acts.get_mut(step)?.iter_mut().find(|act| act.times != Some(0))?;
        if let Some(times) = &mut act.times {
            *times -= 1;
        }
        Some(act.clone())
    }

    /// The refusal of a recipient who is asked for too early.
    pub(super) fn greylisted(&mut self, client: IpAddr, sender: &str, recipient: &str, now: Timestamp) -> Option<Act> {
        let greylist = self.greylist.as_mut()?;
        let key = (client, sender.to_ascii_lowercase(), recipient.to_ascii_lowercase());
        let first = *greylist.seen.entry(key).or_insert(now);
        (now < first.plus(greylist.delay)).then(|| Act::reply("451 4.7.1 Greylisted, try again later"))
    }
}
