//! xtext: text in a parameter of a command, with octets as `+XX` (RFC 3461 §4).

use std::fmt::Write;

/// Whether a text is xtext that decodes to printable text. Characters outside of ASCII stand for
/// themselves (RFC 6533 §3).
pub fn is_valid(text: &str) -> bool {
    decode(text).is_some()
}

/// The text behind an xtext; `None` if it is none, or hides control characters.
pub fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => decoded.push(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?),
            b'!'..=b'~' if byte != b'=' => decoded.push(byte),
            0x80.. => decoded.push(byte),
            _ => return None,
        }
    }
    String::from_utf8(decoded).ok().filter(|text| !text.chars().any(char::is_control))
}

/// A text as xtext; what is not printable ASCII comes out as `+XX`.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if !matches!(byte, b'+' | b'=') => encoded.push(char::from(byte)),
            _ => drop(write!(encoded, "+{byte:02X}")),
        }
    }
    encoded
}

/// RFC 3461 §4: hexadecimal digits in upper case.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes() {
        for text in ["", "a+b=c d", "佐藤@例え.jp", "plain"] {
            assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        }
        assert_eq!(encode("a b+"), "a+20b+2B");
        for text in ["a b", "a=b", "a+", "a+2", "a+2b", "a+0D+0A", "a+FF"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
