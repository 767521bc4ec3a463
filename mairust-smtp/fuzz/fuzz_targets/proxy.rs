//! The header of the PROXY protocol, read as the listener reads it: never more than is missing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mairust_smtp::proto::proxy::{Announced, Progress, parse};

/// No header is longer.
const LONGEST: usize = 16 + 4_096;

fuzz_target!(|input: &[u8]| {
    let mut seen = 0;
    let announced = loop {
        match parse(&input[..seen]) {
            Ok(Progress::Missing(count)) => {
                assert!(count > 0, "what misses nothing is complete");
                seen += count;
                assert!(seen <= LONGEST, "nobody sends a header without end");
                if seen > input.len() {
                    return;
                }
            }
            Ok(Progress::Complete(announced)) => break announced,
            Err(_) => return,
        }
    };
    // However the octets are cut, the header is the same, and complete only with its last octet.
    for shorter in 0..seen {
        assert!(matches!(parse(&input[..shorter]), Ok(Progress::Missing(count)) if shorter + count <= seen));
    }
    if let Announced::Client { source, destination } = announced {
        assert_eq!(source.is_ipv4(), destination.is_ipv4());
    }
});
