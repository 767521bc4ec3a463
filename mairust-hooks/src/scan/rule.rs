//! A rule: what it looks at, what it looks for, and what it adds to the score.

use mairust_core::{ByteSize, Mail};
use regex::{Regex, RegexBuilder};

/// One rule, as it is written down. It is checked when an engine is made of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Rule {
    /// Its name in reports: 1 to 64 letters, digits, `_`, `-` or `.`.
    pub name: String,
    /// What it adds to the score when it hits; may be negative.
    pub score: f64,
    /// What it means, for people; may be empty.
    pub description: String,
    /// When it hits.
    pub test: RuleTest,
}

/// When a rule hits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleTest {
    /// There is no header field of this name.
    HeaderAbsent(String),
    /// There is a header field of this name.
    HeaderPresent(String),
    /// The message has more bytes than this.
    LargerThan(ByteSize),
    /// The message has fewer bytes than this.
    SmallerThan(ByteSize),
    /// One of the texts of this part fits.
    Text {
        /// Where to look.
        part: MessagePart,
        /// What to look for.
        pattern: TextPattern,
    },
}

/// A part of a message that has texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessagePart {
    /// The names of attachments.
    Attachment,
    /// All text parts, decoded, as one text.
    Body,
    /// The addresses in From.
    From,
    /// The values of the header fields of this name, decoded.
    Header(String),
    /// The addresses of RCPT TO.
    Recipient,
    /// The address of MAIL FROM; empty for `<>`.
    Sender,
}

/// What a text is compared with. Case does not count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TextPattern {
    /// The text holds this.
    Contains(String),
    /// The whole text fits this, where `*` is any number of characters and `?` is one.
    Like(String),
    /// The text fits this regular expression (the syntax of the crate `regex`, which has neither
    /// look-around nor back-references) somewhere. `(?-i)` lets case count.
    Regex(String),
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The header field is no name.
    #[error("a header field has a name of printable ASCII characters without a colon")]
    Header,
    /// The name has the wrong form.
    #[error("a rule has a name of 1 to 64 letters, digits and `_ - .`")]
    Name,
    /// The pattern is empty or over 1,000 bytes, or needs too much memory.
    #[error("a pattern has 1 to 1,000 bytes, and fits into a megabyte of memory when compiled")]
    PatternSize,
    /// The regular expression is none.
    #[error("not a regular expression: {0}")]
    Regex(String),
    /// The score is infinite or not a number.
    #[error("a score is a finite number")]
    Score,
}

/// Longer patterns are refused.
const MAX_PATTERN: usize = 1_000;

/// Memory of one compiled pattern, and of what it remembers between searches.
const MAX_COMPILED: usize = 1 << 20;

impl Rule {
    /// A rule without a description.
    pub fn new(name: impl Into<String>, score: f64, test: RuleTest) -> Self {
        Self { name: name.into(), score, description: String::new(), test }
    }

    /// Says what it means.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Whether an engine can be made of it.
    ///
    /// # Errors
    /// When it can't.
    pub fn check(&self) -> Result<(), RuleError> {
        CompiledRule::new(self).map(drop)
    }
}

impl TextPattern {
    fn compile(&self) -> Result<Regex, RuleError> {
        let (Self::Contains(text) | Self::Like(text) | Self::Regex(text)) = self;
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(RuleError::PatternSize);
        }
        let source = match self {
            Self::Contains(text) => regex::escape(text),
            Self::Like(text) => {
                let escaped = regex::escape(text).replace(r"\*", ".*").replace(r"\?", ".");
                format!("(?s)^(?:{escaped})$")
            }
            Self::Regex(text) => text.clone(),
        };
        let built = RegexBuilder::new(&source)
            .case_insensitive(true)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build();
        built.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => RuleError::PatternSize,
            other => RuleError::Regex(one_line(&other.to_string())),
        })
    }
}

/// A rule that is ready to run.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) name: String,
    pub(super) score: f64,
    pub(super) description: String,
    test: CompiledTest,
}

#[derive(Debug)]
enum CompiledTest {
    HeaderAbsent(String),
    HeaderPresent(String),
    LargerThan(u64),
    SmallerThan(u64),
    Text(MessagePart, Regex),
}

impl CompiledRule {
    pub(super) fn new(rule: &Rule) -> Result<Self, RuleError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if !(1..=64).contains(&rule.name.len()) || !rule.name.bytes().all(allowed) {
            return Err(RuleError::Name);
        }
        if !rule.score.is_finite() {
            return Err(RuleError::Score);
        }
        let test = match &rule.test {
            RuleTest::HeaderAbsent(name) => CompiledTest::HeaderAbsent(header_name(name)?),
            RuleTest::HeaderPresent(name) => CompiledTest::HeaderPresent(header_name(name)?),
            RuleTest::LargerThan(size) => CompiledTest::LargerThan(size.0),
            RuleTest::SmallerThan(size) => CompiledTest::SmallerThan(size.0),
            RuleTest::Text { part, pattern } => {
                if let MessagePart::Header(name) = part {
                    header_name(name)?;
                }
                CompiledTest::Text(part.clone(), pattern.compile()?)
            }
        };
        Ok(Self { name: rule.name.clone(), score: rule.score, description: rule.description.clone(), test })
    }

    /// Whether the text parts must be decoded before it can run.
    pub(super) fn reads_body(&self) -> bool {
        matches!(self.test, CompiledTest::Text(MessagePart::Body, _))
    }

    /// Whether it hits. `body` is the decoded text of the message.
    pub(super) fn hits(&self, mail: &Mail, body: &str) -> bool {
        match &self.test {
            CompiledTest::HeaderAbsent(name) => mail.header(name).is_none(),
            CompiledTest::HeaderPresent(name) => mail.header(name).is_some(),
            CompiledTest::LargerThan(size) => mail.body().len() > *size,
            CompiledTest::SmallerThan(size) => mail.body().len() < *size,
            CompiledTest::Text(part, pattern) => fits(mail, body, part, pattern),
        }
    }
}

