//! Cases for [`Directory::resolve`](crate::Directory::resolve): aliases, catch-alls, tags, states and
//! quotas.

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use mairust_core::{Domain, EmailAddress, MailboxId};

use super::sample::{NOW, Person, Storage, accept, address, alice, entry, kind, message, person, place};
use crate::directory::{
    AliasChange, DirectoryExt, DomainChange, MAX_ALIAS_TARGETS, NewAlias, NewUser, QuotaLimit, Resolution,
    TenantChange, UserChange,
};
use crate::error::StoreErrorKind;
use crate::password::PasswordRecord;

/// Into a mailbox, unknown here, or not here at all.
pub async fn resolves_addresses(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let Resolution::Mailbox(route) = resolve(&storage, "ALICE@A.example").await else { panic!("alice has a mailbox") };
    assert_eq!((route.tenant, route.mailbox, route.user), (alice.tenant, alice.mailbox, alice.user));
    assert_eq!((route.address, route.quota.used), (alice.address, 0));
    assert_eq!(resolve(&storage, "bob@a.example").await, Resolution::UnknownAddress { tenant: alice.tenant });
    assert_eq!(resolve(&storage, "alice@b.example").await, Resolution::ForeignDomain);
}

/// An alias leads to its targets, until it is changed or removed.
pub async fn an_alias_leads_to_its_targets(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let directory = storage.directory();
    let targets = vec![alice.address.clone(), address("\"b b\"@remote.example")];
    let new = NewAlias { address: address("Info@a.example"), targets: targets.clone() };
    let made = directory.create_alias(alice.tenant, new).await.unwrap();
    assert_eq!((made.tenant, &made.targets, made.enabled), (alice.tenant, &targets, true));
    assert_eq!(directory.aliases(alice.tenant).await.unwrap(), std::slice::from_ref(&made));
    let Resolution::Alias(route) = resolve(&storage, "INFO@A.example").await else { panic!("info is an alias") };
    let forwards = directory.tenant(alice.tenant).await.unwrap().unwrap().forwards;
    assert_eq!((route.tenant, &route.targets, route.forwards), (alice.tenant, &targets, forwards));
    let one = vec![address("carol@remote.example")];
    let change = AliasChange { targets: Some(one.clone()), ..AliasChange::default() };
    directory.change_alias(alice.tenant, &made.address, &change).await.unwrap();
    assert_eq!(leads_to(&storage, "info@a.example").await, one);
    directory.delete_alias(alice.tenant, &address("INFO@a.example")).await.unwrap();
    assert_eq!(resolve(&storage, "info@a.example").await, Resolution::UnknownAddress { tenant: alice.tenant });
    assert_eq!(kind(directory.delete_alias(alice.tenant, &made.address).await), StoreErrorKind::NotFound);
    let gone = directory.change_alias(alice.tenant, &made.address, &AliasChange::default()).await;
    assert_eq!(kind(gone), StoreErrorKind::NotFound);
}

/// Addresses of users and of aliases, and logins, are one space of names.
pub async fn refuses_aliases_that_make_no_sense(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let directory = storage.directory();
    let make = |text: &str, targets: &[&str]| {
        let new = NewAlias { address: address(text), targets: targets.iter().map(|text| address(text)).collect() };
        directory.create_alias(alice.tenant, new)
    };
    let user = |text: &str, login: &str| {
        let (address, login) = (address(text), Some(login.to_owned()));
        directory.create_user(alice.tenant, NewUser { address, login, password: PasswordRecord::of_hash("hash") })
    };
    user("bob@a.example", "sales@a.example").await.unwrap();
    make("info@a.example", &["alice@a.example"]).await.unwrap();
    for taken in ["INFO@a.example", "alice@A.example", "Sales@a.example"] {
        assert_eq!(kind(make(taken, &["x@remote.example"]).await), StoreErrorKind::AlreadyExists, "{taken}");
    }
    for (address, login) in [("Info@a.example", "carol"), ("carol@a.example", "info@a.example")] {
        assert_eq!(kind(user(address, login).await), StoreErrorKind::AlreadyExists, "{address} {login}");
    }
    assert_eq!(kind(make("x@b.example", &["alice@a.example"]).await), StoreErrorKind::NotFound);
    let many = vec!["y@remote.example"; MAX_ALIAS_TARGETS + 1];
    for targets in [&[][..], &["X@a.example"], &many] {
        assert_eq!(kind(make("x@a.example", targets).await), StoreErrorKind::Invalid);
    }
    let change = AliasChange { targets: Some(Vec::new()), ..AliasChange::default() };
    let emptied = directory.change_alias(alice.tenant, &address("info@a.example"), &change).await;
    assert_eq!(kind(emptied), StoreErrorKind::Invalid);
    assert_eq!(directory.aliases(alice.tenant).await.unwrap().len(), 1);
}

