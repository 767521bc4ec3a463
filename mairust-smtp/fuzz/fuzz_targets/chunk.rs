//! `ChunkReader` against the whole message and what was announced.
//!
//! Settings: two lengths of fragments, the type of the body, the limit, and four sizes of chunks
//! which come in turn.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mairust_smtp::proto::BodyType;
use mairust_smtp::proto::chunk::ChunkReader;
use mairust_smtp::proto::data::{Flaw, Progress};
use mairust_smtp_fuzz::{pieces, split_settings};

/// Chunks of one message, for those of no octets need an end.
const MOST_CHUNKS: usize = 64;

fuzz_target!(|input: &[u8]| {
    let Some(([one, other, body, limit, sizes @ ..], text)) = split_settings::<8>(input) else { return };
    let body = [BodyType::SevenBit, BodyType::EightBit, BodyType::Binary][usize::from(body) % 3];
    let limit = u64::from(limit);
    let (mut reader, mut output, mut buffer) = (ChunkReader::new(limit, body), Vec::new(), BytesMut::new());
    let lengths = [one, other];
    let mut network = pieces(text, &lengths);
    let (mut announced, mut came, mut complete) = (0_u64, 0, true);
    for size in sizes.into_iter().cycle().take(MOST_CHUNKS) {
        // The last one stands for a chunk that nobody could ever send.
        let size = if size == u8::MAX { u64::MAX } else { u64::from(size) };
        announced = announced.saturating_add(size);
        reader.begin(size);
        complete = loop {
            if reader.read(&mut buffer, &mut output) == Progress::End {
                break true;
            }
            assert!(buffer.is_empty(), "a reader that needs more has used all there is");
            let Some(piece) = network.next() else { break false };
            buffer.extend_from_slice(piece);
            came += piece.len();
        };
        if !complete {
            break;
        }
    }
    if complete {
        reader.finish();
    }
    let message = &text[..came - buffer.len()];
    assert_eq!(reader.size(), message.len() as u64);
    assert!(if complete { reader.size() == announced } else { reader.size() < announced });

    let too_large = announced > limit;
    let bare = body != BodyType::Binary && has_lone_line_end(message, complete);
    assert_eq!(reader.flaw().is_some(), too_large || bare);
    match reader.flaw() {
        None => assert_eq!(output, message),
        Some(Flaw::TooLarge) => assert!(too_large, "within the limit"),
        Some(_) => assert!(bare, "all lines end in CRLF"),
    }
    assert!(message.starts_with(&output) && output.len() as u64 <= limit, "not what may be kept");
});

/// Whether a CR has no LF or an LF no CR; the LF of a CR at the end may come if more may come.
fn has_lone_line_end(message: &[u8], complete: bool) -> bool {
    (0..message.len()).any(|at| match message[at] {
        b'\r' => message.get(at + 1).map_or(complete, |next| *next != b'\n'),
        b'\n' => at == 0 || message[at - 1] != b'\r',
        _ => false,
    })
}
