//! Delivery of one message to one next hop.
//!
//! [`Client::deliver`] goes through the hosts of a [`Route`] until one has answered for every
//! recipient, and says per recipient how it ended. When to try again is the caller's business.

use std::sync::Arc;
use std::time::Duration;

use mairust_core::{Body, Domain, EmailAddress, MessageDsn, RecipientDsn, Reply, ReversePath};

mod chunk;
mod connection;
mod parameters;
mod route;

pub use crate::dns::{DnsResolver, FakeResolver, MxHost, ResolveError, Resolver};

/// Where a message goes next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// To the mail exchangers of a domain (RFC 5321 §5.1), on this port.
    Mx {
        /// The domain of the recipients.
        domain: Domain,
        /// 25 outside of tests.
        port: u16,
    },
    /// To this host, whatever the domain: a name or an IP address.
    Relay {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Settings of a client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The argument of EHLO.
    pub hostname: Domain,
    /// Time to connect to one address. Default 30 s.
    pub connect_timeout: Duration,
    /// Time for each reply before DATA. Default 5 minutes (RFC 5321 §4.5.3.2).
    pub command_timeout: Duration,
    /// Time for the reply to the final dot. Default 10 minutes (RFC 5321 §4.5.3.2.6).
    pub final_dot_timeout: Duration,
}

/// Delivers messages. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    resolver: Arc<dyn Resolver>,
}

/// A message to be delivered.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// MAIL FROM.
    pub sender: ReversePath,
    /// RCPT TO: at least one.
    pub recipients: Vec<Receiver>,
    /// What the sender asks about notices for the whole message.
    pub dsn: MessageDsn,
    /// The bytes. Dots are stuffed, a missing CRLF at the end is added.
    pub body: Body,
    /// What becomes of a CR or LF that stands alone.
    pub line_ends: LineEnds,
}

/// What becomes of a CR or LF that stands alone. Neither is ever sent by DATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnds {
    /// It is meant: the message is binary, and goes as it is to hosts that take such
    /// (BINARYMIME, RFC 3030), to no others.
    Keep,
    /// It is a sloppy line end, and sent as CRLF.
    Normalize,
}

/// A recipient of an outgoing message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Where to.
    pub address: EmailAddress,
    /// What the sender asks about notices for this recipient.
    pub dsn: RecipientDsn,
}

impl Outgoing {
    /// A message whose sender asks nothing about notices and whose lines may be sloppy.
    pub fn new(sender: ReversePath, recipients: impl IntoIterator<Item = EmailAddress>, body: Body) -> Self {
        let recipients = recipients.into_iter().map(Receiver::from).collect();
        Self { sender, recipients, dsn: MessageDsn::default(), body, line_ends: LineEnds::Normalize }
    }
}

impl From<EmailAddress> for Receiver {
    fn from(address: EmailAddress) -> Self {
        Self { address, dsn: RecipientDsn::default() }
    }
}

/// How an attempt ended for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

impl ClientConfig {
    /// The defaults, under this host name.
    pub fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(300),
            final_dot_timeout: Duration::from_secs(600),
        }
    }
}

impl Client {
    /// A client that finds hosts with this resolver.
    pub fn new(config: ClientConfig, resolver: Arc<dyn Resolver>) -> Self {
        Self { config: Arc::new(config), resolver }
    }

    /// Tries to deliver a message, and says how it ended for each recipient, in their order.
    ///
    /// May run twice for the same message; a recipient may then get it twice. When the future is
    /// dropped, the connection is cut: before the final dot nothing was delivered, after it the
    /// message may have been.
    pub async fn deliver(&self, route: &Route, message: &Outgoing) -> Vec<RecipientReport> {
        let hosts = match route::hosts(route, self.resolver.as_ref()).await {
            Ok(hosts) => hosts,
            Err(verdict) => return verdict.for_all(message),
        };
        let mut last = Verdict::deferred("no host has an address");
        let mut tries = 0;
        for host in hosts {
            let addresses = match route::addresses(&host, self.resolver.as_ref()).await {
                Ok(addresses) => addresses,
                Err(verdict) => {
                    last = verdict;
                    continue;
                }
            };
            for address in addresses {
                tries += 1;
                if tries > MAX_TRIES {
                    return last.for_all(message);
                }
                match connection::attempt(&self.config, &host.name, address, message).await {
                    Attempt::Answered(reports) => return reports,
                    Attempt::NextHost(verdict) => {
                        tracing::info!(
                            host = verdict.host.as_deref(),
                            detail = verdict.detail,
                            "host did not take mail"
                        );
                        last = verdict;
                    }
                }
            }
        }
        last.for_all(message)
    }
}

/// Addresses that are tried for one delivery, however many a domain has.
const MAX_TRIES: usize = 10;

/// What one address led to.
#[derive(Debug)]
enum Attempt {
    Answered(Vec<RecipientReport>),
    NextHost(Verdict),
}

/// How an attempt ended for all recipients alike.
#[derive(Debug, Clone)]
struct Verdict {
    outcome: Outcome,
    host: Option<String>,
    reply: Option<Reply>,
    detail: String,
    notices: Notices,
}

impl Verdict {
    fn deferred(detail: impl Into<String>) -> Self {
        let (host, reply, notices) = (None, None, Notices::StayHere);
        Self { outcome: Outcome::Deferred, host, reply, detail: detail.into(), notices }
    }

    /// Nobody answered, but it is clear that nobody ever will.
    fn failed(reply: Reply) -> Self {
        let (host, detail, notices) = (None, reply.to_string(), Notices::StayHere);
        Self { outcome: Outcome::Failed, host, detail, reply: Some(reply), notices }
    }

    /// As the reply says.
    fn from_reply(host: &str, reply: Reply) -> Self {
        let outcome = if reply.is_positive() {
            Outcome::Delivered
        } else if reply.is_permanent() {
            Outcome::Failed
        } else {
            Outcome::Deferred
        };
        let (host, detail, notices) = (Some(host.to_owned()), reply.to_string(), Notices::StayHere);
        Self { outcome, host, detail, reply: Some(reply), notices }
    }

    fn report(&self, recipient: &EmailAddress) -> RecipientReport {
        RecipientReport {
            recipient: recipient.clone(),
            outcome: self.outcome,
            host: self.host.clone(),
            reply: self.reply.clone(),
            detail: self.detail.clone(),
            notices: self.notices,
        }
    }

    fn for_all(&self, message: &Outgoing) -> Vec<RecipientReport> {
        message.recipients.iter().map(|recipient| self.report(&recipient.address)).collect()
    }
}
