//! Turns one line into a command. The only file that knows smtp-proto.
//!
//! MAIL, RCPT and BDAT are read here: smtp-proto takes the quotes off local parts, can't tell `<>`
//! from `<postmaster>`, refuses address literals and lets numbers overflow. It reads all other
//! commands.

use mairust_core::{
    Domain, EmailAddress, EnhancedCode, EnvelopeId, ForwardPath, MessageDsn, Notify, OriginalRecipient, RecipientDsn,
    Reply, Return, ReversePath,
};
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, AUTH_SCRAM_SHA_256, Error, Request};

use super::hold::Hold;
use super::sasl::Mechanism;
use super::xclient::{self, ClientFacts};

/// The parameters of MAIL FROM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailOptions {
    /// SIZE (RFC 1870); `None` if not given. A number that does not fit is `u64::MAX`.
    pub size: Option<u64>,
    /// BODY (RFC 6152, RFC 3030).
    pub body: BodyType,
    /// SMTPUTF8 (RFC 6531): addresses and header fields may hold characters outside of ASCII.
    pub international: bool,
    /// REQUIRETLS (RFC 8689): the message may only go on under verified TLS.
    pub require_tls: bool,
    /// HOLDFOR or HOLDUNTIL (RFC 4865): the message goes on later.
    pub hold: Option<Hold>,
    /// RET and ENVID (RFC 3461).
    pub dsn: MessageDsn,
}

/// The parameters of RCPT TO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RcptOptions {
    /// NOTIFY and ORCPT (RFC 3461).
    pub dsn: RecipientDsn,
}

/// What the octets of a message may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum BodyType {
    /// Whatever; there is no line without CRLF.
    Binary,
    /// Lines with octets over 127 (RFC 6152).
    EightBit,
    /// Lines of ASCII.
    #[default]
    SevenBit,
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `None` for a mechanism that is not offered.
    Auth {
        mechanism: Option<Mechanism>,
        initial: Option<String>,
    },
    /// A chunk of a message follows (RFC 3030 §2).
    Bdat {
        size: u64,
        last: bool,
    },
    Data,
    Ehlo(String),
    Expn,
    Helo(String),
    Help,
    /// The first word of an HTTP request.
    Http,
    /// The EHLO of LMTP (RFC 2033 §4.1).
    Lhlo(String),
    Mail {
        from: ReversePath,
        options: MailOptions,
        /// Whether AUTH= was given (RFC 4954 §5).
        auth_parameter: bool,
    },
    Noop,
    Quit,
    Rcpt {
        to: ForwardPath,
        options: RcptOptions,
        /// Whether the address holds characters outside of ASCII.
        international: bool,
    },
    Rset,
    StartTls,
    /// Known, but not implemented.
    Unimplemented,
    Vrfy,
    /// What a proxy knows of its client.
    Xclient(ClientFacts),
}

/// A line that is no command, with the answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("the argument is not well-formed")]
    Argument,
    /// Nobody knows how many octets of a message follow.
    #[error("the size of a chunk is not well-formed")]
    ChunkSize,
    #[error("an address outside of ASCII needs SMTPUTF8")]
    International,
    #[error("the parameter is not known")]
    Parameter,
    #[error("the recipient is not well-formed")]
    Recipient,
    #[error("the sender is not well-formed")]
    Sender,
    #[error("the line holds control characters")]
    Syntax,
    #[error("the command is not known")]
    Unknown,
}

impl Command {
    /// Parses a line without its CRLF.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, CommandError> {
        if line.iter().any(u8::is_ascii_control) {
            return Err(CommandError::Syntax);
        }
        let text = std::str::from_utf8(line).map_err(|_| CommandError::Syntax)?;
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        match verb.to_ascii_uppercase().as_str() {
            "MAIL" => mail(rest),
            "RCPT" => rcpt(rest),
            "BDAT" => bdat(rest),
            "XCLIENT" => xclient::parse(rest).map(Self::Xclient).ok_or(CommandError::Argument),
            "DATA" | "RSET" | "QUIT" | "STARTTLS" if !rest.trim().is_empty() => Err(CommandError::Argument),
            "CONNECT" | "DELETE" | "GET" | "HEAD" | "OPTIONS" | "PATCH" | "POST" | "PUT" | "TRACE" => Ok(Self::Http),
            _ => other(text),
        }
    }

    /// The command's verb, for counting.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Auth { .. } => "AUTH",
            Self::Bdat { .. } => "BDAT",
            Self::Data => "DATA",
            Self::Ehlo(_) => "EHLO",
            Self::Expn => "EXPN",
            Self::Helo(_) => "HELO",
            Self::Help => "HELP",
            Self::Http | Self::Unimplemented => "other",
            Self::Lhlo(_) => "LHLO",
            Self::Mail { .. } => "MAIL",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
            Self::Rcpt { .. } => "RCPT",
            Self::Rset => "RSET",
            Self::StartTls => "STARTTLS",
            Self::Vrfy => "VRFY",
            Self::Xclient(_) => "XCLIENT",
        }
    }
}