/// The address itself, then without its tag, then the catch-all.
pub async fn tags_come_before_the_catch_all(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let directory = storage.directory();
    let tagged = person(&storage, alice.tenant, "alice+shop@a.example").await;
    let info = NewAlias { address: address("info@a.example"), targets: vec![address("x@remote.example")] };
    directory.create_alias(alice.tenant, info).await.unwrap();
    assert_eq!(mailbox(&storage, "ALICE+Shop@a.example").await, tagged.mailbox);
    assert_eq!(mailbox(&storage, "alice+other+shop@a.example").await, alice.mailbox);
    assert_eq!(leads_to(&storage, "info+tag@a.example").await, [address("x@remote.example")]);
    for unknown in ["bob+alice@a.example", "+alice@a.example"] {
        assert_eq!(resolve(&storage, unknown).await, Resolution::UnknownAddress { tenant: alice.tenant }, "{unknown}");
    }
    set_catch_all(&storage, &alice, Some(alice.address.clone())).await;
    let row = directory.domain(alice.address.domain()).await.unwrap().unwrap();
    assert_eq!(row.catch_all.as_ref(), Some(&alice.address));
    let Resolution::CatchAll(route) = resolve(&storage, "nobody+x@a.example").await else { panic!("it catches all") };
    assert_eq!((route.tenant, route.targets), (alice.tenant, vec![alice.address.clone()]));
    assert_eq!(mailbox(&storage, "alice+shop@a.example").await, tagged.mailbox);
    assert_eq!(leads_to(&storage, "info@a.example").await, [address("x@remote.example")]);
    set_catch_all(&storage, &alice, None).await;
    assert_eq!(resolve(&storage, "nobody@a.example").await, Resolution::UnknownAddress { tenant: alice.tenant });
}

/// The addresses, tags and catch-all of the other domain, and none of its own.
pub async fn a_domain_alias_has_the_addresses_of_its_target(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let directory = storage.directory();
    let (name, target) = (Domain::parse("c.example").unwrap(), alice.address.domain());
    let row = directory.create_domain_alias(alice.tenant, &name, target).await.unwrap();
    assert_eq!((&row.name, row.alias_of.as_ref()), (&name, Some(target)));
    assert_eq!(directory.domain(&name).await.unwrap(), Some(row.clone()));
    assert!(directory.domains(alice.tenant).await.unwrap().contains(&row));
    for text in ["alice@c.example", "Alice+tag@C.example"] {
        let Resolution::Mailbox(route) = resolve(&storage, text).await else { panic!("{text}") };
        assert_eq!((route.mailbox, route.address), (alice.mailbox, alice.address.clone()), "{text}");
    }
    assert_eq!(resolve(&storage, "bob@c.example").await, Resolution::UnknownAddress { tenant: alice.tenant });
    set_catch_all(&storage, &alice, Some(address("x@remote.example"))).await;
    assert!(matches!(resolve(&storage, "bob@c.example").await, Resolution::CatchAll(_)));
    let own = NewUser { address: address("bob@c.example"), login: None, password: PasswordRecord::of_hash("hash") };
    assert_eq!(kind(directory.create_user(alice.tenant, own).await), StoreErrorKind::Invalid);
    let own = NewAlias { address: address("bob@c.example"), targets: vec![alice.address.clone()] };
    assert_eq!(kind(directory.create_alias(alice.tenant, own).await), StoreErrorKind::Invalid);
    let catch_all = DomainChange { catch_all: Some(Some(alice.address.clone())), ..DomainChange::default() };
    assert_eq!(kind(directory.change_domain(alice.tenant, &name, &catch_all).await), StoreErrorKind::Invalid);
    let further = Domain::parse("d.example").unwrap();
    let chained = directory.create_domain_alias(alice.tenant, &further, &name).await;
    assert_eq!(kind(chained), StoreErrorKind::Invalid);
    assert_eq!(directory.domain(&further).await.unwrap(), None);
    let again = directory.create_domain_alias(alice.tenant, &name, target).await;
    assert_eq!(kind(again), StoreErrorKind::AlreadyExists);
    let nowhere = directory.create_domain_alias(alice.tenant, &further, &Domain::parse("e.example").unwrap()).await;
    assert_eq!(kind(nowhere), StoreErrorKind::NotFound);
}

