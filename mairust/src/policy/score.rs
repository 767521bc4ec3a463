//! How much a message looks as if somebody abused the account: bursts, many recipients, the same text again and
//! again, texts that are known, and servers that refused what was sent before.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use mairust_core::{Content, EmailAddress, Rate, Timestamp};
use mairust_hooks::{Decision, PolicyError, PolicyRequest, Score, Signal};
use mairust_store::{Allowance, StorageBackend};

use super::limits::amount;
use super::{account_scope, unavailable};

/// The time of a burst.
const BURST: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// As many recipients of one message as no person writes to.
const MANY_RECIPIENTS: u32 = 100;
/// Refusals within a day after which an account has a bad name.
const MANY_REFUSALS: u32 = 20;
/// How long the first slow message waits: somebody is to have the time to look at it.
const GRACE: Duration = BURST;

/// How a message gets its score, and what comes of it. The score is `0.4 × rate + 0.4 × content + 0.2 × history`:
/// - rate: the recipients within ten minutes as a part of what the user may send within an hour or, if that is more,
///   the recipients of this message as a part of 100;
/// - content: the recipients of messages with the same text within an hour as a part of what the user may send, or 1
///   if the text holds one of the [patterns](Self::patterns);
/// - history: messages that the limits refused, and recipients whose servers refused them, within a day as a part of
///   20.
///
/// Each is 1 at most, and comes back to 0 evenly. Accounts with limits of their own get no score.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Scoring {
    /// From which score on mail is sent slowly. Default 0.5.
    pub slow_at: f64,
    /// From which score on it is refused, and sending is suspended. Default 0.8.
    pub suspend_at: f64,
    /// Recipients within an hour to whom mail is sent that is sent slowly. Default 20.
    pub slow_hourly: u32,
    /// How long a suspension holds; without it, until an administrator ends it. Default: without it.
    pub suspend_for: Option<Duration>,
    /// Texts of known abuse: in the subject or the first 4 KiB of the text, in upper or lower case. Default: none.
    pub patterns: Vec<String>,
}

impl Default for Scoring {
    fn default() -> Self {
        Self { slow_at: 0.5, suspend_at: 0.8, slow_hourly: 20, suspend_for: None, patterns: Vec::new() }
    }
}

/// What has been seen of an account, as parts of what would be much.
struct Seen {
    /// This message included.
    burst: f64,
    recipients: f64,
    repeated: f64,
    pattern: f64,
    refused: f64,
}

impl Scoring {
    /// `hourly` is what a user may send within an hour, 0 for no limit.
    pub(super) async fn score(
        &self,
        storage: &dyn StorageBackend,
        (request, hourly): (&PolicyRequest, u32),
        content: &Content,
        now: Timestamp,
    ) -> Result<Score, PolicyError> {
        let seen = self.look(storage, (request, hourly), content, now).await?;
        let (value, signals) = (seen.value(), seen.signals());
        let decision = if value >= self.suspend_at {
            let told: Vec<_> = signals.iter().map(|signal| format!("{} {:.2}", signal.name, signal.value)).collect();
            let detail = format!("score {value:.2}: {}", told.join(", "));
            Decision::Suspend { reason: "score", detail, until: self.suspend_for.map(|time| now.plus(time)) }
        } else if value >= self.slow_at {
            Decision::Slow { reason: "score", wait: self.wait(storage, request, now).await? }
        } else {
            Decision::Allow
        };
        Ok(Score { decision, value, signals })
    }

    /// Looks at what there was, and counts the message, unless this is a dry run.
    async fn look(
        &self,
        storage: &dyn StorageBackend,
        (request, hourly): (&PolicyRequest, u32),
        content: &Content,
        now: Timestamp,
    ) -> Result<Seen, PolicyError> {
        let (account, counted) = (account_scope(request), if request.dry_run { 0 } else { amount(request) });
        let bucket = |scope: String, per| Allowance { scope, rate: Rate::new(hourly, per) };
        let mut spent = Vec::new();
        if let Some(sender) = request.sender.address() {
            spent.push((refusals(sender), 0));
        }
        if hourly > 0 {
            spent.push((bucket(format!("burst:{account}"), BURST), counted));
            spent.push((bucket(format!("same:{account}:{}", fingerprint(content)), HOUR), counted));
        }
        let missed =
            storage.allowances().spend(request.tenant, &spent, now).await.map_err(|error| unavailable(&error))?;
        let missed = |prefix: &str| {
            let place = spent.iter().position(|(allowance, _)| allowance.scope.starts_with(prefix));
            place.and_then(|place| missed.get(place)).copied().unwrap_or_default()
        };
        let part = |of: u32| if of == 0 { 0.0 } else { f64::from(amount(request)) / f64::from(of) };
        Ok(Seen {
            burst: missed("burst:") + part(hourly),
            recipients: part(MANY_RECIPIENTS),
            repeated: missed("same:"),
            pattern: if self.has_pattern(content) { 1.0 } else { 0.0 },
            refused: missed("refused:"),
        })
    }