/// Error to wire, in one table.
impl From<CommandError> for Reply {
    fn from(error: CommandError) -> Self {
        let (code, enhanced, text) = match error {
            CommandError::Argument => (501, EnhancedCode(5, 5, 4), "Syntax error in the arguments"),
            CommandError::ChunkSize => (501, EnhancedCode(5, 5, 4), "Syntax error in the size of the chunk"),
            // RFC 6531 §3.5.
            CommandError::International => {
                (553, EnhancedCode(5, 6, 7), "Addresses outside of ASCII need the SMTPUTF8 parameter")
            }
            CommandError::Parameter => (555, EnhancedCode(5, 5, 4), "Parameter not recognized"),
            CommandError::Recipient => (501, EnhancedCode(5, 1, 3), "Bad recipient address syntax"),
            CommandError::Sender => (501, EnhancedCode(5, 1, 7), "Bad sender address syntax"),
            CommandError::Syntax => (500, EnhancedCode(5, 5, 2), "Syntax error"),
            CommandError::Unknown => (500, EnhancedCode(5, 5, 1), "Command not recognized"),
        };
        Self::new(code, enhanced, text)
    }
}

/// Whatever is neither MAIL nor RCPT.
fn other(text: &str) -> Result<Command, CommandError> {
    let line = format!("{}\r\n", text.trim_end());
    let request = match Request::parse(&mut line.as_bytes().iter()) {
        Ok(request) => request,
        Err(Error::UnknownCommand) => return Err(CommandError::Unknown),
        Err(_) => return Err(CommandError::Argument),
    };
    Ok(match request {
        Request::Auth { mechanism, initial_response } => Command::Auth {
            mechanism: match mechanism {
                AUTH_LOGIN => Some(Mechanism::Login),
                AUTH_PLAIN => Some(Mechanism::Plain),
                AUTH_SCRAM_SHA_256 => Some(Mechanism::ScramSha256),
                _ => None,
            },
            initial: (!initial_response.is_empty()).then(|| initial_response.into_owned()),
        },
        Request::Data => Command::Data,
        Request::Ehlo { host } => Command::Ehlo(greeting_name(&host)?),
        Request::Helo { host } => Command::Helo(greeting_name(&host)?),
        Request::Expn { .. } => Command::Expn,
        Request::Help { .. } => Command::Help,
        Request::Noop { .. } => Command::Noop,
        Request::Quit => Command::Quit,
        Request::Rset => Command::Rset,
        Request::StartTls => Command::StartTls,
        Request::Vrfy { .. } => Command::Vrfy,
        Request::Lhlo { host } => Command::Lhlo(greeting_name(&host)?),
        Request::Bdat { .. } | Request::Mail { .. } | Request::Rcpt { .. } => return Err(CommandError::Syntax),
        Request::Atrn { .. } | Request::Burl { .. } | Request::Etrn { .. } => Command::Unimplemented,
    })
}

/// Clients call themselves all sorts of things that are no domain (RFC 5321 §4.1.4 forbids to
/// refuse mail for that), so any printable word will do.
fn greeting_name(host: &str) -> Result<String, CommandError> {
    if host.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(host.to_owned()) } else { Err(CommandError::Argument) }
}

/// RFC 3030 §2: a size, and LAST for the end of the message.
fn bdat(rest: &str) -> Result<Command, CommandError> {
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let size = number(words.next()).and_then(|size| size.parse().ok());
    match (size, words.next(), words.next()) {
        (Some(size), None, _) => Ok(Command::Bdat { size, last: false }),
        (Some(size), Some(word), None) if word.eq_ignore_ascii_case("LAST") => Ok(Command::Bdat { size, last: true }),
        _ => Err(CommandError::ChunkSize),
    }
}