/// Users, aliases, domains and tenants can be shut, and opened again.
pub async fn what_is_disabled_takes_no_mail(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (directory, tenant) = (storage.directory(), alice.tenant);
    let info = NewAlias { address: address("info@a.example"), targets: vec![alice.address.clone()] };
    directory.create_alias(tenant, info).await.unwrap();
    let other = Domain::parse("c.example").unwrap();
    directory.create_domain_alias(tenant, &other, alice.address.domain()).await.unwrap();
    set_catch_all(&storage, &alice, Some(alice.address.clone())).await;
    let disabled = Resolution::Disabled { tenant };
    for (enabled, shut) in [(false, true), (true, false)] {
        let change = UserChange { enabled: Some(enabled), ..UserChange::default() };
        directory.change_user(tenant, alice.user, &change).await.unwrap();
        assert_eq!(resolve(&storage, "alice+tag@a.example").await == disabled, shut);
        let change = AliasChange { enabled: Some(enabled), ..AliasChange::default() };
        directory.change_alias(tenant, &address("info@a.example"), &change).await.unwrap();
        assert_eq!(resolve(&storage, "info@a.example").await == disabled, shut);
        assert_ne!(resolve(&storage, "nobody@a.example").await, disabled);
    }
    let change = |enabled| DomainChange { enabled: Some(enabled), ..DomainChange::default() };
    directory.change_domain(tenant, &other, &change(false)).await.unwrap();
    assert_eq!(resolve(&storage, "alice@c.example").await, disabled);
    assert_ne!(resolve(&storage, "alice@a.example").await, disabled);
    directory.change_domain(tenant, &other, &change(true)).await.unwrap();
    directory.change_domain(tenant, alice.address.domain(), &change(false)).await.unwrap();
    for text in ["alice@c.example", "alice@a.example", "nobody@a.example"] {
        assert_eq!(resolve(&storage, text).await, disabled, "{text}");
    }
    directory.change_domain(tenant, alice.address.domain(), &change(true)).await.unwrap();
    // The catch-all was not touched.
    assert!(matches!(resolve(&storage, "nobody@a.example").await, Resolution::CatchAll(_)));
    directory.change_tenant(tenant, &TenantChange { enabled: Some(false), ..TenantChange::default() }).await.unwrap();
    assert_eq!(resolve(&storage, "alice@a.example").await, disabled);
    directory.change_tenant(tenant, &TenantChange { enabled: Some(true), ..TenantChange::default() }).await.unwrap();
    assert_eq!(mailbox(&storage, "alice@a.example").await, alice.mailbox);
}

/// The use of a mailbox is the size of what was accepted for it; what failed does not count.
pub async fn counts_the_use_of_mailboxes(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let directory = storage.directory();
    let mut both = entry(&alice, "Subject: both\r\n\r\nx\r\n");
    both.messages[0].placements.push(place(&bob));
    both.messages.push(message(&alice, "Subject: alone\r\n\r\n"));
    let ids: Vec<_> = both.messages.iter().map(|message| message.placements[0].id).collect();
    let again = both.clone();
    accept(&storage, both).await.unwrap();
    assert!(accept(&storage, again).await.is_err());
    let mut astray = entry(&alice, "x");
    astray.messages.push(message(&alice, "y"));
    astray.messages[1].placements[0].mailbox = MailboxId::new(NOW);
    assert!(accept(&storage, astray).await.is_err());
    let mut sizes = Vec::new();
    for id in ids {
        sizes.push(storage.messages().get(alice.tenant, id).await.unwrap().unwrap().size);
    }
    assert_eq!(used(&storage, &alice).await, sizes[0] + sizes[1]);
    assert_eq!(used(&storage, &bob).await, sizes[0]);
    for limit in [QuotaLimit::Bytes(7), QuotaLimit::Bytes(0), QuotaLimit::Unlimited, QuotaLimit::Default] {
        let change = UserChange { quota: Some(limit), ..UserChange::default() };
        directory.change_user(alice.tenant, alice.user, &change).await.unwrap();
        let Resolution::Mailbox(route) = resolve(&storage, "alice@a.example").await else { panic!("{limit:?}") };
        assert_eq!((route.quota.limit, route.quota.used), (limit, sizes[0] + sizes[1]));
        assert_eq!(directory.user(alice.tenant, alice.user).await.unwrap().unwrap().quota, route.quota);
        assert_eq!(directory.user(bob.tenant, bob.user).await.unwrap().unwrap().quota.limit, QuotaLimit::Default);
    }
}

