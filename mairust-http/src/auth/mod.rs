//! Who asks: API keys, their scopes, and the principal behind a request.

mod api_key;
mod guard;
mod scope;
mod sink;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use mairust_core::{HookId, MessageId, TenantId, WebhookId};
use mairust_store::{MessageRow, Suppression};
use serde_json::Value;

use crate::middleware::RequestId;
use crate::problem::{ErrorCode, Problem};
use crate::state::ApiState;

pub use api_key::{ApiKeyToken, ServerKey, random_key_id, token_hash};
pub use guard::KeyGuard;
pub use scope::Scope;
pub use sink::{
    AuditSink, ContentView, HookOperation, PurgedMessage, QueueOperation, RefusedKey, SuppressionChange,
    WebhookOperation,
};

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
        let missing = || {
            Problem::new(ErrorCode::Unauthenticated, "this needs an API key")
                .hint("Send the header Authorization: Bearer mrk_…")
        };
        let token = bearer(&parts.headers).ok_or_else(missing)?;
        let guard = state.key_guard().zip(client(parts));
        if let Some((guard, client)) = guard {
            let too_many = |wait| Problem::rate_limited("there were too many failures, please try again later", wait);
            guard.admit(client).map_err(too_many)?;
        }
        match principal(token, state).await {
            Ok(Identified::Genuine(principal)) => Ok(Self(principal)),
            Ok(Identified::Refused { tenant, key_id }) => {
                if let Some((guard, client)) = guard {
                    guard.failed(client);
                }
                if let Some(sink) = state.audit_sink() {
                    sink.key_refused(&RefusedKey { tenant, key_id: key_id.as_deref(), client: client(parts) });
                }
                Err(Problem::new(ErrorCode::InvalidCredentials, "this API key is not valid"))
            }
            Err(problem) => Err(problem),
        }
    }
}

/// Whose key a client has sent.
enum Identified {
    Genuine(Principal),
    /// It is not valid, but it may name one that is.
    Refused {
        tenant: Option<TenantId>,
        key_id: Option<String>,
    },
}

/// Whose key this is.
async fn principal(token: &str, state: &ApiState) -> Result<Identified, Problem> {
    let Some(token) = ApiKeyToken::parse(token) else {
        return Ok(Identified::Refused { tenant: None, key_id: None });
    };
    let key = state.storage().directory().api_key(token.key_id()).await.map_err(|error| Problem::store(&error))?;
    // An unknown key is checked against a hash that nothing has, so that it takes as long.
    let expected = key.as_ref().map_or([0; 32], |key| key.secret_hash);
    let genuine = token.verify(state.server_key(), &expected);
    Ok(match key {
        Some(key) if genuine => {
            let scopes = key.scopes.iter().filter_map(|scope| Scope::parse(scope)).collect();
            Identified::Genuine(Principal { tenant: key.tenant, key_id: key.key_id, scopes })
        }
        key => Identified::Refused { tenant: key.map(|key| key.tenant), key_id: Some(token.key_id().to_owned()) },
    })
}

/// An extractor: from where a request comes, and which one it is.
#[derive(Debug)]
pub(crate) struct Caller {
    client: Option<IpAddr>,
    request_id: Option<String>,
}

impl Caller {
    /// Tells the audit log that the content of a message was read.
    pub(crate) fn saw(&self, state: &ApiState, principal: &Principal, message: MessageId) {
        if let Some(sink) = state.audit_sink() {
            let (client, request_id) = (self.client, self.request_id.as_deref());
            sink.content_viewed(&ContentView { principal, message, client, request_id });
        }
    }

    /// Tells the audit log that a message was removed for good.
    pub(crate) fn purged(&self, state: &ApiState, principal: &Principal, row: &MessageRow) {
        if let Some(sink) = state.audit_sink() {
            let (client, request_id) = (self.client, self.request_id.as_deref());
            sink.message_purged(&PurgedMessage { principal, row, client, request_id });
        }
    }

    /// Tells the audit log of a change of the suppression list.
    pub(crate) fn changed_suppression(
        &self,
        state: &ApiState,
        principal: &Principal,
        suppression: &Suppression,
        added: bool,
    ) {
        if let Some(sink) = state.audit_sink() {
            let (client, request_id) = (self.client, self.request_id.as_deref());
            sink.suppression_changed(&SuppressionChange { principal, suppression, added, client, request_id });
        }
    }

    /// Tells the audit log what was done to deliveries in the queue.
    pub(crate) fn changed_queue(
        &self,
        state: &ApiState,
        principal: &Principal,
        action: &'static str,
        target: &str,
        deliveries: u64,
    ) {
        if let Some(sink) = state.audit_sink() {
            let (client, request_id) = (self.client, self.request_id.as_deref());
            sink.queue_changed(&QueueOperation { principal, action, target, deliveries, client, request_id });
        }
    }

    /// Tells the audit log what was done to a hook: what it was before, and what it is now.
    pub(crate) fn changed_hook(
        &self,
        state: &ApiState,
        principal: &Principal,
        action: &'static str,
        hook: HookId,
        (before, after): (Option<Value>, Option<Value>),
    ) {
        if let Some(sink) = state.audit_sink() {
            let (client, request_id) = (self.client, self.request_id.as_deref());
            sink.hook_changed(&HookOperation { principal, action, hook, before, after, client, request_id });
        }
    }

    /// Tells the audit log what was done to a webhook: what it was before, and what it is now.
    pub(crate) fn changed_webhook(
        &self,
        state: &ApiState,
        principal: &Principal,
        action: &'static str,
        webhook: WebhookId,
        (before, after): (Option<Value>, Option<Value>),
    ) {
        if let Some(sink) = state.audit_sink() {
            let (client, request_id) = (self.client, self.request_id.as_deref());
            sink.webhook_changed(&WebhookOperation { principal, action, webhook, before, after, client, request_id });
        }
    }
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &ApiState) -> Result<Self, Infallible> {
        let request_id = parts.extensions.get().map(|RequestId(id)| id.clone());
        Ok(Self { client: client(parts), request_id })
    }
}

/// Who asks, where the application says so.
fn client(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get().map(|ConnectInfo(address): &ConnectInfo<SocketAddr>| address.ip())
}

/// What came in `Authorization: Bearer …` (RFC 6750 §2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok())?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token.trim())
}
