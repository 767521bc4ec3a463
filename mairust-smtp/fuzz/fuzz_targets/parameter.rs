//! Texts in parameters, in the store and in the configuration: xtext, the parameters of DSN, SCRAM
//! verifiers, sizes and durations. What is written out is read back as the same thing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mairust_core::{
    ByteSize, EnvelopeId, Notify, OriginalRecipient, Return, ScramVerifier, parse_duration, render_duration, xtext,
};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    check_xtext(text);
    check_dsn(text);
    if let Ok(verifier) = text.parse::<ScramVerifier>() {
        assert!((1..=1_000_000).contains(&verifier.iterations()), "so many rounds keep a client busy");
        assert!(verifier.to_string().parse() == Ok(verifier));
    }
    if let Ok(size) = text.parse::<ByteSize>() {
        assert_eq!(size.to_string().parse(), Ok(size));
    }
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&render_duration(duration)), Ok(duration));
    }
});

fn check_xtext(text: &str) {
    let encoded = xtext::encode(text);
    assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'='), "{encoded:?}");
    let harmless = (!text.chars().any(char::is_control)).then_some(text);
    assert_eq!(xtext::decode(&encoded).as_deref(), harmless);
    assert_eq!(xtext::is_valid(text), xtext::decode(text).is_some());
    if let Some(decoded) = xtext::decode(text) {
        assert!(!decoded.chars().any(char::is_control), "{decoded:?}");
        assert_eq!(xtext::decode(&xtext::encode(&decoded)), Some(decoded));
    }
}

fn check_dsn(text: &str) {
    if let Some(id) = EnvelopeId::parse(text) {
        assert_eq!(id.to_string(), text);
        assert!(is_a_word(text) && !id.to_field().chars().any(char::is_control));
    }
    if let Some(original) = OriginalRecipient::parse(text) {
        assert_eq!(original.to_string(), text);
        assert!(is_a_word(text) && !original.to_field().chars().any(char::is_control));
    }
    if let Some(notify) = Notify::parse(text) {
        assert_eq!(Notify::parse(&notify.to_string()), Some(notify));
    }
    if let Some(ret) = Return::parse(text) {
        assert!(ret.as_str().eq_ignore_ascii_case(text));
    }
}

/// Whether a text can be the value of a parameter and no more.
fn is_a_word(text: &str) -> bool {
    !text.chars().any(|character| character.is_ascii_control() || matches!(character, ' ' | '='))
}
