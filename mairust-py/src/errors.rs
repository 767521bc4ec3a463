//! What goes wrong, as exceptions of `mairust.errors`.

use std::fmt::Display;

use mairust_store::{StoreError, StoreErrorKind};
use pyo3::prelude::*;

/// Something was asked for that can't be.
pub(crate) fn configuration(text: impl Display) -> PyErr {
    exception("ConfigurationError", &text)
}

/// A hook said something that no hook may say.
pub(crate) fn invalid_answer(text: &impl Display) -> PyErr {
    exception("InvalidAnswer", text)
}

/// A server did not start, or a part of it ended.
pub(crate) fn server(error: &mairust::Error) -> PyErr {
    exception("ServerError", &with_causes(error))
}

/// A storage did not do what it was asked.
pub(crate) fn store(error: &StoreError) -> PyErr {
    let class = match error.kind() {
        StoreErrorKind::AlreadyExists => "AlreadyExists",
        StoreErrorKind::Conflict => "Conflict",
        StoreErrorKind::Corrupt => "Corrupt",
        StoreErrorKind::Full => "StorageFull",
        StoreErrorKind::Invalid => "InvalidArgument",
        StoreErrorKind::NotFound => "NotFound",
        StoreErrorKind::Unavailable => "StorageUnavailable",
        _ => "StorageError",
    };
    exception(class, &with_causes(error))
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn exception(class: &str, text: &dyn Display) -> PyErr {
    Python::attach(|py| {
        let made = py.import("mairust.errors").and_then(|module| module.getattr(class)?.call1((text.to_string(),)));
        made.map_or_else(|error| error, PyErr::from_value)
    })
}
