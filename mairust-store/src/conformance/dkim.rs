//! Cases for the keys of a [`Directory`](crate::Directory) that sign mail.

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::time::Duration;

use mairust_core::{DkimAlgorithm, DkimKeyId, Domain, Timestamp};

use super::sample::{NOW, Storage, alice, kind};
use crate::directory::{DkimKey, DkimKeyState, NewDkimKey};
use crate::error::StoreErrorKind;

fn new(selector: &str, algorithm: DkimAlgorithm) -> NewDkimKey {
    NewDkimKey { id: DkimKeyId::new(NOW), selector: selector.to_owned(), algorithm, public_key: vec![7, 0, 255] }
}

/// Selectors and states, in the order in which the keys were made.
async fn states(storage: &Storage, owner: &super::sample::Person) -> Vec<(String, DkimKeyState)> {
    let keys = storage.directory().dkim_keys(owner.tenant, owner.address.domain()).await.unwrap();
    assert!(keys.is_sorted_by_key(|key| key.id));
    let mut states: Vec<_> = keys.into_iter().map(|key| (key.selector, key.state)).collect();
    states.sort_by(|one, other| one.0.cmp(&other.0));
    states
}

fn expected(states: &[(&str, DkimKeyState)]) -> Vec<(String, DkimKeyState)> {
    states.iter().map(|(selector, state)| ((*selector).to_owned(), *state)).collect()
}

/// A key is read back as it was made, and its selector is its own.
pub async fn keeps_keys(storage: Storage) {
    let (alice, directory) = (alice(&storage, "a.example").await, storage.directory());
    let (tenant, domain) = (alice.tenant, alice.address.domain());
    let given = new("s1", DkimAlgorithm::Ed25519);
    let made = directory.create_dkim_key(tenant, domain, given.clone()).await.unwrap();
    let DkimKey { id, ref selector, algorithm, ref public_key, state, activated_at, retired_at, .. } = made;
    assert_eq!((id, selector, algorithm, public_key), (given.id, &given.selector, given.algorithm, &given.public_key));
    assert_eq!((state, activated_at, retired_at), (DkimKeyState::Pending, None, None));
    assert_eq!((made.tenant, &made.domain), (tenant, domain));
    assert_eq!(directory.dkim_keys(tenant, domain).await.unwrap(), [made]);
    let taken = directory.create_dkim_key(tenant, domain, new("s1", DkimAlgorithm::Rsa)).await;
    assert_eq!(kind(taken), StoreErrorKind::AlreadyExists);
    let odd = directory.create_dkim_key(tenant, domain, new("not a label", DkimAlgorithm::Rsa)).await;
    assert_eq!(kind(odd), StoreErrorKind::Invalid);
    let elsewhere = Domain::parse("b.example").unwrap();
    let unknown = directory.create_dkim_key(tenant, &elsewhere, new("s2", DkimAlgorithm::Rsa)).await;
    assert_eq!(kind(unknown), StoreErrorKind::NotFound);
    // An alias has keys of its own: it is another name in DNS.
    directory.create_domain_alias(tenant, &elsewhere, domain).await.unwrap();
    directory.create_dkim_key(tenant, &elsewhere, new("s1", DkimAlgorithm::Rsa)).await.unwrap();
    assert_eq!(directory.dkim_keys(tenant, &elsewhere).await.unwrap().len(), 1);
    directory.delete_dkim_key(tenant, id).await.unwrap();
    assert_eq!(directory.dkim_keys(tenant, domain).await.unwrap(), []);
    assert_eq!(kind(directory.delete_dkim_key(tenant, id).await), StoreErrorKind::NotFound);
}

