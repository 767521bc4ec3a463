//! What EHLO announces (RFC 5321 §4.1.1.1): written by a server, read by a client.

use mairust_core::Reply;

/// The extensions of a server at one moment of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extensions {
    /// AUTH, with PLAIN and LOGIN (RFC 4954).
    pub auth: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_codes: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870): the largest message in octets; 0 for no fixed limit.
    pub size: Option<u64>,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
}

impl Extensions {
    /// The answer to EHLO.
    pub(crate) fn announce(&self, hostname: &str) -> Reply {
        let mut lines = vec![hostname.to_owned()];
        let mut add = |offered: bool, line: &str| {
            if offered {
                lines.push(line.to_owned());
            }
        };
        add(self.pipelining, "PIPELINING");
        if let Some(size) = self.size {
            add(true, &format!("SIZE {size}"));
        }
        add(self.starttls, "STARTTLS");
        add(self.auth, "AUTH PLAIN LOGIN");
        add(self.enhanced_codes, "ENHANCEDSTATUSCODES");
        add(self.eight_bit, "8BITMIME");
        Reply::plain(250, lines.join("\n"))
    }

    /// What a server's answer to EHLO announces; unknown extensions are skipped.
    pub fn from_ehlo(reply: &Reply) -> Self {
        let mut found = Self::default();
        for line in reply.lines().iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            match words.next().map(str::to_ascii_uppercase).as_deref() {
                Some("AUTH") => found.auth = true,
                Some("8BITMIME") => found.eight_bit = true,
                Some("ENHANCEDSTATUSCODES") => found.enhanced_codes = true,
                Some("PIPELINING") => found.pipelining = true,
                Some("SIZE") => found.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                Some("STARTTLS") => found.starttls = true,
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_understood() {
        let all = Extensions {
            auth: true,
            eight_bit: true,
            enhanced_codes: true,
            pipelining: true,
            size: Some(9),
            starttls: true,
        };
        assert_eq!(Extensions::from_ehlo(&all.announce("mx.example")), all);
        assert_eq!(Extensions::from_ehlo(&Extensions::default().announce("SIZE")), Extensions::default());
        assert_eq!(Extensions::from_ehlo(&Reply::plain(250, "x\nsize\nXYZ")).size, Some(0));
    }
}
