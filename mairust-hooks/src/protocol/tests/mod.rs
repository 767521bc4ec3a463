mod fit;
mod mail;
mod merge;
mod response;
mod schema;
mod view;

use super::*;
use crate::handler::HookPoint;

/// The example of the specification.
fn invocation() -> InvocationId {
    InvocationId::parse("inv_01JABCDEFGHJKMNPQRSTVWXYZ0").unwrap()
}
