//! Whether a record is published, as DNS says.

use std::collections::BTreeMap;

use futures::future::join_all;
use mairust_smtp::dns::{ResolveError, Resolver};

use super::{Data, Purpose, Record};

/// What is to be published, and what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) record: Record,
    /// What DNS answers, as people enter it into a form.
    pub(crate) found: Vec<String>,
    pub(crate) status: Status,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

/// How both compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// What is there says something else.
    Differs,
    Missing,
    Ok,
    /// DNS gave no answer.
    Unanswered,
}

impl Status {
    /// As shown.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::Ok => "ok",
            Self::Unanswered => "unanswered",
        }
    }
}

/// Asks DNS for all of them at the same time.
pub(crate) async fn check(resolver: &dyn Resolver, records: Vec<Record>) -> Vec<Checked> {
    join_all(records.into_iter().map(|record| check_one(resolver, record))).await
}

async fn check_one(resolver: &dyn Resolver, record: Record) -> Checked {
    let (found, verdict) = match &record.data {
        Data::Mx { host, .. } => check_mx(resolver, &record.name, host).await,
        Data::Srv { port, host } => check_srv(resolver, &record.name, *port, host).await,
        Data::Txt(text) => check_txt(resolver, record.purpose, &record.name, text).await,
    };
    let (status, hint) = match verdict {
        Ok(()) => (Status::Ok, None),
        Err((status, hint)) => (status, Some(hint)),
    };
    Checked { record, found, status, hint }
}

/// The tags of a record by their names.
type Tags = BTreeMap<String, String>;

/// What was found, and what is wrong with it.
type Finding = (Vec<String>, Result<(), (Status, String)>);

fn unanswered(error: &ResolveError) -> Finding {
    let verdict = match error {
        ResolveError::NotFound => Err((Status::Missing, "add the record".to_owned())),
        other => Err((Status::Unanswered, other.to_string())),
    };
    (Vec::new(), verdict)
}

fn missing() -> Result<(), (Status, String)> {
    Err((Status::Missing, "add the record".to_owned()))
}

fn differs(hint: impl Into<String>) -> Result<(), (Status, String)> {
    Err((Status::Differs, hint.into()))
}

async fn check_mx(resolver: &dyn Resolver, name: &str, host: &str) -> Finding {
    let hosts = match resolver.mx(name).await {
        Ok(hosts) => hosts,
        Err(ResolveError::NullMx) => {
            return (vec!["0 .".to_owned()], differs("the domain says that it takes no mail: replace the record"));
        }
        Err(error) => return unanswered(&error),
    };
    let found = hosts.iter().map(|mx| format!("{} {}.", mx.preference, mx.host)).collect();
    let verdict = if hosts.is_empty() {
        missing()
    } else if hosts.iter().any(|mx| mx.host.eq_ignore_ascii_case(host)) {
        Ok(())
    } else {
        differs("mail for this domain goes to other servers")
    };
    (found, verdict)
}

async fn check_srv(resolver: &dyn Resolver, name: &str, port: u16, host: &str) -> Finding {
    let hosts = match resolver.srv(name).await {
        Ok(hosts) => hosts,
        Err(error) => return unanswered(&error),
    };
    let found = hosts.iter().map(|srv| format!("{} {} {} {}.", srv.priority, srv.weight, srv.port, srv.host)).collect();
    let verdict = if hosts.is_empty() {
        missing()
    } else if hosts.iter().any(|srv| srv.port == port && srv.host.eq_ignore_ascii_case(host)) {
        Ok(())
    } else {
        differs("mail programs are led to another server")
    };
    (found, verdict)
}

async fn check_txt(resolver: &dyn Resolver, purpose: Purpose, name: &str, expected: &str) -> Finding {
    let texts = match resolver.txt(name).await {
        Ok(texts) => texts,
        Err(error) => return unanswered(&error),
    };
    let found: Vec<String> =
        texts.iter().filter(|text| is_for(purpose, text)).map(|text| text.escape_ascii().to_string()).collect();
    let verdict = match found.as_slice() {
        [] => missing(),
        [one] => compare(purpose, expected, one),
        _ => differs("there must be one such record only: with two, neither counts"),
    };
    (found, verdict)
}

