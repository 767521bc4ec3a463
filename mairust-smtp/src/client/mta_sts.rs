//! MTA-STS (RFC 8461): domains that say which hosts take their mail, and that these prove it.
//!
//! A policy is fetched when the TXT record of a domain names one that is not known yet, and holds
//! for as long as it says, even when the record or the policy can't be had any more.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::Domain;
use tokio::time::Instant;

mod policy;

pub(super) use self::policy::{Mode, Policy};

use super::peer::{Terms, TlsPolicy, TlsRule};
use super::report::{AttemptFacts, Verdict};
use crate::dns::Resolver;

/// Domains whose policies are remembered.
const MAX_DOMAINS: usize = 10_000;

/// How long a domain is left alone when its policy could not be fetched (RFC 8461 §3.3).
const FETCH_PAUSE: Duration = Duration::from_secs(300);

/// Fetches policies.
#[async_trait]
pub trait PolicyFetcher: fmt::Debug + Send + Sync + 'static {
    /// The content of `https://mta-sts.<domain>/.well-known/mta-sts.txt` (RFC 8461 §3.3): the
    /// certificate is verified, redirects are not followed, and what is too long or no
    /// `text/plain` is refused. Dropping the future is safe.
    ///
    /// # Errors
    /// Why it can't be had, for logs.
    async fn fetch(&self, domain: &Domain) -> Result<Vec<u8>, String>;
}

/// What is known about policies.
#[derive(Debug)]
pub(super) struct MtaSts {
    fetcher: Arc<dyn PolicyFetcher>,
    domains: Mutex<HashMap<Domain, Arc<tokio::sync::Mutex<Known>>>>,
    limit: usize,
}

/// What is known about one domain. Whoever fetches holds the lock, and the others wait for what
/// comes of it.
#[derive(Debug, Default)]
struct Known {
    policy: Option<Kept>,
    /// The policy with this id could not be fetched, and is not asked for until then.
    failed: Option<(String, Instant)>,
}

#[derive(Debug)]
struct Kept {
    id: String,
    policy: Arc<Policy>,
    until: Instant,
}

impl MtaSts {
    pub(super) fn new(fetcher: Arc<dyn PolicyFetcher>) -> Self {
        Self { fetcher, domains: Mutex::default(), limit: MAX_DOMAINS }
    }

    /// The policy that holds for mail to a domain now.
    pub(super) async fn policy(&self, domain: &Domain, resolver: &dyn Resolver) -> Option<Arc<Policy>> {
        if domain.is_literal() {
            return None;
        }
        let id = published(domain, resolver).await;
        let known = match &id {
            Some(_) => self.known(domain),
            None => self.domains().get(domain).cloned()?,
        };
        let mut known = known.lock().await;
        let Some(id) = id else { return known.current() };
        let is_new = known.policy.as_ref().is_none_or(|kept| kept.id != id || kept.until <= Instant::now());
        if is_new && !known.has_failed(&id) {
            match self.fetch(domain).await {
                Ok(policy) => {
                    let until = Instant::now() + policy.max_age;
                    known.policy = Some(Kept { id, policy: Arc::new(policy), until });
                }
                Err(error) => {
                    tracing::warn!(domain = domain.as_str(), error, "the MTA-STS policy can't be had");
                    known.failed = Some((id, Instant::now() + FETCH_PAUSE));
                }
            }
        }
        known.current()
    }

    async fn fetch(&self, domain: &Domain) -> Result<Policy, String> {
        let text = self.fetcher.fetch(domain).await?;
        Policy::parse(&text).map_err(|error| error.to_string())
    }

    fn known(&self, domain: &Domain) -> Arc<tokio::sync::Mutex<Known>> {
        let mut domains = self.domains();
        if !domains.contains_key(domain) && domains.len() >= self.limit {
            make_room(&mut domains);
        }
        Arc::clone(domains.entry(domain.clone()).or_default())
    }

    fn domains(&self) -> MutexGuard<'_, HashMap<Domain, Arc<tokio::sync::Mutex<Known>>>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn current(&self) -> Option<Arc<Policy>> {
        let kept = self.policy.as_ref().filter(|kept| Instant::now() < kept.until)?;
        Some(Arc::clone(&kept.policy))
    }

    fn has_failed(&self, id: &str) -> bool {
        self.failed.as_ref().is_some_and(|(failed, until)| failed == id && Instant::now() < *until)
    }
}