    /// How long a slow message waits: until those before it have gone.
    async fn wait(
        &self,
        storage: &dyn StorageBackend,
        request: &PolicyRequest,
        now: Timestamp,
    ) -> Result<Duration, PolicyError> {
        let scope = format!("slow:{}", account_scope(request));
        let amount = if request.dry_run { 0 } else { amount(request) };
        let spent = [(Allowance { scope, rate: Rate::new(self.slow_hourly, HOUR) }, amount)];
        let missed =
            storage.allowances().spend(request.tenant, &spent, now).await.map_err(|error| unavailable(&error))?;
        let before = missed.first().map_or(Duration::ZERO, |missed| HOUR.mul_f64(*missed));
        Ok((GRACE + before).min(DAY))
    }

    fn has_pattern(&self, content: &Content) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let subject = content.subject.as_deref().unwrap_or_default();
        let text = format!("{subject}\n{}", content.preview).to_lowercase();
        self.patterns.iter().any(|pattern| text.contains(&pattern.to_lowercase()))
    }
}

impl Seen {
    /// In steps of a hundredth, which is more than can be known.
    fn value(&self) -> f64 {
        let part = |value: f64| value.min(1.0);
        let rate = part(self.burst.max(self.recipients));
        let content = part(self.repeated.max(self.pattern));
        ((0.4 * rate + 0.4 * content + 0.2 * part(self.refused)) * 100.0).round() / 100.0
    }

    /// Those that say something, the strongest first.
    fn signals(&self) -> Vec<Signal> {
        let all = [
            ("burst", self.burst),
            ("recipients", self.recipients),
            ("repeated", self.repeated),
            ("pattern", self.pattern),
            ("refused", self.refused),
        ];
        let signal = |(name, value): (_, f64)| Signal { name, value: (value.min(1.0) * 100.0).round() / 100.0 };
        let mut signals: Vec<_> = all.into_iter().map(signal).filter(|signal| signal.value > 0.0).collect();
        signals.sort_by(|one, other| other.value.total_cmp(&one.value));
        signals
    }
}

/// The bucket that refusals of a sender are counted with.
pub(super) fn refusals(sender: &EmailAddress) -> Allowance {
    Allowance { scope: format!("refused:{}", sender.lookup_key()), rate: Rate::new(MANY_REFUSALS, DAY) }
}

