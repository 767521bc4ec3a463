//! Whom a message says that it is from, and for: From and Sender, To, Cc and Bcc (RFC 5322 §3.6.2, §3.6.3).
//!
//! Mail from outside is read leniently; here the grammar is taken strictly, and what is ambiguous
//! is refused, so that no mail program can show another author than the one whose right was
//! checked. Deliberately absent: an opinion on names that people give themselves, such as
//! `"eve@example.com" <alice@example.com>`; applications send in other people's names so.

use mairust_core::content::MAX_ADDRESSES;
use mairust_core::{EmailAddress, EnhancedCode, Rejection};

/// The addresses of From and Sender.
///
/// # Errors
/// 550 5.6.0 when the header section is malformed, when there is not exactly one From field or
/// more than one Sender field, or when either is not a list of addresses.
pub(crate) fn authors(raw: &[u8]) -> Result<Vec<EmailAddress>, Rejection> {
    let fields = fields(raw).ok_or_else(|| unfit("The header section is malformed"))?;
    let (from, sender) = (named(&fields, "from"), named(&fields, "sender"));
    let [from] = &from[..] else { return Err(unfit("A message needs exactly one From field")) };
    let from = addresses(from).filter(|list| !list.addresses.is_empty());
    let from = from.ok_or_else(|| unfit("The From field must hold a valid address"))?;
    let sender = match &sender[..] {
        [] if from.addresses.len() == 1 => List::default(),
        [] => return Err(unfit("A message with several authors needs a Sender field")),
        [sender] => {
            let sender = addresses(sender).filter(|list| list.addresses.len() == 1);
            sender.ok_or_else(|| unfit("The Sender field must hold one valid address"))?
        }
        _ => return Err(unfit("A message has at most one Sender field")),
    };
    let authors: Vec<EmailAddress> = [from, sender].into_iter().flat_map(List::all).collect();
    if authors.len() > MAX_ADDRESSES {
        return Err(unfit("The From field holds too many addresses"));
    }
    Ok(authors)
}

/// The addresses of To, Cc and Bcc, in this order.
///
/// # Errors
/// 550 5.6.0 when the header section is malformed, or one of these fields is no list of addresses.
pub(crate) fn recipients(raw: &[u8]) -> Result<Vec<EmailAddress>, Rejection> {
    let fields = fields(raw).ok_or_else(|| unfit("The header section is malformed"))?;
    let mut recipients = Vec::new();
    for value in ["to", "cc", "bcc"].into_iter().flat_map(|name| named(&fields, name)) {
        let list = addresses(&value).ok_or_else(|| unfit("To, Cc and Bcc must hold valid addresses"))?;
        recipients.extend(list.addresses);
    }
    Ok(recipients)
}

fn unfit(text: &str) -> Rejection {
    Rejection::new(550, EnhancedCode(5, 6, 0), text)
}

/// The fields of the header section, names without the space that may follow them; `None` if a
/// line is neither a field nor the continuation of one.
fn fields(raw: &[u8]) -> Option<Vec<(&[u8], Vec<u8>)>> {
    let mut fields: Vec<(&[u8], Vec<u8>)> = Vec::new();
    let mut rest = raw;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 2..).unwrap_or_default();
        if line.is_empty() {
            break;
        }
        if matches!(line[0], b' ' | b'\t') {
            // The first line would belong to the fields that are put in front of it.
            fields.last_mut()?.1.extend_from_slice(line);
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = line[..colon].trim_ascii_end();
        // RFC 5322 §2.2: printable US-ASCII.
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        fields.push((name, line[colon + 1..].to_vec()));
    }
    Some(fields)
}

/// The values of the fields of this name.
fn named(fields: &[(&[u8], Vec<u8>)], wanted: &str) -> Vec<String> {
    let values = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
    values.map(|(_, value)| readable(value)).collect()
}

/// A value as text. Octets that are no UTF-8 may stand in names and comments; NUL, which stands for them here, makes
/// an address invalid.
fn readable(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push('\0');
        }
    }
    text
}

/// A part of an address list; comments are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// In quotes, as written.
    Quoted(String),
    Space,
    /// One of `< > , ; :`.
    Special(char),
    Text(String),
}

/// What a list of addresses holds.
#[derive(Debug, Default)]
struct List {
    addresses: Vec<EmailAddress>,
    /// Addresses that stand as names in front of others, without quotes: some mail programs would
    /// take them for the author.
    names: Vec<EmailAddress>,
}

