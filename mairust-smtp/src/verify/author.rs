//! The domains of From (RFC 5322 §3.4, §3.6.2), which DMARC protects.
//!
//! Mail programs differ in what they show when there are several From fields or addresses, so all
//! of them count. Only addresses do: a display name may say what it likes.

use mairust_core::Domain;

use super::message::Message;

/// Domains of one message; each takes DNS, and nobody writes for more.
const MAX_DOMAINS: usize = 8;

/// Why the author of a message is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AuthorError {
    #[error("there is no From")]
    Missing,
    #[error("From has no address with a domain")]
    NoAddress,
    #[error("From has too many domains")]
    TooMany,
}

/// The domains of all From fields, each once.
pub(super) fn author_domains(message: &Message) -> Result<Vec<Domain>, AuthorError> {
    let mut domains: Vec<Domain> = Vec::new();
    let mut has_field = false;
    for (_, field) in message.named("from") {
        has_field = true;
        let value = field.value();
        let mut found: Vec<Domain> = addresses(&value).iter().flat_map(|address| domains_in(address)).collect();
        if found.is_empty() {
            // Mail programs show something even of what breaks the grammar.
            found = domains_in(&value);
        }
        for domain in found {
            if !domains.contains(&domain) {
                domains.push(domain);
            }
            if domains.len() > MAX_DOMAINS {
                return Err(AuthorError::TooMany);
            }
        }
    }
    match (domains.is_empty(), has_field) {
        (false, _) => Ok(domains),
        (true, true) => Err(AuthorError::NoAddress),
        (true, false) => Err(AuthorError::Missing),
    }
}

/// Whatever stands behind an `@` and is a domain: in an address, the one it has.
fn domains_in(text: &str) -> Vec<Domain> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let written = |behind: &str| behind.trim_start().split(|c| !is_part(c)).next().unwrap_or_default().to_owned();
    let domain = |behind: &str| Domain::parse(&super::ascii_domain(&written(behind))?).ok();
    text.split('@').skip(1).filter_map(domain).collect()
}

/// The addresses of a list, without white space: what stands between angle brackets, or else all
/// of an entry. Groups, display names, quoted texts and comments are left out.
fn addresses(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut entry = Entry::default();
    let mut characters = value.chars();
    let mut comment_depth = 0_usize;
    while let Some(character) = characters.next() {
        match character {
            '\\' if comment_depth > 0 => drop(characters.next()),
            '(' => comment_depth += 1,
            ')' if comment_depth > 0 => comment_depth -= 1,
            _ if comment_depth > 0 => {}
            '"' => entry.push(&quoted(&mut characters)),
            '<' => entry.open(),
            '>' => entry.close(),
            // Within angle brackets these belong to a route, which says nothing about who wrote.
            ',' | ':' if entry.is_open => entry.open(),
            ',' | ';' => found.extend(std::mem::take(&mut entry).addresses()),
            // What came before is the name of a group.
            ':' => entry = Entry::default(),
            character if character.is_whitespace() => {}
            character => entry.push(&character.to_string()),
        }
    }
    found.extend(entry.addresses());
    found
}

/// A quoted text without anything that would mean something outside of it.
fn quoted(characters: &mut std::str::Chars<'_>) -> String {
    let mut length = 0;
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => drop(characters.next()),
            _ => {}
        }
        length += 1;
    }
    "q".repeat(usize::from(length > 0))
}

/// One entry of an address list.
#[derive(Debug, Default)]
struct Entry {
    /// What stands outside of angle brackets.
    bare: String,
    /// What stands in each pair of them.
    bracketed: Vec<String>,
    is_open: bool,
}

impl Entry {
    fn push(&mut self, text: &str) {
        match self.bracketed.last_mut() {
            Some(inner) if self.is_open => inner.push_str(text),
            _ => self.bare.push_str(text),
        }
    }

    fn open(&mut self) {
        if self.is_open {
            self.bracketed.pop();
        }
        self.is_open = true;
        self.bracketed.push(String::new());
    }

    fn close(&mut self) {
        self.is_open = false;
    }

    fn addresses(self) -> Vec<String> {
        match (self.bracketed.is_empty(), self.bare.is_empty()) {
            (false, _) => self.bracketed,
            (true, false) => vec![self.bare],
            (true, true) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use mairust_core::Body;

    use super::*;

    fn domains(header: &str) -> Result<Vec<String>, AuthorError> {
        let message = Message::read(&Body::from(format!("{header}\r\n\r\n").into_bytes())).unwrap();
        author_domains(&message).map(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn finds_who_wrote() {
        for value in [
            "bob@a.example",
            "Bob <bob@A.example>",
            "\"ceo@bank.example\" <bob@a.example>",
            "ceo@bank.example <bob@a.example>",
            "(x@bank.example (nested) \\) y) bob@a.example (z@bank.example)",
            "\"a\\\"b@bank.example\"@a.example",
            "=?utf-8?q?x=40bank.example?= <bob@a.example>",
            "Bob\r\n <bob@a.example>",
            "bob @ a.example",
            "Group: bob@a.example;",
            "Bob <@bank.example,@other.example:bob@a.example>",
            "Bob <bob@a.example",
            "bob@a.example, \"x, y\" <carol@a.example>,",
        ] {
            assert_eq!(domains(&format!("From: {value}")), Ok(vec!["a.example".to_owned()]), "{value}");
        }
        assert_eq!(domains("From: x@bücher.example"), Ok(vec!["xn--bcher-kva.example".to_owned()]));
    }

    #[test]
    fn all_of_several_count() {
        let both = Ok(vec!["a.example".to_owned(), "b.example".to_owned()]);
        for header in [
            "From: x@a.example, y@b.example",
            "From: x@a.example\r\nFrom: y@b.example",
            "From: <x@a.example> <y@b.example>",
            "FROM : x@a.example\r\nfrom: <y@b.example>",
            "From: x@a.example; y@b.example",
        ] {
            assert_eq!(domains(header), both, "{header}");
        }
    }

    #[test]
    fn who_does_not_say_is_an_error() {
        assert_eq!(domains("Subject: x"), Err(AuthorError::Missing));
        for header in ["From:", "From: Bob", "From: <>", "From: bob@[192.0.2.1]", "From: bob@", "From: @"] {
            assert_eq!(domains(header), Err(AuthorError::NoAddress), "{header}");
        }
        let many: Vec<String> = (0..20).map(|n| format!("x@{n}.example")).collect();
        assert_eq!(domains(&format!("From: {}", many.join(","))), Err(AuthorError::TooMany));
    }

    #[test]
    fn broken_grammar_hides_nobody() {
        for header in [
            "From: \"ceo@bank.example",
            "From: ceo@bank.example (x",
            "From: ceo@bank.example\u{0}",
            "From: ceo@bank.example!, x@[192.0.2.1]",
            "From: <ceo@bank.example",
            "From: (ceo@bank.example",
            "From: ceo@@bank.example",
            "From: ceo@bank.example; x@!",
            "From: \\\"ceo@bank.example",
        ] {
            assert_eq!(domains(header), Ok(vec!["bank.example".to_owned()]), "{header}");
        }
    }
}
