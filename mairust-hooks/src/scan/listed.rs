//! Allow and block lists, around a scanner or alone.

use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{EngineFailure, ListVerdict, RuleHit, ScanAction, ScanReport, SenderLists};

use super::{ScanError, ScanRequest, Scanner};

/// The name of lists without a scanner, and of reports that lists alone have made.
const NAME: &str = "lists";

/// Asks lists before a scanner: its own, which hold for all tenants, and those of the request.
///
/// Mail of an allowed sender is scanned all the same, so that its score can be seen, but then it is
/// taken whatever the scanner says, an attachment that runs included. What is refused for its form
/// (loops, bare line ends, size) never comes here, and hooks are still asked. Mail of a blocked
/// sender is not scanned.
#[derive(Debug, Clone)]
pub struct ListedScanner {
    scanner: Option<Arc<dyn Scanner>>,
    lists: SenderLists,
    blocked: ScanAction,
}

impl ListedScanner {
    /// Puts lists around `scanner`. What is on a block list gets the action `blocked`.
    pub fn new(scanner: Arc<dyn Scanner>, lists: SenderLists, blocked: ScanAction) -> Self {
        Self { scanner: Some(scanner), lists, blocked }
    }

    /// Lists without a scanner: what is on none of them is taken.
    pub fn alone(lists: SenderLists, blocked: ScanAction) -> Self {
        Self { scanner: None, lists, blocked }
    }

    async fn ask(&self, request: &ScanRequest) -> Result<ScanReport, ScanError> {
        match &self.scanner {
            Some(scanner) => scanner.scan(request).await,
            None => Ok(ScanReport::unscanned()),
        }
    }

    /// An allow list wins, whoever keeps it.
    fn judge(&self, request: &ScanRequest) -> ListVerdict {
        match (self.lists.judge(&request.mail), request.lists.judge(&request.mail)) {
            (ListVerdict::Allowed, _) | (_, ListVerdict::Allowed) => ListVerdict::Allowed,
            (ListVerdict::Blocked, _) | (_, ListVerdict::Blocked) => ListVerdict::Blocked,
            _ => ListVerdict::Unlisted,
        }
    }
}

#[async_trait]
impl Scanner for ListedScanner {
    fn name(&self) -> &str {
        self.scanner.as_deref().map_or(NAME, Scanner::name)
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanReport, ScanError> {
        match self.judge(request) {
            ListVerdict::Allowed => {
                let scanned = self.ask(request).await;
                let mut report = scanned.unwrap_or_else(|error| {
                    let mut report = ScanReport::new(NAME, ScanAction::Accept, 0.0);
                    report.failed = Some(EngineFailure::new(self.name(), error));
                    report
                });
                if report.is_unscanned() {
                    report.engine = NAME.to_owned();
                }
                report.action = ScanAction::Accept;
                report.hits.push(RuleHit::new("ALLOW_LIST", 0.0, "the sender is on an allow list"));
                Ok(report)
            }
            ListVerdict::Blocked => {
                let mut report = ScanReport::new(NAME, self.blocked, 0.0);
                report.hits.push(RuleHit::new("BLOCK_LIST", 0.0, "the sender is on a block list"));
                Ok(report)
            }
            _ => self.ask(request).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use mairust_core::SenderPattern;

    use super::*;
    use crate::scan::fake::{Says, request};

    fn lists(allow: &[&str], block: &[&str]) -> SenderLists {
        let patterns = |texts: &[&str]| texts.iter().map(|text| SenderPattern::parse(text).unwrap()).collect();
        let mut lists = SenderLists::default();
        lists.allow = patterns(allow);
        lists.block = patterns(block);
        lists
    }

    async fn ask(says: Result<ScanAction, ScanError>, own: SenderLists, tenant: SenderLists) -> ScanReport {
        let mut request = request("\r\nx");
        request.lists = tenant;
        ListedScanner::new(Arc::new(Says(says)), own, ScanAction::Reject).scan(&request).await.unwrap()
    }

    #[tokio::test]
    async fn an_allowed_sender_is_taken_whatever_happens() {
        for own in [lists(&["sender@example.com"], &[]), lists(&["192.0.2.0/24"], &["example.com"])] {
            let report = ask(Ok(ScanAction::Reject), own, lists(&[], &["example.com"])).await;
            assert_eq!((report.action, report.score), (ScanAction::Accept, 1.0), "the score stays to be seen");
        }
        let report = ask(Err(ScanError::Open), lists(&[], &[]), lists(&["example.com"], &[])).await;
        assert_eq!((report.action, report.engine.as_str()), (ScanAction::Accept, "lists"));
        assert!(report.failed.is_some());
    }

    #[tokio::test]
    async fn a_blocked_sender_is_kept_out() {
        for (own, tenant) in [(&["example.com"][..], &[][..]), (&[], &["sender@example.com"])] {
            let report = ask(Ok(ScanAction::Accept), lists(&[], own), lists(&[], tenant)).await;
            assert_eq!((report.action, report.hits[0].rule.as_str()), (ScanAction::Reject, "BLOCK_LIST"));
        }
    }

    #[tokio::test]
    async fn others_are_scanned() {
        let report = ask(Ok(ScanAction::Junk), lists(&["x.test"], &["y.test"]), lists(&[], &["10.0.0.0/8"])).await;
        assert_eq!((report.action, report.engine.as_str()), (ScanAction::Junk, "says"));
        let alone = ListedScanner::alone(lists(&[], &["x.test"]), ScanAction::Reject);
        let report = alone.scan(&request("\r\nx")).await.unwrap();
        assert_eq!((report.action, report.engine.as_str(), alone.name()), (ScanAction::Accept, "none", "lists"));
        assert!(report.is_unscanned());
    }
}
