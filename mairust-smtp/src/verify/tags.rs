//! Tag lists (RFC 6376 §3.2): the syntax of DKIM signatures, DKIM keys, ARC fields and DMARC
//! records.

/// The tags of a list, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tags(Vec<(String, String)>);

/// Tags of one list; nobody needs more.
const MAX_TAGS: usize = 64;

impl Tags {
    /// Reads a list. Names keep their case, values lose the white space around them.
    ///
    /// # Errors
    /// When it is no tag list, or a tag occurs twice.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut tags: Vec<(String, String)> = Vec::new();
        let text = text.trim_matches(is_space);
        for tag in text.strip_suffix(';').unwrap_or(text).split(';') {
            let (name, value) = tag.split_once('=').ok_or("a tag without a value")?;
            let name = name.trim_matches(is_space);
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.bytes().all(valid) {
                return Err("a tag without a name");
            }
            if tags.iter().any(|(known, _)| known == name) {
                return Err("a tag occurs twice");
            }
            if tags.len() == MAX_TAGS {
                return Err("too many tags");
            }
            tags.push((name.to_owned(), value.trim_matches(is_space).to_owned()));
        }
        Ok(Self(tags))
    }

    /// The value of a tag.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a tag without any white space, as base64 and lists of names are read.
    pub(super) fn compact(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.chars().filter(|c| !is_space(*c)).collect())
    }

    /// The first tag, which some records begin with.
    pub(super) fn first(&self) -> Option<(&str, &str)> {
        self.0.first().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A list of words between colons, in lower case.
pub(super) fn words(value: &str) -> impl Iterator<Item = String> {
    value.split(':').map(|word| word.trim_matches(is_space).to_ascii_lowercase())
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists() {
        let tags = Tags::parse(" v=1; b = ab\r\n\tcd ;h=From : To;").unwrap();
        assert_eq!(tags.first(), Some(("v", "1")));
        assert_eq!(tags.compact("b").as_deref(), Some("abcd"));
        assert_eq!(words(tags.get("h").unwrap()).collect::<Vec<_>>(), ["from", "to"]);
        assert_eq!(tags.get("x"), None);
        assert_eq!(Tags::parse("p=").unwrap().get("p"), Some(""));
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", ";", "a", "a=1;;b=2", "a=1;a=2", "=1", "1a=x", "a b=c"] {
            assert!(Tags::parse(text).is_err(), "{text}");
        }
        assert!(Tags::parse(&(0..100).map(|n| format!("a{n}=;")).collect::<String>()).is_err());
    }
}
