//! The grammar of searches.
//!
//! ```text
//! query = part *( space part )              ; all of them
//! part  = term *( space "OR" space term )   ; one of them
//! term  = "-" term / "(" query ")" / [ field ":" ] ( word / phrase )
//! ```
//! `OR` binds the terms beside it, so `invoice from:sato OR from:tanaka` looks for an invoice of
//! either. Quotes make a phrase of words in a row, or a text of what would be grammar; `\"` and `\\`
//! stand for the characters themselves.

use std::time::Duration;

use mairust_core::{ByteSize, Domain, Timestamp, parse_duration};

use super::query::{SearchFact, SearchField, SearchQuery, SearchTerm};
use super::words::Phrase;
use crate::message::{Folder, MessageStatus};

/// Octets of a query.
pub const MAX_QUERY_BYTES: usize = 2_000;
/// Terms of a query.
pub const MAX_TERMS: usize = 64;
/// Parentheses and minus signs within one another.
pub const MAX_DEPTH: usize = 16;

/// Why a text is no query, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
#[non_exhaustive]
pub struct QueryError {
    /// Number of characters in front of the fault.
    pub position: usize,
    /// Why.
    pub kind: QueryErrorKind,
}

/// Why a text is no query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryErrorKind {
    /// It looks for nothing.
    #[error("there is nothing to look for")]
    Empty,
    /// What stands behind the colon is none of what it may be.
    #[error("{field}: {expected}")]
    InvalidValue {
        /// The field.
        field: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// `OR` or `-` without what it is about.
    #[error("a word is missing here")]
    MissingTerm,
    /// Nothing stands behind the colon.
    #[error("{0}: a value is missing behind the colon")]
    MissingValue(String),
    /// A text without a letter or digit, which no message could hold.
    #[error("there is no letter and no digit in this text")]
    NoWord,
    /// Parentheses or minus signs within one another.
    #[error("more than {MAX_DEPTH} parentheses or minus signs within one another")]
    TooDeep,
    /// Too many octets.
    #[error("longer than {MAX_QUERY_BYTES} octets")]
    TooLong,
    /// Too many terms.
    #[error("more than {MAX_TERMS} words and conditions")]
    TooManyTerms,
    /// A `(` without its `)`.
    #[error("this parenthesis is not closed")]
    UnclosedParenthesis,
    /// A quote without its other one.
    #[error("this quote is not closed")]
    UnclosedQuote,
    /// A `)` without its `(`.
    #[error("this parenthesis was not opened")]
    UnexpectedParenthesis,
    /// No field has this name.
    #[error("there is no field {0:?}; put a text that holds a colon in quotes")]
    UnknownField(String),
    /// Part of the grammar, but nothing that is kept could answer it.
    #[error("{term} can't be searched: {reason}")]
    Unsupported {
        /// The condition.
        term: &'static str,
        /// Why not.
        reason: &'static str,
    },
}

impl std::str::FromStr for SearchQuery {
    type Err = QueryError;

