//! Ids of calls.

use std::fmt;

use mairust_core::Timestamp;
use serde::{Deserialize, Serialize};

/// The characters of Crockford's base 32.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What the text form begins with.
const PREFIX: &str = "inv_";

/// The id of one call of one hook about one message: `inv_` and a ULID. It stays the same however often the call is
/// tried, so whoever is called knows by it what it has answered already.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(try_from = "String")]
pub struct InvocationId(#[cfg_attr(test, schemars(regex(pattern = "^inv_[0-7][0-9A-HJKMNP-TV-Z]{25}$")))] String);

impl InvocationId {
    /// A new id, made at `now`.
    pub fn new(now: Timestamp) -> Self {
        let (seconds, nanos) = now.to_unix();
        let millis = seconds.saturating_mul(1_000).saturating_add(u64::from(nanos / 1_000_000));
        let random = rand::random::<u128>() >> 48;
        Self::of((u128::from(millis) << 80) | random)
    }

    /// The id with these 128 bits. Those of a UUID of version 7 begin with the time, as an id does.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::of(u128::from_be_bytes(bytes))
    }

    /// The 128 bits of the id.
    pub fn to_bytes(&self) -> [u8; 16] {
        let digits = self.0.bytes().skip(PREFIX.len());
        let place = |digit: u8| DIGITS.iter().position(|one| *one == digit).unwrap_or_default() as u128;
        digits.fold(0, |value: u128, digit| (value << 5) | place(digit)).to_be_bytes()
    }

    fn of(value: u128) -> Self {
        let digits = (0..26).rev().map(|place| char::from(DIGITS[(value >> (5 * place)) as usize & 31]));
        Self(PREFIX.chars().chain(digits).collect())
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?.as_bytes();
        // 26 digits have 130 bits; a ULID has 128.
        let is_ulid = digits.len() == 26 && digits[0] <= b'7' && digits.iter().all(|digit| DIGITS.contains(digit));
        is_ulid.then(|| Self(text.to_owned()))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for InvocationId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an invocation id is inv_ and a ULID")
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
