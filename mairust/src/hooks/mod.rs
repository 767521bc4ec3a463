//! Hooks in the flow of mail: what they are told about a message, how those elsewhere are asked, what becomes of what
//! they want, and where those of tenants come from.

mod http;
pub(crate) mod process;
mod tenants;
pub(crate) mod wanted;
mod way;

pub use self::http::HttpTransport;
pub use self::tenants::TenantHookSettings;
pub(crate) use self::wanted::Wanted;
pub(crate) use self::way::Way;