    /// Parses the grammar of searches.
    fn from_str(text: &str) -> Result<Self, QueryError> {
        if text.len() > MAX_QUERY_BYTES {
            return Err(QueryError { position: 0, kind: QueryErrorKind::TooLong });
        }
        let mut parser = Parser { text, at: 0, terms: 0, depth: 0 };
        let query = parser.query()?;
        match parser.peek() {
            None => Ok(query),
            Some(_) => Err(parser.fault(QueryErrorKind::UnexpectedParenthesis)),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    /// Octets that were read.
    at: usize,
    terms: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn query(&mut self) -> Result<SearchQuery, QueryError> {
        let mut parts = Vec::new();
        loop {
            self.skip_spaces();
            match self.peek() {
                None | Some(')') if parts.is_empty() => return Err(self.fault(QueryErrorKind::Empty)),
                None | Some(')') => return Ok(of_many(parts, SearchQuery::All)),
                Some(_) => parts.push(self.alternatives()?),
            }
        }
    }

    fn alternatives(&mut self) -> Result<SearchQuery, QueryError> {
        let mut terms = vec![self.term()?];
        while self.takes_or() {
            terms.push(self.term()?);
        }
        Ok(of_many(terms, SearchQuery::Any))
    }

    fn term(&mut self) -> Result<SearchQuery, QueryError> {
        self.skip_spaces();
        let start = self.at;
        match self.peek() {
            None | Some(')') => Err(self.fault(QueryErrorKind::MissingTerm)),
            Some('-') => self.deeper(|parser| {
                parser.at += 1;
                match parser.peek() {
                    Some(next) if !next.is_whitespace() => Ok(SearchQuery::Not(Box::new(parser.term()?))),
                    _ => Err(parser.fault_at(start, QueryErrorKind::MissingTerm)),
                }
            }),
            Some('(') => self.deeper(|parser| {
                parser.at += 1;
                let query = parser.query()?;
                if parser.peek().is_none() {
                    return Err(parser.fault_at(start, QueryErrorKind::UnclosedParenthesis));
                }
                parser.at += 1;
                Ok(query)
            }),
            Some(_) => self.condition().map(SearchQuery::Term),
        }
    }

    /// Reads something that may hold itself.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, QueryError>) -> Result<T, QueryError> {
        if self.depth == MAX_DEPTH {
            return Err(self.fault(QueryErrorKind::TooDeep));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn condition(&mut self) -> Result<SearchTerm, QueryError> {
        let start = self.at;
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(self.fault(QueryErrorKind::TooManyTerms));
        }
        if self.peek() == Some('"') {
            let text = self.phrase()?;
            return text_term(SearchField::Anywhere, text).map_err(|kind| self.fault_at(start, kind));
        }
        let word = self.word();
        let Some((name, value)) = field(word) else {
            if word == "OR" {
                return Err(self.fault_at(start, QueryErrorKind::MissingTerm));
            }
            return text_term(SearchField::Anywhere, word.to_owned()).map_err(|kind| self.fault_at(start, kind));
        };
        let value = match value {
            "" if self.peek() == Some('"') => self.phrase()?,
            value => value.to_owned(),
        };
        named_term(&name.to_ascii_lowercase(), value).map_err(|kind| self.fault_at(start, kind))
    }

    /// Everything up to a space, a parenthesis or a quote.
    fn word(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find(ends_word).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// Everything between two quotes.
    fn phrase(&mut self) -> Result<String, QueryError> {
        let start = self.at;
        let mut text = String::new();
        let mut characters = self.text[start..].char_indices().skip(1);
        while let Some((index, c)) = characters.next() {
            match c {
                '"' => {
                    self.at = start + index + 1;
                    return Ok(text);
                }
                '\\' => text.extend(characters.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        Err(self.fault_at(start, QueryErrorKind::UnclosedQuote))
    }

    /// Reads `OR`, if it is next.
    fn takes_or(&mut self) -> bool {
        let rest = self.text[self.at..].trim_start();
        let Some(behind) = rest.strip_prefix("OR") else { return false };
        let is_whole = behind.is_empty() || behind.starts_with(ends_word);
        if is_whole {
            self.at = self.text.len() - behind.len();
        }
        is_whole
    }

    fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.text[self.at..].trim_start().len();
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn fault(&self, kind: QueryErrorKind) -> QueryError {
        self.fault_at(self.at, kind)
    }

    fn fault_at(&self, at: usize, kind: QueryErrorKind) -> QueryError {
        QueryError { position: self.text[..at].chars().count(), kind }
    }
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '(' | ')' | '"')
}

/// One, or a node over several.
fn of_many(mut parts: Vec<SearchQuery>, node: impl FnOnce(Vec<SearchQuery>) -> SearchQuery) -> SearchQuery {
    if parts.len() == 1 { parts.remove(0) } else { node(parts) }
}

/// The name of a field and what stands behind its colon. The colon may be the full-width one that
/// Japanese input methods write.
fn field(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once([':', '：'])?;
    (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some((name, value))
}

fn named_term(name: &str, value: String) -> Result<SearchTerm, QueryErrorKind> {
    const SIZE: &str = "takes a size, for example 500K, 10M or 1GiB";
    const AGE: &str = "takes a time with s, m (minutes), h or d, for example 7d";
    const DATE: &str = "takes a date, for example 2026-11-22, or a time as 2026-11-22T09:00:00+09:00";
    const FLAGS: &str = "no message is marked as read or starred yet";
    let named = SearchField::parse(name);
    let known = named.is_some() || OTHER_FIELDS.contains(&name);
    if !known {
        return Err(QueryErrorKind::UnknownField(name.to_owned()));
    }
    if value.is_empty() {
        return Err(QueryErrorKind::MissingValue(name.to_owned()));
    }
    if let Some(field) = named {
        return text_term(field, value);
    }
    let invalid = |field, expected| QueryErrorKind::InvalidValue { field, expected };
    let lower = value.to_ascii_lowercase();
    Ok(match name {
        "after" => SearchTerm::After(time(&value).ok_or_else(|| invalid("after", DATE))?),
        "before" => SearchTerm::Before(time(&value).ok_or_else(|| invalid("before", DATE))?),
        "domain" => SearchTerm::Domain(Domain::parse(&value).map_err(|_| invalid("domain", "takes a domain of mail"))?),
        "has" => SearchTerm::Fact(
            SearchFact::parse(&lower).ok_or_else(|| invalid("has", "takes attachment, html or remote"))?,
        ),
        "in" => {
            let folder = Folder::ALL.into_iter().find(|folder| folder.as_str().eq_ignore_ascii_case(&value));
            SearchTerm::Folder(folder.ok_or_else(|| invalid("in", "takes INBOX, Junk, Quarantine, Sent or Trash"))?)
        }
        "is" => match lower.as_str() {
            "bounced" => SearchTerm::Status(MessageStatus::Failed),
            "quarantined" => SearchTerm::Status(MessageStatus::Quarantined),
            "spam" => SearchTerm::Spam,
            "starred" => return Err(QueryErrorKind::Unsupported { term: "is:starred", reason: FLAGS }),
            "unread" => return Err(QueryErrorKind::Unsupported { term: "is:unread", reason: FLAGS }),
            _ => return Err(invalid("is", "takes bounced, quarantined or spam")),
        },
        "larger" => SearchTerm::Larger(size(&value).ok_or_else(|| invalid("larger", SIZE))?),
        "msgid" => {
            let id = value.trim_matches(|c: char| c.is_whitespace() || matches!(c, '<' | '>'));
            if id.is_empty() {
                return Err(invalid("msgid", "takes a Message-ID"));
            }
            SearchTerm::MessageId(id.to_owned())
        }
        "newer" => SearchTerm::Newer(age(&value).ok_or_else(|| invalid("newer", AGE))?),
        "older" => SearchTerm::Older(age(&value).ok_or_else(|| invalid("older", AGE))?),
        "smaller" => SearchTerm::Smaller(size(&value).ok_or_else(|| invalid("smaller", SIZE))?),
        "status" => {
            const STATUS: &str = "takes captured, failed, quarantined, queued, sent or stored";
            SearchTerm::Status(MessageStatus::parse(&lower).ok_or_else(|| invalid("status", STATUS))?)
        }
        "tag" => SearchTerm::Tag(value),
        _ => {
            let reason = "of the header fields only those with a field of their own are kept";
            return Err(QueryErrorKind::Unsupported { term: "header:", reason });
        }
    })
}

/// Fields whose values are no texts.
const OTHER_FIELDS: [&str; 14] = [
    "after", "before", "domain", "has", "header", "in", "is", "larger", "msgid", "newer", "older", "smaller", "status",
    "tag",
];

fn text_term(field: SearchField, text: String) -> Result<SearchTerm, QueryErrorKind> {
    match Phrase::of(&text) {
        Some(_) => Ok(SearchTerm::Text(field, text)),
        None => Err(QueryErrorKind::NoWord),
    }
}

/// A point in time; a date stands for its beginning in UTC.
fn time(text: &str) -> Option<Timestamp> {
    let date = text.replace('/', "-");
    let at = Timestamp::parse_rfc3339(&format!("{date}T00:00:00Z")).or_else(|| Timestamp::parse_rfc3339(text))?;
    // As it is written out again: with milliseconds, in a year of four digits.
    Timestamp::parse_rfc3339(&at.to_rfc3339())
}

/// A size; the short forms of other mail programs are taken, too.
fn size(text: &str) -> Option<ByteSize> {
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_suffix('B').unwrap_or(&upper);
    let long = short.strip_suffix(['K', 'M', 'G']).is_some().then(|| format!("{short}iB"));
    text.parse().ok().or_else(|| long?.parse().ok())
}

fn age(text: &str) -> Option<Duration> {
    parse_duration(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use SearchQuery::{All, Any, Not};

    fn text(field: SearchField, text: &str) -> SearchQuery {
        SearchQuery::Term(SearchTerm::Text(field, text.to_owned()))
    }

    fn word(word: &str) -> SearchQuery {
        text(SearchField::Anywhere, word)
    }

    fn parse(text: &str) -> SearchQuery {
        text.parse().unwrap_or_else(|error: QueryError| panic!("{text}: {error} at {}", error.position))
    }

    fn fault(text: &str) -> (usize, QueryErrorKind) {
        let error = text.parse::<SearchQuery>().unwrap_err();
        (error.position, error.kind)
    }

    #[test]
    fn words_and_operators() {
        assert_eq!(parse(" 会議 "), word("会議"));
        assert_eq!(parse("a\u{3000}b"), All(vec![word("a"), word("b")]));
        assert_eq!(parse("a b OR c"), All(vec![word("a"), Any(vec![word("b"), word("c")])]));
        assert_eq!(parse("(a b) OR c"), Any(vec![All(vec![word("a"), word("b")]), word("c")]));
        assert_eq!(parse("a or b"), All(vec![word("a"), word("or"), word("b")]));
        assert_eq!(parse("-a -(b OR c)"), {
            let either = Any(vec![word("b"), word("c")]);
            All(vec![Not(Box::new(word("a"))), Not(Box::new(either))])
        });
        assert_eq!(parse("\"a \\\"b\\\\\" c-d"), All(vec![word("a \"b\\"), word("c-d")]));
        assert_eq!(parse("\"OR\" ORDER"), All(vec![word("OR"), word("ORDER")]));
        assert_eq!(parse("((a))"), word("a"));
    }

    #[test]
    fn fields_and_their_values() {
        let term = |text| match parse(text) {
            SearchQuery::Term(term) => term,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(parse("From:tanaka"), text(SearchField::From, "tanaka"));
        assert_eq!(parse("subject：\"請求 書\""), text(SearchField::Subject, "請求 書"));
        for field in SearchField::NAMED {
            assert_eq!(parse(&format!("{}:x", field.as_str())), text(field, "x"));
        }
        assert_eq!(term("in:inbox"), SearchTerm::Folder(Folder::Inbox));
        assert_eq!(term("is:quarantined"), SearchTerm::Status(MessageStatus::Quarantined));
        assert_eq!(term("is:bounced"), SearchTerm::Status(MessageStatus::Failed));
        assert_eq!(term("is:spam"), SearchTerm::Spam);
        assert_eq!(term("has:attachment"), SearchTerm::Fact(SearchFact::Attachment));
        assert_eq!(term("domain:Example.JP"), SearchTerm::Domain(Domain::parse("example.jp").unwrap()));
        assert_eq!(term("msgid:<a@b>"), SearchTerm::MessageId("a@b".to_owned()));
        assert_eq!(term("tag:\"to do\""), SearchTerm::Tag("to do".to_owned()));
        assert_eq!(term("newer:7d"), SearchTerm::Newer(Duration::from_secs(7 * 86_400)));
        for size in ["larger:10M", "larger:10mb", "larger:10MiB", "larger:10485760"] {
            assert_eq!(term(size), SearchTerm::Larger(ByteSize(10 << 20)), "{size}");
        }
        let day = Timestamp::parse_rfc3339("2026-11-22T00:00:00Z").unwrap();
        for date in ["before:2026-11-22", "before:2026/11/22", "before:2026-11-22T09:00:00+09:00"] {
            assert_eq!(term(date), SearchTerm::Before(day), "{date}");
        }
    }

    #[test]
    fn faults_say_where() {
        let invalid = |text: &str| match fault(text) {
            (position, QueryErrorKind::InvalidValue { field, .. }) => (position, field),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(fault(""), (0, QueryErrorKind::Empty));
        assert_eq!(fault("会議 ()"), (4, QueryErrorKind::Empty));
        assert_eq!(fault("会議 form:x"), (3, QueryErrorKind::UnknownField("form".to_owned())));
        assert_eq!(fault("a subject:"), (2, QueryErrorKind::MissingValue("subject".to_owned())));
        assert_eq!(fault("会 \"abc"), (2, QueryErrorKind::UnclosedQuote));
        assert_eq!(fault("a (b"), (2, QueryErrorKind::UnclosedParenthesis));
        assert_eq!(fault("a b) c"), (3, QueryErrorKind::UnexpectedParenthesis));
        assert_eq!(fault("a OR"), (4, QueryErrorKind::MissingTerm));
        assert_eq!(fault("OR a"), (0, QueryErrorKind::MissingTerm));
        assert_eq!(fault("a - b"), (2, QueryErrorKind::MissingTerm));
        assert_eq!(fault("a !?"), (2, QueryErrorKind::NoWord));
        assert_eq!(fault(&"x".repeat(MAX_QUERY_BYTES + 1)), (0, QueryErrorKind::TooLong));
        assert_eq!(fault(&"(".repeat(MAX_DEPTH + 1)), (MAX_DEPTH, QueryErrorKind::TooDeep));
        assert_eq!(fault(&"x ".repeat(MAX_TERMS + 1)), (2 * MAX_TERMS, QueryErrorKind::TooManyTerms));
        for text in ["x in:nowhere", "x is:x", "x has:x", "x larger:x", "x newer:x", "x before:x", "x status:x"] {
            assert_eq!(invalid(text).0, 2, "{text}");
        }
    }

    #[test]
    fn what_is_not_kept_is_refused() {
        for text in ["x header:X-Foo=bar", "x is:unread", "x is:starred"] {
            assert!(matches!(fault(text), (2, QueryErrorKind::Unsupported { .. })), "{text}");
        }
    }

    /// A small generator (xorshift), so that failures repeat.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % bound as u64).unwrap()
        }

        fn of<T: Copy>(&mut self, choices: &[T]) -> T {
            choices[self.below(choices.len())]
        }
    }

    #[test]
    fn whatever_is_read_is_written_so_that_it_reads_the_same() {
        const PIECES: [&str; 40] = [
            " ",
            " ",
            " ",
            " ",
            "\u{3000}",
            "OR",
            " OR ",
            "-",
            "(",
            ")",
            "\"",
            "\\",
            ":",
            "：",
            "会議",
            "東",
            "a",
            "tanaka@example.co.jp",
            "x-1",
            "from:",
            "to:",
            "tag:",
            "in:sent",
            "is:spam",
            "is:bounced",
            "has:html",
            "domain:a.jp",
            "msgid:<",
            ">",
            "before:2026-11-22",
            "after:1969-12-31T23:59:59.999999-01:00",
            "newer:90m",
            "older:0d",
            "larger:1025K",
            "smaller:3",
            "status:sent",
            "\u{0}",
            "ẞ",
            "e\u{301}",
            "é\u{301}",
        ];
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut parsed = 0;
        for _ in 0..15_000 {
            let text: String = (0..=random.below(9)).map(|_| random.of(&PIECES)).collect();
            let Ok(query) = text.parse::<SearchQuery>() else { continue };
            parsed += 1;
            assert_eq!(query.to_string().parse().as_ref(), Ok(&query), "{text:?} {query}");
        }
        assert!(parsed > 1_500, "only {parsed} were queries");
    }

    #[test]
    fn no_text_takes_the_parser_down() {
        let mut random = Random(0x1234_5678_9ABC_DEF1);
        for _ in 0..10_000 {
            let mut character = |_| match random.below(3) {
                0 => random.of(&['"', '(', ')', '-', ':', ' ', 'O', 'R', '\\']),
                _ => char::from_u32(u32::try_from(random.below(0x3100)).unwrap()).unwrap_or('x'),
            };
            let text: String = (0..40).map(&mut character).collect();
            if let Err(error) = text.parse::<SearchQuery>() {
                assert!(error.position <= text.chars().count(), "{text:?}");
            }
        }
    }
}
