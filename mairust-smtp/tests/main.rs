//! Public behaviour of mairust-smtp: dialogs, the live server, and the client.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod client;
mod dane;
mod dialog;
mod governance;
mod hang_up;
mod live;
mod require_tls;
mod reuse;
mod secure;
mod sign;
mod support;
mod verify;
