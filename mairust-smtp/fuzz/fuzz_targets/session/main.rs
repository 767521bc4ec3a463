//! A server's `Session` with any settings, any client and any handler.
//!
//! An input is [`settings::Settings`], then what the client sends; at each octet 0xFF it waits for
//! the server. The same conversation is held twice, in other fragments, and must come out the same.

#![no_main]

mod peer;
mod settings;
mod wire;

use libfuzzer_sys::fuzz_target;
use mairust_smtp_fuzz::{pieces, split_settings};

use peer::Peer;
use settings::Settings;

/// Where the client waits for the server.
const WAIT: u8 = 0xFF;

fuzz_target!(|input: &[u8]| {
    let Some((octets, client)) = split_settings(input) else { return };
    let settings = Settings::new(octets);
    let mut at_once = Peer::new(&settings, false);
    for flight in client.split(|octet| *octet == WAIT) {
        at_once.hear(std::iter::once(flight));
    }
    let mut in_pieces = Peer::new(&settings, settings.is_hasty());
    for flight in client.split(|octet| *octet == WAIT) {
        in_pieces.hear(pieces(flight, &settings.lengths));
    }
    assert_eq!(at_once.told, in_pieces.told, "fragments matter");
    assert_eq!(at_once.sent, in_pieces.sent, "fragments matter");
    if settings.is_flooded() {
        in_pieces.flood();
    }
    in_pieces.check_memory();
});
