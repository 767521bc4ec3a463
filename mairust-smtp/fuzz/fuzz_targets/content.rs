//! `Content` of any octets: it is there, it is bounded, and its attachments can be read.
//!
//! The parser underneath may panic: that is caught, so here it is no finding.

#![no_main]

use std::panic;
use std::process;

use libfuzzer_sys::fuzz_target;
use mairust_core::DeliveryReport;
use mairust_core::content::{self, Content, MAX_ADDRESSES, PREVIEW_BYTES};
use mairust_core::report::MAX_RECIPIENTS;

/// Octets of one text that strangers write.
const TEXT_BOUND: usize = 2_048;

fuzz_target!(init: end_at_our_own_panics(), |raw: &[u8]| {
    let message = Content::parse(raw);
    assert!(message.preview.len() <= PREVIEW_BYTES);
    for addresses in [&message.from, &message.to, &message.cc] {
        assert!(addresses.len() <= MAX_ADDRESSES);
        assert!(addresses.iter().all(|entry| entry.address.len() <= TEXT_BOUND));
        assert!(addresses.iter().filter_map(|entry| entry.name.as_ref()).all(|name| name.len() <= TEXT_BOUND));
    }
    let ids = message.message_id.iter().chain(&message.in_reply_to).chain(&message.references);
    assert!(ids.chain(&message.subject).all(|text| text.len() <= TEXT_BOUND));
    // An octet becomes three at most: a character of a charset with one octet each, in UTF-8.
    let headers = message.headers.iter().map(|(name, value)| name.len() + value.len());
    assert!(headers.sum::<usize>() <= 3 * raw.len());
    // HTML counts twice, and there are line ends between the parts.
    assert!(content::searchable_text(raw).len() <= 8 * raw.len());
    check_attachments(&message, raw);
    check_parts(&message, raw);
    check_report(raw);
});

fn check_report(raw: &[u8]) {
    let Some(report) = DeliveryReport::parse(raw) else { return };
    assert!((1..=MAX_RECIPIENTS).contains(&report.recipients.len()));
    for status in &report.recipients {
        assert!([&status.remote, &status.diagnostic].into_iter().flatten().all(|text| text.len() <= TEXT_BOUND));
    }
}

/// What programs elsewhere are shown: the same header fields as in `Content`, and no text twice.
fn check_parts(message: &Content, raw: &[u8]) {
    let fields = content::header_fields(raw);
    let decoded = fields.iter().map(|field| (&field.name, &field.value));
    assert!(decoded.eq(message.headers.iter().map(|(name, value)| (name, value))));
    assert!(fields.iter().map(|field| field.octets.len()).sum::<usize>() <= raw.len());
    let leaves = content::text_leaves(raw);
    assert!(leaves.iter().map(|leaf| leaf.text.len()).sum::<usize>() <= 3 * raw.len());
    assert!(leaves.iter().all(|leaf| leaf.media_type.len() <= TEXT_BOUND));
}

fn check_attachments(message: &Content, raw: &[u8]) {
    for attachment in &message.attachments {
        let texts = [attachment.filename.as_ref(), attachment.charset.as_ref(), Some(&attachment.content_type)];
        assert!(texts.into_iter().flatten().all(|text| text.len() <= TEXT_BOUND));
    }
    let bytes = content::map_attachments(raw, <[u8]>::to_vec);
    let sizes: Vec<u64> = message.attachments.iter().map(|attachment| attachment.size).collect();
    assert_eq!(sizes, bytes.iter().map(|bytes| bytes.len() as u64).collect::<Vec<_>>());
    // In quoted-printable, a bare LF is the end of a line, which is CRLF.
    assert!(sizes.iter().sum::<u64>() <= 2 * raw.len() as u64, "attachments hold more than the message");
    for (index, bytes) in bytes.iter().enumerate() {
        assert_eq!(content::attachment_bytes(raw, index).as_ref(), Some(bytes));
    }
}

/// libFuzzer ends at every panic; ours are findings, those of the parser are not.
fn end_at_our_own_panics() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.location().is_some_and(|place| place.file().contains("mail-parser")) {
            return;
        }
        tell(panic);
        process::abort();
    }));
}
