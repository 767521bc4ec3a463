//! Who asks: API keys, their scopes, and the principal behind a request.

mod api_key;
mod guard;
mod scope;

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use mairust_core::TenantId;

use crate::problem::{ErrorCode, Problem};
use crate::state::ApiState;

pub use api_key::{ApiKeyToken, MasterKey, random_key_id, token_hash};
pub use guard::KeyGuard;
pub use scope::Scope;

/// Who asks, and what the key allows. The tenant of everything the request sees comes from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant.
    pub tenant: TenantId,
    /// The public part of the API key.
    pub key_id: String,
    /// What the key allows.
    pub scopes: Vec<Scope>,
}

/// An extractor: refuses requests without a valid `Authorization: Bearer mrk_…`.
#[derive(Debug)]
pub(crate) struct Authenticated(pub(crate) Principal);

impl Principal {
    /// Whether the key allows this.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|held| held.implies(scope))
    }

    pub(crate) fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.allows(scope) {
            return Ok(());
        }
        let message = format!("this needs an API key with the scope {scope}");
        Err(Problem::new(ErrorCode::InsufficientScope, message).detail("required_scope", scope.as_str()))
    }
}

impl FromRequestParts<ApiState> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)?;
        let guard = state.key_guard().zip(client(parts));
        if let Some((guard, client)) = guard {
            guard.admit(client).map_err(Problem::rate_limited)?;
        }
        match principal(token, state).await {
            Ok(Some(principal)) => Ok(Self(principal)),
            Ok(None) => {
                if let Some((guard, client)) = guard {
                    guard.failed(client);
                }
                Err(Problem::new(ErrorCode::InvalidCredentials, "this API key is not valid"))
            }
            Err(problem) => Err(problem),
        }
    }
}

/// Whose key this is; `None` if it is nobody's.
async fn principal(token: &str, state: &ApiState) -> Result<Option<Principal>, Problem> {
    let Some(token) = ApiKeyToken::parse(token) else { return Ok(None) };
    let key = state.storage().directory().api_key(token.key_id()).await.map_err(|error| Problem::store(&error))?;
    // An unknown key is checked against a hash that nothing has, so that it takes as long.
    let expected = key.as_ref().map_or([0; 32], |key| key.secret_hash);
    let genuine = token.verify(state.master_key(), &expected);
    Ok(key.filter(|_| genuine).map(|key| {
        let scopes = key.scopes.iter().filter_map(|scope| Scope::parse(scope)).collect();
        Principal { tenant: key.tenant, key_id: key.key_id, scopes }
    }))
}

/// Who asks, where the application says so.
fn client(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get().map(|ConnectInfo(address): &ConnectInfo<SocketAddr>| address.ip())
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = || {
        Problem::new(ErrorCode::Unauthenticated, "this needs an API key")
            .hint("Send the header Authorization: Bearer mrk_…")
    };
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    let (scheme, token) = value.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("Bearer") { Ok(token.trim()) } else { Err(missing()) }
}