/// What comes to nobody else: one's own address in all its forms, or any where the tenant allows it.
pub async fn knows_who_may_send_as_whom(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let directory = storage.directory();
    let other = Domain::parse("c.example").unwrap();
    directory.create_domain_alias(alice.tenant, &other, alice.address.domain()).await.unwrap();
    set_catch_all(&storage, &alice, Some(alice.address.clone())).await;
    for (alias, targets) in [
        ("sales@a.example", &["alice@a.example"][..]),
        ("deep@a.example", &["sales@c.example", "alice+deep@a.example"]),
        ("shared@a.example", &["alice@a.example", "bob@a.example"]),
        ("outside@a.example", &["alice@a.example", "alice@remote.example"]),
        ("loop@a.example", &["pool@a.example"]),
        ("pool@a.example", &["loop@a.example", "alice@a.example"]),
    ] {
        let targets = targets.iter().map(|text| address(text)).collect();
        directory.create_alias(alice.tenant, NewAlias { address: address(alias), targets }).await.unwrap();
    }
    let may = |text: &str| {
        let address = address(text);
        async move { directory.may_send_as(alice.tenant, alice.user, &address).await.unwrap() }
    };
    for own in ["Alice@a.example", "alice+x@a.example", "alice@c.example", "Sales@a.example", "deep+x@c.example"] {
        assert!(may(own).await, "{own}");
    }
    for text in ["bob@a.example", "nobody@a.example", "shared@a.example", "outside@a.example", "loop@a.example"] {
        assert!(!may(text).await, "{text}");
    }
    assert!(!may("alice@remote.example").await);
    assert!(!directory.may_send_as(alice.tenant, bob.user, &address("sales@a.example")).await.unwrap());
    let change = UserChange { enabled: Some(false), ..UserChange::default() };
    directory.change_user(alice.tenant, alice.user, &change).await.unwrap();
    assert!(!may("alice@a.example").await);
}

/// Both forms of an international name, and both forms of its characters.
pub async fn international_addresses_are_one(storage: Storage) {
    let alice = alice(&storage, "例え.jp").await;
    let directory = storage.directory();
    assert_eq!(mailbox(&storage, "alice@xn--r8jz45g.jp").await, alice.mailbox);
    let e = NewAlias { address: address("Caf\u{e9}@例え.jp"), targets: vec![alice.address.clone()] };
    directory.create_alias(alice.tenant, e).await.unwrap();
    assert_eq!(leads_to(&storage, "cafe\u{301}@XN--R8JZ45G.JP").await, std::slice::from_ref(&alice.address));
    let (name, target) = (Domain::parse("別.jp").unwrap(), Domain::parse("xn--r8jz45g.jp").unwrap());
    directory.create_domain_alias(alice.tenant, &name, &target).await.unwrap();
    assert_eq!(mailbox(&storage, &format!("alice@{}", name.as_str())).await, alice.mailbox);
    let again = directory.create_domain(alice.tenant, &Domain::parse("別。jp").unwrap()).await;
    assert_eq!(kind(again), StoreErrorKind::AlreadyExists);
}

async fn resolve(storage: &Storage, text: &str) -> Resolution {
    storage.directory().resolve(&address(text)).await.unwrap()
}

async fn mailbox(storage: &Storage, text: &str) -> MailboxId {
    match resolve(storage, text).await {
        Resolution::Mailbox(route) => route.mailbox,
        other => panic!("{text} leads to {other:?}"),
    }
}

async fn leads_to(storage: &Storage, text: &str) -> Vec<EmailAddress> {
    match resolve(storage, text).await {
        Resolution::Alias(route) => route.targets,
        other => panic!("{text} leads to {other:?}"),
    }
}

async fn set_catch_all(storage: &Storage, person: &Person, target: Option<EmailAddress>) {
    let change = DomainChange { catch_all: Some(target), ..DomainChange::default() };
    storage.directory().change_domain(person.tenant, person.address.domain(), &change).await.unwrap();
}

async fn used(storage: &Storage, person: &Person) -> u64 {
    storage.directory().user(person.tenant, person.user).await.unwrap().unwrap().quota.used
}
