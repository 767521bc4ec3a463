//! What programs elsewhere are asked about mail, and what they answer: version 1 of the hook protocol.
//!
//! In reading order: [`grants`] (what a program may see and do), [`request`] (what it is sent), [`view`] (the one
//! function that makes what it sees of a message), [`HookRequest::to_json`] (what gives way when there is too much of
//! it), [`response`] (what it answers, and how that is read), [`answer`] (what of it may be done), [`mod@merge`] (one
//! result from the answers of several), [`late`] (results that are told later).
//!
//! The schemas of both sides are in `docs/schema`, made from these types.
//!
//! Deliberately absent: how requests get there and answers come back, and who asks whom. Nothing here reads files,
//! waits or knows the time.

pub mod answer;
mod fit;
pub mod grants;
pub mod invocation;
pub mod late;
pub mod merge;
pub mod request;
pub mod response;
mod strict;
pub mod view;

pub use answer::{Answer, IntoAnswer};
pub use fit::TooLarge;
pub use grants::{AttachmentGrant, BodyGrant, Decide, Grants};
pub use invocation::InvocationId;
pub use late::LateResult;
pub use merge::{ActionOutcome, ActionResult, Merged, merge};
pub use request::{Callback, HookRequest, MailView, Mode};
pub use response::{Action, Flag, HookResponse, ResponseError, VerdictName};
pub use view::{MailFacts, View};

/// The version of the protocol.
pub const VERSION: u32 = 1;

#[cfg(test)]
mod tests;
