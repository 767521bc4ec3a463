//! Records as a zone file (RFC 1035 §5), to be put into the zone of the domain.

use std::fmt::Write;

use super::{Data, Record};

/// For how long an answer may be kept, in seconds.
const TTL: u32 = 3_600;
/// The longest string of a TXT record in octets (RFC 1035 §3.3).
const STRING: usize = 255;

/// The records, one a line; all names are absolute, and nothing else of the zone is among them.
pub(crate) fn zone(records: &[Record]) -> String {
    let mut zone = String::new();
    for Record { name, data, .. } in records {
        let text = match data {
            Data::Txt(text) => strings(text),
            other => other.to_string(),
        };
        // Writing to a String never fails.
        let _ = writeln!(zone, "{name}. {TTL} IN {} {text}", data.kind());
    }
    zone
}

/// A text as quoted strings that are short enough.
fn strings(text: &str) -> String {
    let quoted = |chunk: &[u8]| {
        let mut string = String::from("\"");
        for octet in chunk {
            match octet {
                b'"' | b'\\' => string.extend(['\\', char::from(*octet)]),
                b' '..=b'~' => string.push(char::from(*octet)),
                other => string.push_str(&format!("\\{other:03}")),
            }
        }
        string + "\""
    };
    let strings: Vec<String> = text.as_bytes().chunks(STRING).map(quoted).collect();
    strings.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Purpose;

    #[test]
    fn texts_are_split_and_quoted() {
        let text = format!("a \"b\" \\ é{}", "x".repeat(300));
        let record = Record { purpose: Purpose::Spf, name: "a.example".to_owned(), data: Data::Txt(text) };
        let zone = zone(&[record]);
        let start = format!("a.example. 3600 IN TXT \"a \\\"b\\\" \\\\ \\195\\169{}\" \"x", "x".repeat(245));
        assert!(zone.starts_with(&start), "{zone}");
        assert_eq!(zone.lines().count(), 1);
    }
}