impl List {
    fn all(self) -> impl Iterator<Item = EmailAddress> {
        self.addresses.into_iter().chain(self.names)
    }
}

/// The addresses of a list with groups; `None` if it is ambiguous.
fn addresses(value: &str) -> Option<List> {
    let tokens = tokens(value)?;
    let mut found = List::default();
    for element in tokens.split(|token| matches!(token, Token::Special(',' | ';'))) {
        let element = match element.iter().position(|token| *token == Token::Special(':')) {
            None => element,
            Some(colon) => {
                // The name of a group, which must not look like an address itself.
                let (name, members) = element.split_at(colon);
                names(name).is_empty().then_some(&members[1..])?
            }
        };
        add_element(trimmed(element), &mut found)?;
    }
    Some(found)
}

/// Adds an address, perhaps with a name in front of it.
fn add_element(element: &[Token], list: &mut List) -> Option<()> {
    if element.is_empty() {
        return Some(());
    }
    let Some(open) = element.iter().position(|token| *token == Token::Special('<')) else {
        list.addresses.push(EmailAddress::parse(&written(element)?).ok()?);
        return Some(());
    };
    let (phrase, angle) = element.split_at(open);
    let (close, inner) = angle[1..].split_last()?;
    if *close != Token::Special('>') {
        return None;
    }
    list.addresses.push(EmailAddress::parse(&written(trimmed(inner))?).ok()?);
    for name in names(phrase) {
        list.names.push(EmailAddress::parse(&name).ok()?);
    }
    Some(())
}

/// Words outside of quotes that a mail program might take for an address.
fn names(phrase: &[Token]) -> Vec<String> {
    let words = phrase.split(|token| *token == Token::Space);
    let text = |word: &[Token]| {
        word.iter()
            .filter_map(|token| match token {
                Token::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect::<String>()
    };
    words.map(text).filter(|word| word.contains('@')).collect()
}

/// Tokens as they were written; `None` if there is a special one among them.
fn written(tokens: &[Token]) -> Option<String> {
    let text = |token: &Token| match token {
        Token::Quoted(text) | Token::Text(text) => Some(text.clone()),
        Token::Space => Some(" ".to_owned()),
        Token::Special(_) => None,
    };
    tokens.iter().map(text).collect()
}

fn trimmed(mut tokens: &[Token]) -> &[Token] {
    while let [Token::Space, rest @ ..] | [rest @ .., Token::Space] = tokens {
        tokens = rest;
    }
    tokens
}

/// `None` if a quote, a comment or a domain literal has no end.
fn tokens(value: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = value;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            ' ' | '\t' => (Token::Space, 1),
            '<' | '>' | ',' | ';' | ':' => (Token::Special(first), 1),
            '"' => {
                let length = closed(rest, '"', '"')?;
                (Token::Quoted(rest[..length].to_owned()), length)
            }
            '(' => (Token::Space, closed(rest, '(', ')')?),
            '[' => {
                let length = closed(rest, '[', ']')?;
                (Token::Text(rest[..length].to_owned()), length)
            }
            ')' | ']' => return None,
            _ => {
                let length = rest.find(|other: char| " \t<>,;:\"()[]".contains(other)).unwrap_or(rest.len());
                (Token::Text(rest[..length].to_owned()), length)
            }
        };
        tokens.push(token);
        rest = &rest[length..];
    }
    Some(tokens)
}

