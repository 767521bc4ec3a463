//! How hooks say that they do.

use mairust_core::{HookId, TenantId};

use super::super::sample::{NOW, Storage, alice as alice_of};
use super::{later, made};
use crate::hook::NewHookHealth;

/// The last results of each hook are kept, with when its status became what it is; a hook takes them with it.
pub async fn keeps_how_hooks_do(storage: Storage) {
    let alice = alice_of(&storage, "a.example").await.tenant;
    let other = alice_of(&storage, "b.example").await.tenant;
    let hooks = storage.hooks();
    let [one, two] = [made(&storage, alice, "one").await.id, made(&storage, alice, "two").await.id];
    let theirs = made(&storage, other, "one").await.id;
    let said = |tenant, hook, second: u64, status: &str| NewHookHealth {
        tenant,
        hook,
        at: later(second),
        status: status.to_owned(),
        details: format!("{status} {second}\u{0}\r\n"),
    };
    assert_eq!(hooks.health(alice, Some(one)).await.unwrap(), []);
    hooks.record_health(Vec::new()).await.unwrap();
    let round = vec![
        said(alice, one, 1, "ok"),
        said(other, theirs, 1, "error"),
        said(alice, HookId::new(NOW), 1, "ok"),
        said(TenantId::new(NOW), one, 1, "ok"),
    ];
    hooks.record_health(round).await.unwrap();
    for second in 2..=30 {
        let status = if second < 25 { "error" } else { "degraded" };
        hooks.record_health(vec![said(alice, one, second, status), said(alice, two, second, "ok")]).await.unwrap();
    }
    let known = hooks.health(alice, Some(one)).await.unwrap().remove(0);
    assert_eq!((known.hook, known.status.as_str(), known.since), (one, "degraded", later(25)));
    let times: Vec<_> = known.results.iter().map(|result| result.at).collect();
    assert_eq!(times, (11..=30).rev().map(later).collect::<Vec<_>>());
    let newest = &known.results[0];
    assert_eq!((newest.status.as_str(), newest.details.as_str()), ("degraded", "degraded 30   "));
    let mut all = hooks.health(alice, None).await.unwrap();
    all.sort_by_key(|known| known.status.clone());
    let facts: Vec<_> = all.iter().map(|known| (known.hook, known.since, known.results.len())).collect();
    assert_eq!(facts, [(one, later(25), 20), (two, later(2), 20)]);
    let known = hooks.health(other, None).await.unwrap();
    assert_eq!((known.len(), known[0].since, known[0].results.len()), (1, later(1), 1));
    assert_eq!(hooks.health(other, Some(one)).await.unwrap(), []);
    hooks.delete(alice, one, None).await.unwrap();
    assert_eq!(hooks.health(alice, None).await.unwrap().len(), 1);
}
