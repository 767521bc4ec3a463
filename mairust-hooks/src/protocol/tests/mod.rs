mod fit;
mod mail;
mod merge;
mod response;
mod schema;
mod view;

use super::*;

/// The example of the specification.
fn invocation() -> InvocationId {
    InvocationId::parse("inv_01JABCDEFGHJKMNPQRSTVWXYZ0").unwrap()
}
