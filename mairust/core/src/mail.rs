//! One message on its way, as hooks and policies see it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::auth_results::AuthResults;
use crate::body::Body;
use crate::content::Content;
use crate::envelope::Envelope;
use crate::id::{MessageId, SessionId, TenantId};
use crate::scan::ScanReport;

/// A read-only view of one message. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Mail(Arc<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    tenant: TenantId,
    message_id: Option<MessageId>,
    envelope: Envelope,
    origin: Origin,
    body: Body,
    content: Content,
    auth_results: Option<AuthResults>,
    scan: Option<ScanReport>,
}

/// How a message came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The SMTP session, if it came by SMTP.
    pub session: Option<SessionId>,
    /// The address of the client.
    pub client: Option<IpAddr>,
    /// The argument of EHLO or HELO.
    pub helo: Option<String>,
    /// What is known about the TLS connection; `None` for plain text.
    pub tls: Option<TlsFacts>,
    /// Who logged in.
    pub user: Option<String>,
}

/// What was agreed on by a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// For example `TLSv1.3`.
    pub version: String,
    /// For example `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
}

/// What the sender of a message wants of TLS on its further way (RFC 8689).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TlsWish {
    /// What the domain of the recipient demands.
    #[default]
    AsDemanded,
    /// That it gets there rather than under TLS, whatever that domain demands (`TLS-Required: No`).
    Relaxed,
    /// That it goes under verified TLS only, to hosts which keep to that, too (REQUIRETLS).
    Required,
}

impl TlsWish {
    /// What was said with a message: REQUIRETLS counts, and then what the message itself says.
    pub fn of(require_tls: bool, content: &Content) -> Self {
        // RFC 8689 §3: there is one field at most, and no other value has a meaning.
        let mut said = content.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("TLS-Required"));
        match (require_tls, said.next(), said.next()) {
            (true, ..) => Self::Required,
            (false, Some((_, value)), None) if value.trim().eq_ignore_ascii_case("no") => Self::Relaxed,
            (false, ..) => Self::AsDemanded,
        }
    }

    /// Reads what [`as_str`](Self::as_str) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Relaxed, Self::Required].into_iter().find(|wish| wish.as_str() == Some(text))
    }

    /// In a word, unless it is the usual one.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::AsDemanded => None,
            Self::Relaxed => Some("relaxed"),
            Self::Required => Some("required"),
        }
    }
}

impl Mail {
    /// A message that is not stored yet.
    pub fn new(tenant: TenantId, envelope: Envelope, origin: Origin, body: Body, content: Content) -> Self {
        Self::made_of(tenant, None, envelope, origin, body, content)
    }

    /// A message that is stored under this id.
    pub fn stored(id: MessageId, tenant: TenantId, envelope: Envelope, body: Body, content: Content) -> Self {
        Self::made_of(tenant, Some(id), envelope, Origin::default(), body, content)
    }

    fn made_of(
        tenant: TenantId,
        message_id: Option<MessageId>,
        envelope: Envelope,
        origin: Origin,
        body: Body,
        content: Content,
    ) -> Self {
        let (auth_results, scan) = (None, None);
        Self(Arc::new(Parts { tenant, message_id, envelope, origin, body, content, auth_results, scan }))
    }

    /// The same message with what was found out about its sender.
    #[must_use]
    pub fn with_auth_results(self, auth_results: AuthResults) -> Self {
        let mut parts = Arc::unwrap_or_clone(self.0);
        parts.auth_results = Some(auth_results);
        Self(Arc::new(parts))
    }

    /// The same message with what a scanner says about it.
    #[must_use]
    pub fn with_scan(self, report: ScanReport) -> Self {
        let mut parts = Arc::unwrap_or_clone(self.0);
        parts.scan = Some(report);
        Self(Arc::new(parts))
    }

    /// Whose mail this is.
    pub fn tenant(&self) -> TenantId {
        self.0.tenant
    }

    /// The id under which the message is stored; `None` before it is.
    pub fn id(&self) -> Option<MessageId> {
        self.0.message_id
    }

    /// Who sends to whom.
    pub fn envelope(&self) -> &Envelope {
        &self.0.envelope
    }

    /// How it came in. Empty once the message is stored.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// What SPF, DKIM, DMARC and ARC found; `None` where nothing was checked: for mail of our own
    /// users, and once the message is stored.
    pub fn auth_results(&self) -> Option<&AuthResults> {
        self.0.auth_results.as_ref()
    }

    /// The bytes.
    pub fn body(&self) -> &Body {
        &self.0.body
    }

    /// What the message says about itself.
    pub fn content(&self) -> &Content {
        &self.0.content
    }

    /// What a scanner says about it; `None` if none was asked, and once the message is stored.
    pub fn scan(&self) -> Option<&ScanReport> {
        self.0.scan.as_ref()
    }

    /// The decoded Subject.
    pub fn subject(&self) -> Option<&str> {
        self.0.content.subject.as_deref()
    }

    /// The first header field of this name, decoded.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.content.header(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_about_tls_are_read_strictly() {
        for (header, relaxed) in [
            ("TLS-Required: No", true),
            ("tls-required:\r\n no ", true),
            ("TLS-Required: Yes", false),
            ("TLS-Required: No\r\nTLS-Required: No", false),
            ("Subject: TLS-Required: No", false),
        ] {
            let content = Content::parse(format!("{header}\r\n\r\nTLS-Required: No\r\n").as_bytes());
            assert_eq!(TlsWish::of(false, &content) == TlsWish::Relaxed, relaxed, "{header}");
            assert_eq!(TlsWish::of(true, &content), TlsWish::Required, "{header}");
        }
        for wish in [TlsWish::AsDemanded, TlsWish::Relaxed, TlsWish::Required] {
            assert_eq!(wish.as_str().and_then(TlsWish::parse).unwrap_or_default(), wish);
        }
    }
}
