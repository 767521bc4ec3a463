//! The way by which a message came in, as hooks are told of it.

use std::sync::Arc;

use mairust_core::{Mail, Rejection};
use mairust_hooks::Fingerprint;
use mairust_hooks::protocol::MailFacts;
use mairust_hooks::protocol::request::{AuthUser, BodyType, SessionOrigin};
use mairust_smtp::server::{self, MailOptions, SessionInfo};

/// The way by which a message came in.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    origin: SessionOrigin,
    listener: Option<String>,
    client_port: Option<u16>,
    auth_user: Option<AuthUser>,
    options: Option<(bool, BodyType)>,
}

impl Way {
    /// By SMTP; `user` is who logged in.
    pub(crate) fn smtp(session: &SessionInfo, options: &MailOptions, user: Option<AuthUser>) -> Self {
        let origin = if options.hold.is_some() {
            SessionOrigin::Scheduled
        } else if user.is_some() {
            SessionOrigin::Submission
        } else {
            SessionOrigin::Smtp
        };
        let body = match options.body {
            server::BodyType::Binary => BodyType::BinaryMime,
            server::BodyType::EightBit => BodyType::EightBitMime,
            server::BodyType::SevenBit => BodyType::SevenBit,
        };
        Self {
            origin,
            listener: Some(session.peer.service.as_str().to_owned()),
            client_port: Some(session.peer.address.port()),
            auth_user: user,
            options: Some((options.international, body)),
        }
    }

    /// By a request to the API, or a command; `later` if it is to be sent at its time.
    pub(crate) fn api(later: bool) -> Self {
        let origin = if later { SessionOrigin::Scheduled } else { SessionOrigin::Api };
        Self { origin, listener: None, client_port: None, auth_user: None, options: None }
    }

    /// From the server itself.
    pub(crate) fn internal() -> Self {
        Self { origin: SessionOrigin::Internal, listener: None, client_port: None, auth_user: None, options: None }
    }

    /// What hooks are told about a message that came in this way, besides the message.
    ///
    /// # Errors
    /// When its octets can't be read.
    pub(crate) async fn facts(&self, mail: &Mail) -> Result<Arc<MailFacts>, Rejection> {
        let fingerprint = Fingerprint::of(mail.body()).await;
        let fingerprint = fingerprint.map_err(|error| crate::receive::unreadable(&error))?;
        let mut facts = MailFacts::new(fingerprint, self.origin);
        facts.listener = self.listener.clone();
        facts.client_port = self.client_port;
        facts.auth_user = self.auth_user.clone();
        (facts.smtputf8, facts.body) = self.options.unzip();
        Ok(Arc::new(facts))
    }
}
