//! Cases for [`Registry`](crate::Registry).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use mairust_core::{Secret, TenantId};
use serde_json::json;

use super::sample::{NOW, Storage, alice, kind};
use crate::error::StoreErrorKind;
use crate::owner::Owner;
use crate::registry::{Expected, MAX_REGISTRY_VALUE, RegistryExt};
use crate::seal::{KeyId, LocalKeys, SealedPlace, SealedRecord, Sealer};

/// A setting is what was set last, each time with another version.
pub async fn keeps_settings(storage: Storage) {
    let (registry, tenant) = (storage.registry(), Owner::from(alice(&storage, "a.example").await.tenant));
    for owner in [Owner::Installation, tenant] {
        assert_eq!(registry.setting(owner, "a").await.unwrap(), None);
        let odd = json!({"text": "\"\u{0}\n設定", "list": [1, -2.5, null, true]});
        let first = registry.put_setting(owner, "a", &json!(1), Expected::Any).await.unwrap();
        let second = registry.put_setting(owner, "a", &odd, Expected::Any).await.unwrap();
        assert_ne!(first.version, second.version);
        assert_eq!((second.key.as_str(), &second.value), ("a", &odd));
        assert_eq!(registry.setting(owner, "a").await.unwrap(), Some(second.clone()));
        let other = registry.put_setting(owner, "B", &json!(null), Expected::Absent).await.unwrap();
        assert_eq!(registry.settings(owner).await.unwrap(), [other, second]);
        registry.delete_setting(owner, "a", Expected::Any).await.unwrap();
        assert_eq!(registry.setting(owner, "a").await.unwrap(), None);
        let again = registry.delete_setting(owner, "a", Expected::Any).await;
        assert_eq!(kind(again), StoreErrorKind::NotFound);
    }
}

/// Who has read another version changes nothing.
pub async fn changes_what_was_expected_only(storage: Storage) {
    let (registry, owner) = (storage.registry(), Owner::Installation);
    let put = async |number: i32, expected| registry.put_setting(owner, "a", &json!(number), expected).await;
    let first = put(1, Expected::Absent).await.unwrap();
    assert_eq!(kind(put(2, Expected::Absent).await), StoreErrorKind::AlreadyExists);
    let second = put(2, Expected::Version(first.version)).await.unwrap();
    let outdated = Expected::Version(first.version);
    assert_eq!(kind(put(3, outdated).await), StoreErrorKind::Conflict);
    assert_eq!(kind(registry.delete_setting(owner, "a", outdated).await), StoreErrorKind::Conflict);
    assert_eq!(registry.setting(owner, "a").await.unwrap(), Some(second.clone()));
    registry.delete_setting(owner, "a", Expected::Version(second.version)).await.unwrap();
    assert_eq!(kind(put(4, Expected::Version(second.version)).await), StoreErrorKind::NotFound);
    let anew = put(1, Expected::Absent).await.unwrap();
    assert!(anew.version != first.version && anew.version != second.version);
    let writers = (0..8).map(|number| put(number, Expected::Version(anew.version)));
    let won: Vec<_> = join_all(writers).await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(registry.setting(owner, "a").await.unwrap().as_ref(), won.first());
}

