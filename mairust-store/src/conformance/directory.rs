//! Cases for [`Directory`](crate::Directory).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::collections::BTreeSet;

use mairust_core::{Domain, EmailAddress, ScramVerifier, Secret, TenantId, UserId};

use super::sample::{NOW, Storage, accept, address, alice, entry, kind, person};
use crate::directory::{
    AliasChange, DEFAULT_TENANT, DirectoryExt, DomainChange, NewAlias, NewApiKey, NewTenant, NewUser, QuotaLimit,
    Resolution, SenderAction, SenderRule, Suspension, TenantChange, UserChange,
};
use crate::error::StoreErrorKind;
use crate::message::Folder;
use crate::password::{PasswordCost, PasswordHasher, PasswordRecord};

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
        directory.create_user(alice.tenant, NewUser { address, login, password: PasswordRecord::of_hash("hash") })
    };
    make("bob@a.example", Some("Bob")).await.unwrap();
    for (address, login) in
        [("Alice@a.example", None), ("carol@a.example", Some("BOB")), ("carol@a.example", Some("alice@A.example"))]
    {
        assert_eq!(kind(make(address, login).await), StoreErrorKind::AlreadyExists, "{address} {login:?}");
    }
    make("dave@a.example", Some("erin@a.example")).await.unwrap();
    assert_eq!(kind(make("erin@a.example", None).await), StoreErrorKind::AlreadyExists);
    let unknown = Resolution::UnknownAddress { tenant: alice.tenant };
    assert_eq!(directory.resolve(&address("carol@a.example")).await.unwrap(), unknown);
    make("carol@a.example", Some("carol")).await.unwrap();
}

/// Logins are found by either name, whatever the case.
pub async fn logs_in_by_address_or_name(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let new = NewUser {
        address: address("\"b b\"@a.example"),
        login: Some("Bob Ö".to_owned()),
        password: PasswordRecord::of_hash("bob's hash"),
    };
    let bob = storage.directory().create_user(alice.tenant, new).await.unwrap();
    for name in ["bob ö", "BOB Ö", "\"B b\"@A.example"] {
        let login = storage.directory().login(name).await.unwrap().unwrap();
        assert_eq!((&login.user, login.password.hash.as_str()), (&bob, "bob's hash"), "{name}");
    }
    for name in ["", "bob", "@", "nobody@a.example", "' OR 1=1"] {
        assert!(storage.directory().login(name).await.unwrap().is_none(), "{name}");
    }
}

/// Where the tenant allows it, and only to its own users.
pub async fn tenants_may_let_users_send_as_anybody(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let directory = storage.directory();
    let free = NewTenant { name: "free".to_owned(), any_sender: true };
    let free = directory.create_tenant(free).await.unwrap().id;
    directory.create_domain(free, &Domain::parse("free.example").unwrap()).await.unwrap();
    let carol = person(&storage, free, "carol@free.example").await;
    assert!(directory.may_send_as(free, carol.user, &address("any@remote.example")).await.unwrap());
    assert!(!directory.may_send_as(free, alice.user, &alice.address).await.unwrap());
    assert!(!directory.may_send_as(alice.tenant, UserId::new(NOW), &alice.address).await.unwrap());
    directory.change_tenant(free, &TenantChange { enabled: Some(false), ..TenantChange::default() }).await.unwrap();
    assert!(!directory.may_send_as(free, carol.user, &carol.address).await.unwrap());
}

/// A new password replaces the old one, hash and verifier.
pub async fn sets_passwords(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let directory = storage.directory();
    let kept = || async { directory.login("alice@a.example").await.unwrap().unwrap().password };
    let new = PasswordHasher::new(PasswordCost::Low).record(&Secret::new("new".to_owned())).await.unwrap();
    directory.set_password(alice.tenant, alice.user, new.clone()).await.unwrap();
    assert!(new.scram.is_some() && kept().await == new);
    let nobody = directory.set_password(alice.tenant, UserId::new(NOW), new.clone()).await;
    assert_eq!(kind(nobody), StoreErrorKind::NotFound);
    directory.set_password(alice.tenant, alice.user, PasswordRecord::of_hash("other")).await.unwrap();
    assert!(kept().await == PasswordRecord::of_hash("other"));
    let address = address("bob@a.example");
    directory.create_user(alice.tenant, NewUser { address, login: None, password: new.clone() }).await.unwrap();
    assert!(directory.login("bob@a.example").await.unwrap().unwrap().password == new);
}

