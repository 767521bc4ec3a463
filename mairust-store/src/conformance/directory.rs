//! Cases for [`Directory`](crate::Directory).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use mairust_core::{Domain, Secret, TenantId, UserId};

use super::sample::{NOW, Storage, accept, address, alice, entry, kind, person};
use crate::directory::{DEFAULT_TENANT, DirectoryExt, NewApiKey, NewTenant, NewUser, Resolution};
use crate::error::StoreErrorKind;
use crate::message::Folder;
use crate::password::PasswordHasher;

/// Tenants are found by name and by id.
pub async fn tenants_have_unique_names(storage: Storage) {
    let directory = storage.directory();
    let new = NewTenant { name: "Example".to_owned(), any_sender: true };
    let tenant = directory.create_tenant(new.clone()).await.unwrap();
    assert_eq!((tenant.name.as_str(), tenant.any_sender), ("Example", true));
    assert_eq!(kind(directory.create_tenant(new).await), StoreErrorKind::AlreadyExists);
    assert_eq!(directory.tenant_by_name("Example").await.unwrap().as_ref(), Some(&tenant));
    assert_eq!(directory.tenant(tenant.id).await.unwrap(), Some(tenant));
    assert_eq!(directory.tenant_by_name("nobody").await.unwrap(), None);
    assert_eq!(directory.tenant(TenantId::new(NOW)).await.unwrap(), None);
}

/// A domain belongs to the tenant that was first.
pub async fn a_domain_has_one_tenant(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let name = Domain::parse("c.example").unwrap();
    let directory = storage.directory();
    assert_eq!(directory.domain(&name).await.unwrap(), None);
    let row = directory.create_domain(alice.tenant, &name).await.unwrap();
    assert_eq!((row.tenant, &row.name), (alice.tenant, &name));
    for tenant in [alice.tenant, other.tenant] {
        assert_eq!(kind(directory.create_domain(tenant, &name).await), StoreErrorKind::AlreadyExists);
    }
    assert_eq!(directory.domain(&name).await.unwrap(), Some(row));
    let nobody = directory.create_domain(TenantId::new(NOW), &Domain::parse("d.example").unwrap()).await;
    assert_eq!(kind(nobody), StoreErrorKind::NotFound);
}

/// A new user can be written to in every folder, and is found whatever the case.
pub async fn makes_users_with_folders(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    for folder in Folder::ALL {
        let mut entry = entry(&alice, "Subject: x\r\n\r\n");
        entry.messages[0].placements[0].folder = folder;
        accept(&storage, entry).await.unwrap();
    }
    let found = storage.directory().user_by_address(alice.tenant, &address("ALICE@a.example")).await.unwrap().unwrap();
    assert_eq!((found.id, found.tenant, found.mailbox), (alice.user, alice.tenant, alice.mailbox));
    assert_eq!(found.address, alice.address);
    let nobody = storage.directory().user_by_address(alice.tenant, &address("bob@a.example")).await.unwrap();
    assert_eq!(nobody, None);
}

/// Addresses and logins are one space of names; a user that is refused leaves nothing behind.
pub async fn refuses_names_that_are_taken(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let directory = storage.directory();
    let make = |text: &str, login: Option<&str>| {
        let (address, login) = (address(text), login.map(str::to_owned));
        directory.create_user(alice.tenant, NewUser { address, login, password_hash: "hash".to_owned() })
    };
    make("bob@a.example", Some("Bob")).await.unwrap();
    for (address, login) in
        [("Alice@a.example", None), ("carol@a.example", Some("BOB")), ("carol@a.example", Some("alice@A.example"))]
    {
        assert_eq!(kind(make(address, login).await), StoreErrorKind::AlreadyExists, "{address} {login:?}");
    }
    make("dave@a.example", Some("erin@a.example")).await.unwrap();
    assert_eq!(kind(make("erin@a.example", None).await), StoreErrorKind::AlreadyExists);
    assert_eq!(directory.resolve(&address("carol@a.example")).await.unwrap(), Resolution::UnknownAddress);
    make("carol@a.example", Some("carol")).await.unwrap();
}

/// Logins are found by either name, whatever the case.
pub async fn logs_in_by_address_or_name(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let new = NewUser {
        address: address("\"b b\"@a.example"),
        login: Some("Bob Ö".to_owned()),
        password_hash: "bob's hash".to_owned(),
    };
    let bob = storage.directory().create_user(alice.tenant, new).await.unwrap();
    for name in ["bob ö", "BOB Ö", "\"B b\"@A.example"] {
        let login = storage.directory().login(name).await.unwrap().unwrap();
        assert_eq!((&login.user, login.password_hash.as_str()), (&bob, "bob's hash"), "{name}");
    }
    for name in ["", "bob", "@", "nobody@a.example", "' OR 1=1"] {
        assert!(storage.directory().login(name).await.unwrap().is_none(), "{name}");
    }
}

