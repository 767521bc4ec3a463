//! The text of a policy (RFC 8461 §3.2).

use std::time::Duration;

/// The longest time that a policy may hold (RFC 8461 §3.2).
const MAX_AGE: u64 = 31_557_600;

/// The longest text that is read.
pub(crate) const MAX_LENGTH: usize = 64 << 10;

/// What a domain demands of those that bring mail to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) mode: Mode,
    /// How long it holds from when it was fetched.
    pub(crate) max_age: Duration,
    /// Hosts that take mail for the domain; `*.` stands for one label.
    exchangers: Vec<String>,
}

/// How seriously a policy is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// What does not fit gets no mail.
    Enforce,
    /// What does not fit is reported.
    Testing,
    /// There is no policy any more.
    None,
}

/// Why a text is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("the policy has over {MAX_LENGTH} octets")]
    Length,
    #[error("the policy is not UTF-8")]
    Utf8,
    #[error("the policy has a line without a colon")]
    Line,
    #[error("the policy lacks a valid {0}")]
    Field(&'static str),
}

impl Policy {
    /// Reads a policy. Unknown fields are skipped; of those that may come once, the first counts.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        if text.len() > MAX_LENGTH {
            return Err(PolicyError::Length);
        }
        let text = std::str::from_utf8(text).map_err(|_| PolicyError::Utf8)?;
        let mut fields = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(PolicyError::Line)?;
            fields.push((name.trim(), value.trim()));
        }
        let first = |name| fields.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        if first("version") != Some("STSv1") {
            return Err(PolicyError::Field("version"));
        }
        let mode = match first("mode") {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err(PolicyError::Field("mode")),
        };
        let digits = |age: &&str| (1..=10).contains(&age.len()) && age.bytes().all(|byte| byte.is_ascii_digit());
        let age = first("max_age").filter(digits).and_then(|age| age.parse::<u64>().ok());
        let max_age = Duration::from_secs(age.ok_or(PolicyError::Field("max_age"))?.min(MAX_AGE));
        let exchangers = fields.iter().filter(|(name, _)| *name == "mx");
        let exchangers: Vec<String> = exchangers.map(|(_, host)| host.to_ascii_lowercase()).collect();
        if exchangers.is_empty() && mode != Mode::None {
            return Err(PolicyError::Field("mx"));
        }
        Ok(Self { mode, max_age, exchangers })
    }

    /// Whether a host may take mail (RFC 8461 §4.1).
    pub(crate) fn covers(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.exchangers.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => *pattern == host,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_policy_of_the_standard() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\n\
            mx: backupmx.example.com\r\nmax_age: 604800\r\n";
        let policy = Policy::parse(text.as_bytes()).unwrap();
        assert_eq!((policy.mode, policy.max_age), (Mode::Enforce, Duration::from_secs(604_800)));
        for host in ["mail.example.com", "MAIL.example.COM.", "a.example.net", "backupmx.example.com"] {
            assert!(policy.covers(host), "{host}");
        }
        for host in ["example.com", "a.mail.example.com", "example.net", "a.b.example.net", "xexample.net", ""] {
            assert!(!policy.covers(host), "{host}");
        }
    }

    #[test]
    fn reads_what_is_odd_and_refuses_what_is_wrong() {
        let odd = "version:STSv1\nmode: testing\nmode: enforce\nnew_field: x\nmx:a.example\n\nmax_age:99999999";
        let policy = Policy::parse(odd.as_bytes()).unwrap();
        assert_eq!((policy.mode, policy.max_age.as_secs()), (Mode::Testing, MAX_AGE));
        assert_eq!(Policy::parse(b"version: STSv1\nmode: none\nmax_age: 1\n").unwrap().mode, Mode::None);
        for (text, error) in [
            ("", PolicyError::Field("version")),
            ("<html>", PolicyError::Line),
            ("version: STSv2\nmode: none\nmax_age: 1", PolicyError::Field("version")),
            ("version: STSv1\nmode: strict\nmax_age: 1\nmx: a", PolicyError::Field("mode")),
            ("version: STSv1\nmode: enforce\nmax_age: 1", PolicyError::Field("mx")),
            ("version: STSv1\nmode: enforce\nmx: a", PolicyError::Field("max_age")),
            ("version: STSv1\nmode: enforce\nmx: a\nmax_age: -1", PolicyError::Field("max_age")),
        ] {
            assert_eq!(Policy::parse(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(Policy::parse(b"\xff"), Err(PolicyError::Utf8));
        assert_eq!(Policy::parse(&[b'x'; MAX_LENGTH + 1]), Err(PolicyError::Length));
    }
}
