//! Cases for [`HookStore`](crate::HookStore).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::time::Duration;

use mairust_core::{HookId, JobId, MessageId, TenantId, Timestamp};
use serde_json::json;

use super::crash::again;
use super::sample::{NOW, Storage, alice, job, kind};
use crate::error::{StoreError, StoreErrorKind};
use crate::hook::{
    AwaitedResult, HookActionReport, HookBinding, HookChange, HookInvocation, HookInvocationQuery, HookReport,
    HookState, MAX_HOOKS, NewHookBinding,
};

mod health;

pub use health::keeps_how_hooks_do;

/// A hook of this name that is to be bound.
pub(crate) fn new(plugin_id: &str) -> NewHookBinding {
    let settings = json!({"points": ["pre_receive"], "config": {"b": [1.5, "ü\u{0}"], "a": null}});
    NewHookBinding { id: HookId::new(NOW), plugin_id: plugin_id.to_owned(), settings, state: HookState::Enabled }
}

async fn made(storage: &Storage, tenant: TenantId, plugin_id: &str) -> HookBinding {
    storage.hooks().create(tenant, new(plugin_id)).await.unwrap()
}

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// A call so many seconds later.
fn call(tenant: TenantId, number: u32, binding: &str) -> HookInvocation {
    HookInvocation {
        id: format!("inv_01JABCDEFGHJKMNPQRSTVW{number:04}"),
        tenant,
        binding: binding.to_owned(),
        hook: None,
        point: "pre_receive".to_owned(),
        outcome: "allow".to_owned(),
        message: None,
        at: later(number.into()),
        report: HookReport { mode: "enforce".to_owned(), attempt: 1, ..HookReport::default() },
    }
}

fn all() -> HookInvocationQuery {
    HookInvocationQuery { limit: 100, ..HookInvocationQuery::default() }
}

async fn listed(storage: &Storage, tenant: TenantId, query: &HookInvocationQuery) -> (Vec<HookInvocation>, bool) {
    let page = storage.hooks().invocations(tenant, query).await.unwrap();
    (page.items, page.has_more)
}

/// A hook is read back as it was bound and changed.
pub async fn keeps_hooks(storage: Storage) {
    let (alice, hooks) = (alice(&storage, "a.example").await, storage.hooks());
    let given = new("com.example.spam-filter");
    let made = hooks.create(alice.tenant, given.clone()).await.unwrap();
    let HookBinding { id, tenant, ref plugin_id, ref settings, ref state, generation, .. } = made;
    assert_eq!((id, tenant, plugin_id, settings), (given.id, alice.tenant, &given.plugin_id, &given.settings));
    assert_eq!((state, generation), (&HookState::Enabled, 1));
    assert_eq!(hooks.list(alice.tenant).await.unwrap(), std::slice::from_ref(&made));
    assert_eq!(hooks.get(alice.tenant, id).await.unwrap().as_ref(), Some(&made));
    let change = HookChange { settings: Some(json!({})), ..HookChange::default() };
    let changed = hooks.change(alice.tenant, id, &change).await.unwrap();
    assert_eq!((&changed.settings, &changed.state, changed.generation), (&json!({}), &HookState::Enabled, 2));
    assert_ne!(changed.key(), made.key());
    let off = HookState::Disabled("it answered 410".to_owned());
    let change = HookChange { state: Some(off.clone()), ..HookChange::default() };
    let disabled = hooks.change(alice.tenant, id, &change).await.unwrap();
    assert_eq!((&disabled.settings, &disabled.state, disabled.generation), (&json!({}), &off, 3));
    let touched = hooks.change(alice.tenant, id, &HookChange::default()).await.unwrap();
    assert_eq!((&touched.state, touched.generation), (&off, 4));
    let change = HookChange { state: Some(HookState::Enabled), ..HookChange::default() };
    let enabled = hooks.change(alice.tenant, id, &change).await.unwrap();
    assert_eq!((&enabled.state, enabled.state.reason()), (&HookState::Enabled, None));
    assert_eq!(hooks.get(alice.tenant, id).await.unwrap(), Some(enabled));
    hooks.delete(alice.tenant, id, None).await.unwrap();
    assert_eq!(hooks.list(alice.tenant).await.unwrap(), []);
    let missing = hooks.change(alice.tenant, id, &HookChange::default()).await;
    assert_eq!(kind(missing), StoreErrorKind::NotFound);
    assert_eq!(kind(hooks.delete(alice.tenant, id, None).await), StoreErrorKind::NotFound);
}