/// Into a mailbox, unknown here, or not here at all.
pub async fn resolves_addresses(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let resolve = |text: &str| {
        let address = address(text);
        let storage = storage.clone();
        async move { storage.directory().resolve(&address).await.unwrap() }
    };
    let mailbox = Resolution::Mailbox { tenant: alice.tenant, mailbox: alice.mailbox };
    assert_eq!(resolve("ALICE@A.example").await, mailbox);
    assert_eq!(resolve("bob@a.example").await, Resolution::UnknownAddress);
    assert_eq!(resolve("alice@b.example").await, Resolution::ForeignDomain);
}

/// One's own address, or any where the tenant allows it.
pub async fn knows_who_may_send_as_whom(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let directory = storage.directory();
    assert!(directory.may_send_as(alice.tenant, alice.user, &address("Alice@a.example")).await.unwrap());
    assert!(!directory.may_send_as(alice.tenant, alice.user, &bob.address).await.unwrap());
    assert!(!directory.may_send_as(alice.tenant, UserId::new(NOW), &alice.address).await.unwrap());
    let free = NewTenant { name: "free".to_owned(), any_sender: true };
    let free = directory.create_tenant(free).await.unwrap().id;
    directory.create_domain(free, &Domain::parse("free.example").unwrap()).await.unwrap();
    let carol = person(&storage, free, "carol@free.example").await;
    assert!(directory.may_send_as(free, carol.user, &address("any@remote.example")).await.unwrap());
    assert!(!directory.may_send_as(free, alice.user, &alice.address).await.unwrap());
}

/// A new hash replaces the old one.
pub async fn sets_passwords(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let directory = storage.directory();
    directory.set_password(alice.tenant, alice.user, "new hash".to_owned()).await.unwrap();
    assert_eq!(directory.login("alice@a.example").await.unwrap().unwrap().password_hash, "new hash");
    let nobody = directory.set_password(alice.tenant, UserId::new(NOW), String::new()).await;
    assert_eq!(kind(nobody), StoreErrorKind::NotFound);
}

/// API keys are found by their public part, which is unique among all tenants.
pub async fn keeps_api_keys(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let directory = storage.directory();
    let new = NewApiKey {
        key_id: "k1".to_owned(),
        name: "backup".to_owned(),
        secret_hash: [7; 32],
        scopes: vec!["messages:read".to_owned(), "send".to_owned()],
    };
    let made = directory.create_api_key(alice.tenant, new.clone()).await.unwrap();
    let found = directory.api_key("k1").await.unwrap().unwrap();
    assert_eq!((found.id, found.tenant, found.name.as_str()), (made.id, alice.tenant, "backup"));
    assert_eq!((found.key_id.as_str(), found.secret_hash, &found.scopes), ("k1", [7; 32], &new.scopes));
    assert_eq!(kind(directory.create_api_key(other.tenant, new.clone()).await), StoreErrorKind::AlreadyExists);
    let orphan = NewApiKey { key_id: "k2".to_owned(), ..new };
    assert_eq!(kind(directory.create_api_key(TenantId::new(NOW), orphan).await), StoreErrorKind::NotFound);
    assert!(directory.api_key("k2").await.unwrap().is_none());
}

/// The convenience makes what is missing, and only that.
pub async fn ensures_users_once(storage: Storage) {
    let directory = storage.directory();
    let first = directory.ensure_user("alice@a.example", "first").await.unwrap();
    let again = directory.ensure_user("Alice@a.example", "second").await.unwrap();
    assert_eq!(first, again);
    assert_eq!(directory.tenant(first.tenant).await.unwrap().unwrap().name, DEFAULT_TENANT);
    let hash = directory.login("alice@a.example").await.unwrap().unwrap().password_hash;
    assert!(PasswordHasher::default().verify(&hash, &Secret::new("second".to_owned())).await.unwrap());
    assert_eq!(kind(directory.ensure_user("no address", "x").await), StoreErrorKind::Invalid);
}

/// Every method with a tenant argument, tried by another tenant.
pub async fn keeps_tenants_apart(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let directory = storage.directory();
    assert_eq!(directory.user_by_address(other.tenant, &alice.address).await.unwrap(), None);
    let intruder = NewUser { address: address("eve@a.example"), login: None, password_hash: "hash".to_owned() };
    assert_eq!(kind(directory.create_user(other.tenant, intruder).await), StoreErrorKind::NotFound);
    let set = directory.set_password(other.tenant, alice.user, "stolen".to_owned()).await;
    assert_eq!(kind(set), StoreErrorKind::NotFound);
    assert_eq!(directory.login("alice@a.example").await.unwrap().unwrap().password_hash, "hash");
    assert!(!directory.may_send_as(other.tenant, alice.user, &alice.address).await.unwrap());
    assert!(!directory.may_send_as(other.tenant, other.user, &alice.address).await.unwrap());
    assert!(!directory.may_send_as(alice.tenant, other.user, &other.address).await.unwrap());
    let taken = directory.create_domain(other.tenant, alice.address.domain()).await;
    assert_eq!(kind(taken), StoreErrorKind::AlreadyExists);
}