/// One key of each algorithm signs; the one before retires, and may sign again.
pub async fn one_key_of_a_kind_signs(storage: Storage) {
    use DkimKeyState::{Active, Pending, Retired};
    let (alice, directory) = (alice(&storage, "a.example").await, storage.directory());
    let (tenant, domain) = (alice.tenant, alice.address.domain());
    let mut ids = Vec::new();
    for (selector, algorithm) in
        [("e1", DkimAlgorithm::Ed25519), ("r1", DkimAlgorithm::Rsa), ("r2", DkimAlgorithm::Rsa)]
    {
        ids.push(directory.create_dkim_key(tenant, domain, new(selector, algorithm)).await.unwrap().id);
    }
    assert_eq!(states(&storage, &alice).await, expected(&[("e1", Pending), ("r1", Pending), ("r2", Pending)]));
    for id in [ids[0], ids[1], ids[1]] {
        directory.activate_dkim_key(tenant, id).await.unwrap();
    }
    assert_eq!(states(&storage, &alice).await, expected(&[("e1", Active), ("r1", Active), ("r2", Pending)]));
    directory.activate_dkim_key(tenant, ids[2]).await.unwrap();
    assert_eq!(states(&storage, &alice).await, expected(&[("e1", Active), ("r1", Retired), ("r2", Active)]));
    directory.activate_dkim_key(tenant, ids[1]).await.unwrap();
    assert_eq!(states(&storage, &alice).await, expected(&[("e1", Active), ("r1", Active), ("r2", Retired)]));
    let keys = directory.dkim_keys(tenant, domain).await.unwrap();
    for key in keys {
        let (was_active, is_retired) = (key.activated_at.is_some(), key.retired_at.is_some());
        assert_eq!((was_active, is_retired), (true, key.state == Retired), "{}", key.selector);
    }
    assert_eq!(kind(directory.delete_dkim_key(tenant, ids[1]).await), StoreErrorKind::Conflict, "it signs");
    for _ in 0..2 {
        directory.retire_dkim_key(tenant, ids[1]).await.unwrap();
    }
    assert_eq!(states(&storage, &alice).await, expected(&[("e1", Active), ("r1", Retired), ("r2", Retired)]));
    directory.delete_dkim_key(tenant, ids[1]).await.unwrap();
    assert_eq!(states(&storage, &alice).await, expected(&[("e1", Active), ("r2", Retired)]));
    let nobody = DkimKeyId::new(NOW);
    for result in [directory.activate_dkim_key(tenant, nobody).await, directory.retire_dkim_key(tenant, nobody).await] {
        assert_eq!(kind(result), StoreErrorKind::NotFound);
    }
}

/// Keys that retired before a moment, of all tenants, and no others.
pub async fn finds_keys_that_retired(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let directory = storage.directory();
    let mut retired = Vec::new();
    for owner in [&alice, &other] {
        for selector in ["r1", "r2"] {
            let key = new(selector, DkimAlgorithm::Rsa);
            let id = directory.create_dkim_key(owner.tenant, owner.address.domain(), key).await.unwrap().id;
            directory.activate_dkim_key(owner.tenant, id).await.unwrap();
            if selector == "r1" {
                retired.push(id);
            }
        }
        directory.create_dkim_key(owner.tenant, owner.address.domain(), new("r3", DkimAlgorithm::Rsa)).await.unwrap();
    }
    let keys = directory.dkim_keys(alice.tenant, alice.address.domain()).await.unwrap();
    let at = keys.iter().find_map(|key| key.retired_at).unwrap();
    assert_eq!(directory.retired_dkim_keys(at).await.unwrap(), [], "none was retired before the first one");
    let later = at.plus(Duration::from_secs(3_600));
    let mut found: Vec<_> = directory.retired_dkim_keys(later).await.unwrap().iter().map(|key| key.id).collect();
    found.sort_unstable();
    retired.sort_unstable();
    assert_eq!(found, retired);
    assert_eq!(directory.retired_dkim_keys(Timestamp::default()).await.unwrap(), []);
}

/// Every method with a tenant argument, tried by another tenant.
pub async fn keeps_tenants_apart(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let (directory, domain) = (storage.directory(), alice.address.domain());
    let key = directory.create_dkim_key(alice.tenant, domain, new("s1", DkimAlgorithm::Rsa)).await.unwrap();
    let missing = StoreErrorKind::NotFound;
    let intruder = directory.create_dkim_key(other.tenant, domain, new("s2", DkimAlgorithm::Rsa)).await;
    assert_eq!(kind(intruder), missing);
    assert_eq!(directory.dkim_keys(other.tenant, domain).await.unwrap(), []);
    assert_eq!(kind(directory.activate_dkim_key(other.tenant, key.id).await), missing);
    assert_eq!(kind(directory.retire_dkim_key(other.tenant, key.id).await), missing);
    assert_eq!(kind(directory.delete_dkim_key(other.tenant, key.id).await), missing);
    assert_eq!(directory.dkim_keys(alice.tenant, domain).await.unwrap(), std::slice::from_ref(&key));
    // Keys of others stay as they are, whatever a tenant activates.
    directory.activate_dkim_key(alice.tenant, key.id).await.unwrap();
    let own = directory.create_dkim_key(other.tenant, other.address.domain(), new("s1", DkimAlgorithm::Rsa)).await;
    directory.activate_dkim_key(other.tenant, own.unwrap().id).await.unwrap();
    for owner in [&alice, &other] {
        assert_eq!(states(&storage, owner).await, expected(&[("s1", DkimKeyState::Active)]));
    }
}