/// Sealed octets come back as they were; a change keeps the time at which the secret was made.
pub async fn keeps_secrets(storage: Storage) {
    let registry = storage.registry();
    let sealed = |octet: u8| SealedRecord::from_bytes(vec![octet, 0, 255]);
    let made = registry.put_secret(place("dkim", "b"), &sealed(1), Expected::Absent).await.unwrap();
    assert_eq!(
        kind(registry.put_secret(place("dkim", "b"), &sealed(2), Expected::Absent).await),
        StoreErrorKind::AlreadyExists
    );
    registry.put_secret(place("dkim", "a"), &sealed(3), Expected::Any).await.unwrap();
    registry.put_secret(place("hook", "b"), &sealed(4), Expected::Any).await.unwrap();
    let changed = registry.put_secret(place("dkim", "b"), &sealed(5), Expected::Version(made.version)).await.unwrap();
    assert_eq!((changed.created_at, &changed.sealed), (made.created_at, &sealed(5)));
    assert_eq!(
        kind(registry.put_secret(place("dkim", "b"), &sealed(6), Expected::Version(made.version)).await),
        StoreErrorKind::Conflict
    );
    assert_eq!(registry.secret(Owner::Installation, "dkim", "b").await.unwrap(), Some(changed.clone()));
    let names: Vec<_> = registry.secrets(Owner::Installation, "dkim").await.unwrap();
    assert_eq!(names.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    registry.delete_secret(place("dkim", "b")).await.unwrap();
    assert_eq!(kind(registry.delete_secret(place("dkim", "b")).await), StoreErrorKind::NotFound);
    assert_eq!(registry.secret(Owner::Installation, "dkim", "b").await.unwrap(), None);
    assert!(registry.secret(Owner::Installation, "hook", "b").await.unwrap().is_some());
}

/// Whoever seals all secrets anew meets each of them once.
pub async fn pages_through_all_secrets(storage: Storage) {
    let tenants = [alice(&storage, "a.example").await.tenant, alice(&storage, "b.example").await.tenant];
    let owners: Vec<_> = tenants.into_iter().map(Owner::from).chain([Owner::Installation]).collect();
    let mut expected = BTreeSet::new();
    for owner in &owners {
        for (kind, name) in [("a", "2"), ("a", "1"), ("b", "1")] {
            let place = SealedPlace { owner: *owner, kind, name };
            let sealed = SealedRecord::from_bytes(vec![1]);
            storage.registry().put_secret(place, &sealed, Expected::Any).await.unwrap();
            expected.insert((*owner, kind.to_owned(), name.to_owned()));
        }
    }
    let mut found = Vec::new();
    loop {
        let after =
            found.last().map(|(owner, kind, name): &(Owner, String, String)| SealedPlace { owner: *owner, kind, name });
        let page = storage.registry().all_secrets(after, 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|row| (row.owner, row.kind, row.name)));
    }
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
}

/// Nothing without a name, nothing too large, nothing for nobody.
pub async fn refuses_odd_entries(storage: Storage) {
    let registry = storage.registry();
    let (sealed, value) = (SealedRecord::from_bytes(vec![1]), json!("x".repeat(MAX_REGISTRY_VALUE)));
    for name in ["", "a\nb", "a\0", &"x".repeat(256)] {
        let setting = registry.put_setting(Owner::Installation, name, &json!(1), Expected::Any).await;
        assert_eq!(kind(setting), StoreErrorKind::Invalid, "{name:?}");
        for place in [place("a", name), place(name, "a")] {
            let secret = registry.put_secret(place, &sealed, Expected::Any).await;
            assert_eq!(kind(secret), StoreErrorKind::Invalid, "{name:?}");
        }
    }
    let large = registry.put_setting(Owner::Installation, "a", &value, Expected::Any).await;
    assert_eq!(kind(large), StoreErrorKind::Invalid);
    let large = SealedRecord::from_bytes(vec![1; MAX_REGISTRY_VALUE + 1]);
    assert_eq!(kind(registry.put_secret(place("a", "a"), &large, Expected::Any).await), StoreErrorKind::Invalid);
    let zeros = Owner::Tenant(TenantId::from_bytes([0; 16]));
    for (owner, why) in [(Owner::from(TenantId::new(NOW)), StoreErrorKind::NotFound), (zeros, StoreErrorKind::Invalid)]
    {
        assert_eq!(kind(registry.put_setting(owner, "a", &json!(1), Expected::Any).await), why);
        let place = SealedPlace { owner, kind: "a", name: "a" };
        assert_eq!(kind(registry.put_secret(place, &sealed, Expected::Any).await), why);
    }
    assert!(registry.settings(Owner::Installation).await.unwrap().is_empty());
    assert!(registry.all_secrets(None, 10).await.unwrap().is_empty());
}