/// The length of what begins with `open`, to its end; comments nest, and a backslash takes the
/// meaning from the next character.
fn closed(text: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (offset, character) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == close && depth > 0 && (open != close || offset > 0) {
            depth -= 1;
        } else if character == open {
            depth += 1;
        }
        if depth == 0 {
            return Some(offset + character.len_utf8());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str) -> Result<Vec<String>, String> {
        let raw = format!("{header}\r\nSubject: s\r\n\r\nFrom: body@x.example\r\n");
        let found = authors(raw.as_bytes()).map_err(|rejection| rejection.reply().lines().join(" "))?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn finds_everybody_who_might_be_shown() {
        for (header, expected) in [
            ("From: alice@example.com", "alice@example.com"),
            ("fRoM : Alice <Alice@Example.com>", "Alice@example.com"),
            ("From:\r\n alice@example.com\r\n (at home)", "alice@example.com"),
            ("From: John Q. Public <alice@example.com>", "alice@example.com"),
            ("From: 佐藤 <alice@example.com>", "alice@example.com"),
            ("From: \"eve, \\\" <eve@x.example>\" <alice@example.com>", "alice@example.com"),
            ("From: \"alice\"@example.com", "alice@example.com"),
            ("From: alice@[192.0.2.1]", "alice@[192.0.2.1]"),
            ("From: (a (nested) \\) comment) alice@example.com (eve@x.example)", "alice@example.com"),
            ("From: alice@example.com <alice@example.com>", "alice@example.com alice@example.com"),
            ("From: eve@x.example <alice@example.com>", "alice@example.com eve@x.example"),
            ("From: a, b <alice@example.com>", ""),
            (
                "Sender: bob@x.example\r\nFrom: alice@example.com, Eve <eve@x.example>,",
                "alice@example.com eve@x.example bob@x.example",
            ),
            (
                "Sender: bob@x.example\r\nFrom: Us: alice@example.com, eve@x.example;",
                "alice@example.com eve@x.example bob@x.example",
            ),
        ] {
            let found = of(header).map(|found| found.join(" ")).unwrap_or_default();
            assert_eq!(found, expected, "{header}");
        }
        assert!(of("From: alice@[IPv6:::1]").is_ok(), "the colons are no group");
    }

    #[test]
    fn octets_that_are_no_text_are_in_names_only() {
        let name = b"From: J\xf6rg <alice@example.com>\r\nTo: (\xe9) bob@x.example\r\n\r\n";
        assert_eq!(authors(name).unwrap()[0].to_string(), "alice@example.com");
        assert_eq!(recipients(name).unwrap()[0].to_string(), "bob@x.example");
        for local in [&b"b\xf6b"[..], b"\"b\xf6b\"", b"b\xc3"] {
            for field in ["From", "To"] {
                let raw = [field.as_bytes(), b": <", local, b"@x.example>\r\n\r\n"].concat();
                let found = if field == "From" { authors(&raw) } else { recipients(&raw) };
                assert!(found.is_err(), "{}", raw.escape_ascii());
            }
        }
    }

    #[test]
    fn refuses_what_is_ambiguous() {
        for header in [
            "From: <alice@example.com> <eve@x.example>",
            "From: <alice@example.com> eve@x.example",
            "From: alice@example.com eve@x.example",
            "From: alice@example.com\r\n <eve@x.example",
            "From: <alice@example.com",
            "From: alice@example.com>",
            "From: <a<alice@example.com>>",
            "From: <@a.example,@b.example:alice@example.com>",
            "From: alice@example.com\0<eve@x.example>",
            "From: \"open <alice@example.com>",
            "From: (open <alice@example.com>",
            "From: alice@example.com)",
            "From: eve@x.example: alice@example.com;",
            "From: =?utf-8?q?alice=40example.com?=",
            "From: a@b@example.com",
            "From: alice@example.com, nobody",
        ] {
            assert_eq!(of(header), Err("The From field must hold a valid address".to_owned()), "{header}");
        }
    }

    #[test]
    fn there_is_one_author_field_and_at_most_one_sender() {
        for (header, text) in [
            ("To: a@b.c", "A message needs exactly one From field"),
            ("From: alice@example.com\r\nfrom: eve@x.example", "A message needs exactly one From field"),
            ("From: alice@example.com\r\nFrom\t: eve@x.example", "A message needs exactly one From field"),
            ("From: undisclosed:;", "The From field must hold a valid address"),
            ("From: alice@example.com, eve@x.example", "A message with several authors needs a Sender field"),
            ("From: a@b.c\r\nSender: a@b.c\r\nSender: d@e.f", "A message has at most one Sender field"),
            ("From: a@b.c\r\nSender: a@b.c, d@e.f", "The Sender field must hold one valid address"),
            ("From: a@b.c\r\nSender:", "The Sender field must hold one valid address"),
            ("From: a@b.c\r\nno field", "The header section is malformed"),
            ("From: a@b.c\r\n\x0bFrom: eve@x.example", "The header section is malformed"),
            ("From: a@b.c\r\nA b: c", "The header section is malformed"),
            (" folded\r\nFrom: a@b.c", "The header section is malformed"),
        ] {
            assert_eq!(of(header), Err(text.to_owned()), "{header}");
        }
        let many = vec!["alice@example.com"; 101].join(",");
        assert!(of(&format!("From: {many}\r\nSender: alice@example.com")).unwrap_err().contains("too many"));
    }
}
