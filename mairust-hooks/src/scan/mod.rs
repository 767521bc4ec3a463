//! Scanning for spam: the seam, and the scanners that come with MaiRust.
//!
//! [`Scanner`] is the seam. [`RuleEngine`] judges by rules that an operator can read;
//! [`rspamd::Rspamd`] (feature `rspamd`) asks a server of that name. [`FallbackScanner`] and
//! [`ListedScanner`] are put around others.
//!
//! Deliberately absent: what becomes of the message. A [`ScanReport`] says what is to be done, and
//! whoever received the message does it.

mod default_rules;
pub mod fallback;
pub mod listed;
pub mod rule;
pub mod rule_engine;

#[cfg(feature = "rspamd")]
mod circuit;
#[cfg(feature = "rspamd")]
pub mod rspamd;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{Mail, ScanReport, SenderLists};

pub use default_rules::default_rules;
pub use fallback::FallbackScanner;
pub use listed::ListedScanner;
pub use rule::{MessagePart, Rule, RuleError, RuleTest, TextPattern};
pub use rule_engine::{RuleEngine, RuleProblem, RuleSettings, Thresholds};

/// Finds out whether a message is spam.
///
/// The call may be dropped when its time is over. One scanner serves all messages at once.
///
/// ```
/// use async_trait::async_trait;
/// use mairust_core::{RuleHit, ScanAction, ScanReport};
/// use mairust_hooks::{ScanError, ScanRequest, Scanner};
///
/// /// Puts mail without a subject into the folder Junk.
/// #[derive(Debug)]
/// struct Subjects;
///
/// #[async_trait]
/// impl Scanner for Subjects {
///     fn name(&self) -> &str {
///         "subjects"
///     }
///
///     async fn scan(&self, request: &ScanRequest) -> Result<ScanReport, ScanError> {
///         if request.mail.subject().is_some() {
///             return Ok(ScanReport::new(self.name(), ScanAction::Accept, 0.0));
///         }
///         let mut report = ScanReport::new(self.name(), ScanAction::Junk, 1.0);
///         report.hits.push(RuleHit::new("NO_SUBJECT", 1.0, "has no subject"));
///         Ok(report)
///     }
/// }
/// ```
#[async_trait]
pub trait Scanner: fmt::Debug + Send + Sync + 'static {
    /// The name, for reports, logs and metrics.
    fn name(&self) -> &str;

    /// Looks at one message. Nothing is kept of it, so the same message may come twice.
    ///
    /// # Errors
    /// When there is no answer. The message fails temporarily then: a scanner that wants it taken
    /// says so in a report.
    async fn scan(&self, request: &ScanRequest) -> Result<ScanReport, ScanError>;
}

/// What a scanner is given.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ScanRequest {
    /// The message.
    pub mail: Mail,
    /// The lists of the message's tenant. [`ListedScanner`] goes by them.
    pub lists: SenderLists,
}

/// Why there is no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// What came back is no answer.
    #[error("the answer makes no sense: {0}")]
    Answer(String),
    /// The scanner could not be reached, or the connection broke.
    #[error("no connection: {0}")]
    Connection(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// The scanner answered with this HTTP status instead of a report.
    #[error("HTTP status {0}")]
    Http(u16),
    /// The scanner was not asked, because it failed too often lately.
    #[error("not asked, because it failed too often lately")]
    Open,
    /// There was no answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl ScanRequest {
    /// A message of a tenant without lists.
    pub fn new(mail: Mail) -> Self {
        Self { mail, lists: SenderLists::default() }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Scanner + ?Sized> Scanner for Arc<T> {
    fn name(&self) -> &str {
        (**self).name()
    }
    async fn scan(&self, request: &ScanRequest) -> Result<ScanReport, ScanError> {
        (**self).scan(request).await
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use mairust_core::{Body, Content, EmailAddress, Envelope, Origin, ReversePath, ScanAction, TenantId, Timestamp};

    use super::*;

    /// Says the same about every message.
    #[derive(Debug)]
    pub(crate) struct Says(pub(crate) Result<ScanAction, ScanError>);

    #[async_trait]
    impl Scanner for Says {
        fn name(&self) -> &str {
            "says"
        }
        async fn scan(&self, _: &ScanRequest) -> Result<ScanReport, ScanError> {
            self.0.clone().map(|action| ScanReport::new("says", action, 1.0))
        }
    }

    /// A message from `sender@example.com` at 192.0.2.7 to `alice@example.org`.
    pub(crate) fn request(message: &str) -> ScanRequest {
        let address = |text| EmailAddress::parse(text).unwrap();
        let envelope = Envelope {
            sender: ReversePath::Address(address("sender@example.com")),
            recipients: vec![address("alice@example.org")],
        };
        let origin = Origin { client: "192.0.2.7".parse().ok(), ..Origin::default() };
        let content = Content::parse(message.as_bytes());
        let body = Body::from(message.as_bytes().to_vec());
        ScanRequest::new(Mail::new(TenantId::new(Timestamp::default()), envelope, origin, body, content))
    }
}
