//! Addresses, domains and patterns of senders: what is written out is read back as the same thing,
//! in a command, too.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mairust_core::{Domain, EmailAddress, ForwardPath, LocalPart, SenderPattern};
use mairust_smtp::proto::{Event, LoginPolicy, Protocol, Session, SessionConfig, TlsPolicy};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(domain) = Domain::parse(text) {
        check_domain(&domain);
    }
    if let Ok(address) = EmailAddress::parse(text) {
        check_domain(address.domain());
        check_address(&address);
    }
    if let Ok(pattern) = SenderPattern::parse(text) {
        assert_eq!(SenderPattern::parse(&pattern.to_string()), Ok(pattern));
    }
});

fn check_domain(domain: &Domain) {
    let octets = domain.as_str().as_bytes();
    assert!(octets.iter().all(|octet| octet.is_ascii_graphic() && !octet.is_ascii_uppercase()), "{domain:?}");
    assert_eq!(Domain::parse(domain.as_str()).as_ref(), Ok(domain));
    let shown = domain.to_unicode();
    assert!(!shown.chars().any(|character| character.is_control() || character.is_whitespace()), "{shown:?}");
    assert_eq!(Domain::parse(&shown).as_ref(), Ok(domain), "the form for people names another domain");
}

fn check_address(address: &EmailAddress) {
    let shown = address.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert_eq!(EmailAddress::parse(&shown).as_ref(), Ok(address));
    assert_eq!(recipient_of(&shown), ForwardPath::Address(address.clone()), "a command with this address says more");

    let key = address.lookup_key();
    let (local, _) = key.rsplit_once('@').expect("a key has both parts");
    let quoted = format!("\"{}\"", local.replace('\\', "\\\\").replace('"', "\\\""));
    if quoted.len() <= 64 {
        let again = LocalPart::parse(&quoted).expect("a key holds what an address may hold");
        assert_eq!(EmailAddress::new(again, address.domain().clone()).lookup_key(), key, "the key of a key differs");
    }
    if let Some(name) = address.local().without_tag() {
        assert!(!name.as_str().is_empty() && !name.as_str().contains('+'));
    }
}

/// What a server takes for the recipient when a client names this one.
fn recipient_of(address: &str) -> ForwardPath {
    let mut session = Session::new(SessionConfig {
        protocol: Protocol::Smtp,
        hostname: Domain::parse("mx.test").expect("a domain"),
        max_message_size: 1_000,
        max_recipients: 1,
        max_messages: 1,
        max_commands: 10,
        max_errors: 1,
        max_failed_logins: 1,
        login: LoginPolicy::Never,
        tls: TlsPolicy::Unavailable,
        scram: false,
        dsn: false,
        future_release: None,
        xclient: false,
    });
    let commands = format!("EHLO c.test\r\nMAIL FROM:<> SMTPUTF8\r\nRCPT TO:<{address}>\r\n");
    session.receive(commands.as_bytes());
    while let Some(event) = session.poll() {
        if let Event::Recipient(path, options) = event {
            assert_eq!(options, mairust_smtp::proto::RcptOptions::default());
            return path;
        }
        session.accept();
    }
    panic!("{}", String::from_utf8_lossy(&session.transmit()));
}
