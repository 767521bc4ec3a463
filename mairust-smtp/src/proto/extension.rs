//! What EHLO announces (RFC 5321 §4.1.1.1): written by a server, read by a client.

use mairust_core::Reply;

use super::hold::FutureRelease;
use super::xclient;

/// The extensions of a server at one moment of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extensions {
    /// AUTH (RFC 4954): the names of the mechanisms; empty if it is not offered.
    pub auth: Vec<String>,
    /// BINARYMIME (RFC 3030).
    pub binary: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_codes: bool,
    /// FUTURERELEASE (RFC 4865).
    pub future_release: Option<FutureRelease>,
    /// SMTPUTF8 (RFC 6531).
    pub international: bool,
    /// LIMITS (RFC 9422).
    pub limits: Limits,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// SIZE (RFC 1870): the largest message in octets; 0 for no fixed limit.
    pub size: Option<u64>,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// XCLIENT, with all attributes that are known here.
    pub xclient: bool,
}

/// What a server says about its limits (RFC 9422 §5); `None` where it says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// MAILMAX: messages in one session.
    pub mail_max: Option<u32>,
    /// RCPTMAX: recipients of one message.
    pub rcpt_max: Option<u32>,
}

impl Extensions {
    /// The answer to EHLO.
    pub(crate) fn announce(&self, hostname: &str) -> Reply {
        Reply::plain(250, std::iter::once(hostname.to_owned()).chain(self.lines()).collect::<Vec<_>>().join("\n"))
    }

    /// What is offered, a line for each extension, as in an answer to EHLO.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + use<> {
        let size = self.size.map(|size| format!("SIZE {size}"));
        let auth = (!self.auth.is_empty()).then(|| format!("AUTH {}", self.auth.join(" ")));
        let plain = |offered: bool, keyword: &str| offered.then(|| keyword.to_owned());
        let offered = [
            plain(self.pipelining, "PIPELINING"),
            size,
            plain(self.starttls, "STARTTLS"),
            auth,
            plain(self.enhanced_codes, "ENHANCEDSTATUSCODES"),
            plain(self.eight_bit, "8BITMIME"),
            plain(self.binary, "BINARYMIME"),
            plain(self.chunking, "CHUNKING"),
            plain(self.international, "SMTPUTF8"),
            plain(self.dsn, "DSN"),
            self.future_release.map(|allowed| allowed.announce()),
            plain(self.require_tls, "REQUIRETLS"),
            self.limits.announce(),
            self.xclient.then(|| format!("XCLIENT {}", xclient::ATTRIBUTES)),
        ];
        offered.into_iter().flatten()
    }

    /// What a server's answer to EHLO announces; unknown extensions are skipped.
    pub fn from_ehlo(reply: &Reply) -> Self {
        let mut found = Self::default();
        for line in reply.lines().iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            match words.next().map(str::to_ascii_uppercase).as_deref() {
                Some("AUTH") => found.auth = words.map(str::to_ascii_uppercase).collect(),
                Some("BINARYMIME") => found.binary = true,
                Some("CHUNKING") => found.chunking = true,
                Some("DSN") => found.dsn = true,
                Some("8BITMIME") => found.eight_bit = true,
                Some("ENHANCEDSTATUSCODES") => found.enhanced_codes = true,
                Some("FUTURERELEASE") => found.future_release = FutureRelease::from_words(words),
                Some("LIMITS") => found.limits = Limits::from_words(words),
                Some("PIPELINING") => found.pipelining = true,
                Some("REQUIRETLS") => found.require_tls = true,
                Some("SIZE") => found.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                Some("SMTPUTF8") => found.international = true,
                Some("STARTTLS") => found.starttls = true,
                Some("XCLIENT") => found.xclient = true,
                _ => {}
            }
        }
        found
    }
}

impl Limits {
    fn announce(&self) -> Option<String> {
        let limit = |name, value: Option<u32>| value.map(|value| format!(" {name}={value}"));
        let limits = [limit("MAILMAX", self.mail_max), limit("RCPTMAX", self.rcpt_max)];
        let known: String = limits.into_iter().flatten().collect();
        (!known.is_empty()).then(|| format!("LIMITS{known}"))
    }

    fn from_words<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut limits = Self::default();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => limits.mail_max = value.parse().ok(),
                "RCPTMAX" => limits.rcpt_max = value.parse().ok(),
                _ => {}
            }
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mairust_core::Timestamp;

    use super::*;

    #[test]
    fn what_is_announced_is_understood() {
        let all = Extensions {
            auth: vec!["SCRAM-SHA-256".to_owned(), "PLAIN".to_owned()],
            binary: true,
            chunking: true,
            dsn: true,
            eight_bit: true,
            enhanced_codes: true,
            future_release: Some(FutureRelease::at(Timestamp::default(), Duration::from_secs(60))),
            international: true,
            limits: Limits { mail_max: Some(5), rcpt_max: Some(100) },
            pipelining: true,
            require_tls: true,
            size: Some(9),
            starttls: true,
            xclient: true,
        };
        assert_eq!(Extensions::from_ehlo(&all.announce("mx.example")), all);
        assert_eq!(Extensions::from_ehlo(&Extensions::default().announce("SIZE")), Extensions::default());
        assert_eq!(Extensions::from_ehlo(&Reply::plain(250, "x\nsize\nXYZ")).size, Some(0));
        let odd = Extensions::from_ehlo(&Reply::plain(250, "x\nLIMITS RCPTMAX=many X=1 mailmax=3"));
        assert_eq!(odd.limits, Limits { mail_max: Some(3), rcpt_max: None });
    }
}
