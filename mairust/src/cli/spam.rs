//! The scanner that a configuration describes.

use std::sync::Arc;

use mairust_hooks::scan::rspamd::Rspamd;
use mairust_hooks::scan::{FallbackScanner, ListedScanner, RuleEngine, RuleSettings, Scanner};

use super::output::Failure;
use crate::config::{OnScanFailure, SpamEngine, SpamSettings};

/// Lists of senders hold with every engine, and without one.
pub(super) fn scanner(settings: &SpamSettings) -> Result<Arc<dyn Scanner>, Failure> {
    let (lists, blocked) = (settings.lists.clone(), settings.blocked);
    let rspamd = || Arc::new(Rspamd::new(settings.rspamd.clone()));
    let engine: Arc<dyn Scanner> = match (settings.engine, settings.on_failure) {
        (SpamEngine::Builtin, _) => rules(&settings.rules)?,
        (SpamEngine::Rspamd, OnScanFailure::Builtin) => {
            Arc::new(FallbackScanner::new(rspamd(), rules(&settings.rules)?))
        }
        (SpamEngine::Rspamd, OnScanFailure::Tempfail) => rspamd(),
        (SpamEngine::None, _) => return Ok(Arc::new(ListedScanner::alone(lists, blocked))),
    };
    Ok(Arc::new(ListedScanner::new(engine, lists, blocked)))
}

fn rules(settings: &RuleSettings) -> Result<Arc<RuleEngine>, Failure> {
    match RuleEngine::new(settings) {
        Ok(engine) => Ok(Arc::new(engine)),
        Err(problems) => {
            let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(Failure::configuration(texts.join("; ")))
        }
    }
}