/// Whether a TXT record is one of this kind, and not one of the others at the same name.
fn is_for(purpose: Purpose, text: &[u8]) -> bool {
    let starts = |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    match purpose {
        // With or without mechanisms.
        Purpose::Spf => starts(b"v=spf1 ") || text.eq_ignore_ascii_case(b"v=spf1"),
        Purpose::Dmarc => starts(b"v=DMARC1"),
        Purpose::TlsReports => starts(b"v=TLSRPTv1"),
        // Nothing else stands at the name of a key.
        Purpose::Dkim | Purpose::Mx | Purpose::Submission | Purpose::Submissions => true,
    }
}

/// Whether a record does what it should, whatever else its owner made of it.
fn compare(purpose: Purpose, expected: &str, found: &str) -> Result<(), (Status, String)> {
    let (wanted, there) = (tags(expected), tags(found));
    match purpose {
        Purpose::Spf => compare_spf(expected, found),
        Purpose::Dkim => compare_keys(&wanted, &there),
        Purpose::Dmarc => match there.get("p").map(|policy| policy.to_ascii_lowercase()).as_deref() {
            Some("none" | "quarantine" | "reject") => Ok(()),
            _ => differs("p= must be none, quarantine or reject"),
        },
        Purpose::TlsReports => match there.get("rua") {
            Some(address) if !address.is_empty() => Ok(()),
            _ => differs("rua= must say where reports go"),
        },
        Purpose::Mx | Purpose::Submission | Purpose::Submissions if expected == found => Ok(()),
        Purpose::Mx | Purpose::Submission | Purpose::Submissions => differs("replace the record"),
    }
}

/// Whether it is the same key.
fn compare_keys(wanted: &Tags, there: &Tags) -> Result<(), (Status, String)> {
    let compact =
        |tags: &Tags, tag: &str| -> Option<String> { tags.get(tag).map(|value| value.split_whitespace().collect()) };
    let kind = |tags: &Tags| compact(tags, "k").unwrap_or_else(|| "rsa".to_owned());
    match (compact(there, "p"), compact(wanted, "p")) {
        (Some(found), _) if found.is_empty() => differs("the record says that the key is revoked"),
        (Some(found), Some(key)) if found == key && kind(there) == kind(wanted) => Ok(()),
        _ => differs("the record holds another key"),
    }
}

/// Whether the hosts that send for us are among those that may.
fn compare_spf(expected: &str, found: &str) -> Result<(), (Status, String)> {
    let terms = |text: &str| text.split_whitespace().skip(1).map(str::to_ascii_lowercase).collect::<Vec<_>>();
    let there = terms(found);
    let is_all = |term: &str| term.trim_start_matches(['+', '-', '~', '?']) == "all";
    if there.iter().any(|term| term == "all" || term == "+all") {
        return differs("`all` lets anybody send in the name of the domain: write -all or ~all");
    }
    let lacking: Vec<String> = terms(expected)
        .into_iter()
        .filter(|term| !is_all(term))
        .filter(|term| !there.iter().any(|other| other.strip_prefix('+').unwrap_or(other) == term))
        .collect();
    if lacking.is_empty() { Ok(()) } else { differs(format!("add in front: {}", lacking.join(" "))) }
}

