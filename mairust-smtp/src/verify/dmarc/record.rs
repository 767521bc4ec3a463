//! What a DMARC record says (RFC 9989 §4.7).

use mairust_core::DmarcPolicy;

use super::super::tags::Tags;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// `p=`
    pub(super) policy: DmarcPolicy,
    /// `sp=`: for domains below.
    pub(super) subdomain_policy: Option<DmarcPolicy>,
    /// `np=`: for domains below that do not exist.
    pub(super) nonexistent_policy: Option<DmarcPolicy>,
    /// `adkim=s`
    pub(super) is_dkim_strict: bool,
    /// `aspf=s`
    pub(super) is_spf_strict: bool,
    /// `t=y`
    pub(super) is_testing: bool,
    /// `psd=`
    pub(super) suffix: Suffix,
}

/// Whether a domain is one under which others register theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suffix {
    /// `psd=n`: it is an organisation of its own.
    No,
    /// It does not say.
    Unknown,
    /// `psd=y`
    Yes,
}

impl Record {
    /// Reads a TXT record; `None` if it is no DMARC record.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let tags = Tags::parse(std::str::from_utf8(text).ok()?).ok()?;
        if tags.first() != Some(("v", "DMARC1")) {
            return None;
        }
        let word = |tag: &str| tags.get(tag).map(str::to_ascii_lowercase);
        let policy = |tag: &str| match word(tag)?.as_str() {
            "none" => Some(Ok(DmarcPolicy::None)),
            "quarantine" => Some(Ok(DmarcPolicy::Quarantine)),
            "reject" => Some(Ok(DmarcPolicy::Reject)),
            _ => Some(Err(())),
        };
        let policies = [policy("p"), policy("sp"), policy("np")];
        // A policy that nobody knows makes all of them ask for nothing.
        let is_damaged = policies.iter().any(|policy| matches!(policy, Some(Err(()))));
        let [p, sp, np] = policies.map(|policy| policy.and_then(Result::ok).filter(|_| !is_damaged));
        Some(Self {
            policy: p.unwrap_or(DmarcPolicy::None),
            subdomain_policy: sp,
            nonexistent_policy: np,
            is_dkim_strict: word("adkim").as_deref() == Some("s"),
            is_spf_strict: word("aspf").as_deref() == Some("s"),
            is_testing: word("t").as_deref() == Some("y"),
            suffix: match word("psd").as_deref() {
                Some("y") => Suffix::Yes,
                Some("n") => Suffix::No,
                _ => Suffix::Unknown,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records() {
        let record =
            Record::parse(b"v=DMARC1; p=Reject; sp=none; np=quarantine; adkim=s; t=y; psd=n; pct=50; x=y").unwrap();
        assert_eq!(record.policy, DmarcPolicy::Reject);
        assert_eq!(record.subdomain_policy, Some(DmarcPolicy::None));
        assert_eq!(record.nonexistent_policy, Some(DmarcPolicy::Quarantine));
        assert!(record.is_dkim_strict && !record.is_spf_strict && record.is_testing);
        assert_eq!(record.suffix, Suffix::No);
        assert_eq!(Record::parse(b"v=DMARC1").unwrap().policy, DmarcPolicy::None);
        let damaged = Record::parse(b"v=DMARC1; p=reject; sp=rejct").unwrap();
        assert_eq!((damaged.policy, damaged.subdomain_policy), (DmarcPolicy::None, None));
    }

    #[test]
    fn knows_what_is_none() {
        for text in ["", "v=spf1 -all", "p=reject; v=DMARC1", "v=DMARC2; p=none", "v=dmarc1; p=none", "v=DMARC1 p=none"]
        {
            assert_eq!(Record::parse(text.as_bytes()), None, "{text}");
        }
    }
}