/// Names, settings, and too many.
pub async fn refuses_odd_hooks(storage: Storage) {
    let (alice, hooks) = (alice(&storage, "a.example").await, storage.hooks());
    let long = json!({"x": "x".repeat(70_000)});
    let odd = [new("A b"), new(""), NewHookBinding { settings: json!([]), ..new("a") }];
    for odd in odd.into_iter().chain([NewHookBinding { settings: long.clone(), ..new("a") }]) {
        assert_eq!(kind(hooks.create(alice.tenant, odd).await), StoreErrorKind::Invalid);
    }
    let first = made(&storage, alice.tenant, "h0").await;
    for settings in [json!(1), long] {
        let change = HookChange { settings: Some(settings), ..HookChange::default() };
        assert_eq!(kind(hooks.change(alice.tenant, first.id, &change).await), StoreErrorKind::Invalid);
    }
    assert_eq!(kind(hooks.create(alice.tenant, new("h0")).await), StoreErrorKind::AlreadyExists);
    let twice = NewHookBinding { id: first.id, ..new("h1") };
    assert_eq!(kind(hooks.create(alice.tenant, twice).await), StoreErrorKind::AlreadyExists);
    for number in 1..MAX_HOOKS {
        made(&storage, alice.tenant, &format!("h{number}")).await;
    }
    assert_eq!(kind(hooks.create(alice.tenant, new("one.more")).await), StoreErrorKind::Conflict);
    assert_eq!(kind(hooks.create(TenantId::new(NOW), new("a")).await), StoreErrorKind::NotFound);
    // Another tenant has names of its own.
    let other = self::alice(&storage, "b.example").await.tenant;
    made(&storage, other, "h0").await;
}

/// Who read a hook before somebody else changed it changes nothing.
pub async fn changes_what_was_expected_only(storage: Storage) {
    let (alice, hooks) = (alice(&storage, "a.example").await, storage.hooks());
    let hook = made(&storage, alice.tenant, "a").await;
    let change = |generation, settings| HookChange { settings, expected: Some(generation), ..HookChange::default() };
    let other = Some(json!({"other": true}));
    hooks.change(alice.tenant, hook.id, &change(1, other.clone())).await.unwrap();
    let stale = hooks.change(alice.tenant, hook.id, &change(1, Some(json!({})))).await;
    assert_eq!(kind(stale), StoreErrorKind::Conflict);
    assert_eq!(hooks.get(alice.tenant, hook.id).await.unwrap().map(|hook| hook.settings), other);
    assert_eq!(kind(hooks.delete(alice.tenant, hook.id, Some(1)).await), StoreErrorKind::Conflict);
    hooks.delete(alice.tenant, hook.id, Some(2)).await.unwrap();
    let missing = hooks.change(alice.tenant, hook.id, &change(2, None)).await;
    assert_eq!(kind(missing), StoreErrorKind::NotFound);
}

