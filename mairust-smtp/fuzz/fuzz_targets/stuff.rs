//! What `DotStuffer` writes is one message, which `DataReader` reads back.
//!
//! Settings: two lengths of fragments.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mairust_smtp::proto::data::{DataReader, Progress};
use mairust_smtp::proto::stuff::DotStuffer;
use mairust_smtp_fuzz::{pieces, split_settings};

fuzz_target!(|input: &[u8]| {
    let Some((lengths, body)) = split_settings::<2>(input) else { return };
    let wire = stuffed(pieces(body, &lengths));
    assert_eq!(wire, stuffed(std::iter::once(body)), "fragments matter");
    assert!(has_only_crlf(&wire), "a lone CR or LF leaves");

    let mut buffer = BytesMut::from(&wire[..]);
    buffer.extend_from_slice(b"QUIT\r\n");
    let (mut reader, mut read) = (DataReader::new(u64::MAX), Vec::new());
    assert_eq!(reader.read(&mut buffer, &mut read), Progress::End);
    assert_eq!(&buffer[..], b"QUIT\r\n", "the message ends early or late");
    assert_eq!((reader.flaw(), read), (None, with_crlf(body)));
});

fn stuffed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut stuffer, mut wire) = (DotStuffer::new(), Vec::new());
    pieces.for_each(|piece| stuffer.encode(piece, &mut wire));
    stuffer.finish(&mut wire);
    wire
}

fn has_only_crlf(wire: &[u8]) -> bool {
    let pairs = wire.windows(2).filter(|pair| *pair == b"\r\n").count();
    let count = |wanted: u8| wire.iter().filter(|octet| **octet == wanted).count();
    count(b'\r') == pairs && count(b'\n') == pairs
}

/// The body with CRLF at the end of each line, whatever its lines ended in.
fn with_crlf(body: &[u8]) -> Vec<u8> {
    let mut lines = vec![Vec::new()];
    let mut octets = body.iter().peekable();
    while let Some(&octet) = octets.next() {
        match octet {
            b'\r' => {
                octets.next_if_eq(&&b'\n');
                lines.push(Vec::new());
            }
            b'\n' => lines.push(Vec::new()),
            octet => lines.last_mut().expect("there is a first line").push(octet),
        }
    }
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines.into_iter().flat_map(|line| [line, b"\r\n".to_vec()].concat()).collect()
}
