//! Follows an address to all places that its mail goes to: through aliases, domain aliases and
//! catch-alls to mailboxes and to addresses elsewhere.
//!
//! Bounded in depth and in number, and safe against loops. What an alias leads to stays within its
//! tenant: a target that has become another tenant's is left out.

use std::collections::{HashSet, VecDeque};

use mairust_core::{EmailAddress, MailboxId, TenantId};
use mairust_store::{AliasRoute, Directory, MailboxRoute, Resolution, StoreError};

/// How many aliases may stand one behind the other. People don't follow more than three or four.
const MAX_DEPTH: usize = 10;

/// How many addresses one address may lead to, those in between included: what the directory
/// allows one alias. It also bounds what one RCPT TO may cost.
const MAX_ADDRESSES: usize = mairust_store::directory::MAX_ALIAS_TARGETS;

/// What an address leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expansion {
    /// An alias or a catch-all that can't be followed.
    Broken(TenantId, Broken),
    /// It takes no mail.
    Disabled(TenantId),
    /// The domain is nobody's here.
    Foreign,
    /// At least one place.
    Places(Places),
    /// The domain is ours, the address is not known.
    Unknown(TenantId),
}

/// Why an alias or a catch-all can't be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It leads back to itself, and nowhere else.
    Loop,
    /// None of its targets takes mail.
    Nowhere,
    /// It leads through more than [`MAX_DEPTH`] aliases.
    TooDeep,
    /// It leads to more than [`MAX_ADDRESSES`].
    TooMany,
}

/// Where mail for an address goes, each place once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// Whose address it is.
    pub(crate) tenant: TenantId,
    /// Mailboxes of the tenant.
    pub(crate) mailboxes: Vec<MailboxRoute>,
    /// Addresses elsewhere, and the mailbox for what is sent on to them.
    pub(crate) forwards: Option<(MailboxId, Vec<EmailAddress>)>,
}

impl Expansion {
    /// Whose address it is, if it is one of ours.
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        match self {
            Self::Broken(tenant, _) | Self::Disabled(tenant) | Self::Unknown(tenant) => Some(*tenant),
            Self::Foreign => None,
            Self::Places(places) => Some(places.tenant),
        }
    }
}

/// Follows an address.
///
/// # Errors
/// When the directory fails.
pub(crate) async fn expand(directory: &dyn Directory, address: &EmailAddress) -> Result<Expansion, StoreError> {
    Ok(match directory.resolve(address).await? {
        Resolution::Alias(route) | Resolution::CatchAll(route) => follow(directory, address, route).await?,
        Resolution::Disabled { tenant } => Expansion::Disabled(tenant),
        Resolution::Mailbox(route) => {
            Expansion::Places(Places { tenant: route.tenant, mailboxes: vec![route], forwards: None })
        }
        other => other.tenant().map_or(Expansion::Foreign, Expansion::Unknown),
    })
}

async fn follow(directory: &dyn Directory, address: &EmailAddress, route: AliasRoute) -> Result<Expansion, StoreError> {
    let mut search = Search::new(address, &route);
    search.enqueue(route.targets, 1);
    while let Some((next, depth)) = search.waiting.pop_front() {
        if depth > MAX_DEPTH {
            return Ok(Expansion::Broken(search.tenant, Broken::TooDeep));
        }
        if search.seen.len() > MAX_ADDRESSES {
            return Ok(Expansion::Broken(search.tenant, Broken::TooMany));
        }
        if !search.seen.insert(next.lookup_key()) {
            search.met_again = true;
            continue;
        }
        match directory.resolve(&next).await? {
            Resolution::ForeignDomain => search.remote.push(next),
            Resolution::Mailbox(route) if route.tenant == search.tenant => search.add_mailbox(route),
            Resolution::Alias(route) | Resolution::CatchAll(route) if route.tenant == search.tenant => {
                search.enqueue(route.targets, depth + 1);
            }
            other => {
                let tenant = other.tenant().filter(|tenant| *tenant != search.tenant);
                let why = if tenant.is_some() { "it is another tenant's" } else { "it takes no mail" };
                tracing::warn!(component = "recipients", alias = %address, target = %next, why, "a target is left out");
            }
        }
    }
    Ok(search.end())
}

struct Search {
    tenant: TenantId,
    forwards: MailboxId,
    waiting: VecDeque<(EmailAddress, usize)>,
    /// By lookup key; the address itself is one of them.
    seen: HashSet<String>,
    /// Whether an address came up a second time.
    met_again: bool,
    mailboxes: Vec<MailboxRoute>,
    remote: Vec<EmailAddress>,
}

impl Search {
    fn new(address: &EmailAddress, route: &AliasRoute) -> Self {
        Self {
            tenant: route.tenant,
            forwards: route.forwards,
            waiting: VecDeque::new(),
            seen: HashSet::from([address.lookup_key()]),
            met_again: false,
            mailboxes: Vec::new(),
            remote: Vec::new(),
        }
    }

    fn enqueue(&mut self, targets: Vec<EmailAddress>, depth: usize) {
        self.waiting.extend(targets.into_iter().map(|target| (target, depth)));
    }

    fn add_mailbox(&mut self, route: MailboxRoute) {
        if self.mailboxes.iter().all(|known| known.mailbox != route.mailbox) {
            self.mailboxes.push(route);
        }
    }

