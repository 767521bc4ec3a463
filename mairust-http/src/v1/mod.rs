//! The endpoints under `/api/v1`. Each file holds its request and response types, the handlers,
//! and the conversion between them and what the store knows.

mod audit;
mod content;
mod draft;
mod events;
mod hook_actions;
mod hook_deliveries;
mod hook_fields;
mod hook_health;
mod hooks;
mod lifecycle;
mod messages;
mod meta;
mod queue;
mod queue_actions;
mod search;
mod send;
mod sends;
mod suppressions;
mod trace;
mod wait;
mod webhook_actions;
mod webhook_deliveries;
mod webhooks;

use std::str::FromStr;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Path};
use axum::http::request::Parts;
use mairust_core::MessageId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::Problem;
use crate::state::ApiState;

/// The largest request body: 25 MiB of attachments in base64, and room for the rest.
const BODY_LIMIT: usize = 35 * 1024 * 1024;

/// All of them.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(messages::list))
        .routes(routes!(wait::wait))
        .routes(routes!(messages::message, lifecycle::delete))
        .routes(routes!(lifecycle::restore))
        .routes(routes!(lifecycle::archive))
        .routes(routes!(trace::trace))
        .routes(routes!(content::raw))
        .routes(routes!(content::text))
        .routes(routes!(messages::attachments))
        .routes(routes!(content::attachment))
        .routes(routes!(search::search))
        .routes(routes!(send::send))
        .routes(routes!(send::preview))
        .routes(routes!(sends::submission))
        .routes(routes!(trace::submission))
        .routes(routes!(sends::cancel))
        .routes(routes!(sends::retry))
        .routes(routes!(queue::overview))
        .routes(routes!(queue::destinations))
        .routes(routes!(queue::items))
        .routes(routes!(queue::item))
        .routes(routes!(queue::attempts))
        .routes(routes!(queue_actions::retry))
        .routes(routes!(queue_actions::hold))
        .routes(routes!(queue_actions::release))
        .routes(routes!(queue_actions::cancel))
        .routes(routes!(queue_actions::batch))
        .routes(routes!(queue_actions::pause))
        .routes(routes!(queue_actions::resume))
        .routes(routes!(events::list))
        .routes(routes!(events::stream))
        .routes(routes!(hooks::list, hooks::create))
        .routes(routes!(hooks::read, hooks::change, hooks::delete))
        .routes(routes!(hook_actions::enable))
        .routes(routes!(hook_actions::disable))
        .routes(routes!(hook_actions::rotate))
        .routes(routes!(hook_actions::revoke))
        .routes(routes!(hook_actions::circuit, hook_actions::set_circuit))
        .routes(routes!(hook_actions::reset_circuit))
        .routes(routes!(hook_actions::test))
        .routes(routes!(hook_deliveries::list))
        .routes(routes!(hook_deliveries::read))
        .routes(routes!(hook_deliveries::replay))
        .routes(routes!(hook_deliveries::retry))
        .routes(routes!(hook_deliveries::retry_all))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::read, webhooks::change, webhooks::delete))
        .routes(routes!(webhook_actions::enable))
        .routes(routes!(webhook_actions::disable))
        .routes(routes!(webhook_actions::rotate))
        .routes(routes!(webhook_actions::test))
        .routes(routes!(webhook_deliveries::list))
        .routes(routes!(webhook_deliveries::read))
        .routes(routes!(webhook_deliveries::replay))
        .routes(routes!(suppressions::list, suppressions::add))
        .routes(routes!(suppressions::suppression, suppressions::remove))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(audit::verify))
        .routes(routes!(audit::entry))
        .routes(routes!(meta::version))
        .routes(routes!(meta::document))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// Extracts what the parameters of the path name: an id, and perhaps something of it. What can't be read is the name
/// of nothing: it gets the answer of an unknown one.
#[derive(Debug)]
pub(crate) struct InPath<Id, Part = usize> {
    id: Option<Id>,
    /// The second parameter.
    part: Option<Part>,
}

/// A message, and the index of an attachment.
pub(crate) type MessagePath = InPath<MessageId>;

impl<Id: Clone, Part: Clone> InPath<Id, Part> {
    pub(crate) fn id(&self) -> Result<Id, Problem> {
        self.id.clone().ok_or_else(Problem::not_found)
    }

    pub(crate) fn part(&self) -> Result<Part, Problem> {
        self.part.clone().ok_or_else(Problem::not_found)
    }
}

impl<Id: FromStr + Send, Part: FromStr + Send> FromRequestParts<ApiState> for InPath<Id, Part> {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Self::Rejection> {
        // None of them if they are no text.
        let path = Path::<Vec<String>>::from_request_parts(parts, state).await;
        let texts = path.map(|path| path.0).unwrap_or_default();
        let text = |place: usize| texts.get(place).map(String::as_str);
        Ok(Self { id: text(0).and_then(|text| text.parse().ok()), part: text(1).and_then(|text| text.parse().ok()) })
    }
}
