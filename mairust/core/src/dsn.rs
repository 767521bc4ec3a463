//! What a sender asks about delivery status notifications (RFC 3461).
//!
//! Deliberately absent: the notices themselves.

use std::fmt;

use crate::xtext;

/// How much of the message a failure notice returns (RFC 3461 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Return {
    /// All of it.
    Full,
    /// The header fields.
    Headers,
}

/// When a recipient's delivery is to be reported (RFC 3461 §4.1). Nothing set is `NEVER`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Notify {
    /// When the message is late.
    pub delay: bool,
    /// When it can't be delivered.
    pub failure: bool,
    /// When it was delivered.
    pub success: bool,
}

/// The address that the sender wrote first, with its type (RFC 3461 §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginalRecipient(String);

/// The sender's own name for the message (RFC 3461 §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EnvelopeId(String);

/// What a sender asks for one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageDsn {
    /// RET; without it the receiver decides.
    pub ret: Option<Return>,
    /// ENVID.
    pub envelope_id: Option<EnvelopeId>,
}

/// What a sender asks for one recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipientDsn {
    /// NOTIFY; without it failures are reported, and delays if the server does so.
    pub notify: Option<Notify>,
    /// ORCPT.
    pub original: Option<OriginalRecipient>,
}

impl Return {
    /// Reads the value of RET.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Full, Self::Headers].into_iter().find(|value| value.as_str().eq_ignore_ascii_case(text))
    }

    /// The value of RET.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

impl Notify {
    /// Reads the value of NOTIFY.
    pub fn parse(text: &str) -> Option<Self> {
        let mut notify = Self::default();
        if text.eq_ignore_ascii_case("NEVER") {
            return Some(notify);
        }
        for word in text.split(',') {
            match word.to_ascii_uppercase().as_str() {
                "DELAY" => notify.delay = true,
                "FAILURE" => notify.failure = true,
                "SUCCESS" => notify.success = true,
                _ => return None,
            }
        }
        Some(notify)
    }
}

impl OriginalRecipient {
    /// Reads the value of ORCPT: `rfc822;` and an address in xtext, or another type.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, address) = text.split_once(';')?;
        let atom = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let valid = !kind.is_empty() && kind.bytes().all(atom) && !address.is_empty() && xtext::is_valid(address);
        // RFC 3461 §4.2: at most 500 characters.
        (valid && text.len() <= 500).then(|| Self(text.to_owned()))
    }

    /// For the Original-Recipient field of a notice (RFC 3464 §2.3.1): type and decoded address.
    pub fn to_field(&self) -> String {
        let (kind, address) = self.0.split_once(';').unwrap_or(("rfc822", &self.0));
        format!("{kind};{}", xtext::decode(address).unwrap_or_else(|| address.to_owned()))
    }
}

impl EnvelopeId {
    /// Reads the value of ENVID, which is xtext.
    pub fn parse(text: &str) -> Option<Self> {
        // RFC 3461 §4.4: at most 100 characters.
        (!text.is_empty() && text.len() <= 100 && xtext::is_valid(text)).then(|| Self(text.to_owned()))
    }

    /// For the Original-Envelope-Id field of a notice (RFC 3464 §2.2.1): decoded.
    pub fn to_field(&self) -> String {
        xtext::decode(&self.0).unwrap_or_else(|| self.0.clone())
    }
}

/// As the value of the parameter.
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let chosen: Vec<&str> = words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
        f.write_str(if chosen.is_empty() { "NEVER".to_owned() } else { chosen.join(",") }.as_str())
    }
}

/// As the value of the parameter.
impl fmt::Display for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As the value of the parameter.
impl fmt::Display for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_read_back() {
        for text in ["NEVER", "SUCCESS", "FAILURE,DELAY", "SUCCESS,FAILURE,DELAY"] {
            assert_eq!(Notify::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "NEVER,SUCCESS", "ALWAYS", "SUCCESS,"] {
            assert_eq!(Notify::parse(text), None, "{text}");
        }
        let original = OriginalRecipient::parse("rfc822;Bob+2Bx@example.com").unwrap();
        assert_eq!(original.to_field(), "rfc822;Bob+x@example.com");
        assert_eq!(original.to_string(), "rfc822;Bob+2Bx@example.com");
        for text in ["bob@example.com", "rfc822;", ";a@b", "rfc822;a b", "rfc822;a+4", "rfc822;a+0Ab"] {
            assert_eq!(OriginalRecipient::parse(text), None, "{text}");
        }
        assert_eq!(EnvelopeId::parse("QQ+2B1").unwrap().to_field(), "QQ+1");
        assert_eq!(Return::parse("hdrs"), Some(Return::Headers));
        assert_eq!(Return::parse("BODY"), None);
    }
}
