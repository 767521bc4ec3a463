//! DMARC (RFC 9989): whether the domain of From is one of those that SPF or DKIM vouch for, and what
//! its owner asks to be done if not.
//!
//! Organisations are found by walking up the tree of DNS (§4.10). There is no list of public
//! suffixes: under `co.jp`, which publishes nothing, every name is an organisation of its own.

mod record;

use futures::future::join_all;
use mairust_core::{Aligned, AuthOutcome, DkimResult, DmarcPolicy, DmarcResult, Domain, SpfResult};

use self::record::{Record, Suffix};
use super::author::AuthorError;
use crate::dns::{ResolveError, Resolver};

/// §4.10: names longer than this are shortened after the first question.
const MAX_LABELS: usize = 8;

/// What SPF and DKIM found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identifiers<'a> {
    /// SPF for MAIL FROM, or for HELO if MAIL FROM is `<>`.
    pub(super) spf: Option<&'a SpfResult>,
    pub(super) dkim: &'a [DkimResult],
}

/// What the domains of From publish. It is asked for while SPF and DKIM are under way: a stranger
/// whose name servers are slow on purpose must not use up the time for it.
#[derive(Debug)]
pub(super) struct Discovery(Result<Vec<Author>, AuthorError>);

impl Discovery {
    /// Asks about all authors at once.
    pub(super) async fn new(resolver: &dyn Resolver, authors: Result<Vec<Domain>, AuthorError>) -> Self {
        let discover = |authors: Vec<Domain>| {
            join_all(authors.into_iter().map(|author| Author::discover(resolver, author.to_string())))
        };
        match authors {
            Ok(authors) => Self(Ok(discover(authors).await)),
            Err(error) => Self(Err(error)),
        }
    }

    /// Evaluates each author, and gives the worst result: whoever shows only one of them must not
    /// be deceived.
    pub(super) async fn evaluate(self, resolver: &dyn Resolver, identifiers: Identifiers<'_>) -> DmarcResult {
        let authors = match self.0 {
            Ok(authors) => authors,
            Err(error) => return unknown_author(error),
        };
        let mut worst = empty(AuthOutcome::PermError, None);
        for (index, author) in authors.into_iter().enumerate() {
            let result = author.evaluate(resolver, identifiers).await;
            if index == 0 || badness(&result) > badness(&worst) {
                worst = result;
            }
        }
        worst
    }
}

/// Nobody can be asked. Who names more domains than anybody does is suspicious, not careless.
fn unknown_author(error: AuthorError) -> DmarcResult {
    let outcome = match error {
        AuthorError::TooMany => AuthOutcome::Policy,
        AuthorError::Missing | AuthorError::NoAddress => AuthOutcome::PermError,
    };
    DmarcResult { reason: Some(error.to_string()), ..empty(outcome, None) }
}

fn empty(outcome: AuthOutcome, domain: Option<&str>) -> DmarcResult {
    DmarcResult {
        outcome,
        domain: domain.map(str::to_owned),
        organizational_domain: None,
        policy_domain: None,
        policy: None,
        testing: false,
        aligned: Vec::new(),
        reason: None,
    }
}

fn badness(result: &DmarcResult) -> (u8, DmarcPolicy) {
    let rank = match result.outcome {
        AuthOutcome::Fail => 3,
        AuthOutcome::TempError => 2,
        AuthOutcome::Pass => 0,
        _ => 1,
    };
    (rank, result.requested())
}

/// A domain of From.
#[derive(Debug)]
struct Author {
    domain: String,
    applied: Result<Option<Applied>, String>,
    /// The organisation that it belongs to.
    organization: Result<String, String>,
}

/// The record that applies to a domain.
#[derive(Debug)]
struct Applied {
    domain: String,
    record: Record,
    policy: DmarcPolicy,
}

/// The records above a domain, the longest name first.
#[derive(Debug)]
struct Walk {
    domain: String,
    records: Vec<(String, Record)>,
}

impl Author {
    async fn discover(resolver: &dyn Resolver, domain: String) -> Self {
        let own = record(resolver, &domain).await;
        let walk = match &own {
            Ok(own) => Walk::up(resolver, &domain, own.clone()).await,
            Err(reason) => Err(reason.clone()),
        };
        let organization = walk.as_ref().map(|walk| walk.organization().to_owned()).map_err(Clone::clone);
        let applied = match (own, walk) {
            // Who has a record needs nobody above to answer.
            (Ok(Some(record)), _) => Ok(Some(Applied { policy: record.policy, domain: domain.clone(), record })),
            (_, Ok(walk)) => walk.inherited(resolver).await,
            (_, Err(reason)) => Err(reason),
        };
        Self { domain, applied, organization }
    }