fn mail(rest: &str) -> Result<Command, CommandError> {
    let (path, parameters) = split_path(rest, "FROM:")?;
    let from = match path {
        "" => ReversePath::Null,
        path => ReversePath::Address(address(path).ok_or(CommandError::Sender)?),
    };
    let (mut options, mut body, mut auth_parameter) = (MailOptions::default(), None, false);
    for (keyword, value) in split_parameters(parameters) {
        let repeated = match keyword.to_ascii_uppercase().as_str() {
            "AUTH" => std::mem::replace(&mut auth_parameter, true),
            "BODY" => body.replace(body_type(value)?).is_some(),
            "ENVID" => options.dsn.envelope_id.replace(required(value, EnvelopeId::parse)?).is_some(),
            "HOLDFOR" => options.hold.replace(required(value, Hold::parse_for)?).is_some(),
            "HOLDUNTIL" => options.hold.replace(required(value, Hold::parse_until)?).is_some(),
            "REQUIRETLS" => std::mem::replace(&mut options.require_tls, flag(value)?),
            "RET" => options.dsn.ret.replace(required(value, Return::parse)?).is_some(),
            "SIZE" => options.size.replace(size(value)?).is_some(),
            "SMTPUTF8" => std::mem::replace(&mut options.international, flag(value)?),
            _ => return Err(CommandError::Parameter),
        };
        if repeated {
            return Err(CommandError::Argument);
        }
    }
    if !path.is_ascii() && !options.international {
        return Err(CommandError::International);
    }
    options.body = body.unwrap_or_default();
    Ok(Command::Mail { from, options, auth_parameter })
}

fn rcpt(rest: &str) -> Result<Command, CommandError> {
    let (path, parameters) = split_path(rest, "TO:")?;
    let mut options = RcptOptions::default();
    for (keyword, value) in split_parameters(parameters) {
        let repeated = match keyword.to_ascii_uppercase().as_str() {
            "NOTIFY" => options.dsn.notify.replace(required(value, Notify::parse)?).is_some(),
            "ORCPT" => options.dsn.original.replace(required(value, OriginalRecipient::parse)?).is_some(),
            _ => return Err(CommandError::Parameter),
        };
        if repeated {
            return Err(CommandError::Argument);
        }
    }
    let to = match path {
        path if path.eq_ignore_ascii_case("postmaster") => ForwardPath::Postmaster,
        path => ForwardPath::Address(address(path).ok_or(CommandError::Recipient)?),
    };
    Ok(Command::Rcpt { to, options, international: !path.is_ascii() })
}

/// RFC 5321 §4.1.1.11: keywords, most of them with a value.
fn split_parameters(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.split(' ').filter(|word| !word.is_empty()).map(|word| match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    })
}

/// A value that must be there and well-formed.
fn required<T>(value: Option<&str>, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, CommandError> {
    value.and_then(parse).ok_or(CommandError::Argument)
}

/// A keyword that takes no value.
fn flag(value: Option<&str>) -> Result<bool, CommandError> {
    if value.is_some() { Err(CommandError::Argument) } else { Ok(true) }
}

/// What stands between the angle brackets, and what follows them.
///
/// A `>` in a quoted local part does not end the path.
fn split_path<'a>(rest: &'a str, keyword: &str) -> Result<(&'a str, &'a str), CommandError> {
    let rest = rest.trim_start_matches(' ');
    let (found, rest) = rest.split_at_checked(keyword.len()).ok_or(CommandError::Argument)?;
    // Many clients put a space behind the colon.
    let path = rest.trim_start_matches(' ').strip_prefix('<').ok_or(CommandError::Argument)?;
    if !found.eq_ignore_ascii_case(keyword) {
        return Err(CommandError::Argument);
    }
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in path.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => {
                let parameters = &path[index + 1..];
                let apart = parameters.is_empty() || parameters.starts_with(' ');
                return if apart { Ok((&path[..index], parameters)) } else { Err(CommandError::Argument) };
            }
            _ => {}
        }
    }
    Err(CommandError::Argument)
}

/// An address, whose source route is read and forgotten (RFC 5321 §4.1.1.3, Appendix C).
fn address(path: &str) -> Option<EmailAddress> {
    let mut rest = path;
    if path.starts_with('@') {
        let (route, mailbox) = path.split_once(':')?;
        let known = |hop: &str| hop.strip_prefix('@').is_some_and(|domain| Domain::parse(domain).is_ok());
        if !route.split(',').all(known) {
            return None;
        }
        rest = mailbox;
    }
    EmailAddress::parse(rest).ok()
}