/// The tags of a record, names as they are.
fn tags(text: &str) -> Tags {
    let pairs = text.split(';').filter_map(|tag| tag.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use mairust_core::Domain;
    use mairust_smtp::dns::{FakeResolver, MxHost, SrvHost};

    use super::*;
    use crate::dns::records;

    const KEY: &str = "v=DKIM1; k=ed25519; p=AAAA";

    fn expected() -> Vec<Record> {
        let services = crate::dns::tests::services();
        let mut records = records(&services, &Domain::parse("a.example").unwrap(), &[]);
        let (name, data) = ("s1._domainkey.a.example".to_owned(), Data::Txt(KEY.to_owned()));
        records.push(Record { purpose: Purpose::Dkim, name, data });
        records
    }

    fn text(texts: &[&str]) -> Result<Vec<Vec<u8>>, ResolveError> {
        Ok(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
    }

    async fn statuses(resolver: &FakeResolver) -> Vec<(&'static str, Status)> {
        let checked = check(resolver, expected()).await;
        checked.iter().map(|checked| (checked.record.purpose.as_str(), checked.status)).collect()
    }

    fn zone() -> FakeResolver {
        let mx = MxHost { preference: 5, host: "Mail.Example.com".to_owned() };
        let srv = SrvHost { priority: 1, weight: 2, port: 587, host: "mail.example.com".to_owned() };
        FakeResolver::new()
            .with_mx("a.example", Ok(vec![mx]))
            .with_srv("_submission._tcp.a.example", Ok(vec![srv]))
            .with_txt("a.example", text(&["unrelated", "v=spf1 include:b.example +mx ~all"]))
            .with_txt("s1._domainkey.a.example", text(&["k=ed25519; t=s; p=AA AA;"]))
            .with_txt("_dmarc.a.example", text(&["v=DMARC1; p=none"]))
            .with_txt("_smtp._tls.a.example", text(&["v=TLSRPTv1; rua=https://reports.example"]))
    }

    #[tokio::test]
    async fn what_does_the_same_is_fine() {
        assert!(statuses(&zone()).await.iter().all(|(_, status)| *status == Status::Ok));
        let nothing = statuses(&FakeResolver::new()).await;
        assert!(nothing.iter().all(|(_, status)| *status == Status::Missing), "{nothing:?}");
        let silent = expected().iter().fold(FakeResolver::new(), |zone, record| zone.with_failure(&record.name));
        assert!(statuses(&silent).await.iter().all(|(_, status)| *status == Status::Unanswered));
    }

    #[tokio::test]
    async fn what_does_something_else_is_told() {
        let other = MxHost { preference: 5, host: "mx.b.example".to_owned() };
        let srv = SrvHost { priority: 0, weight: 1, port: 25, host: "mail.example.com".to_owned() };
        for (zone, purpose, hint) in [
            (zone().with_mx("a.example", Ok(vec![other])), "mx", "other servers"),
            (zone().with_mx("a.example", Err(ResolveError::NullMx)), "mx", "takes no mail"),
            (zone().with_srv("_submission._tcp.a.example", Ok(vec![srv])), "submission", "another server"),
            (zone().with_txt("a.example", text(&["v=spf1 -all"])), "spf", "add in front: mx"),
            (zone().with_txt("a.example", text(&["v=spf1 mx +all"])), "spf", "anybody"),
            (zone().with_txt("a.example", text(&["v=spf1 mx -all", "v=spf1 -all"])), "spf", "one such record"),
            (zone().with_txt("s1._domainkey.a.example", text(&["k=ed25519; p=BBBB"])), "dkim", "another key"),
            (zone().with_txt("s1._domainkey.a.example", text(&["p=AAAA"])), "dkim", "another key"),
            (zone().with_txt("s1._domainkey.a.example", text(&["k=ed25519; p="])), "dkim", "revoked"),
            (zone().with_txt("_dmarc.a.example", text(&["v=DMARC1; rua=x"])), "dmarc", "p= must be"),
            (zone().with_txt("_smtp._tls.a.example", text(&["v=TLSRPTv1"])), "tls-reports", "rua="),
        ] {
            let checked = check(&zone, expected()).await;
            let wrong: Vec<_> = checked.iter().filter(|checked| checked.status != Status::Ok).collect();
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            assert_eq!((wrong[0].record.purpose.as_str(), wrong[0].status), (purpose, Status::Differs));
            assert!(wrong[0].hint.as_deref().unwrap_or_default().contains(hint), "{wrong:?}");
        }
    }
}