/// The same for messages that differ in numbers, white space, punctuation and case only.
fn fingerprint(content: &Content) -> String {
    let mut seen = Context::new(&SHA256);
    let mut update = |text: &str| {
        let letters: String = text.chars().filter(|character| character.is_alphabetic()).collect();
        seen.update(letters.to_lowercase().as_bytes());
        seen.update(b"\n");
    };
    update(content.subject.as_deref().unwrap_or_default());
    update(&content.preview);
    for attachment in &content.attachments {
        update(&attachment.content_type);
        update(attachment.filename.as_deref().unwrap_or_default());
    }
    seen.finish().as_ref().iter().take(16).map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mairust_core::{ManualClock, TenantId};
    use mairust_hooks::PolicyEngine;
    use mairust_store::{Directory, MemoryStorage, NewTenant};

    use super::*;
    use crate::SendingLimits;
    use crate::policy::BuiltinPolicy;

    const START: Timestamp = Timestamp::from_unix(1_767_225_600);
    const ALICE: &str = "alice@a.example";

    async fn engine(scoring: Scoring, limits: SendingLimits) -> (BuiltinPolicy, TenantId) {
        let storage = MemoryStorage::new(Arc::new(ManualClock::at(START)));
        let tenant = storage.create_tenant(NewTenant::default()).await.unwrap().id;
        (BuiltinPolicy { storage: Arc::new(storage), limits, scoring: Some(scoring) }, tenant)
    }

    fn request(tenant: TenantId, recipients: usize) -> PolicyRequest {
        let to = |number| EmailAddress::parse(&format!("r{number}@remote.example")).unwrap();
        PolicyRequest::new(tenant, EmailAddress::parse(ALICE).unwrap(), (0..recipients).map(to).collect())
    }

    fn content(text: &str) -> Content {
        Content::parse(format!("From: {ALICE}\r\nSubject: News\r\n\r\n{text}\r\n").as_bytes())
    }

    fn told(score: &Score) -> String {
        let signals: Vec<_> = score.signals.iter().map(|signal| format!("{} {}", signal.name, signal.value)).collect();
        let after = match &score.decision {
            Decision::Slow { wait, .. } => format!(" {} min", wait.as_secs() / 60),
            _ => String::new(),
        };
        format!("{}{after} {} [{}]", score.decision.as_str(), score.value, signals.join(", "))
    }

    /// At which minute, to how many, what, and what comes of it.
    type Step = (u64, usize, &'static str, &'static str);

    async fn run(engine: &BuiltinPolicy, tenant: TenantId, steps: &[Step]) {
        for (minute, recipients, text, expected) in steps {
            let now = START.plus(Duration::from_secs(minute * 60));
            let mut request = request(tenant, *recipients);
            request.dry_run = true;
            let foretold = engine.score(&request, &content(text), now).await.unwrap();
            request.dry_run = false;
            let score = engine.score(&request, &content(text), now).await.unwrap();
            assert_eq!(told(&score), *expected, "{text:?} to {recipients} after {minute} min");
            assert_eq!(foretold, score);
        }
    }

    #[tokio::test]
    async fn bursts_of_the_same_text_are_slowed_and_then_stopped() {
        let (engine, tenant) = engine(Scoring::default(), SendingLimits::default()).await;
        let steps = [
            (0, 1, "Hello Bob", "allow 0 [burst 0.01, recipients 0.01]"),
            (0, 50, "Buy 1 now!", "allow 0.2 [recipients 0.5, burst 0.26]"),
            (1, 50, "buy 2 NOW", "allow 0.29 [recipients 0.5, burst 0.41, repeated 0.23]"),
            (1, 50, "Buy 3 now.", "slow 10 min 0.46 [burst 0.66, recipients 0.5, repeated 0.48]"),
        ];
        run(&engine, tenant, &steps[..3]).await;
        let lower = Scoring { slow_at: 0.45, suspend_at: 0.7, ..Scoring::default() };
        let engine = BuiltinPolicy { scoring: Some(lower), ..engine };
        run(&engine, tenant, &steps[3..]).await;
        let steps = [
            (1, 10, "Buy 3 now.", "slow 160 min 0.58 [repeated 0.73, burst 0.71, recipients 0.1]"),
            (1, 60, "Buy 3 now.", "suspend 0.71 [burst 1, repeated 0.78, recipients 0.6]"),
            (1, 1, "Something else", "allow 0.4 [burst 1, recipients 0.01]"),
            (120, 50, "Buy 3 now.", "allow 0.2 [recipients 0.5, burst 0.25]"),
        ];
        run(&engine, tenant, &steps).await;
    }

    #[tokio::test]
    async fn what_servers_and_limits_refused_is_remembered_for_a_day() {
        let limits = SendingLimits { user_hourly: 100, ..SendingLimits::none() };
        let patterns = vec!["Almost FULL".to_owned()];
        let (engine, tenant) = engine(Scoring { patterns, ..Scoring::default() }, limits).await;
        let phishing = "Your mailbox is almost full";
        run(&engine, tenant, &[(0, 1, phishing, "allow 0.4 [pattern 1, burst 0.01, recipients 0.01]")]).await;
        engine.bounced(tenant, &EmailAddress::parse("Alice@A.example").unwrap(), 9, START).await;
        let hundred_and_one = request(tenant, 101);
        assert_eq!(engine.evaluate(&hundred_and_one, START).await.unwrap().as_str(), "reject");
        let steps = [
            (0, 1, phishing, "slow 10 min 0.51 [pattern 1, refused 0.5, burst 0.02, recipients 0.01, repeated 0.01]"),
            (720, 1, phishing, "allow 0.4 [pattern 1, burst 0.01, recipients 0.01]"),
        ];
        run(&engine, tenant, &steps).await;
    }

    #[tokio::test]
    async fn who_may_send_much_gets_no_score() {
        let exception = crate::SendingException { address: EmailAddress::parse(ALICE).unwrap(), hourly: 0, daily: 0 };
        let limits = SendingLimits { exceptions: vec![exception], ..SendingLimits::default() };
        let (engine, tenant) = engine(Scoring::default(), limits).await;
        run(&engine, tenant, &[(0, 500, "News", "allow 0 []")]).await;
        let engine = BuiltinPolicy { limits: SendingLimits::none(), ..engine };
        run(&engine, tenant, &[(0, 30, "News", "allow 0.12 [recipients 0.3]")]).await;
    }

    #[tokio::test]
    async fn a_suspension_ends_when_the_configuration_says_so() {
        let scoring =
            Scoring { slow_at: 0.1, suspend_at: 0.1, suspend_for: Some(Duration::from_secs(60)), ..Scoring::default() };
        let (engine, tenant) = engine(scoring, SendingLimits::none()).await;
        let score = engine.score(&request(tenant, 30), &content("News"), START).await.unwrap();
        let Decision::Suspend { detail, until, .. } = score.decision else { panic!("{score:?}") };
        let until = until.map(|until| until.since(START).as_secs());
        assert_eq!((detail.as_str(), until), ("score 0.12: recipients 0.30", Some(60)));
    }
}
