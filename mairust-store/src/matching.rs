//! How texts are found, the same in every backend: in lower case, anywhere in the field.

use mairust_core::{EmailAddress, NamedAddress};

/// Names and addresses as one text to search in.
pub(crate) fn addresses_text(addresses: &[NamedAddress]) -> String {
    let mut text = String::new();
    for NamedAddress { name, address } in addresses {
        text.push_str(name.as_deref().unwrap_or_default());
        text.push(' ');
        text.push_str(address);
        text.push('\n');
    }
    text.to_lowercase()
}

/// To, Cc and the envelope recipient as one text to search in.
pub(crate) fn recipients_text(to: &[NamedAddress], cc: &[NamedAddress], envelope: &EmailAddress) -> String {
    let mut text = addresses_text(to);
    text.push_str(&addresses_text(cc));
    text.push_str(&envelope.to_string().to_lowercase());
    text
}

/// A text that is looked for.
pub(crate) fn needle(text: &str) -> String {
    text.to_lowercase()
}