    async fn evaluate(self, resolver: &dyn Resolver, identifiers: Identifiers<'_>) -> DmarcResult {
        let mut result = empty(AuthOutcome::None, Some(&self.domain));
        result.organizational_domain = self.organization.clone().ok();
        let applied = match &self.applied {
            Ok(Some(applied)) => applied,
            Ok(None) => return result,
            Err(reason) => {
                return DmarcResult { outcome: AuthOutcome::TempError, reason: Some(reason.clone()), ..result };
            }
        };
        result.policy_domain = Some(applied.domain.clone());
        result.policy = Some(applied.policy);
        result.testing = applied.record.is_testing;
        let undecided = self.align(resolver, applied, identifiers, &mut result.aligned).await;
        // One that aligns is enough; without one, DNS that is down must not count as a no.
        (result.outcome, result.reason) = match (result.aligned.is_empty(), undecided) {
            (false, _) => (AuthOutcome::Pass, None),
            (true, None) => (AuthOutcome::Fail, None),
            (true, Some(reason)) => (AuthOutcome::TempError, Some(reason)),
        };
        result
    }

    /// Collects the identifiers that vouch for the author; gives the reason why more of them may.
    async fn align(
        &self,
        resolver: &dyn Resolver,
        applied: &Applied,
        identifiers: Identifiers<'_>,
        vouching: &mut Vec<Aligned>,
    ) -> Option<String> {
        let (spf_strict, dkim_strict) = (applied.record.is_spf_strict, applied.record.is_dkim_strict);
        let spf = identifiers.spf.map(|spf| (spf.outcome, &spf.domain, spf_strict, Aligned::Spf(spf.domain.clone())));
        let dkim = identifiers
            .dkim
            .iter()
            .map(|dkim| (dkim.outcome, &dkim.domain, dkim_strict, Aligned::Dkim(dkim.domain.clone())));
        let mut undecided = None;
        for (outcome, domain, is_strict, aligned) in spf.into_iter().chain(dkim) {
            let counts = matches!(outcome, AuthOutcome::Pass | AuthOutcome::TempError);
            if !counts || vouching.contains(&aligned) {
                continue;
            }
            match self.is_aligned(resolver, domain, is_strict).await {
                Ok(true) if outcome == AuthOutcome::Pass => vouching.push(aligned),
                Ok(true) => undecided = Some(format!("nobody knows whether {domain} vouches for it")),
                Ok(false) => {}
                Err(reason) => undecided = Some(reason),
            }
        }
        undecided
    }

    /// Whether an identifier belongs to the author's domain (§4.4).
    async fn is_aligned(&self, resolver: &dyn Resolver, identifier: &str, is_strict: bool) -> Result<bool, String> {
        let identifier = identifier.to_ascii_lowercase();
        if self.domain == identifier {
            return Ok(true);
        }
        if is_strict {
            return Ok(false);
        }
        // What is of the same organisation lies below it. So no name server of a stranger is asked,
        // who could delay its answer to leave the question open.
        let organization = self.organization.as_ref().map_err(Clone::clone)?;
        if !is_within(&identifier, organization) {
            return Ok(false);
        }
        let own = record(resolver, &identifier).await?;
        Ok(Walk::up(resolver, &identifier, own).await?.organization() == organization)
    }
}

/// The record of a name; several are none.
async fn record(resolver: &dyn Resolver, name: &str) -> Result<Option<Record>, String> {
    let texts = match resolver.txt(&format!("_dmarc.{name}")).await {
        Ok(texts) => texts,
        Err(ResolveError::Temporary(reason)) => return Err(format!("_dmarc.{name}: {reason}")),
        Err(_) => Vec::new(),
    };
    let mut records = texts.iter().filter_map(|text| Record::parse(text));
    Ok(records.next().filter(|_| records.next().is_none()))
}

/// Whether a domain has an address or a mail exchanger.
async fn exists(resolver: &dyn Resolver, domain: &str) -> Result<bool, String> {
    fn any<T>(answer: Result<Vec<T>, ResolveError>) -> Result<bool, String> {
        match answer {
            Ok(found) => Ok(!found.is_empty()),
            Err(ResolveError::Temporary(reason)) => Err(reason),
            // A null MX is one.
            Err(ResolveError::NullMx) => Ok(true),
            Err(_) => Ok(false),
        }
    }
    Ok(any(resolver.ipv4(domain).await)? || any(resolver.ipv6(domain).await)? || any(resolver.mx(domain).await)?)
}