/// Forgets domains without a policy that holds; if there is none, any one: its policy is fetched
/// again when it is needed.
fn make_room(domains: &mut HashMap<Domain, Arc<tokio::sync::Mutex<Known>>>) {
    let before = domains.len();
    domains.retain(|_, known| known.try_lock().map_or(true, |known| known.current().is_some()));
    if domains.len() == before
        && let Some(domain) = domains.keys().next().cloned()
    {
        domains.remove(&domain);
    }
}

/// The id of the policy that a domain publishes (RFC 8461 §3.1).
async fn published(domain: &Domain, resolver: &dyn Resolver) -> Option<String> {
    let records = match resolver.txt(&format!("_mta-sts.{domain}")).await {
        Ok(records) => records,
        Err(error) => {
            tracing::debug!(domain = domain.as_str(), %error, "no MTA-STS record");
            return None;
        }
    };
    let mut records = records.iter().filter_map(|record| std::str::from_utf8(record).ok());
    let mut records = records.by_ref().filter(|record| record.starts_with("v=STSv1;"));
    // Several records are none.
    let (Some(record), None) = (records.next(), records.next()) else { return None };
    let field = |field: &str| Some(field.trim().strip_prefix("id=")?.to_owned());
    let id = record.split(';').find_map(field)?;
    let valid = (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    valid.then_some(id)
}

/// On what terms a host may be spoken to; or why it must not get the mail.
pub(super) fn terms(policy: Option<&Policy>, domain: &Domain, host: &str) -> Result<Terms, Verdict> {
    let Some(policy) = policy else { return Ok(Terms::opportunistic()) };
    let covered = policy.covers(host);
    match policy.mode {
        Mode::None => Ok(Terms::opportunistic()),
        Mode::Testing => {
            if !covered {
                tracing::warn!(
                    domain = domain.as_str(),
                    host,
                    "the MTA-STS policy, which is in testing, lacks this host"
                );
            }
            Ok(Terms { rule: TlsRule::MtaStsTesting, ..Terms::opportunistic() })
        }
        Mode::Enforce if covered => {
            let tls = TlsPolicy::Require { names: vec![host.to_owned()] };
            Ok(Terms { tls, rule: TlsRule::MtaStsEnforce, ..Terms::opportunistic() })
        }
        Mode::Enforce => {
            let verdict = Verdict::deferred(format!("the MTA-STS policy of {domain} does not know the host {host}"));
            let rule = Some(TlsRule::MtaStsEnforce);
            let facts = AttemptFacts { host: Some(host.to_owned()), rule, ..AttemptFacts::default() };
            Err(Verdict { facts: Box::new(facts), ..verdict })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::dns::FakeResolver;

    /// Has the policies that are put into it, and counts how often it is asked.
    #[derive(Debug, Default)]
    struct Shelf(Mutex<Option<&'static str>>, AtomicUsize);

    impl Shelf {
        fn put(&self, policy: Option<&'static str>) {
            *self.0.lock().unwrap() = policy;
        }

        fn asked(&self) -> usize {
            self.1.load(Ordering::SeqCst)
        }
    }

    #[async_trait]
    impl PolicyFetcher for Shelf {
        async fn fetch(&self, _: &Domain) -> Result<Vec<u8>, String> {
            self.1.fetch_add(1, Ordering::SeqCst);
            let policy = *self.0.lock().unwrap();
            policy.map(|text| text.as_bytes().to_vec()).ok_or_else(|| "404".to_owned())
        }
    }

    const POLICY: &str = "version: STSv1\nmode: enforce\nmx: *.example.org\nmax_age: 1000\n";

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn record(text: &str) -> FakeResolver {
        FakeResolver::new().with_txt("_mta-sts.example.org", Ok(vec![text.as_bytes().to_vec()]))
    }

    #[tokio::test]
    async fn records_are_read_strictly() {
        for (records, id) in [
            (vec!["v=STSv1; id=20160831085700Z;"], Some("20160831085700Z")),
            (vec!["v=STSv1;id=a"], Some("a")),
            (vec!["v=STSv1; x=y; id=a; z=1"], Some("a")),
            (vec!["v=spf1 -all", "v=STSv1; id=a;"], Some("a")),
            (vec!["v=STSv1; id=a;", "v=STSv1; id=b;"], None),
            (vec!["v=STSv1; id=;"], None),
            (vec!["v=STSv1; id=a-b;"], None),
            (vec!["v=STSv1;"], None),
            (vec!["v=STSv2; id=a;"], None),
            (vec![], None),
        ] {
            let answer = records.iter().map(|record| record.as_bytes().to_vec()).collect();
            let resolver = FakeResolver::new().with_txt("_mta-sts.example.org", Ok(answer));
            assert_eq!(published(&domain("example.org"), &resolver).await.as_deref(), id, "{records:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_is_fetched_once_for_each_id_and_when_it_has_ended() {
        let (shelf, org) = (Arc::new(Shelf::default()), domain("example.org"));
        let sts = MtaSts::new(shelf.clone());
        assert!(sts.policy(&org, &FakeResolver::new()).await.is_none());
        shelf.put(Some(POLICY));
        for _ in 0..3 {
            assert!(sts.policy(&org, &record("v=STSv1; id=1;")).await.unwrap().covers("a.example.org"));
        }
        assert_eq!(shelf.asked(), 1);
        sts.policy(&org, &record("v=STSv1; id=2;")).await.unwrap();
        assert_eq!(shelf.asked(), 2);
        tokio::time::advance(Duration::from_secs(1_001)).await;
        sts.policy(&org, &record("v=STSv1; id=2;")).await.unwrap();
        assert_eq!(shelf.asked(), 3);
        // RFC 8461 §5.1: a policy holds although its record or its next version can't be had.
        assert!(sts.policy(&org, &FakeResolver::new()).await.is_some());
        shelf.put(None);
        assert!(sts.policy(&org, &record("v=STSv1; id=3;")).await.is_some());
        tokio::time::advance(Duration::from_secs(1_001)).await;
        assert!(sts.policy(&org, &FakeResolver::new()).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_not_be_fetched_is_left_alone_for_a_while() {
        let (shelf, org) = (Arc::new(Shelf::default()), domain("example.org"));
        let sts = MtaSts::new(shelf.clone());
        for _ in 0..3 {
            assert!(sts.policy(&org, &record("v=STSv1; id=1;")).await.is_none());
        }
        assert_eq!(shelf.asked(), 1);
        shelf.put(Some(POLICY));
        tokio::time::advance(FETCH_PAUSE).await;
        assert!(sts.policy(&org, &record("v=STSv1; id=1;")).await.is_some());
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let shelf = Arc::new(Shelf::default());
        shelf.put(Some(POLICY));
        let sts = MtaSts { limit: 3, ..MtaSts::new(shelf.clone()) };
        for number in 0..10 {
            let domain = domain(&format!("d{number}.example"));
            let name = format!("_mta-sts.{domain}");
            let resolver = FakeResolver::new().with_txt(&name, Ok(vec![b"v=STSv1; id=1;".to_vec()]));
            assert!(sts.policy(&domain, &resolver).await.is_some());
            assert!(sts.domains().len() <= 3);
        }
    }

    #[test]
    fn each_mode_has_its_terms() {
        let org = domain("example.org");
        let policy = |mode: &str| {
            Policy::parse(format!("version: STSv1\nmode: {mode}\nmx: a.example.org\nmax_age: 9\n").as_bytes()).unwrap()
        };
        let require = TlsPolicy::Require { names: vec!["a.example.org".to_owned()] };
        let tls = |policy: Option<&Policy>, host: &str| terms(policy, &org, host).map(|terms| (terms.tls, terms.rule));
        let enforced = (require, TlsRule::MtaStsEnforce);
        assert_eq!(tls(Some(&policy("enforce")), "a.example.org").unwrap(), enforced);
        let refused = tls(Some(&policy("enforce")), "b.example.org").unwrap_err();
        assert_eq!(refused.outcome, crate::client::Outcome::Deferred);
        for host in ["a.example.org", "b.example.org"] {
            let testing = (TlsPolicy::Opportunistic, TlsRule::MtaStsTesting);
            assert_eq!(tls(Some(&policy("testing")), host).unwrap(), testing);
            for policy in [None, Some(&policy("none"))] {
                assert_eq!(tls(policy, host).unwrap(), (TlsPolicy::Opportunistic, TlsRule::Opportunistic));
            }
        }
    }
}
