//! Why a server could not be built or run.

use std::fmt;

use mairust_store::{StoreError, StoreErrorKind};

/// The result of what a server does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a server could not be built, started or run: every problem that was found, one a line.
#[derive(Debug)]
pub struct Error {
    problems: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// One problem, for people: what is wrong and what to do.
    pub fn new(problem: impl fmt::Display) -> Self {
        Self { problems: vec![problem.to_string()], source: None }
    }

    /// Several problems at once.
    pub(crate) fn all(problems: Vec<String>) -> Self {
        Self { problems, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Every problem.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::new(chain(&error)).with_source(error)
    }
}

/// An error with its causes on one line, for logs.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A backend broke its contract and answered fewer entries than it was given.
pub(crate) fn no_answer() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "accept", "the storage backend gave no answer")
}