/// Many nodes that start at once agree on one key, and it stays when the master key changes.
pub async fn makes_installation_keys_once(storage: Storage) {
    let (registry, old, new) = (storage.registry(), Secret::new([1; 32]), Secret::new([2; 32]));
    let sealer = Sealer::new(Arc::new(LocalKeys::new(&old)));
    let keys = join_all((0..6).map(|_| registry.installation_key(&sealer, "api"))).await;
    let keys: Vec<_> = keys.into_iter().map(Result::unwrap).collect();
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(registry.installation_key(&sealer, "bodies").await.unwrap() != keys[0]);
    let stranger = Sealer::new(Arc::new(LocalKeys::new(&new)));
    assert_eq!(kind(registry.installation_key(&stranger, "api").await), StoreErrorKind::NotFound);
    let both = Sealer::new(Arc::new(LocalKeys::new(&new).with_former([&old])));
    let done = registry.rewrap_all(&both).await.unwrap();
    assert_eq!((done.rewrapped, done.unchanged, done.failed.len()), (2, 0, 0));
    assert!(registry.installation_key(&stranger, "api").await.unwrap() == keys[0]);
    let again = registry.rewrap_all(&both).await.unwrap();
    assert_eq!((again.rewrapped, again.unchanged, again.failed.len()), (0, 2, 0));
}

/// What does not open is told and left alone; the rest goes on.
pub async fn rewraps_around_what_does_not_open(storage: Storage) {
    let (registry, old, new) = (storage.registry(), Secret::new([1; 32]), Secret::new([2; 32]));
    let before = Sealer::new(Arc::new(LocalKeys::new(&old)));
    for name in ["a", "b", "c"] {
        let sealed = before.seal(place("test", name), name.as_bytes()).await.unwrap();
        // The one in the middle was carried there from another place.
        let target = if name == "b" { place("test", "moved") } else { place("test", name) };
        registry.put_secret(target, &sealed, Expected::Any).await.unwrap();
    }
    let both = Sealer::new(Arc::new(LocalKeys::new(&new).with_former([&old])));
    let done = registry.rewrap_all(&both).await.unwrap();
    assert_eq!((done.rewrapped, done.unchanged), (2, 0));
    assert_eq!(done.failed, ["installation/test/moved"]);
    let left = registry.secret(Owner::Installation, "test", "moved").await.unwrap().unwrap();
    assert_eq!(left.sealed.key_id(), Some(KeyId::of(&old)));
    let after = Sealer::new(Arc::new(LocalKeys::new(&new)));
    let row = registry.secret(Owner::Installation, "test", "c").await.unwrap().unwrap();
    assert_eq!(after.open(row.place(), &row.sealed).await.unwrap().expose(), b"c");
}

/// Every method with an owner, tried by another tenant, and for the installation.
pub async fn keeps_owners_apart(storage: Storage) {
    let registry = storage.registry();
    let ours = Owner::from(alice(&storage, "a.example").await.tenant);
    let other = Owner::from(alice(&storage, "b.example").await.tenant);
    let sealed = SealedRecord::from_bytes(vec![1]);
    let own = |owner| SealedPlace { owner, kind: "dkim", name: "a" };
    let setting = registry.put_setting(ours, "a", &json!(1), Expected::Any).await.unwrap();
    let secret = registry.put_secret(own(ours), &sealed, Expected::Any).await.unwrap();
    for stranger in [other, Owner::Installation] {
        assert_eq!(registry.setting(stranger, "a").await.unwrap(), None);
        assert!(registry.settings(stranger).await.unwrap().is_empty());
        assert_eq!(kind(registry.delete_setting(stranger, "a", Expected::Any).await), StoreErrorKind::NotFound);
        let guessed = Expected::Version(setting.version);
        assert_eq!(kind(registry.put_setting(stranger, "a", &json!(2), guessed).await), StoreErrorKind::NotFound);
        assert_eq!(registry.secret(stranger, "dkim", "a").await.unwrap(), None);
        assert!(registry.secrets(stranger, "dkim").await.unwrap().is_empty());
        assert_eq!(kind(registry.delete_secret(own(stranger)).await), StoreErrorKind::NotFound);
        let guessed = Expected::Version(secret.version);
        assert_eq!(kind(registry.put_secret(own(stranger), &sealed, guessed).await), StoreErrorKind::NotFound);
        // The same names are free for everybody.
        registry.put_setting(stranger, "a", &json!(3), Expected::Absent).await.unwrap();
        registry.put_secret(own(stranger), &SealedRecord::from_bytes(vec![3]), Expected::Absent).await.unwrap();
    }
    assert_eq!(registry.setting(ours, "a").await.unwrap(), Some(setting));
    assert_eq!(registry.secret(ours, "dkim", "a").await.unwrap(), Some(secret));
}

fn place<'a>(kind: &'a str, name: &'a str) -> SealedPlace<'a> {
    SealedPlace { owner: Owner::Installation, kind, name }
}