/// Whoever runs hooks sees by one number that something changed, and then what there is.
pub async fn counts_changes_of_any_hook(storage: Storage) {
    let (alice, bob) = (alice(&storage, "a.example").await, alice(&storage, "b.example").await);
    let hooks = storage.hooks();
    let mut seen = hooks.revision().await.unwrap();
    let mut grew = async || {
        let now = hooks.revision().await.unwrap();
        std::mem::replace(&mut seen, now) < now
    };
    assert!(!grew().await);
    let one = made(&storage, alice.tenant, "a").await;
    assert!(grew().await);
    let other = made(&storage, bob.tenant, "a").await;
    assert!(grew().await);
    let mut both = vec![one.clone(), other.clone()];
    both.sort_by_key(|hook| hook.tenant);
    assert_eq!(hooks.enabled().await.unwrap(), both);
    let off = HookChange { state: Some(HookState::Disabled("x".to_owned())), ..HookChange::default() };
    hooks.change(alice.tenant, one.id, &off).await.unwrap();
    assert!(grew().await);
    assert_eq!(hooks.enabled().await.unwrap(), std::slice::from_ref(&other));
    hooks.change(bob.tenant, other.id, &HookChange::default()).await.unwrap();
    assert!(grew().await);
    let stale = HookChange { expected: Some(1), ..HookChange::default() };
    assert_eq!(kind(hooks.change(bob.tenant, other.id, &stale).await), StoreErrorKind::Conflict);
    assert_eq!(kind(hooks.create(bob.tenant, new("a")).await), StoreErrorKind::AlreadyExists);
    assert!(!grew().await, "nothing was changed");
    hooks.delete(bob.tenant, other.id, None).await.unwrap();
    assert!(grew().await);
    hooks.record(vec![call(alice.tenant, 1, "a")]).await.unwrap();
    assert!(!grew().await, "what hooks do changes none of them");
}

/// All there is to tell about a call.
pub async fn keeps_what_calls_came_to(storage: Storage) {
    let (alice, hooks) = (alice(&storage, "a.example").await, storage.hooks());
    let hook = made(&storage, alice.tenant, "a").await;
    let full = HookInvocation {
        hook: Some(hook.id),
        outcome: "http".to_owned(),
        message: Some(MessageId::new(NOW)),
        report: HookReport {
            mode: "shadow".to_owned(),
            attempt: 2,
            mail_from: Some("a@b.example".to_owned()),
            rcpt_to: vec!["bob@a.example".to_owned()],
            verdict: Some("quarantine".to_owned()),
            let_pass: true,
            instead: Some("allow".to_owned()),
            instead_because: Some("on_failure".to_owned()),
            duration_ms: 12,
            request_bytes: Some(3_456),
            status: Some(500),
            detail: Some("it said \"é\u{0}\"".to_owned()),
            score: Some(7.5),
            actions: vec![HookActionReport { op: "tag.add".to_owned(), result: "applied".to_owned() }],
            denied: vec!["move".to_owned()],
            response: Some("{\"verdict\": \"\u{0}".to_owned()),
        },
        ..call(alice.tenant, 7, "a")
    };
    hooks.record(vec![full.clone(), call(alice.tenant, 8, "b")]).await.unwrap();
    assert_eq!(hooks.invocation(alice.tenant, &full.id).await.unwrap().as_ref(), Some(&full));
    assert_eq!(hooks.invocation(alice.tenant, "inv_x").await.unwrap(), None);

    // Another attempt is the same call; the last of two in one list counts.
    let again = |outcome: &str| HookInvocation { outcome: outcome.to_owned(), at: later(40), ..full.clone() };
    hooks.record(vec![again("timeout"), again("allow")]).await.unwrap();
    assert_eq!(listed(&storage, alice.tenant, &all()).await.0, [call(alice.tenant, 8, "b"), again("allow")]);

    let mut long = call(alice.tenant, 9, "c");
    long.report.response = Some("é".repeat(3_000));
    long.report.rcpt_to = vec!["a@a.example".to_owned(); 200];
    hooks.record(vec![long.clone()]).await.unwrap();
    let kept = hooks.invocation(alice.tenant, &long.id).await.unwrap().unwrap();
    assert_eq!((kept.report.response, kept.report.rcpt_to.len()), (Some("é".repeat(2_048)), 100));

    // What a hook did is known after it went.
    hooks.delete(alice.tenant, hook.id, None).await.unwrap();
    assert!(hooks.invocation(alice.tenant, &full.id).await.unwrap().is_some());
    assert_eq!(kind(hooks.record(vec![call(TenantId::new(NOW), 1, "a")]).await), StoreErrorKind::NotFound);
    hooks.record(Vec::new()).await.unwrap();
}

