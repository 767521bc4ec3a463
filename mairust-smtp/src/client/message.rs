//! What is delivered.

use mairust_core::{Body, EmailAddress, MessageDsn, RecipientDsn, ReversePath, TlsWish};

/// A message to be delivered.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// MAIL FROM.
    pub sender: ReversePath,
    /// RCPT TO: at least one.
    pub recipients: Vec<Receiver>,
    /// What the sender asks about notices for the whole message.
    pub dsn: MessageDsn,
    /// What the sender wants of TLS (RFC 8689).
    pub tls: TlsWish,
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
    /// A message whose sender asks nothing about notices and TLS, and whose lines may be sloppy.
    pub fn new(sender: ReversePath, recipients: impl IntoIterator<Item = EmailAddress>, body: Body) -> Self {
        let recipients = recipients.into_iter().map(Receiver::from).collect();
        let (dsn, tls) = (MessageDsn::default(), TlsWish::default());
        Self { sender, recipients, dsn, tls, body, line_ends: LineEnds::Normalize }
    }

    /// What is demanded of TLS for it. RFC 8689 §5: mail without a sender is not lost for want of a host that knows
    /// REQUIRETLS.
    pub(super) fn wish(&self) -> TlsWish {
        match (&self.sender, self.tls) {
            (ReversePath::Null, TlsWish::Required) => TlsWish::AsDemanded,
            (_, wish) => wish,
        }
    }
}

impl From<EmailAddress> for Receiver {
    fn from(address: EmailAddress) -> Self {
        Self { address, dsn: RecipientDsn::default() }
    }
}
