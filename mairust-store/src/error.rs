//! Why a store could not do what it was asked.

use std::fmt;

/// What kind of failure, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// There is one already.
    AlreadyExists,
    /// It was changed meanwhile: not what the caller has read.
    Conflict,
    /// Bytes were read whose checksum is wrong.
    Corrupt,
    /// The disk, or the share of it that may be used, is full.
    Full,
    /// The arguments make no sense.
    Invalid,
    /// There is none.
    NotFound,
    /// The backend does not answer, or failed in a way that may pass.
    Unavailable,
}

/// An error of a store: its kind, the operation that failed, and the cause.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    operation: &'static str,
    context: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// An error of `kind` in `operation`; `context` says what it was about.
    pub fn new(kind: StoreErrorKind, operation: &'static str, context: impl fmt::Display) -> Self {
        Self { kind, operation, context: context.to_string(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Full | StoreErrorKind::Unavailable)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.context)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