/// By hook, message, outcome and time, in pages.
pub async fn lists_calls(storage: Storage) {
    let (alice, bob) = (alice(&storage, "a.example").await, alice(&storage, "b.example").await);
    let (tenant, message) = (alice.tenant, MessageId::new(NOW));
    let calls: Vec<_> = (0..6)
        .map(|number| {
            let mut call = call(tenant, number, if number % 2 == 0 { "even" } else { "odd" });
            call.message = (number < 2).then_some(message);
            call.outcome = if number == 5 { "timeout" } else { "allow" }.to_owned();
            call
        })
        .collect();
    let theirs = call(bob.tenant, 0, "even");
    storage.hooks().record(calls.iter().cloned().chain([theirs.clone()]).collect()).await.unwrap();
    let newest_first = |numbers: &[usize]| numbers.iter().map(|number| calls[*number].clone()).collect::<Vec<_>>();
    let found = async |query: HookInvocationQuery| listed(&storage, tenant, &query).await;
    assert_eq!(found(all()).await, (newest_first(&[5, 4, 3, 2, 1, 0]), false));
    let query = HookInvocationQuery { binding: Some("even".to_owned()), ..all() };
    assert_eq!(found(query).await, (newest_first(&[4, 2, 0]), false));
    let query = HookInvocationQuery { message: Some(message), ..all() };
    assert_eq!(found(query).await, (newest_first(&[1, 0]), false));
    let query = HookInvocationQuery { outcome: Some("timeout".to_owned()), ..all() };
    assert_eq!(found(query).await, (newest_first(&[5]), false));
    let query = HookInvocationQuery { since: Some(later(1)), until: Some(later(4)), ..all() };
    assert_eq!(found(query).await, (newest_first(&[3, 2, 1]), false));
    let query = HookInvocationQuery { before: Some(calls[4].id.clone()), limit: 2, ..all() };
    assert_eq!(found(query).await, (newest_first(&[3, 2]), true));
    assert_eq!(listed(&storage, bob.tenant, &all()).await.0, [theirs]);
}

/// The oldest first, of one tenant after the other.
pub async fn forgets_old_calls(storage: Storage) {
    let (alice, bob) = (alice(&storage, "a.example").await, alice(&storage, "b.example").await);
    let hooks = storage.hooks();
    let calls = (0..5).map(|number| call(alice.tenant, number, "a")).collect();
    hooks.record(calls).await.unwrap();
    hooks.record(vec![call(bob.tenant, 4, "a")]).await.unwrap();
    assert_eq!(hooks.tenants_to_forget(later(0)).await.unwrap(), []);
    assert_eq!(hooks.tenants_to_forget(later(4)).await.unwrap(), [alice.tenant]);
    assert_eq!(hooks.forget(alice.tenant, later(4), 3).await.unwrap(), 3);
    assert_eq!(hooks.forget(alice.tenant, later(4), 3).await.unwrap(), 1);
    assert_eq!(hooks.forget(alice.tenant, later(4), 3).await.unwrap(), 0);
    assert_eq!(listed(&storage, alice.tenant, &all()).await.0, [call(alice.tenant, 4, "a")]);
    let mut both = [alice.tenant, bob.tenant];
    both.sort_unstable();
    assert_eq!(hooks.tenants_to_forget(later(5)).await.unwrap(), both);
}

