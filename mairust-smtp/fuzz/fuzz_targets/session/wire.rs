//! What a server sends, read without trust.

use mairust_core::Reply;
use mairust_smtp::proto::extension::Extensions;
use mairust_smtp::proto::{LoginPolicy, SessionConfig, TlsPolicy};

use crate::settings::HOSTNAME;

/// The codes of the replies that were sent, all of which are well-formed.
pub fn check(sent: &[u8], config: &SessionConfig, tls: bool) -> Vec<u16> {
    let mut codes = Vec::new();
    let mut lines = Vec::new();
    for line in sent.split_inclusive(|octet| *octet == b'\n') {
        let (code, last, text) = split_line(line);
        if let Some((first, _)) = lines.first() {
            assert_eq!(code, *first, "lines of a reply have one code");
        }
        lines.push((code, text));
        if last {
            check_reply(code, lines.drain(..).map(|(_, text)| text).collect(), config, tls);
            codes.push(code);
        }
    }
    assert!(lines.is_empty(), "a reply has no end");
    codes
}

/// Code, whether this is the last line, and text.
fn split_line(line: &[u8]) -> (u16, bool, &str) {
    let shown = String::from_utf8_lossy(line);
    assert!(line.len() <= 512, "{} octets: {shown:?}", line.len());
    let line = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("no CRLF: {shown:?}"));
    let line = std::str::from_utf8(line).expect("replies are ASCII");
    assert!(line.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{shown:?}");
    let (code, rest) = line.split_at(3);
    let code = code.parse().unwrap_or_else(|_| panic!("no code: {shown:?}"));
    assert!((200..600).contains(&code), "{shown:?}");
    let last = match rest.as_bytes().first() {
        Some(b' ') => true,
        Some(b'-') => false,
        _ => panic!("{shown:?}"),
    };
    (code, last, &rest[1..])
}

fn check_reply(code: u16, texts: Vec<&str>, config: &SessionConfig, tls: bool) {
    // RFC 2034 §4 exempts these; all else that the session says has an enhanced code.
    let exempt = matches!(code, 220 | 334 | 354) || (code == 250 && texts[0] == HOSTNAME);
    for text in &texts {
        let enhanced = text.split(' ').next().unwrap_or_default();
        let class = enhanced.split_once('.').and_then(|(class, _)| class.parse::<u16>().ok());
        assert!(class == Some(code / 100) || exempt, "{code} {text}");
    }
    if code == 250 && texts[0] == HOSTNAME && texts.len() > 1 {
        check_extensions(&Extensions::from_ehlo(&Reply::plain(code, texts.join("\n"))), config, tls);
    }
}

fn check_extensions(announced: &Extensions, config: &SessionConfig, tls: bool) {
    let login = config.login == LoginPolicy::Required && tls;
    assert_eq!(announced.auth.is_empty(), !login, "AUTH is for whom it is there for");
    assert_eq!(announced.auth.iter().any(|name| name.starts_with("SCRAM")), login && config.scram);
    assert_eq!(announced.starttls, config.tls == TlsPolicy::Offered && !tls);
    assert_eq!(announced.require_tls, tls);
    assert_eq!(announced.size, Some(config.max_message_size));
    assert_eq!(announced.limits.rcpt_max, u32::try_from(config.max_recipients).ok());
    assert_eq!(announced.limits.mail_max, Some(config.max_messages));
    assert_eq!(announced.future_release, config.future_release);
    assert_eq!((announced.dsn, announced.xclient), (config.dsn, config.xclient));
    assert!(announced.chunking && announced.binary && announced.pipelining && announced.international);
}