/// A password without a verifier gets one, once, and from nobody who knows another password.
pub async fn adds_verifiers_to_passwords(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let directory = storage.directory();
    let kept = || async { directory.login("alice@a.example").await.unwrap().unwrap().password };
    let verifier = |name| ScramVerifier::for_nobody(name, &[7; 32]);
    for (tenant, user, hash) in [
        (alice.tenant, alice.user, "an older hash"),
        (other.tenant, alice.user, "hash"),
        (alice.tenant, other.user, "hash"),
        (alice.tenant, UserId::new(NOW), "hash"),
    ] {
        directory.set_scram(tenant, user, hash, &verifier("wrong")).await.unwrap();
    }
    assert!(kept().await == PasswordRecord::of_hash("hash"));
    assert!(directory.login("alice@b.example").await.unwrap().unwrap().password.scram.is_none());
    for name in ["first", "second"] {
        directory.set_scram(alice.tenant, alice.user, "hash", &verifier(name)).await.unwrap();
        assert!(kept().await.scram == Some(verifier("first")), "{name}");
    }
}

/// Lists hold what is the tenant's, and nothing else.
pub async fn lists_what_a_tenant_has(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let directory = storage.directory();
    let tenants: BTreeSet<_> = directory.tenants().await.unwrap().into_iter().map(|tenant| tenant.id).collect();
    assert_eq!(tenants, BTreeSet::from([alice.tenant, other.tenant]));
    let domains = directory.domains(alice.tenant).await.unwrap();
    assert_eq!(domains.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a.example"]);
    let users = directory.users(alice.tenant).await.unwrap();
    assert_eq!(users.iter().map(|user| user.id).collect::<BTreeSet<_>>(), BTreeSet::from([alice.user, bob.user]));
    for user in &users {
        assert_eq!(directory.user(alice.tenant, user.id).await.unwrap().as_ref(), Some(user));
    }
    let mut in_order = users.clone();
    in_order.sort_by_key(|user| user.id);
    assert_eq!(users, in_order);
    assert_eq!(directory.oldest_user(alice.tenant).await.unwrap().as_ref(), users.first());
    let change = UserChange { enabled: Some(false), ..UserChange::default() };
    directory.change_user(alice.tenant, users[0].id, &change).await.unwrap();
    assert_eq!(directory.oldest_user(alice.tenant).await.unwrap().as_ref(), users.get(1));
    let nobody = TenantId::new(NOW);
    assert_eq!(directory.oldest_user(nobody).await.unwrap(), None);
    assert!(directory.domains(nobody).await.unwrap().is_empty() && directory.users(nobody).await.unwrap().is_empty());
}

/// Neither a user who is disabled, nor those of a disabled tenant; its API keys don't work.
pub async fn who_is_disabled_can_not_log_in(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let directory = storage.directory();
    let key = NewApiKey { key_id: "k1".to_owned(), name: String::new(), secret_hash: [0; 32], scopes: Vec::new() };
    directory.create_api_key(alice.tenant, key).await.unwrap();
    let enabled = || async { directory.login("alice@a.example").await.unwrap().unwrap().enabled };
    assert!(enabled().await);
    for state in [false, true] {
        let change = UserChange { enabled: Some(state), ..UserChange::default() };
        directory.change_user(alice.tenant, alice.user, &change).await.unwrap();
        assert_eq!(enabled().await, state);
        assert_eq!(directory.user(alice.tenant, alice.user).await.unwrap().unwrap().enabled, state);
    }
    for state in [false, true] {
        directory
            .change_tenant(alice.tenant, &TenantChange { enabled: Some(state), ..TenantChange::default() })
            .await
            .unwrap();
        assert_eq!(enabled().await, state);
        assert_eq!(directory.api_key("k1").await.unwrap().is_some(), state);
        assert_eq!(directory.tenant(alice.tenant).await.unwrap().unwrap().enabled, state);
    }
    let nobody = directory.change_tenant(TenantId::new(NOW), &TenantChange::default()).await;
    assert_eq!(kind(nobody), StoreErrorKind::NotFound);
    let nobody = directory.change_user(alice.tenant, UserId::new(NOW), &UserChange::default()).await;
    assert_eq!(kind(nobody), StoreErrorKind::NotFound);
}

/// A user whose right to send is taken may do everything else.
pub async fn remembers_who_may_not_send(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let directory = storage.directory();
    let suspension = |until| Some(Suspension { since: NOW, reason: "ein Rundbrief 📨".to_owned(), until });
    for state in [suspension(Some(NOW)), suspension(None), None] {
        let change = UserChange { suspension: Some(state.clone()), ..UserChange::default() };
        directory.change_user(alice.tenant, alice.user, &change).await.unwrap();
        directory.change_user(alice.tenant, alice.user, &UserChange::default()).await.unwrap();
        let user = directory.user(alice.tenant, alice.user).await.unwrap().unwrap();
        assert_eq!((user.suspension, user.enabled), (state, true));
        assert!(directory.login("alice@a.example").await.unwrap().unwrap().enabled);
    }
}

/// One rule for each pattern, whatever its case.
pub async fn keeps_sender_rules(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let directory = storage.directory();
    let rule = |pattern: &str, action| SenderRule::new(pattern, action).unwrap();
    for rule in [
        rule("*.spam.example", SenderAction::Block),
        rule("192.0.2.0/24", SenderAction::Block),
        rule("*.SPAM.example", SenderAction::Allow),
    ] {
        directory.set_sender_rule(alice.tenant, rule).await.unwrap();
    }
    let expected = [rule("*.spam.example", SenderAction::Allow), rule("192.0.2.0/24", SenderAction::Block)];
    assert_eq!(directory.sender_rules(alice.tenant).await.unwrap(), expected);
    directory.delete_sender_rule(alice.tenant, "*.Spam.example").await.unwrap();
    assert_eq!(directory.sender_rules(alice.tenant).await.unwrap(), expected[1..]);
    let again = directory.delete_sender_rule(alice.tenant, "*.spam.example").await;
    assert_eq!(kind(again), StoreErrorKind::NotFound);
    let nobody = directory.set_sender_rule(TenantId::new(NOW), rule("x", SenderAction::Allow)).await;
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
    let kept = || async { directory.login("alice@a.example").await.unwrap().unwrap().password };
    let second = Secret::new("second".to_owned());
    let record = kept().await;
    assert!(PasswordHasher::default().verify(&record.hash, &second).await.unwrap());
    directory.ensure_user("alice@a.example", "second").await.unwrap();
    assert!(record.scram.is_some() && kept().await == record, "the password did not change");
    let old = PasswordHasher::new(PasswordCost::Low).record(&second).await.unwrap().hash;
    directory.set_password(first.tenant, first.id, PasswordRecord::of_hash(old)).await.unwrap();
    directory.ensure_user("alice@a.example", "second").await.unwrap();
    assert!(kept().await.scram.is_some(), "a verifier was missing");
    assert_eq!(kind(directory.ensure_user("no address", "x").await), StoreErrorKind::Invalid);
}

/// Every method with a tenant argument, tried by another tenant.
pub async fn keeps_tenants_apart(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let directory = storage.directory();
    assert_eq!(directory.user_by_address(other.tenant, &alice.address).await.unwrap(), None);
    let intruder =
        NewUser { address: address("eve@a.example"), login: None, password: PasswordRecord::of_hash("hash") };
    assert_eq!(kind(directory.create_user(other.tenant, intruder).await), StoreErrorKind::NotFound);
    let set = directory.set_password(other.tenant, alice.user, PasswordRecord::of_hash("stolen")).await;
    assert_eq!(kind(set), StoreErrorKind::NotFound);
    let verifier = ScramVerifier::for_nobody("eve", &[7; 32]);
    let set = directory.set_scram(other.tenant, alice.user, "hash", &verifier);
    set.await.unwrap();
    let password = directory.login("alice@a.example").await.unwrap().unwrap().password;
    assert!(password.hash == "hash" && password.scram.is_none());
    assert!(!directory.may_send_as(other.tenant, alice.user, &alice.address).await.unwrap());
    assert!(!directory.may_send_as(other.tenant, other.user, &alice.address).await.unwrap());
    assert!(!directory.may_send_as(alice.tenant, other.user, &other.address).await.unwrap());
    let taken = directory.create_domain(other.tenant, alice.address.domain()).await;
    assert_eq!(kind(taken), StoreErrorKind::AlreadyExists);
    let before = directory.user(alice.tenant, alice.user).await.unwrap();
    let lock = UserChange { enabled: Some(false), quota: Some(QuotaLimit::Bytes(1)), ..UserChange::default() };
    assert_eq!(kind(directory.change_user(other.tenant, alice.user, &lock).await), StoreErrorKind::NotFound);
    assert_eq!(directory.user(alice.tenant, alice.user).await.unwrap(), before);
    assert_eq!(directory.user(other.tenant, alice.user).await.unwrap(), None);
    assert!(directory.users(other.tenant).await.unwrap().iter().all(|user| user.id == other.user));
    assert_eq!(directory.oldest_user(other.tenant).await.unwrap().unwrap().id, other.user);
}

/// Domains, aliases, catch-alls and rules of one tenant, tried by another.
pub async fn keeps_the_addresses_of_tenants_apart(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let (directory, own) = (storage.directory(), address("info@a.example"));
    let alias = |from: &EmailAddress, to: &EmailAddress| NewAlias { address: from.clone(), targets: vec![to.clone()] };
    let made = directory.create_alias(alice.tenant, alias(&own, &alice.address)).await.unwrap();
    let missing = StoreErrorKind::NotFound;
    assert_eq!(kind(directory.create_alias(other.tenant, alias(&address("x@a.example"), &own)).await), missing);
    let shut = AliasChange { enabled: Some(false), targets: Some(vec![other.address.clone()]) };
    assert_eq!(kind(directory.change_alias(other.tenant, &own, &shut).await), missing);
    assert_eq!(kind(directory.delete_alias(other.tenant, &own).await), missing);
    assert_eq!(directory.aliases(alice.tenant).await.unwrap(), [made]);
    assert!(directory.aliases(other.tenant).await.unwrap().is_empty());
    let domain = alice.address.domain();
    let shut = DomainChange { enabled: Some(false), ..DomainChange::default() };
    assert_eq!(kind(directory.change_domain(other.tenant, domain, &shut).await), missing);
    let caught = DomainChange { catch_all: Some(Some(other.address.clone())), ..DomainChange::default() };
    assert_eq!(kind(directory.change_domain(other.tenant, domain, &caught).await), missing);
    let name = Domain::parse("c.example").unwrap();
    assert_eq!(kind(directory.create_domain_alias(other.tenant, &name, domain).await), missing);
    // Nothing leads into another tenant's mailboxes.
    let invalid = StoreErrorKind::Invalid;
    assert_eq!(kind(directory.change_domain(alice.tenant, domain, &caught).await), invalid);
    let across = alias(&address("x@a.example"), &other.address);
    assert_eq!(kind(directory.create_alias(alice.tenant, across).await), invalid);
    let across = AliasChange { targets: Some(vec![other.address.clone()]), ..AliasChange::default() };
    assert_eq!(kind(directory.change_alias(alice.tenant, &own, &across).await), invalid);
    assert!(!directory.may_send_as(other.tenant, other.user, &own).await.unwrap());
    let row = directory.domain(domain).await.unwrap().unwrap();
    assert_eq!((row.tenant, row.enabled, row.catch_all), (alice.tenant, true, None));
    let rule = SenderRule::new("spam.example", SenderAction::Block).unwrap();
    directory.set_sender_rule(alice.tenant, rule.clone()).await.unwrap();
    assert!(directory.sender_rules(other.tenant).await.unwrap().is_empty());
    assert_eq!(kind(directory.delete_sender_rule(other.tenant, &rule.pattern).await), missing);
    assert_eq!(directory.sender_rules(alice.tenant).await.unwrap(), [rule]);
}