/// A caller that goes away leaves a hook as it was, or as it should become.
pub async fn changes_whole_or_not_at_all_when_dropped(storage: Storage) {
    let (alice, hooks) = (alice(&storage, "a.example").await, storage.hooks());
    for round in 0..8 {
        let before = hooks.revision().await.unwrap();
        let new = new(&format!("h{round}"));
        again(round, || hooks.create(alice.tenant, new.clone())).await;
        let made = hooks.get(alice.tenant, new.id).await.unwrap().unwrap();
        assert_eq!((made.generation, hooks.revision().await.unwrap()), (1, before + 1));
        let change = HookChange { settings: Some(json!({})), expected: Some(1), ..HookChange::default() };
        again(round, || async {
            // Of the call that was dropped.
            let is_done = |error: &StoreError| error.kind() == StoreErrorKind::Conflict;
            let changed = hooks.change(alice.tenant, new.id, &change).await.map(drop);
            changed.or_else(|error| is_done(&error).then_some(()).ok_or(error))
        })
        .await;
        let changed = hooks.get(alice.tenant, new.id).await.unwrap().unwrap();
        assert_eq!((changed.generation, hooks.revision().await.unwrap()), (2, before + 2));
        let calls = vec![call(alice.tenant, 2 * round, "a"), call(alice.tenant, 2 * round + 1, "a")];
        again(round, || hooks.record(calls.clone())).await;
        assert_eq!(listed(&storage, alice.tenant, &all()).await.0.len(), 2 * round as usize + 2);
        again(round, || hooks.delete(alice.tenant, new.id, None)).await;
        assert_eq!(hooks.get(alice.tenant, new.id).await.unwrap(), None);
        assert_eq!(hooks.revision().await.unwrap(), before + 3);
    }
}

/// Every method with a tenant argument, tried by another tenant.
pub async fn hides_hooks_from_other_tenants(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let other = self::alice(&storage, "b.example").await.tenant;
    let (hooks, missing) = (storage.hooks(), StoreErrorKind::NotFound);
    let hook = made(&storage, alice.tenant, "a").await;
    let call = call(alice.tenant, 1, "a");
    hooks.record(vec![call.clone()]).await.unwrap();
    assert_eq!(hooks.list(other).await.unwrap(), []);
    assert_eq!(hooks.get(other, hook.id).await.unwrap(), None);
    assert_eq!(kind(hooks.change(other, hook.id, &HookChange::default()).await), missing);
    assert_eq!(kind(hooks.delete(other, hook.id, None).await), missing);
    assert_eq!(hooks.invocation(other, &call.id).await.unwrap(), None);
    assert_eq!(listed(&storage, other, &all()).await.0, []);
    assert_eq!(hooks.forget(other, later(100), 10).await.unwrap(), 0);
    // The same id is another call of another tenant.
    hooks.record(vec![HookInvocation { tenant: other, outcome: "reject".to_owned(), ..call.clone() }]).await.unwrap();
    assert_eq!(hooks.invocation(alice.tenant, &call.id).await.unwrap(), Some(call));
    assert_eq!(hooks.get(alice.tenant, hook.id).await.unwrap(), Some(hook));
}

/// What a job waits for, accepted now.
fn awaited(tenant: TenantId, job: JobId, token: u8) -> AwaitedResult {
    AwaitedResult {
        tenant,
        job,
        hook: HookId::new(NOW),
        message: MessageId::new(NOW),
        token_hash: [token; 32],
        attempt: 1,
        accepted_at: NOW,
        result_by: later(300),
        latest: later(600),
        expires_at: later(86_400),
        result: None,
    }
}

