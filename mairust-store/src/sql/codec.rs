//! Lists and paths as they stand in columns.

use mairust_core::{EmailAddress, NamedAddress, ReversePath};

use super::driver::{Columns, Json};
use crate::error::StoreError;

/// Names and addresses: `[["Name","address"],[null,"address"]]`.
pub(crate) fn addresses(addresses: &[NamedAddress]) -> Json {
    Json(addresses.iter().map(|entry| serde_json::json!([entry.name, entry.address])).collect())
}

/// What [`addresses`] wrote.
pub(crate) fn read_addresses(columns: &Columns<'_>, column: &'static str) -> Result<Vec<NamedAddress>, StoreError> {
    let pairs: Vec<(Option<String>, String)> = columns.json(column)?;
    Ok(pairs.into_iter().map(|(name, address)| NamedAddress { name, address }).collect())
}

/// A list of texts.
pub(crate) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Json {
    Json(serde_json::Value::from_iter(texts))
}

/// Addresses that an alias leads to.
pub(crate) fn targets(targets: &[EmailAddress]) -> Json {
    Json(serde_json::Value::from_iter(targets.iter().map(ToString::to_string)))
}

/// What [`targets`] wrote; `None` is NULL.
pub(crate) fn read_targets(
    columns: &Columns<'_>,
    column: &'static str,
) -> Result<Option<Vec<EmailAddress>>, StoreError> {
    let Some(texts) = columns.optional_json::<Vec<String>>(column)? else { return Ok(None) };
    let targets: Option<_> = texts.iter().map(|text| EmailAddress::parse(text).ok()).collect();
    targets.map(Some).ok_or_else(|| columns.corrupt(column))
}

/// A reverse-path; `None` is the null one.
pub(crate) fn sender(sender: &ReversePath) -> Option<String> {
    sender.address().map(ToString::to_string)
}

/// What [`sender`] wrote.
pub(crate) fn read_sender(columns: &Columns<'_>, column: &'static str) -> Result<ReversePath, StoreError> {
    let address = columns.optional(column, |text| EmailAddress::parse(text).ok())?;
    Ok(address.map_or(ReversePath::Null, ReversePath::Address))
}
