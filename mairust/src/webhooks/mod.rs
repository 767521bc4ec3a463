//! Telling webhooks what happened: events are read from the log in their order, become one job for each webhook that
//! wants them, and are posted, signed.
//!
//! In reading order: `dispatch` (from the log to the queue), `client` (one request), `gate` (how many at a time). The
//! work itself is that of the [workers](crate::work).

mod client;
mod dispatch;
mod gate;

use mairust_store::Sealer;

pub(crate) use self::client::{Answer, Post, WebhookClient};
pub(crate) use self::dispatch::Dispatcher;
pub(crate) use self::gate::{Gate, Pass};
use crate::outgoing_http::HttpClient;

/// How webhooks are told of events.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WebhookSettings {
    /// Whether webhooks may be at private addresses (this machine, networks of one's own, neighbours on the link), and
    /// there without TLS. Whoever may make webhooks can then reach what the server can reach. Default no.
    pub allow_private_addresses: bool,
}

/// What it takes to tell webhooks of events.
#[derive(Debug)]
pub(crate) struct Telling {
    pub(crate) client: WebhookClient,
    pub(crate) gate: Gate,
    /// Without it there are no keys: nobody is told.
    pub(crate) sealer: Option<Sealer>,
}

impl WebhookSettings {
    pub(crate) fn client(&self, http: HttpClient) -> WebhookClient {
        WebhookClient::new(http, self.allow_private_addresses)
    }
}
