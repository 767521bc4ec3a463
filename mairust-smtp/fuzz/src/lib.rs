//! What the fuzz targets share.
//!
//! An input of a target is made for libFuzzer to change and for people to write: a few octets of
//! settings, then the octets that a peer sends. Each target says at its top which settings it has.

/// Cuts `input` into its settings and what follows them; `None` if it is too short.
pub fn split_settings<const COUNT: usize>(input: &[u8]) -> Option<([u8; COUNT], &[u8])> {
    input.split_first_chunk().map(|(settings, rest)| (*settings, rest))
}

/// Cuts octets into pieces as a network does: each of these lengths plus one, in turn.
pub fn pieces<'a>(mut rest: &'a [u8], lengths: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut turns = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let length = usize::from(*turns.next()?) + 1;
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        rest = tail;
        (!piece.is_empty()).then_some(piece)
    })
}