/// A result is awaited by one job, told once, and put off no longer than may be.
pub async fn waits_for_results_of_hooks(storage: Storage) {
    let alice = alice(&storage, "a.example").await.tenant;
    let other = self::alice(&storage, "b.example").await.tenant;
    let (hooks, job) = (storage.hooks(), JobId::new(NOW));
    assert_eq!(hooks.awaited(alice, job).await.unwrap(), None);
    assert_eq!(kind(hooks.await_result(awaited(TenantId::new(NOW), job, 1)).await), StoreErrorKind::NotFound);
    hooks.await_result(awaited(alice, job, 1)).await.unwrap();
    // Another attempt has another token.
    let known = AwaitedResult { attempt: 2, ..awaited(alice, job, 2) };
    hooks.await_result(known.clone()).await.unwrap();
    assert_eq!(hooks.awaited(alice, job).await.unwrap().as_ref(), Some(&known));
    assert_eq!(hooks.awaited_with(&[2; 32]).await.unwrap().as_ref(), Some(&known));
    assert_eq!(hooks.awaited_with(&[1; 32]).await.unwrap(), None);
    let result_by = async || hooks.awaited(alice, job).await.unwrap().unwrap().result_by;
    for (until, then) in [(later(400), later(400)), (later(350), later(400)), (later(900), later(600))] {
        assert!(hooks.put_off(alice, job, until).await.unwrap());
        assert_eq!(result_by().await, then);
    }
    assert_eq!(hooks.awaited(other, job).await.unwrap(), None);
    assert!(!hooks.put_off(other, job, later(500)).await.unwrap());
    assert!(!hooks.settle(other, job, json!(0), NOW).await.unwrap());
    hooks.forget_awaited(other, job).await.unwrap();
    let result = json!({"done": [1.5, "ü\u{0}"]});
    assert!(hooks.settle(alice, job, result.clone(), NOW).await.unwrap());
    assert!(!hooks.settle(alice, job, json!(2), NOW).await.unwrap());
    assert!(!hooks.put_off(alice, job, later(601)).await.unwrap());
    let known = hooks.awaited(alice, job).await.unwrap().unwrap();
    assert_eq!((known.result, known.result_by), (Some(result), later(600)));
    hooks.forget_awaited(alice, job).await.unwrap();
    assert_eq!(hooks.awaited_with(&[2; 32]).await.unwrap(), None);
    assert!(!hooks.settle(alice, job, json!(3), NOW).await.unwrap());
}

/// A job is due as soon as its result is there, whether it waited by then or was being done.
pub async fn wakes_jobs_whose_results_are_there(storage: Storage) {
    let alice = alice(&storage, "a.example").await.tenant;
    let (hooks, queue) = (storage.hooks(), storage.queue());
    let lease = async || queue.lease(NOW, 5, Duration::from_secs(60)).await.unwrap();
    for is_waiting in [true, false] {
        let job = job(alice, NOW);
        let id = job.id;
        queue.enqueue(vec![job]).await.unwrap();
        let leased = lease().await;
        hooks.await_result(awaited(alice, id, 1)).await.unwrap();
        hooks.wake_settled(alice, id, NOW).await.unwrap();
        if is_waiting {
            assert!(queue.retry(&leased[0], later(300), "the result comes later").await.unwrap());
            hooks.wake_settled(alice, id, NOW).await.unwrap();
            assert_eq!(lease().await, []);
        }
        let seen = queue.version();
        assert!(hooks.settle(alice, id, json!({}), NOW).await.unwrap());
        assert_eq!(queue.version() > seen, is_waiting);
        if !is_waiting {
            assert_eq!(lease().await, []);
            assert!(queue.retry(&leased[0], later(300), "the result comes later").await.unwrap());
            hooks.wake_settled(alice, id, NOW).await.unwrap();
            assert!(queue.version() > seen);
        }
        let again = lease().await;
        assert_eq!(again.iter().map(|lease| (lease.job, lease.attempts)).collect::<Vec<_>>(), [(id, 2)]);
        hooks.wake_settled(alice, id, NOW).await.unwrap();
        assert_eq!(lease().await, []);
        assert!(queue.complete(&again[0]).await.unwrap());
        hooks.forget_awaited(alice, id).await.unwrap();
    }
}

/// Results are kept as long as their tokens are good.
pub async fn forgets_results_whose_tokens_expired(storage: Storage) {
    let (alice, hooks) = (alice(&storage, "a.example").await.tenant, storage.hooks());
    for token in 1..=4 {
        let expires_at = later(u64::from(token));
        hooks.await_result(AwaitedResult { expires_at, ..awaited(alice, JobId::new(NOW), token) }).await.unwrap();
    }
    assert_eq!(hooks.forget_expired(later(1), 10).await.unwrap(), 0);
    assert_eq!(hooks.forget_expired(later(4), 2).await.unwrap(), 2);
    assert_eq!(hooks.forget_expired(later(4), 10).await.unwrap(), 1);
    assert!(hooks.awaited_with(&[4; 32]).await.unwrap().is_some());
}