    fn end(self) -> Expansion {
        if self.mailboxes.is_empty() && self.remote.is_empty() {
            return Expansion::Broken(self.tenant, if self.met_again { Broken::Loop } else { Broken::Nowhere });
        }
        let forwards = (!self.remote.is_empty()).then_some((self.forwards, self.remote));
        Expansion::Places(Places { tenant: self.tenant, mailboxes: self.mailboxes, forwards })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mairust_core::{Domain, SystemClock};
    use mairust_store::{
        DomainChange, MemoryStorage, NewAlias, NewTenant, NewUser, PasswordRecord, StorageBackend, UserChange,
    };

    use super::*;

    struct World {
        storage: MemoryStorage,
        tenant: TenantId,
    }

    impl World {
        /// alice and bob at a.example.
        async fn new() -> Self {
            let storage = MemoryStorage::new(Arc::new(SystemClock));
            let mut new = NewTenant::default();
            new.name = "a".to_owned();
            let tenant = storage.directory().create_tenant(new).await.unwrap().id;
            storage.directory().create_domain(tenant, &domain("a.example")).await.unwrap();
            let world = Self { storage, tenant };
            world.user("alice@a.example").await;
            world.user("bob@a.example").await;
            world
        }

        async fn user(&self, text: &str) -> MailboxId {
            let new = NewUser { address: address(text), login: None, password: PasswordRecord::of_hash("hash") };
            self.storage.directory().create_user(self.tenant, new).await.unwrap().mailbox
        }

        async fn alias(&self, text: &str, targets: &[&str]) {
            let targets = targets.iter().map(|text| address(text)).collect();
            let new = NewAlias { address: address(text), targets };
            self.storage.directory().create_alias(self.tenant, new).await.unwrap();
        }

        async fn expand(&self, text: &str) -> Expansion {
            expand(self.storage.directory(), &address(text)).await.unwrap()
        }

        /// The addresses of the places, sorted.
        async fn places(&self, text: &str) -> Vec<String> {
            match self.expand(text).await {
                Expansion::Places(places) => {
                    let here = places.mailboxes.iter().map(|route| route.address.to_string());
                    let elsewhere = places.forwards.iter().flat_map(|(_, to)| to.iter().map(ToString::to_string));
                    let mut all: Vec<_> = here.chain(elsewhere).collect();
                    all.sort();
                    all
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    fn address(text: &str) -> EmailAddress {
        EmailAddress::parse(text).unwrap()
    }

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    #[tokio::test]
    async fn follows_aliases_to_each_place_once() {
        let world = World::new().await;
        world.alias("all@a.example", &["team@a.example", "Alice+all@a.example", "x@remote.example"]).await;
        world.alias("team@a.example", &["alice@a.example", "bob@a.example", "X@Remote.example"]).await;
        assert_eq!(world.places("ALL+tag@a.example").await, ["alice@a.example", "bob@a.example", "x@remote.example"]);
        assert_eq!(world.places("bob+x@a.example").await, ["bob@a.example"]);
        assert_eq!(world.expand("x@remote.example").await, Expansion::Foreign);
        assert_eq!(world.expand("nobody@a.example").await, Expansion::Unknown(world.tenant));
    }

    #[tokio::test]
    async fn loops_end() {
        let world = World::new().await;
        world.alias("a@a.example", &["b@a.example"]).await;
        world.alias("b@a.example", &["a@a.example"]).await;
        assert_eq!(world.expand("a@a.example").await, Expansion::Broken(world.tenant, Broken::Loop));
        world.alias("c@a.example", &["b@a.example", "alice@a.example"]).await;
        assert_eq!(world.places("c@a.example").await, ["alice@a.example"]);
        let catch_all = Some(Some(address("nobody@a.example")));
        let mut change = DomainChange::default();
        change.catch_all = catch_all;
        world.storage.directory().change_domain(world.tenant, &domain("a.example"), &change).await.unwrap();
        assert_eq!(world.expand("somebody@a.example").await, Expansion::Broken(world.tenant, Broken::Loop));
    }

    #[tokio::test]
    async fn depth_and_number_are_bounded() {
        let world = World::new().await;
        world.alias("a0@a.example", &["alice@a.example"]).await;
        for number in 1..=MAX_DEPTH {
            let target = format!("a{}@a.example", number - 1);
            world.alias(&format!("a{number}@a.example"), &[target.as_str()]).await;
        }
        assert_eq!(world.places("a9@a.example").await, ["alice@a.example"]);
        assert_eq!(world.expand("a10@a.example").await, Expansion::Broken(world.tenant, Broken::TooDeep));
        let many: Vec<String> = (0..MAX_ADDRESSES).map(|number| format!("x{number}@remote.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        world.alias("many@a.example", &many).await;
        assert_eq!(world.places("many@a.example").await.len(), MAX_ADDRESSES);
        world.alias("more@a.example", &["many@a.example"]).await;
        assert_eq!(world.expand("more@a.example").await, Expansion::Broken(world.tenant, Broken::TooMany));
    }

    #[tokio::test]
    async fn what_takes_no_mail_is_left_out() {
        let world = World::new().await;
        let directory = world.storage.directory();
        world.alias("info@a.example", &["gone@a.example", "bob@a.example", "eve@b.example"]).await;
        let mut other = NewTenant::default();
        other.name = "b".to_owned();
        let other = directory.create_tenant(other).await.unwrap().id;
        directory.create_domain(other, &domain("b.example")).await.unwrap();
        let eve = NewUser { address: address("eve@b.example"), login: None, password: PasswordRecord::of_hash("hash") };
        directory.create_user(other, eve).await.unwrap();
        assert_eq!(world.places("info@a.example").await, ["bob@a.example"]);
        let bob = directory.user_by_address(world.tenant, &address("bob@a.example")).await.unwrap().unwrap();
        let mut lock = UserChange::default();
        lock.enabled = Some(false);
        directory.change_user(world.tenant, bob.id, &lock).await.unwrap();
        assert_eq!(world.expand("info@a.example").await, Expansion::Broken(world.tenant, Broken::Nowhere));
        assert_eq!(world.expand("bob@a.example").await, Expansion::Disabled(world.tenant));
    }
}