/// Whether a name is the domain or below it; both are in lower case.
fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

impl Walk {
    /// Collects the records above a domain (§4.10), whose own is known already.
    async fn up(resolver: &dyn Resolver, domain: &str, own: Option<Record>) -> Result<Self, String> {
        let mut walk = Self { domain: domain.to_owned(), records: Vec::new() };
        walk.records.extend(own.map(|record| (domain.to_owned(), record)));
        for name in names(domain).into_iter().skip(1) {
            if walk.records.last().is_some_and(|(_, record)| record.suffix != Suffix::Unknown) {
                break;
            }
            walk.records.extend(record(resolver, &name).await?.map(|record| (name, record)));
        }
        Ok(walk)
    }

    /// The record that applies to a domain without its own (§4.10.1): that of its organisation, or
    /// of the public suffix above.
    async fn inherited(&self, resolver: &dyn Resolver) -> Result<Option<Applied>, String> {
        let organization = self.organization();
        let own = self.records.iter().find(|(name, _)| name == organization);
        let suffix = self.records.last().filter(|(_, record)| record.suffix == Suffix::Yes);
        let Some((domain, record)) = own.or(suffix) else { return Ok(None) };
        let inherited = record.subdomain_policy.unwrap_or(record.policy);
        let policy = match record.nonexistent_policy {
            Some(policy) if policy != inherited && !exists(resolver, &self.domain).await? => policy,
            _ => inherited,
        };
        Ok(Some(Applied { domain: domain.clone(), record: record.clone(), policy }))
    }

    /// §4.10.2: the domain says that it is one, or it is the one below a public suffix, or the
    /// shortest name with a record, or the domain where the walk began.
    fn organization(&self) -> &str {
        match self.records.last() {
            Some((name, record)) if record.suffix == Suffix::Yes && *name != self.domain => self.child_of(name),
            Some((name, _)) => name,
            None => &self.domain,
        }
    }

    /// The name one label below another, on the way to the domain.
    fn child_of(&self, name: &str) -> &str {
        let front = self.domain.strip_suffix(name).and_then(|front| front.strip_suffix('.')).unwrap_or_default();
        let start = front.rfind('.').map_or(0, |dot| dot + 1);
        &self.domain[start..]
    }
}

