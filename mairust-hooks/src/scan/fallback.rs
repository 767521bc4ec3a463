//! A scanner that stands in for another.

use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{EngineFailure, ScanReport};

use super::{ScanError, ScanRequest, Scanner};

/// Asks a scanner, and another one when the first has no answer. The report names the failure.
#[derive(Debug, Clone)]
pub struct FallbackScanner {
    first: Arc<dyn Scanner>,
    second: Arc<dyn Scanner>,
}

impl FallbackScanner {
    /// Asks `second` when `first` has no answer.
    pub fn new(first: Arc<dyn Scanner>, second: Arc<dyn Scanner>) -> Self {
        Self { first, second }
    }
}

#[async_trait]
impl Scanner for FallbackScanner {
    fn name(&self) -> &str {
        self.first.name()
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanReport, ScanError> {
        let error = match self.first.scan(request).await {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        let mut report = self.second.scan(request).await?;
        report.failed = Some(EngineFailure::new(self.first.name(), error));
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use mairust_core::ScanAction;

    use super::*;
    use crate::scan::fake::{Says, request};

    async fn ask(
        first: Result<ScanAction, ScanError>,
        second: Result<ScanAction, ScanError>,
    ) -> Result<ScanReport, ScanError> {
        FallbackScanner::new(Arc::new(Says(first)), Arc::new(Says(second))).scan(&request("\r\nx")).await
    }

    #[tokio::test]
    async fn the_second_is_asked_when_the_first_fails() {
        let report = ask(Ok(ScanAction::Junk), Ok(ScanAction::Accept)).await.unwrap();
        assert_eq!((report.action, report.failed), (ScanAction::Junk, None));
        let report = ask(Err(ScanError::Open), Ok(ScanAction::Accept)).await.unwrap();
        assert_eq!(
            (report.action, report.failed.map(|failed| failed.engine)),
            (ScanAction::Accept, Some("says".to_owned()))
        );
        assert_eq!(ask(Err(ScanError::Open), Err(ScanError::Http(500))).await, Err(ScanError::Http(500)));
    }
}
