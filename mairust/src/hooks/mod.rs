//! Hooks in the flow of mail: what they are told about a message, and what becomes of what they want.

pub(crate) mod wanted;
mod way;

pub(crate) use self::wanted::Wanted;
pub(crate) use self::way::Way;