fn fits(mail: &Mail, body: &str, part: &MessagePart, pattern: &Regex) -> bool {
    let content = mail.content();
    match part {
        MessagePart::Attachment => {
            let mut names = content.attachments.iter().filter_map(|attachment| attachment.filename.as_deref());
            names.any(|name| pattern.is_match(name.trim()))
        }
        MessagePart::Body => pattern.is_match(body),
        MessagePart::From => content.from.iter().any(|from| pattern.is_match(&from.address)),
        MessagePart::Header(wanted) => {
            let mut fields = content.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            fields.any(|(_, value)| pattern.is_match(value))
        }
        MessagePart::Recipient => {
            mail.envelope().recipients.iter().any(|recipient| pattern.is_match(&recipient.to_string()))
        }
        MessagePart::Sender => {
            let sender = mail.envelope().sender.address().map(ToString::to_string);
            pattern.is_match(&sender.unwrap_or_default())
        }
    }
}

/// RFC 5322 §3.6.8: printable ASCII without a colon.
fn header_name(name: &str) -> Result<String, RuleError> {
    let valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if valid { Ok(name.to_owned()) } else { Err(RuleError::Header) }
}

/// The errors of regular expressions draw a picture in several lines; the last one says what is
/// wrong.
fn one_line(text: &str) -> String {
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::fake::request;

    const MESSAGE: &str = "From: Eve <eve@x.test>\r\nX-Kind: one\r\nX-Kind: Two\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nBuy now\r\n\
        --b\r\nContent-Disposition: attachment; filename=\"Report.PDF.exe \"\r\n\r\nx\r\n--b--\r\n";

    fn hits(test: RuleTest) -> bool {
        let rule = CompiledRule::new(&Rule::new("R", 1.0, test)).unwrap();
        rule.hits(&request(MESSAGE).mail, "Buy now\n")
    }

    fn like(part: MessagePart, pattern: &str) -> bool {
        hits(RuleTest::Text { part, pattern: TextPattern::Like(pattern.to_owned()) })
    }

    fn regex(part: MessagePart, pattern: &str) -> bool {
        hits(RuleTest::Text { part, pattern: TextPattern::Regex(pattern.to_owned()) })
    }

    #[test]
    fn header_fields() {
        let header = || MessagePart::Header("x-kind".to_owned());
        assert!(hits(RuleTest::HeaderPresent("x-kind".to_owned())) && hits(RuleTest::HeaderAbsent("Date".to_owned())));
        assert!(!hits(RuleTest::HeaderPresent("Date".to_owned())) && !hits(RuleTest::HeaderAbsent("From".to_owned())));
        assert!(regex(header(), "^two$") && !regex(header(), "(?-i)^two$"));
        assert!(like(header(), "t?o") && !like(header(), "t"));
    }

    #[test]
    fn addresses_names_and_body() {
        assert!(like(MessagePart::Sender, "*@example.com") && !like(MessagePart::Sender, "example.com"));
        assert!(like(MessagePart::From, "eve@*") && like(MessagePart::Recipient, "alice@example.org"));
        assert!(like(MessagePart::Attachment, "*.exe") && !like(MessagePart::Attachment, "*.pdf"));
        let contains = |text: &str| TextPattern::Contains(text.to_owned());
        assert!(hits(RuleTest::Text { part: MessagePart::Body, pattern: contains("BUY NOW") }));
        assert!(!hits(RuleTest::Text { part: MessagePart::Body, pattern: contains("b.y") }));
    }

    #[test]
    fn sizes() {
        let size = ByteSize(MESSAGE.len() as u64);
        assert!(!hits(RuleTest::LargerThan(size)) && !hits(RuleTest::SmallerThan(size)));
        assert!(hits(RuleTest::LargerThan(ByteSize(10))) && hits(RuleTest::SmallerThan(ByteSize(1 << 20))));
    }

    #[test]
    fn wrong_rules_say_what_is_wrong() {
        let body = |pattern| RuleTest::Text { part: MessagePart::Body, pattern };
        let check = |name: &str, score, test| Rule::new(name, score, test).check().unwrap_err();
        let fine = || RuleTest::HeaderAbsent("Date".to_owned());
        assert_eq!(check("", 1.0, fine()), RuleError::Name);
        assert_eq!(check("a b", 1.0, fine()), RuleError::Name);
        assert_eq!(check("A", f64::NAN, fine()), RuleError::Score);
        assert_eq!(check("A", 1.0, RuleTest::HeaderAbsent("a:".to_owned())), RuleError::Header);
        assert_eq!(check("A", 1.0, body(TextPattern::Contains(String::new()))), RuleError::PatternSize);
        assert_eq!(check("A", 1.0, body(TextPattern::Regex(r"(\pL{1000}){1000}".to_owned()))), RuleError::PatternSize);
        let error = check("A", 1.0, body(TextPattern::Regex("(".to_owned())));
        assert_eq!(error, RuleError::Regex("unclosed group".to_owned()));
    }
}
