//! What `ReplyReader` makes of a server that says anything, and what `Extensions` finds in it.
//!
//! Settings: two lengths of fragments.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mairust_core::Reply;
use mairust_smtp::proto::extension::Extensions;
use mairust_smtp::proto::reply::{ReplyError, ReplyReader};
use mairust_smtp_fuzz::{pieces, split_settings};

/// More than the longest line of a reply that is read.
const LINE_BOUND: usize = 5_000;

fuzz_target!(|input: &[u8]| {
    let Some((lengths, text)) = split_settings::<2>(input) else { return };
    let read_in_pieces = read(pieces(text, &lengths));
    assert_eq!(read_in_pieces, read(std::iter::once(text)), "fragments matter");
    for reply in read_in_pieces.0 {
        let wire = reply.to_wire();
        assert!(wire.split_inclusive(|octet| *octet == b'\n').all(|line| line.len() <= 512), "a line is too long");
        let (again, _) = read(std::iter::once(&wire[..]));
        assert_eq!(again, [reply.clone()], "what was read is not what is written");
        let extensions = Extensions::from_ehlo(&reply);
        assert!(extensions.auth.iter().map(String::len).sum::<usize>() <= wire.len());
    }
});

/// The replies, and what is wrong with what follows them.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Reply>, Option<ReplyError>) {
    let (mut reader, mut buffer, mut replies) = (ReplyReader::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match reader.next(&mut buffer) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
        assert!(buffer.len() < LINE_BOUND && !buffer.contains(&b'\n'), "a server fills the memory");
    }
    (replies, None)
}
