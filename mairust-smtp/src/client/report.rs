//! How attempts end, and what is known about them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mairust_core::{EmailAddress, Reply, TlsFacts};

use super::Outgoing;
use super::peer::TlsRule;

/// How an attempt ended for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecipientReport {
    /// The recipient.
    pub recipient: EmailAddress,
    /// How it ended.
    pub outcome: Outcome,
    /// The host that answered, as `name[address]:port`.
    pub host: Option<String>,
    /// The host's reply; `None` if there was no answer to speak of.
    pub reply: Option<Reply>,
    /// What went wrong or how it was taken, for people: the reply or the error.
    pub detail: String,
    /// Who tells the sender what becomes of it after a delivery.
    pub notices: Notices,
    /// What else the attempt knew.
    pub facts: AttemptFacts,
}

/// What an attempt knew, as far as it got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptFacts {
    /// The name of the host that was tried last.
    pub host: Option<String>,
    /// Its address and port.
    pub address: Option<SocketAddr>,
    /// The address of our own that the connection came from.
    pub source: Option<IpAddr>,
    /// What became of TLS.
    pub tls: TlsUse,
    /// What was demanded of TLS, and by whom; `None` if no host was tried.
    pub rule: Option<TlsRule>,
    /// The extensions that the host announced, as far as they are known here, a line for each as in its last
    /// answer to EHLO.
    pub offered: Vec<String>,
    /// Whether the connection had been used for another message before.
    pub reused: bool,
    /// How long this host took, from the first packet to its answer about the recipient; without a
    /// host, how long it took to find that there is none. Not counted is the wait for a connection
    /// while there were as many as there may be.
    pub elapsed: Duration,
}

/// What became of TLS in an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsUse {
    /// The attempt did not get that far.
    #[default]
    Unknown,
    /// The rule says that it is not used.
    Off,
    /// The host does not offer it.
    NotOffered,
    /// The host offers it, but it did not work, for this reason.
    Failed(String),
    /// The connection was encrypted.
    On {
        /// Version and cipher.
        facts: TlsFacts,
        /// Whether the certificate proved that this was the right host. Otherwise nobody looked.
        verified: bool,
    },
}

/// Who is responsible for notices about a message that was taken by the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notices {
    /// The next hop was told what the sender asks for (RFC 3461 §5.2.1).
    PassedOn,
    /// The next hop knows nothing of notices (RFC 3461 §5.2.2).
    StayHere,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// To be tried again.
    Deferred,
    /// Taken by the next hop: it answered 250 to the final dot.
    Delivered,
    /// Refused for good.
    Failed,
    /// The message was sent to its end, and the reply to that did not come: the next hop may have
    /// taken it or not. Who tries again may deliver it twice.
    InDoubt,
}

impl fmt::Display for TlsUse {
    /// In a few words, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Off => f.write_str("off"),
            Self::NotOffered => f.write_str("not offered"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::On { facts, verified } => {
                let proof = if *verified { "verified" } else { "unverified" };
                write!(f, "{} {} {proof}", facts.version, facts.cipher)
            }
        }
    }
}

/// How an attempt ended for one recipient, or for all alike.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) host: Option<String>,
    pub(super) reply: Option<Reply>,
    pub(super) detail: String,
    pub(super) notices: Notices,
    pub(super) facts: Box<AttemptFacts>,
}

impl Verdict {
    fn new(outcome: Outcome, host: Option<&str>, reply: Option<Reply>, detail: String) -> Self {
        let (host, facts) = (host.map(str::to_owned), Box::default());
        Self { outcome, host, reply, detail, notices: Notices::StayHere, facts }
    }

    pub(super) fn deferred(detail: impl Into<String>) -> Self {
        Self::new(Outcome::Deferred, None, None, detail.into())
    }

    /// A host was asked, and it is to be asked again.
    pub(super) fn deferred_at(host: &str, detail: impl Into<String>) -> Self {
        Self::new(Outcome::Deferred, Some(host), None, detail.into())
    }

    /// A host may have taken the message.
    pub(super) fn in_doubt(host: &str, detail: impl Into<String>) -> Self {
        Self::new(Outcome::InDoubt, Some(host), None, detail.into())
    }

    /// Nobody answered, but it is clear that nobody ever will.
    pub(super) fn failed(reply: Reply) -> Self {
        let detail = reply.to_string();
        Self::new(Outcome::Failed, None, Some(reply), detail)
    }

    /// The host can't do what the message needs, and will not learn it soon.
    pub(super) fn unable(host: &str, reply: Reply) -> Self {
        Self { host: Some(host.to_owned()), ..Self::failed(reply) }
    }

    /// As the reply to the end of a message says.
    pub(super) fn from_reply(host: &str, reply: Reply) -> Self {
        let outcome = if reply.is_positive() {
            Outcome::Delivered
        } else if reply.is_permanent() {
            Outcome::Failed
        } else {
            Outcome::Deferred
        };
        let detail = reply.to_string();
        Self::new(outcome, Some(host), Some(reply), detail)
    }

    /// As a reply says that comes before the end of a message: 2yz or 3yz in the wrong place is no
    /// delivery.
    pub(super) fn refusal(host: &str, reply: Reply) -> Self {
        let verdict = Self::from_reply(host, reply);
        match verdict.outcome {
            Outcome::Delivered => Self { outcome: Outcome::Deferred, ..verdict },
            _ => verdict,
        }
    }

    /// Whether the host said that it ends the connection (RFC 5321 §3.8).
    pub(super) fn ends_the_connection(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.code() == 421)
    }

    /// What counts of several hosts that did not take a message: as long as one of them may do so
    /// later, nothing has failed.
    pub(super) fn joined(earlier: Option<Self>, later: Self) -> Option<Self> {
        match earlier {
            Some(earlier) if earlier.outcome == Outcome::Deferred && later.outcome == Outcome::Failed => Some(earlier),
            _ => Some(later),
        }
    }

    pub(super) fn report(&self, recipient: &EmailAddress) -> RecipientReport {
        RecipientReport {
            recipient: recipient.clone(),
            outcome: self.outcome,
            host: self.host.clone(),
            reply: self.reply.clone(),
            detail: self.detail.clone(),
            notices: self.notices,
            facts: (*self.facts).clone(),
        }
    }

    pub(super) fn for_all(&self, message: &Outgoing) -> Vec<RecipientReport> {
        message.recipients.iter().map(|recipient| self.report(&recipient.address)).collect()
    }
}

/// One report for each recipient, in their order.
pub(super) fn reports(message: &Outgoing, verdicts: &[Verdict]) -> Vec<RecipientReport> {
    message.recipients.iter().zip(verdicts).map(|(recipient, verdict)| verdict.report(&recipient.address)).collect()
}
