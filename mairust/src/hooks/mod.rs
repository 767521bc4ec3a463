//! Hooks in the flow of mail: what they are told about a message, how those elsewhere are asked, what becomes of what
//! they want, and where those of tenants come from.

mod alerts;
mod bound;
mod callbacks;
mod calls;
mod control;
mod handlers;
mod health;
mod http;
pub(crate) mod process;
mod stored;
mod tenants;
pub(crate) mod wanted;
mod watch;
mod way;

pub(crate) use self::bound::BoundHooks;
pub(crate) use self::callbacks::{CallbackBase, CallbackDesk, CallbackDoor};
pub(crate) use self::calls::About;
pub(crate) use self::handlers::Handlers;
pub use self::http::HttpTransport;
pub(crate) use self::stored::stored;
pub use self::tenants::TenantHookSettings;
pub(crate) use self::wanted::Wanted;
pub(crate) use self::way::Way;