/// The names that are asked, from the domain to the top: eight at most.
fn names(domain: &str) -> Vec<String> {
    let labels: Vec<&str> = domain.split('.').collect();
    let mut names = vec![domain.to_owned()];
    let next = (labels.len() - 1).min(MAX_LABELS - 1);
    names.extend((1..=next).rev().map(|count| labels[labels.len() - count..].join(".")));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::FakeResolver;

    fn zone(records: &[(&str, &str)]) -> FakeResolver {
        records.iter().fold(FakeResolver::new(), |resolver, (name, text)| {
            resolver.with_txt(&format!("_dmarc.{name}"), Ok(vec![text.as_bytes().to_vec()]))
        })
    }

    fn dkim(outcome: AuthOutcome, domain: &str) -> DkimResult {
        DkimResult {
            outcome,
            domain: domain.to_owned(),
            selector: "s".to_owned(),
            algorithm: "rsa-sha256".to_owned(),
            signature: String::new(),
            reason: None,
        }
    }

    fn spf(outcome: AuthOutcome, domain: &str) -> SpfResult {
        SpfResult {
            outcome,
            identity: format!("bob@{domain}"),
            domain: domain.to_owned(),
            explanation: None,
            reason: None,
        }
    }

    async fn evaluate(
        resolver: &FakeResolver,
        authors: Result<Vec<Domain>, AuthorError>,
        identifiers: Identifiers<'_>,
    ) -> DmarcResult {
        Discovery::new(resolver, authors).await.evaluate(resolver, identifiers).await
    }

    /// The result for mail from `author`, signed by `signer`.
    async fn signed(resolver: &FakeResolver, author: &str, signer: &str) -> DmarcResult {
        let results = [dkim(AuthOutcome::Pass, signer)];
        let identifiers = Identifiers { spf: None, dkim: &results };
        evaluate(resolver, Ok(vec![Domain::parse(author).unwrap()]), identifiers).await
    }

    #[test]
    fn asks_eight_names_at_most() {
        assert_eq!(names("a.mail.example.com"), ["a.mail.example.com", "mail.example.com", "example.com", "com"]);
        let long = names("a.b.c.d.e.f.g.h.i.j.mail.example.com");
        assert_eq!(long.len(), 8);
        assert_eq!(long[1], "g.h.i.j.mail.example.com");
        assert_eq!(names("com"), ["com"]);
        assert_eq!(names("1.2.3.4.5.6.7.8").len(), 8);
    }

    #[tokio::test]
    async fn two_organisations_below_co_jp_do_not_align() {
        let resolver = zone(&[("a.co.jp", "v=DMARC1; p=reject"), ("b.co.jp", "v=DMARC1; p=reject")]);
        let result = signed(&resolver, "a.co.jp", "b.co.jp").await;
        assert_eq!((result.outcome, result.requested()), (AuthOutcome::Fail, DmarcPolicy::Reject));
        assert_eq!(result.organizational_domain.as_deref(), Some("a.co.jp"));
        assert_eq!(signed(&resolver, "a.co.jp", "mail.a.co.jp").await.outcome, AuthOutcome::Pass);
        assert_eq!(signed(&resolver, "mail.a.co.jp", "a.co.jp").await.outcome, AuthOutcome::Pass);
        assert_eq!(signed(&resolver, "a.co.jp", "co.jp").await.outcome, AuthOutcome::Fail);
        // Without any record there is no policy, and still no alignment.
        let result = signed(&FakeResolver::new(), "a.co.jp", "b.co.jp").await;
        assert_eq!((result.outcome, result.policy), (AuthOutcome::None, None));
    }

    #[tokio::test]
    async fn a_public_suffix_may_say_so() {
        let resolver = zone(&[("co.example", "v=DMARC1; p=none; sp=quarantine; psd=y")]);
        let result = signed(&resolver, "mail.a.co.example", "b.co.example").await;
        assert_eq!((result.outcome, result.policy), (AuthOutcome::Fail, Some(DmarcPolicy::Quarantine)));
        assert_eq!(result.organizational_domain.as_deref(), Some("a.co.example"));
        assert_eq!(result.policy_domain.as_deref(), Some("co.example"));
        assert_eq!(signed(&resolver, "mail.a.co.example", "x.a.co.example").await.outcome, AuthOutcome::Pass);
        let own = signed(&resolver, "co.example", "a.co.example").await;
        assert_eq!((own.outcome, own.policy), (AuthOutcome::Fail, Some(DmarcPolicy::None)));
    }

    #[tokio::test]
    async fn a_domain_may_say_that_it_is_an_organisation() {
        let resolver =
            zone(&[("example.com", "v=DMARC1; p=reject"), ("dept.example.com", "v=DMARC1; p=quarantine; psd=n")]);
        assert_eq!(signed(&resolver, "dept.example.com", "example.com").await.outcome, AuthOutcome::Fail);
        assert_eq!(signed(&resolver, "x.dept.example.com", "dept.example.com").await.outcome, AuthOutcome::Pass);
        let result = signed(&resolver, "x.dept.example.com", "other.example").await;
        assert_eq!(result.requested(), DmarcPolicy::Quarantine);
    }

    #[tokio::test]
    async fn strict_alignment_wants_the_same_domain() {
        let resolver = zone(&[("a.example", "v=DMARC1; p=reject; adkim=s; aspf=s")]);
        assert_eq!(signed(&resolver, "a.example", "mail.a.example").await.outcome, AuthOutcome::Fail);
        assert_eq!(signed(&resolver, "a.example", "A.example").await.outcome, AuthOutcome::Pass);
        let result = spf(AuthOutcome::Pass, "mail.a.example");
        let identifiers = Identifiers { spf: Some(&result), dkim: &[] };
        let authors = Ok(vec![Domain::parse("a.example").unwrap()]);
        assert_eq!(evaluate(&resolver, authors, identifiers).await.outcome, AuthOutcome::Fail);
    }

    #[tokio::test]
    async fn domains_below_inherit() {
        let text = "v=DMARC1; p=reject; sp=none; np=quarantine";
        let resolver =
            zone(&[("a.example", text)]).with_addresses("there.a.example", Ok(vec!["192.0.2.1".parse().unwrap()]));
        for (author, policy) in [
            ("a.example", DmarcPolicy::Reject),
            ("there.a.example", DmarcPolicy::None),
            ("not-there.a.example", DmarcPolicy::Quarantine),
        ] {
            let result = signed(&resolver, author, "other.example").await;
            assert_eq!((result.outcome, result.policy), (AuthOutcome::Fail, Some(policy)), "{author}");
        }
        let testing = zone(&[("a.example", "v=DMARC1; p=reject; t=y")]);
        assert_eq!(signed(&testing, "a.example", "other.example").await.requested(), DmarcPolicy::Quarantine);
    }

    #[tokio::test]
    async fn the_worst_of_several_authors_counts() {
        let resolver = zone(&[("good.example", "v=DMARC1; p=none"), ("bank.example", "v=DMARC1; p=reject")]);
        let results = [dkim(AuthOutcome::Pass, "good.example")];
        let identifiers = Identifiers { spf: None, dkim: &results };
        let authors = ["good.example", "bank.example", "none.example"].map(|name| Domain::parse(name).unwrap());
        let result = evaluate(&resolver, Ok(authors.into()), identifiers).await;
        assert_eq!((result.domain.as_deref(), result.requested()), (Some("bank.example"), DmarcPolicy::Reject));
        let nobody = evaluate(&resolver, Err(AuthorError::Missing), identifiers).await;
        assert_eq!((nobody.outcome, nobody.requested()), (AuthOutcome::PermError, DmarcPolicy::None));
        let crowd = evaluate(&resolver, Err(AuthorError::TooMany), identifiers).await;
        assert_eq!((crowd.outcome, crowd.requested()), (AuthOutcome::Policy, DmarcPolicy::Reject));
    }

    #[tokio::test]
    async fn dns_that_is_down_is_never_a_failure() {
        let down = FakeResolver::new().with_failure("_dmarc.a.example");
        assert_eq!(signed(&down, "a.example", "a.example").await.outcome, AuthOutcome::TempError);
        let above = zone(&[("a.example", "v=DMARC1; p=reject")]).with_failure("_dmarc.example");
        for (signer, outcome) in [("a.example", AuthOutcome::Pass), ("b.a.example", AuthOutcome::TempError)] {
            assert_eq!(signed(&above, "a.example", signer).await.outcome, outcome, "{signer}");
        }
        let resolver = zone(&[("a.example", "v=DMARC1; p=reject")]).with_failure("_dmarc.x.a.example");
        for (results, outcome) in [
            (vec![dkim(AuthOutcome::TempError, "a.example")], AuthOutcome::TempError),
            (vec![dkim(AuthOutcome::TempError, "other.test")], AuthOutcome::Fail),
            (vec![dkim(AuthOutcome::Pass, "x.a.example")], AuthOutcome::TempError),
            (vec![dkim(AuthOutcome::TempError, "a.example"), dkim(AuthOutcome::Pass, "a.example")], AuthOutcome::Pass),
        ] {
            let identifiers = Identifiers { spf: None, dkim: &results };
            let result = evaluate(&resolver, Ok(vec![Domain::parse("a.example").unwrap()]), identifiers).await;
            assert_eq!(result.outcome, outcome, "{results:?}");
        }
    }

    #[tokio::test]
    async fn a_stranger_with_slow_name_servers_stays_a_stranger() {
        let resolver = zone(&[("bank.example", "v=DMARC1; p=reject")])
            .with_failure("_dmarc.evil.example")
            .with_failure("evil.example");
        for outcome in [AuthOutcome::Pass, AuthOutcome::TempError] {
            let (signatures, sender) = ([dkim(outcome, "evil.example")], spf(outcome, "evil.example"));
            let identifiers = Identifiers { spf: Some(&sender), dkim: &signatures };
            let authors = ["evil.example", "bank.example"].map(|name| Domain::parse(name).unwrap());
            let result = evaluate(&resolver, Ok(authors.into()), identifiers).await;
            assert_eq!((result.outcome, result.requested()), (AuthOutcome::Fail, DmarcPolicy::Reject));
        }
    }

    #[tokio::test]
    async fn two_records_are_none() {
        let texts = vec![b"v=DMARC1; p=reject".to_vec(), b"v=DMARC1; p=none".to_vec()];
        let resolver = FakeResolver::new().with_txt("_dmarc.a.example", Ok(texts));
        assert_eq!(signed(&resolver, "a.example", "b.example").await.outcome, AuthOutcome::None);
    }
}
