//! Whose turn it is to have a job taken.
//!
//! Tenants stand in a ring, in the order of their ids; the destinations of each tenant stand in a
//! ring of their own, in the order of their names. The next in a ring is the first one after the
//! one served last that has something due. That is all there is to remember: who comes and goes
//! takes a place in the ring and leaves it, and nobody is ever served twice in one round.

use std::collections::HashMap;

use mairust_core::TenantId;

/// Who was served last. It is worth nothing after a restart: every ring begins somewhere.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    tenant: Option<TenantId>,
    /// By tenant; no destination is the empty name.
    destinations: HashMap<TenantId, String>,
}

/// Of so many tenants the destinations are remembered; with more, all of them begin again.
const TENANTS: usize = 100_000;

impl Turns {
    /// The tenant that was served last.
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// The destination of a tenant that was served last.
    pub(crate) fn destination(&self, tenant: TenantId) -> Option<&str> {
        self.destinations.get(&tenant).map(String::as_str)
    }

    /// Remembers who was served.
    pub(crate) fn served(&mut self, tenant: TenantId, destination: &str) {
        self.tenant = Some(tenant);
        if self.destinations.len() >= TENANTS && !self.destinations.contains_key(&tenant) {
            self.destinations.clear();
        }
        self.destinations.insert(tenant, destination.to_owned());
    }
}
