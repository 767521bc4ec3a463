//! What somebody looks for, as a tree. [`parse`](super::parse) makes it of a text; `Display` writes a
//! text that parses to the same.

use std::fmt;
use std::time::Duration;

use mairust_core::{ByteSize, Domain, Timestamp, render_duration};

use crate::message::{Folder, MessageStatus};

/// What somebody looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchQuery {
    /// All of these hold; two or more.
    All(Vec<SearchQuery>),
    /// At least one of these holds; two or more.
    Any(Vec<SearchQuery>),
    /// This does not hold.
    Not(Box<SearchQuery>),
    /// This holds.
    Term(SearchTerm),
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchTerm {
    /// `after:` Received at this time or later.
    After(Timestamp),
    /// `before:` Received earlier.
    Before(Timestamp),
    /// `domain:` An address of From, To, Cc or the envelope is of this domain.
    Domain(Domain),
    /// `has:`
    Fact(SearchFact),
    /// `in:` Lies in this folder.
    Folder(Folder),
    /// `larger:` Has more bytes.
    Larger(ByteSize),
    /// `msgid:` Has this Message-ID, written without angle brackets.
    MessageId(String),
    /// `newer:` Received no longer ago.
    Newer(Duration),
    /// `older:` Received longer ago.
    Older(Duration),
    /// `smaller:` Has fewer bytes.
    Smaller(ByteSize),
    /// `is:spam` Was found to be spam.
    Spam,
    /// `status:`, `is:quarantined`, `is:bounced`
    Status(MessageStatus),
    /// `tag:` Has exactly this tag.
    Tag(String),
    /// A word, or words in a row, somewhere in a field.
    Text(SearchField, String),
}

/// Where a text is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SearchField {
    /// Subject, names and addresses, text: a text without a field.
    Anywhere,
    /// `body:` The text.
    Body,
    /// `cc:` Names and addresses in Cc.
    Cc,
    /// `filename:` Names of attached files.
    FileName,
    /// `from:` Names and addresses in From.
    From,
    /// `subject:` The subject.
    Subject,
    /// `to:` Names and addresses in To and Cc, and the recipient of the envelope.
    To,
}

/// What a message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SearchFact {
    /// Something attached.
    Attachment,
    /// A part that is HTML.
    Html,
    /// HTML that loads something from another server when it is shown.
    Remote,
}

impl SearchField {
    /// All of them that have a name.
    pub const NAMED: [Self; 6] = [Self::Body, Self::Cc, Self::FileName, Self::From, Self::Subject, Self::To];

    /// As written before the colon; empty for [`Anywhere`](Self::Anywhere).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anywhere => "",
            Self::Body => "body",
            Self::Cc => "cc",
            Self::FileName => "filename",
            Self::From => "from",
            Self::Subject => "subject",
            Self::To => "to",
        }
    }

    /// The field of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|field| field.as_str() == name)
    }
}

impl SearchFact {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Attachment, Self::Html, Self::Remote];

    /// As written behind `has:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attachment => "attachment",
            Self::Html => "html",
            Self::Remote => "remote",
        }
    }

    /// The fact of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fact| fact.as_str() == name)
    }
}

impl fmt::Display for SearchQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => join(f, parts, " ", |part| matches!(part, Self::All(_))),
            Self::Any(parts) => join(f, parts, " OR ", |part| matches!(part, Self::All(_) | Self::Any(_))),
            Self::Not(part) => {
                f.write_str("-")?;
                part.write(f, matches!(**part, Self::All(_) | Self::Any(_)))
            }
            Self::Term(term) => term.fmt(f),
        }
    }
}

impl SearchQuery {
    fn write(&self, f: &mut fmt::Formatter<'_>, in_parentheses: bool) -> fmt::Result {
        if in_parentheses { write!(f, "({self})") } else { write!(f, "{self}") }
    }
}

fn join(
    f: &mut fmt::Formatter<'_>,
    parts: &[SearchQuery],
    between: &str,
    in_parentheses: impl Fn(&SearchQuery) -> bool,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        part.write(f, in_parentheses(part))?;
    }
    Ok(())
}

impl fmt::Display for SearchTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(at) => write!(f, "after:{}", at.to_rfc3339()),
            Self::Before(at) => write!(f, "before:{}", at.to_rfc3339()),
            Self::Domain(domain) => write!(f, "domain:{}", Quoted(domain.as_str())),
            Self::Fact(fact) => write!(f, "has:{}", fact.as_str()),
            Self::Folder(folder) => write!(f, "in:{}", folder.as_str()),
            Self::Larger(size) => write!(f, "larger:{size}"),
            Self::MessageId(id) => write!(f, "msgid:{}", Quoted(id)),
            Self::Newer(age) => write!(f, "newer:{}", render_duration(*age)),
            Self::Older(age) => write!(f, "older:{}", render_duration(*age)),
            Self::Smaller(size) => write!(f, "smaller:{size}"),
            Self::Spam => f.write_str("is:spam"),
            Self::Status(status) => write!(f, "status:{}", status.as_str()),
            Self::Tag(tag) => write!(f, "tag:{}", Quoted(tag)),
            Self::Text(SearchField::Anywhere, text) => write!(f, "{}", Quoted(text)),
            Self::Text(field, text) => write!(f, "{}:{}", field.as_str(), Quoted(text)),
        }
    }
}

/// A text in quotes, where it needs them.
struct Quoted<'t>(&'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.chars().all(char::is_alphanumeric) && !matches!(self.0, "" | "OR") {
            return f.write_str(self.0);
        }
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
