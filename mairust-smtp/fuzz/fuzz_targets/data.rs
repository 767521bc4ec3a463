//! `DataReader` against the rules of RFC 5321 done by searching and splitting.
//!
//! Settings: two lengths of fragments, then the limit.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mairust_smtp::proto::data::{DataReader, Flaw, Progress};
use mairust_smtp_fuzz::{pieces, split_settings};

#[path = "../../src/proto/data/oracle.rs"]
mod oracle;

fuzz_target!(|input: &[u8]| {
    let Some(([one, other, limit], text)) = split_settings(input) else { return };
    // The last one stands for a limit that is not reached.
    let limit = if limit == u8::MAX { u64::MAX } else { u64::from(limit) };
    let (mut reader, mut output, mut buffer) = (DataReader::new(limit), Vec::new(), BytesMut::new());
    let (mut used, mut progress) = (0, Progress::More);
    for piece in pieces(text, &[one, other]) {
        buffer.extend_from_slice(piece);
        used += piece.len();
        progress = reader.read(&mut buffer, &mut output);
        if progress == Progress::End {
            break;
        }
        assert!(buffer.is_empty(), "a reader that needs more has used all there is");
    }
    assert!(output.len() as u64 <= limit, "more was kept than the limit");
    match oracle::message(text) {
        None => assert_eq!(progress, Progress::More, "an end that is none"),
        Some(message) => {
            assert_eq!(progress, Progress::End, "the end was missed");
            assert_eq!([&buffer[..], &text[used..]].concat(), message.rest, "what follows the message");
            let too_large = message.body.len() as u64 > limit;
            assert_eq!(reader.flaw().is_some(), message.flawed || too_large);
            match reader.flaw() {
                None => assert_eq!(output, message.body),
                Some(Flaw::TooLarge) => assert!(too_large, "within the limit"),
                Some(_) => assert!(message.flawed, "all lines end in CRLF"),
            }
        }
    }
});
