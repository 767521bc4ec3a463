//! The callback API under `/api/plugin/v1`: how programs that are called as hooks ask for more about a message, and
//! tell what they have found.
//!
//! Who asks is known by the token of the call: `token`. What is asked for twice under one key is done once: `repeats`.
//! `reads` shows no more than hooks are shown, for both use the same views; `writes` is all that changes anything.

mod reads;
mod repeats;
mod token;
mod writes;

use axum::extract::DefaultBodyLimit;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use self::repeats::Repeats;
pub(crate) use self::token::{Callers, admit};
use crate::callbacks::CallbackError;
use crate::problem::{ErrorCode, Problem};
use crate::state::ApiState;

/// The largest request body: an answer that nobody waits for, and room for the rest.
const BODY_LIMIT: usize = (1 << 20) + (64 << 10);

/// Where the API is mounted.
pub(crate) const BASE: &str = "/api/plugin/v1";

/// All of them.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(reads::own))
        .routes(routes!(reads::message))
        .routes(routes!(reads::body))
        .routes(routes!(reads::attachment))
        .routes(routes!(reads::raw))
        .routes(routes!(writes::actions))
        .routes(routes!(writes::complete))
        .routes(routes!(writes::progress))
        .routes(routes!(writes::logs))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

impl From<CallbackError> for Problem {
    fn from(error: CallbackError) -> Self {
        match error {
            CallbackError::Denied(what) => denied(&what),
            CallbackError::Gone => Self::new(ErrorCode::Gone, "the message is gone"),
            CallbackError::State(why) => Self::new(ErrorCode::InvalidState, why),
            CallbackError::Store(error) => Self::store(&error),
            CallbackError::Unreadable(reason) => {
                tracing::error!(reason, "a message can't be read for a hook");
                Self::unreadable()
            }
        }
    }
}

/// The tenant has not granted this.
fn denied(permission: &str) -> Problem {
    let message = format!("this needs a permission that the tenant has not granted: {permission}");
    Problem::new(ErrorCode::PermissionDenied, message).detail("permission", permission)
}
