//! How much users, domains and tenants may send.

use std::time::Duration;

use mairust_core::{EmailAddress, Rate, Timestamp, render_duration};
use mairust_hooks::{Decision, PolicyError, PolicyRequest};
use mairust_store::{Allowance, StorageBackend, StoreError, Taken};

use super::{account_scope, unavailable};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How much may be sent. Each recipient of each message counts, those here, too. What was not used comes back
/// evenly. 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendingLimits {
    /// Recipients of one user within an hour. Default 200.
    pub user_hourly: u32,
    /// Recipients of one user within a day. Default 1,000.
    pub user_daily: u32,
    /// Recipients of all users of one domain within an hour. Default 5,000.
    pub domain_hourly: u32,
    /// Recipients of all users of one tenant within an hour. Default 10,000.
    pub tenant_hourly: u32,
    /// Accounts with limits of their own.
    pub exceptions: Vec<SendingException>,
}

/// Limits of one account instead of those of [`SendingLimits`]. What it sends does not count for its domain and its
/// tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendingException {
    /// The primary address of a user or, for mail of API keys that is from nobody's address, the sender.
    pub address: EmailAddress,
    /// Recipients within an hour; 0 is no limit.
    pub hourly: u32,
    /// Recipients within a day; 0 is no limit.
    pub daily: u32,
}

/// One of the limits that hold for a message.
struct Limit {
    reason: &'static str,
    /// Whose it is, for people.
    whose: String,
    allowance: Allowance,
}

impl Default for SendingLimits {
    fn default() -> Self {
        Self {
            user_hourly: 200,
            user_daily: 1_000,
            domain_hourly: 5_000,
            tenant_hourly: 10_000,
            exceptions: Vec::new(),
        }
    }
}

impl SendingLimits {
    /// No limits at all.
    pub fn none() -> Self {
        Self { user_hourly: 0, user_daily: 0, domain_hourly: 0, tenant_hourly: 0, exceptions: Vec::new() }
    }

    /// The exception that holds for an account.
    pub(super) fn exception(&self, account: &EmailAddress) -> Option<&SendingException> {
        let account = account.lookup_key();
        self.exceptions.iter().find(|exception| exception.address.lookup_key() == account)
    }

    /// Takes what a message needs, or looks whether it is there.
    pub(super) async fn decide(
        &self,
        storage: &dyn StorageBackend,
        request: &PolicyRequest,
        now: Timestamp,
    ) -> Result<Decision, PolicyError> {
        let limits = self.of(request);
        if limits.is_empty() {
            return Ok(Decision::Allow);
        }
        let wanted: Vec<_> = limits.iter().map(|limit| limit.allowance.clone()).collect();
        let taken = if request.dry_run {
            look(storage, request, wanted, now).await
        } else {
            storage.allowances().take(request.tenant, &wanted, amount(request), now).await
        };
        match taken.map_err(|error| unavailable(&error))? {
            Taken::All => Ok(Decision::Allow),
            Taken::Nothing { short, wait } => {
                let short = limits.iter().find(|limit| limit.allowance == short);
                short.map(|limit| limit.refusal(wait)).ok_or_else(|| PolicyError::new("no limit was asked for"))
            }
        }
    }

    /// Those that hold for a message.
    fn of(&self, request: &PolicyRequest) -> Vec<Limit> {
        let exception = self.exception(&request.account);
        let (hourly, daily) = exception.map_or((self.user_hourly, self.user_daily), |own| (own.hourly, own.daily));
        let user = account_scope(request);
        let of_user = format!("from {}", request.account);
        let mut limits =
            vec![limit("user_hourly", &of_user, &user, hourly, HOUR), limit("user_daily", &of_user, &user, daily, DAY)];
        if exception.is_none() {
            let domain = request.account.domain();
            let scope = format!("domain:{}", domain.as_str());
            limits.push(limit("domain_hourly", &format!("from the domain {domain}"), &scope, self.domain_hourly, HOUR));
            limits.push(limit("tenant_hourly", "from your organisation", "tenant", self.tenant_hourly, HOUR));
        }
        limits.into_iter().flatten().collect()
    }
}

