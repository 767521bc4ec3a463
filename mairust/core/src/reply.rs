//! What an SMTP server answers.

use std::fmt;

/// An enhanced status code (RFC 3463), for example `5.1.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

/// An SMTP reply: a code, an enhanced code, and one or more lines of text.
///
/// The class of the enhanced code agrees with the code, and the text holds printable ASCII
/// only: whatever a hook or a policy wrote, it can't add a second reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    lines: Vec<String>,
}

impl EnhancedCode {
    /// Reads three numbers with dots between them.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut number =
            || parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?.parse::<u16>().ok();
        let (class, subject, detail) = (u8::try_from(number()?).ok()?, number()?, number()?);
        parts.next().is_none().then_some(Self(class, subject, detail))
    }
}

impl Reply {
    /// A reply with an enhanced code of the same class.
    ///
    /// # Panics
    /// When `code` is no reply code or the classes differ: both are written down by a
    /// programmer, never by a peer.
    pub fn new(code: u16, enhanced: EnhancedCode, text: impl AsRef<str>) -> Self {
        assert!((200..600).contains(&code) && code != 354, "{code} takes no enhanced code");
        assert_eq!(code / 100, u16::from(enhanced.0), "{code} and {enhanced} are of different classes");
        Self { code, enhanced: Some(enhanced), lines: clean_lines(text.as_ref()) }
    }

    /// A reply without an enhanced code: the greeting, the answer to EHLO, 334 and 354
    /// (RFC 2034 §4 exempts them).
    pub fn plain(code: u16, text: impl AsRef<str>) -> Self {
        Self { code, enhanced: None, lines: clean_lines(text.as_ref()) }
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced code, if the reply has one.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text, line by line.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// 2yz.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// 4yz: the same command may succeed later.
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// 5yz.
    pub fn is_permanent(&self) -> bool {
        (500..600).contains(&self.code)
    }

    /// The bytes on the wire, with CRLF at the end of each line.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut wire = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            let separator = if index + 1 == self.lines.len() { ' ' } else { '-' };
            let text = match self.enhanced {
                Some(enhanced) => format!("{}{separator}{enhanced} {line}\r\n", self.code),
                None => format!("{}{separator}{line}\r\n", self.code),
            };
            wire.extend_from_slice(text.as_bytes());
        }
        wire
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// On one line, for logs and notices.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.lines.join(" "))
    }
}

/// Splits at line ends, replaces what is not printable ASCII, and bounds each line so that the
/// reply stays under 512 octets (RFC 5321 §4.5.3.1.5).
fn clean_lines(text: &str) -> Vec<String> {
    let clean = |line: &str| -> String {
        line.chars().take(480).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
    };
    let lines: Vec<String> = text.lines().map(clean).collect();
    if lines.is_empty() { vec![String::new()] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_add_a_reply() {
        let reply = Reply::new(550, EnhancedCode(5, 7, 1), "no\r\n250 2.0.0 yes\x07");
        assert_eq!(reply.to_wire(), b"550-5.7.1 no\r\n550 5.7.1 250 2.0.0 yes?\r\n");
        assert_eq!(Reply::plain(250, "a\rb").to_wire(), b"250 a?b\r\n");
    }

    #[test]
    fn enhanced_codes_read_back() {
        for code in [EnhancedCode(5, 1, 1), EnhancedCode(2, 0, 0), EnhancedCode(4, 999, 10)] {
            assert_eq!(EnhancedCode::parse(&code.to_string()), Some(code));
        }
        for text in ["", "5", "5.1", "5.1.1.1", "5.1.x", "5..1", "+5.1.1", "5.1.70000", "300.1.1", " 5.1.1"] {
            assert_eq!(EnhancedCode::parse(text), None, "{text}");
        }
    }

    #[test]
    #[should_panic(expected = "different classes")]
    fn classes_must_agree() {
        let _ = Reply::new(550, EnhancedCode(4, 7, 1), "no");
    }
}
