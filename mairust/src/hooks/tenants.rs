//! Hooks that tenants have bound.

use mairust_hooks::EndpointUrl;

/// Which hooks tenants may bind.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TenantHookSettings {
    /// Whether they may be at private addresses (this machine, networks of one's own, neighbours on the link), and there
    /// without TLS. Whoever may bind hooks can then reach what the server can reach. Default no: each needs leave of its
    /// own.
    pub allow_private_addresses: bool,
    /// Where hooks reach the REST API of this server, to ask for more about a message or to tell a result later.
    /// Without it, hooks of this machine may use the address that it listens at, if that is one, and others can't call
    /// back.
    pub callback_url: Option<EndpointUrl>,
}
