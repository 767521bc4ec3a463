//! Cases of [`Allowances`](crate::Allowances).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::time::Duration;

use mairust_core::{Rate, TenantId, Timestamp};

use super::sample::{NOW, Storage, alice, kind};
use crate::allowance::{Allowance, MAX_SCOPE, Taken};
use crate::error::StoreErrorKind;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn allowance(scope: &str, count: u32, per: Duration) -> Allowance {
    Allowance { scope: scope.to_owned(), rate: Rate::new(count, per) }
}

fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

async fn take(storage: &Storage, tenant: TenantId, wanted: &[Allowance], amount: u32, now: Timestamp) -> Taken {
    storage.allowances().take(tenant, wanted, amount, now).await.unwrap()
}

fn nothing(short: &Allowance, seconds: u64) -> Taken {
    Taken::Nothing { short: short.clone(), wait: Duration::from_secs(seconds) }
}

/// A bucket is full at first, gives what it has, and fills evenly.
pub async fn gives_what_there_is(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    let hourly = [allowance("user:1", 60, HOUR)];
    assert_eq!(take(&storage, tenant, &hourly, 50, NOW).await, Taken::All);
    assert_eq!(take(&storage, tenant, &hourly, 11, NOW).await, nothing(&hourly[0], 60), "nothing of it is taken");
    assert_eq!(take(&storage, tenant, &hourly, 10, NOW).await, Taken::All);
    assert_eq!(take(&storage, tenant, &hourly, 1, after(59)).await, nothing(&hourly[0], 1));
    assert_eq!(take(&storage, tenant, &hourly, 1, after(60)).await, Taken::All);
    assert_eq!(take(&storage, tenant, &hourly, 60, after(60 + 3_600)).await, Taken::All);
    let never = Taken::Nothing { short: hourly[0].clone(), wait: Duration::MAX };
    assert_eq!(take(&storage, tenant, &hourly, 61, after(100_000)).await, never);
    assert_eq!(take(&storage, tenant, &[], 1, NOW).await, Taken::All, "nothing is limited");
}

/// What one bucket does not have is taken out of no other; the one with the longest wait is named.
pub async fn takes_from_all_or_from_none(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    let (hourly, daily) = (allowance("user:1", 10, HOUR), allowance("user:1", 24, DAY));
    let both = [hourly.clone(), daily.clone(), allowance("tenant", 1_000, HOUR)];
    assert_eq!(take(&storage, tenant, &both, 10, NOW).await, Taken::All);
    assert_eq!(take(&storage, tenant, &both, 1, NOW).await, nothing(&hourly, 360));
    assert_eq!(take(&storage, tenant, &both, 10, after(3_600)).await, Taken::All);
    // 25 hours' worth of the day is not there, however full the hour.
    assert_eq!(take(&storage, tenant, &both, 10, after(7_200)).await, nothing(&daily, 10 * 3_600 - 6 * 3_600));
    let others = [allowance("tenant", 1_000, HOUR)];
    assert_eq!(take(&storage, tenant, &others, 1_000, after(7_200)).await, Taken::All, "what was refused was left");
    let twice = [allowance("both", 5, HOUR), allowance("both", 3, HOUR)];
    assert_eq!(take(&storage, tenant, &twice, 3, NOW).await, Taken::All);
    assert!(matches!(take(&storage, tenant, &twice, 1, NOW).await, Taken::Nothing { .. }), "the strictest counts");
}

/// Those who ask at the same time take no more than there is.
pub async fn is_never_exceeded(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    let wanted = [allowance("user:1", 1_000, HOUR), allowance("domain:a.example", 25, HOUR)];
    let tries = (0..40).map(|_| take(&storage, tenant, &wanted, 1, NOW));
    let granted = futures::future::join_all(tries).await.into_iter().filter(|taken| *taken == Taken::All).count();
    assert_eq!(granted, 25);
}

/// What happened is counted, whatever is left; looking changes nothing.
pub async fn counts_what_is_not_there(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    let (hourly, daily) = (allowance("seen:1", 10, HOUR), allowance("seen:1", 100, DAY));
    let spend = async |hours: u32, days: u32, now| {
        let spent = [(hourly.clone(), hours), (daily.clone(), days)];
        storage.allowances().spend(tenant, &spent, now).await.unwrap()
    };
    assert_eq!(spend(0, 0, NOW).await, [0.0, 0.0]);
    assert_eq!(spend(5, 50, NOW).await, [0.0, 0.0]);
    assert_eq!(spend(10, 0, NOW).await, [0.5, 0.5]);
    assert_eq!(spend(0, 0, NOW).await, [1.5, 0.5]);
    assert_eq!(spend(0, 0, after(3_600)).await[0], 0.5);
    let twice = [(hourly.clone(), 5), (hourly.clone(), 5)];
    assert_eq!(storage.allowances().spend(tenant, &twice, after(7_200)).await.unwrap(), [0.0, 0.5]);
    let seen =
        (0..20).map(|_| async { storage.allowances().spend(tenant, &[(daily.clone(), 1)], after(90_000)).await });
    let mut seen: Vec<f64> = futures::future::join_all(seen).await.into_iter().flat_map(Result::unwrap).collect();
    seen.sort_by(f64::total_cmp);
    let one_by_one: Vec<f64> = (0..20).map(|before| f64::from(before) / 100.0).collect();
    assert_eq!(seen, one_by_one, "each sees all that came before");
    let nobody = storage.allowances().spend(TenantId::new(NOW), &twice, NOW).await;
    assert_eq!(kind(nobody), StoreErrorKind::NotFound);
}

/// What is full is forgotten, and nothing else.
pub async fn forgets_what_is_full(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    let (slow, quick) = (allowance("slow", 10, DAY), allowance("quick", 10, HOUR));
    take(&storage, tenant, &[slow.clone(), quick.clone()], 10, NOW).await;
    assert_eq!(storage.allowances().forget_full(NOW, 10).await.unwrap(), 0);
    assert_eq!(storage.allowances().forget_full(after(3_600), 10).await.unwrap(), 1);
    assert!(matches!(take(&storage, tenant, &[slow], 10, after(3_600)).await, Taken::Nothing { .. }));
    assert_eq!(take(&storage, tenant, &[quick], 10, after(3_600)).await, Taken::All);
    assert_eq!(storage.allowances().forget_full(after(100_000), 1).await.unwrap(), 1, "no more than asked for");
    assert_eq!(storage.allowances().forget_full(after(100_000), 10).await.unwrap(), 1);
}

/// Every method with a tenant argument, tried by another tenant; and what makes no sense.
pub async fn keeps_tenants_apart(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let wanted = [allowance("tenant", 1, HOUR)];
    for tenant in [alice.tenant, other.tenant] {
        assert_eq!(take(&storage, tenant, &wanted, 1, NOW).await, Taken::All);
        assert_eq!(take(&storage, tenant, &wanted, 1, NOW).await, nothing(&wanted[0], 3_600));
    }
    let nobody = storage.allowances().take(TenantId::new(NOW), &wanted, 1, NOW).await;
    assert_eq!(kind(nobody), StoreErrorKind::NotFound);
    for scope in ["", &"x".repeat(MAX_SCOPE + 1)] {
        let odd = storage.allowances().take(alice.tenant, &[allowance(scope, 1, HOUR)], 1, NOW).await;
        assert_eq!(kind(odd), StoreErrorKind::Invalid);
    }
}