impl Limit {
    fn refusal(&self, wait: Duration) -> Decision {
        let rate = &self.allowance.rate;
        let most = format!("at most {} recipients in {} {}", rate.count(), render_duration(rate.per()), self.whose);
        if wait == Duration::MAX {
            return Decision::reject("too_many_recipients", format!("Too many recipients: {most}"));
        }
        let text = format!("Too much mail: {most}, please try again in {}", rounded_up(wait));
        Decision::tempfail(self.reason, text, wait)
    }
}

fn limit(reason: &'static str, whose: &str, scope: &str, count: u32, per: Duration) -> Option<Limit> {
    let allowance = || Allowance { scope: scope.to_owned(), rate: Rate::new(count, per) };
    (count > 0).then(|| Limit { reason, whose: whose.to_owned(), allowance: allowance() })
}

/// The recipients of a message: each takes one token.
pub(super) fn amount(request: &PolicyRequest) -> u32 {
    u32::try_from(request.recipients.len()).unwrap_or(u32::MAX)
}

/// What taking would come to, without taking anything.
async fn look(
    storage: &dyn StorageBackend,
    request: &PolicyRequest,
    wanted: Vec<Allowance>,
    now: Timestamp,
) -> Result<Taken, StoreError> {
    let looks: Vec<_> = wanted.into_iter().map(|allowance| (allowance, 0)).collect();
    let missed = storage.allowances().spend(request.tenant, &looks, now).await?;
    let mut taken = Taken::All;
    for ((allowance, _), missed) in looks.into_iter().zip(missed) {
        let (rate, amount) = (allowance.rate, amount(request));
        let missing = (missed + f64::from(amount) / f64::from(rate.count()) - 1.0) * rate.per().as_secs_f64();
        let wait = match amount > rate.count() {
            true => Duration::MAX,
            // Less than a millisecond is what is lost by reckoning.
            false if missing < 0.001 => continue,
            false => Duration::from_secs_f64(missing),
        };
        if !matches!(&taken, Taken::Nothing { wait: longest, .. } if *longest >= wait) {
            taken = Taken::Nothing { short: allowance, wait };
        }
    }
    Ok(taken)
}

