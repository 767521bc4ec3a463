//! Lists and paths as text.

use mairust_core::{EmailAddress, NamedAddress, ReversePath};

/// Names and addresses as JSON: `[["Name","address"],[null,"address"]]`.
pub(crate) fn addresses_to_json(addresses: &[NamedAddress]) -> String {
    let pairs = addresses.iter().map(|entry| serde_json::json!([entry.name, entry.address]));
    serde_json::Value::from_iter(pairs).to_string()
}

/// What [`addresses_to_json`] wrote; `None` if it did not.
pub(crate) fn addresses_from_json(text: &str) -> Option<Vec<NamedAddress>> {
    let pairs: Vec<(Option<String>, String)> = serde_json::from_str(text).ok()?;
    Some(pairs.into_iter().map(|(name, address)| NamedAddress { name, address }).collect())
}

/// Texts as a JSON array.
pub(crate) fn texts_to_json<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    serde_json::Value::from_iter(texts).to_string()
}

/// What [`texts_to_json`] wrote; `None` if it did not.
pub(crate) fn texts_from_json(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// Addresses as a JSON array.
pub(crate) fn targets_to_json(targets: &[EmailAddress]) -> String {
    serde_json::Value::from_iter(targets.iter().map(ToString::to_string)).to_string()
}

/// What [`targets_to_json`] wrote; `None` if it did not.
pub(crate) fn targets_from_json(text: &str) -> Option<Vec<EmailAddress>> {
    texts_from_json(text)?.iter().map(|text| EmailAddress::parse(text).ok()).collect()
}

/// A reverse-path; `None` is the null one.
pub(crate) fn sender_to_text(sender: &ReversePath) -> Option<String> {
    sender.address().map(ToString::to_string)
}

/// What [`sender_to_text`] wrote; `None` if it did not.
pub(crate) fn sender_from_text(text: Option<&str>) -> Option<ReversePath> {
    match text {
        None => Some(ReversePath::Null),
        Some(text) => EmailAddress::parse(text).ok().map(ReversePath::Address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let named = |name: Option<&str>, address: &str| NamedAddress {
            name: name.map(str::to_owned),
            address: address.to_owned(),
        };
        let addresses = vec![named(Some("佐藤 \"S\""), "s@example.com"), named(None, "not an address")];
        assert_eq!(addresses_from_json(&addresses_to_json(&addresses)), Some(addresses));
        assert_eq!(texts_from_json(&texts_to_json(["a\"b", ""])), Some(vec!["a\"b".to_owned(), String::new()]));
        let targets = vec![EmailAddress::parse("\"a b\"@x.org").unwrap(), EmailAddress::parse("佐藤@例え.jp").unwrap()];
        assert_eq!(targets_from_json(&targets_to_json(&targets)), Some(targets));
        for path in [ReversePath::Null, ReversePath::Address(EmailAddress::parse("\"a b\"@x.org").unwrap())] {
            assert_eq!(sender_from_text(sender_to_text(&path).as_deref()), Some(path));
        }
        assert_eq!(sender_from_text(Some("nonsense")), None);
    }
}
