//! How much of something may still be done: token buckets that all nodes share.
//!
//! Deliberately absent: what is limited, and to how much. Whoever asks says so each time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{Rate, TenantId, Timestamp, TokenBucket};

use crate::error::{StoreError, StoreErrorKind};

/// The longest name of a scope in bytes: an address has at most 320.
pub const MAX_SCOPE: usize = 400;

/// A limit that is to be kept to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// Whose it is, for example `user:` and an id; 1 to [`MAX_SCOPE`] bytes. A scope has one bucket for each time
    /// in which rates have it full again.
    pub scope: String,
    /// How many there may be.
    pub rate: Rate,
}

/// What became of the wish to take something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It was taken out of all buckets.
    All,
    /// Nothing was taken out.
    Nothing {
        /// The limit that takes the longest to allow it.
        short: Allowance,
        /// How long that is; [`Duration::MAX`] if it never does.
        wait: Duration,
    },
}

/// Token buckets. Methods are safe to drop: they happen whole or not at all. What was taken survives a crash of
/// the process; a loss of power may give back what was taken in the last moments.
#[async_trait]
pub trait Allowances: fmt::Debug + Send + Sync + 'static {
    /// Takes `amount` tokens out of each of these buckets, or none out of any. Buckets are full at first. Who asks
    /// at the same time, on whatever node, waits for one another: no more is taken than there is.
    ///
    /// # Errors
    /// `Invalid` for a scope that is empty or too long, `NotFound` if there is no such tenant.
    async fn take(
        &self,
        tenant: TenantId,
        wanted: &[Allowance],
        amount: u32,
        now: Timestamp,
    ) -> Result<Taken, StoreError>;

    /// Counts what has happened: takes so many tokens out of each of these buckets, also those that are not there
    /// ([`TokenBucket::spend`]). Tells how much each missed before, in the same order: 0 if it was full, 1 if it was
    /// empty, more if it owed tokens. An amount of 0 only looks. A scope that is taken from is not to be spent from:
    /// the debt is forgotten there.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    async fn spend(&self, tenant: TenantId, spent: &[(Allowance, u32)], now: Timestamp)
    -> Result<Vec<f64>, StoreError>;

    /// Forgets up to `max` buckets that are full by now, of all tenants; how many there were. Changes nothing for
    /// those who ask. For whoever cleans up.
    async fn forget_full(&self, now: Timestamp, max: u32) -> Result<u32, StoreError>;
}

/// Scope, and the time in which it is full again, in milliseconds.
pub(crate) type BucketKey = (String, u64);

/// The buckets that are asked for, by their keys and in one order: whoever locks them does not wait for another
/// that waits for it. The strictest rate of those for one bucket is the one that counts.
pub(crate) fn by_bucket<'a>(
    wanted: impl IntoIterator<Item = &'a Allowance>,
) -> Result<BTreeMap<BucketKey, Rate>, StoreError> {
    let mut buckets: BTreeMap<BucketKey, Rate> = BTreeMap::new();
    for Allowance { scope, rate } in wanted {
        if scope.is_empty() || scope.len() > MAX_SCOPE {
            return Err(StoreError::new(StoreErrorKind::Invalid, "take allowance", format_args!("scope {scope:?}")));
        }
        let kept = buckets.entry(key(scope, rate)).or_insert(*rate);
        if rate.count() < kept.count() {
            *kept = *rate;
        }
    }
    Ok(buckets)
}

fn key(scope: &str, rate: &Rate) -> BucketKey {
    (scope.to_owned(), u64::try_from(rate.per().as_millis()).unwrap_or(u64::MAX))
}

/// Spends from each of these buckets, of which `full_at` tells when each is full; they are as they are to be kept
/// then. Those from which nothing is spent are not in `full_at` afterwards.
pub(crate) fn spend_all(
    spent: &[(Allowance, u32)],
    full_at: &mut BTreeMap<BucketKey, Timestamp>,
    now: Timestamp,
) -> Vec<f64> {
    let mut missed = Vec::with_capacity(spent.len());
    let mut changed = BTreeMap::new();
    for (Allowance { scope, rate }, amount) in spent {
        let key = key(scope, rate);
        let kept = changed.get(&key).or_else(|| full_at.get(&key)).copied();
        let mut bucket = kept.map_or(TokenBucket::full(now), TokenBucket::full_at);
        missed.push(bucket.spend(rate, *amount, now));
        if *amount > 0 {
            changed.insert(key, bucket.is_full_at());
        }
    }
    *full_at = changed;
    missed
}

/// Takes out of all of these buckets, of which `full_at` tells when each is full. On success they are as they are
/// to be kept.
pub(crate) fn take_all(
    buckets: &BTreeMap<BucketKey, Rate>,
    full_at: &mut BTreeMap<BucketKey, Timestamp>,
    amount: u32,
    now: Timestamp,
) -> Taken {
    let mut taken = Taken::All;
    for (key, rate) in buckets {
        let kept = full_at.entry(key.clone()).or_insert(now);
        let mut bucket = TokenBucket::full_at(*kept);
        match bucket.take_many(rate, amount, now) {
            Ok(()) => *kept = bucket.is_full_at(),
            Err(wait) if matches!(&taken, Taken::Nothing { wait: longest, .. } if *longest >= wait) => {}
            Err(wait) => {
                let short = Allowance { scope: key.0.clone(), rate: *rate };
                taken = Taken::Nothing { short, wait };
            }
        }
    }
    taken
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Allowances + ?Sized> Allowances for Arc<T> {
    async fn take(
        &self,
        tenant: TenantId,
        wanted: &[Allowance],
        amount: u32,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        (**self).take(tenant, wanted, amount, now).await
    }
    async fn spend(
        &self,
        tenant: TenantId,
        spent: &[(Allowance, u32)],
        now: Timestamp,
    ) -> Result<Vec<f64>, StoreError> {
        (**self).spend(tenant, spent, now).await
    }
    async fn forget_full(&self, now: Timestamp, max: u32) -> Result<u32, StoreError> {
        (**self).forget_full(now, max).await
    }
}