/// A wait in whole seconds, minutes or hours, whichever is exact enough for people, and never too short.
fn rounded_up(wait: Duration) -> String {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let unit = match seconds {
        0..120 => 1,
        120..7_200 => 60,
        _ => 3_600,
    };
    render_duration(Duration::from_secs(seconds.div_ceil(unit) * unit))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mairust_core::{ManualClock, TenantId, UserId};
    use mairust_hooks::PolicyEngine;
    use mairust_store::{Directory, MemoryStorage, NewTenant};

    use super::*;
    use crate::policy::BuiltinPolicy;

    const START: Timestamp = Timestamp::from_unix(1_767_225_600);

    fn address(text: &str) -> EmailAddress {
        EmailAddress::parse(text).unwrap()
    }

    fn request(tenant: TenantId, account: &str, recipients: usize) -> PolicyRequest {
        let to = (0..recipients).map(|number| address(&format!("r{number}@remote.example"))).collect();
        PolicyRequest::new(tenant, address(account), to)
    }

    async fn limiter(limits: SendingLimits) -> (BuiltinPolicy, TenantId) {
        let storage = MemoryStorage::new(Arc::new(ManualClock::at(START)));
        let tenant = storage.create_tenant(NewTenant::default()).await.unwrap().id;
        (BuiltinPolicy { storage: Arc::new(storage), limits, scoring: None }, tenant)
    }

    /// At which second, from whom, to how many, and what becomes of it.
    type Step = (u64, &'static str, usize, &'static str);

    async fn run(limits: SendingLimits, steps: &[Step]) {
        let (limiter, tenant) = limiter(limits).await;
        for (second, account, recipients, expected) in steps {
            let now = START.plus(Duration::from_secs(*second));
            let mut request = request(tenant, account, *recipients);
            request.dry_run = true;
            let foretold = limiter.evaluate(&request, now).await.unwrap();
            request.dry_run = false;
            let decision = limiter.evaluate(&request, now).await.unwrap();
            assert_eq!(foretold, decision);
            let found = match &decision {
                Decision::Tempfail { retry_after, .. } => format!("{} {}", decision.reason(), retry_after.as_secs()),
                _ => format!("{} {}", decision.as_str(), decision.reason()),
            };
            assert_eq!(&found, expected, "{account} to {recipients} at {second} s");
        }
    }

    #[tokio::test]
    async fn each_limit_holds_for_its_own() {
        let limits = SendingLimits {
            user_hourly: 6,
            user_daily: 12,
            domain_hourly: 10,
            tenant_hourly: 15,
            exceptions: Vec::new(),
        };
        let (alice, bob, eve, mallory) = ("alice@a.example", "bob@a.example", "eve@b.example", "mallory@c.example");
        run(
            limits.clone(),
            &[
                (0, alice, 4, "allow none"),
                (0, alice, 3, "user_hourly 600"),
                (0, "Alice@A.example", 2, "allow none"),
                (0, alice, 7, "reject too_many_recipients"),
                (599, alice, 1, "user_hourly 1"),
                (600, alice, 1, "allow none"),
                (600, bob, 6, "domain_hourly 480"),
                (600, bob, 4, "allow none"),
                (600, eve, 6, "allow none"),
                (600, mallory, 6, "tenant_hourly 1320"),
            ],
        )
        .await;
        // The day is over half when the hour has come back.
        let steps = [
            (0, alice, 6, "allow none"),
            (3_600, alice, 6, "allow none"),
            (7_200, alice, 6, "user_daily 36000"),
            (7_200 + 36_000, alice, 6, "allow none"),
        ];
        run(limits, &steps).await;
    }

    #[tokio::test]
    async fn exceptions_have_limits_of_their_own() {
        let news = address("news@a.example");
        let exception = SendingException { address: news, hourly: 0, daily: 1_000 };
        let limits =
            SendingLimits { user_hourly: 2, tenant_hourly: 3, exceptions: vec![exception], ..SendingLimits::none() };
        let steps = [
            (0, "News@a.example", 1_000, "allow none"),
            (0, "news@a.example", 1, "user_daily 86"),
            (0, "alice@a.example", 2, "allow none"),
            (0, "bob@a.example", 1, "allow none"),
        ];
        run(limits, &steps).await;
    }

    #[tokio::test]
    async fn no_limit_asks_nobody() {
        let (limiter, _) = limiter(SendingLimits::none()).await;
        let nobody = request(TenantId::new(START), "alice@a.example", 100_000);
        assert_eq!(limiter.evaluate(&nobody, START).await.unwrap(), Decision::Allow);
        let limiter = BuiltinPolicy { limits: SendingLimits::default(), ..limiter };
        assert!(limiter.evaluate(&nobody, START).await.is_err(), "the store says that there is no such tenant");
    }

    #[tokio::test]
    async fn an_account_is_known_by_its_user() {
        let (limiter, tenant) = limiter(SendingLimits { user_hourly: 1, ..SendingLimits::none() }).await;
        let user = Some(UserId::new(START));
        let of_user = |account| {
            let mut request = request(tenant, account, 1);
            request.user = user;
            request
        };
        assert_eq!(limiter.evaluate(&of_user("alice@a.example"), START).await.unwrap(), Decision::Allow);
        let renamed = limiter.evaluate(&of_user("alice@b.example"), START).await.unwrap();
        assert_eq!(renamed.reason(), "user_hourly");
        let Decision::Tempfail { rejection, .. } = renamed else { panic!("{renamed:?}") };
        let text = "451 4.7.1 Too much mail: at most 1 recipients in 1h from alice@b.example, please try again in 1h";
        assert_eq!(rejection.reply().to_string(), text);
    }

    #[test]
    fn nobody_comes_too_early() {
        for (millis, expected) in [
            (1, "1s"),
            (119_000, "119s"),
            (119_001, "2m"),
            (121_000, "3m"),
            (7_199_000, "2h"),
            (7_200_001, "3h"),
            (80_000_000, "23h"),
        ] {
            assert_eq!(rounded_up(Duration::from_millis(millis)), expected);
        }
    }
}
