//! Hooks that tenants have bound.

/// Which hooks tenants may bind.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TenantHookSettings {
    /// Whether they may be at private addresses (this machine, networks of one's own, neighbours on the link), and there
    /// without TLS. Whoever may bind hooks can then reach what the server can reach. Default no: each needs leave of its
    /// own.
    pub allow_private_addresses: bool,
}