/// RFC 1870 §3.
fn size(value: Option<&str>) -> Result<u64, CommandError> {
    let digits = number(value).ok_or(CommandError::Argument)?;
    Ok(digits.parse().unwrap_or(u64::MAX))
}

/// One to twenty digits.
fn number(text: Option<&str>) -> Option<&str> {
    let short = text.filter(|text| (1..=20).contains(&text.len()))?;
    short.bytes().all(|byte| byte.is_ascii_digit()).then_some(short)
}

/// RFC 6152 §2, RFC 3030 §3.
fn body_type(value: Option<&str>) -> Result<BodyType, CommandError> {
    match value.map(str::to_ascii_uppercase).as_deref() {
        Some("7BIT") => Ok(BodyType::SevenBit),
        Some("8BITMIME") => Ok(BodyType::EightBit),
        Some("BINARYMIME") => Ok(BodyType::Binary),
        _ => Err(CommandError::Argument),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mairust_core::Timestamp;

    use super::*;

    fn parse(line: &str) -> Result<Command, CommandError> {
        Command::parse(line.as_bytes())
    }

    fn path(line: &str) -> String {
        match parse(line) {
            Ok(Command::Mail { from, .. }) => from.to_string(),
            Ok(Command::Rcpt { to, .. }) => to.to_string(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn paths_keep_their_meaning() {
        assert_eq!(path("MAIL FROM:<>"), "<>");
        assert_eq!(path("mail from: <a@b.c>"), "<a@b.c>");
        assert_eq!(path(r#"RCPT TO:<"a> SIZE=1"@x.org>"#), r#"<"a> SIZE=1"@x.org>"#);
        assert_eq!(path(r#"RCPT TO:<"a\"> b"@x.org>"#), r#"<"a\"> b"@x.org>"#);
        assert_eq!(path("RCPT TO:<@one.org,@two.org:joe@three.org>"), "<joe@three.org>");
        assert_eq!(path("RCPT TO:<u@[127.0.0.1]>"), "<u@[127.0.0.1]>");
        assert_eq!(path("RCPT TO:<u@[IPv6:::1]>"), "<u@[ipv6:::1]>");
        assert_eq!(path("RCPT TO:<PostMaster>"), "<postmaster>");
    }

    #[test]
    fn broken_paths_are_refused() {
        use CommandError::{Argument, International, Parameter, Recipient, Sender};
        for (line, error) in [
            ("MAIL FROM:a@b.c", Argument),
            ("MAIL FROM:<a@b.c", Argument),
            ("MAIL FROM:<a@b.c>SIZE=1", Argument),
            ("MAIL FROM:<a b@b.c>", Sender),
            ("MAIL FROM:<postmaster>", Sender),
            ("MAIL FROM:<ü@b.c>", International),
            ("MAIL FROM:<a@ü.c>", International),
            ("MAIL FROM:<a\u{3000}@b.c> SMTPUTF8", Sender),
            ("MAIL TO:<a@b.c>", Argument),
            ("MAIL", Argument),
            ("RCPT TO:<>", Recipient),
            ("RCPT TO:<@one.org>", Recipient),
            ("RCPT TO:<@:a@b.c>", Recipient),
            ("RCPT TO:<a@b@c.d>", Recipient),
            ("RCPT TO:<a@b.c> NOTIFY=MAYBE", Argument),
            ("RCPT TO:<a@b.c> NOTIFY=NEVER NOTIFY=NEVER", Argument),
            ("RCPT TO:<a@b.c> ORCPT=a@b.c", Argument),
            ("RCPT TO:<a@b.c> XYZ=1", Parameter),
        ] {
            assert_eq!(parse(line), Err(error), "{line}");
        }
    }

    #[test]
    fn parameters_of_mail() {
        let options = |parameters: &str| match parse(&format!("MAIL FROM:<> {parameters}")) {
            Ok(Command::Mail { options, .. }) => Ok(options),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        let sized = |size, body| MailOptions { size, body, ..MailOptions::default() };
        assert_eq!(options("SIZE=12 body=8bitmime"), Ok(sized(Some(12), BodyType::EightBit)));
        assert_eq!(options("BODY=7BIT"), Ok(sized(None, BodyType::SevenBit)));
        assert_eq!(options("BODY=BINARYMIME"), Ok(sized(None, BodyType::Binary)));
        assert_eq!(options("SIZE=99999999999999999999"), Ok(sized(Some(u64::MAX), BodyType::SevenBit)));
        let all = options("SMTPUTF8 REQUIRETLS RET=HDRS ENVID=QQ+2B1").unwrap();
        assert!(all.international && all.require_tls && all.dsn.ret == Some(Return::Headers));
        assert_eq!(all.dsn.envelope_id.unwrap().to_field(), "QQ+1");
        let hold = |parameters: &str| options(parameters).map(|options| options.hold);
        assert_eq!(hold("HOLDFOR=60"), Ok(Some(Hold::For(Duration::from_secs(60)))));
        assert_eq!(hold("holduntil=1970-01-01T00:00:00Z"), Ok(Some(Hold::Until(Timestamp::default()))));
        for line in [
            "HOLDFOR",
            "HOLDFOR=1d",
            "HOLDUNTIL=60",
            "HOLDFOR=60 HOLDUNTIL=2030-01-01T00:00:00Z",
            "SIZE=999999999999999999999",
            "SIZE=",
            "SIZE",
            "SIZE=-1",
            "SIZE=1 SIZE=2",
            "BODY=X",
            "SMTPUTF8=1",
            "SMTPUTF8 SMTPUTF8",
            "RET=ALL",
            "ENVID=a+2b",
        ] {
            assert_eq!(options(line), Err(CommandError::Argument), "{line}");
        }
    }

    #[test]
    fn parameters_of_rcpt() {
        let Ok(Command::Rcpt { options, international: true, .. }) =
            parse("RCPT TO:<佐藤@例え.jp> NOTIFY=success,DELAY ORCPT=rfc822;bob+2Bx@b.c")
        else {
            panic!("no RCPT");
        };
        assert_eq!(options.dsn.notify, Some(Notify { delay: true, failure: false, success: true }));
        assert_eq!(options.dsn.original.unwrap().to_field(), "rfc822;bob+x@b.c");
    }

    #[test]
    fn chunks_have_a_size() {
        assert_eq!(parse("BDAT 5 LAST"), Ok(Command::Bdat { size: 5, last: true }));
        assert_eq!(parse("bdat 0"), Ok(Command::Bdat { size: 0, last: false }));
        for line in ["BDAT", "BDAT -1", "BDAT 5 FIRST", "BDAT 5 LAST 6", "BDAT 99999999999999999999", "BDAT LAST"] {
            assert_eq!(parse(line), Err(CommandError::ChunkSize), "{line}");
        }
    }

    #[test]
    fn other_commands() {
        assert_eq!(parse("ehlo mx_1.example"), Ok(Command::Ehlo("mx_1.example".into())));
        assert_eq!(parse("HELO [127.0.0.1]"), Ok(Command::Helo("[127.0.0.1]".into())));
        assert_eq!(parse("EHLO"), Err(CommandError::Argument));
        assert_eq!(parse("EHLO"), Err(CommandError::Argument));
        assert_eq!(parse("DATA now"), Err(CommandError::Argument));
        assert_eq!(parse("QUIT "), Ok(Command::Quit));
        assert_eq!(parse("XYZZY"), Err(CommandError::Unknown));
        assert_eq!(parse("LHLO x"), Ok(Command::Lhlo("x".to_owned())));
        assert_eq!(parse(""), Err(CommandError::Unknown));
        assert_eq!(parse("NOOP\0"), Err(CommandError::Syntax));
        assert_eq!(parse("GET / HTTP/1.1"), Ok(Command::Http));
        assert_eq!(parse("ETRN x"), Ok(Command::Unimplemented));
        let auth = |mechanism, initial: Option<&str>| Ok(Command::Auth { mechanism, initial: initial.map(Into::into) });
        assert_eq!(parse("AUTH PLAIN AGEAYg=="), auth(Some(Mechanism::Plain), Some("AGEAYg==")));
        assert_eq!(parse("AUTH PLAIN ="), auth(Some(Mechanism::Plain), Some("=")));
        assert_eq!(parse("auth login"), auth(Some(Mechanism::Login), None));
        assert_eq!(parse("AUTH SCRAM-SHA-256"), auth(Some(Mechanism::ScramSha256), None));
        assert_eq!(parse("AUTH SCRAM-SHA-256-PLUS"), auth(None, None));
        assert_eq!(parse("AUTH XYZ"), auth(None, None));
    }
}
