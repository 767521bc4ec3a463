//! Turns one line into a command. The only file that knows smtp-proto.
//!
//! MAIL and RCPT are read here: smtp-proto takes the quotes off local parts, can't tell `<>` from
//! `<postmaster>`, refuses address literals and lets SIZE overflow. It reads all other commands.

use mairust_core::{Domain, EmailAddress, EnhancedCode, ForwardPath, Reply, ReversePath};
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, Error, Request};

use super::sasl::Mechanism;

/// The parameters of MAIL FROM (RFC 1870, RFC 6152).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailOptions {
    /// SIZE; `None` if not given. A number that does not fit is `u64::MAX`.
    pub size: Option<u64>,
    /// BODY=8BITMIME.
    pub eight_bit: bool,
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `None` for a mechanism that is not offered.
    Auth {
        mechanism: Option<Mechanism>,
        initial: Option<String>,
    },
    Data,
    Ehlo(String),
    Expn,
    Helo(String),
    Help,
    /// The first word of an HTTP request.
    Http,
    Mail {
        from: ReversePath,
        options: MailOptions,
        /// Whether AUTH= was given (RFC 4954 §5).
        auth_parameter: bool,
    },
    Noop,
    Quit,
    Rcpt(ForwardPath),
    Rset,
    StartTls,
    /// Known, but not implemented.
    Unimplemented,
    Vrfy,
}

/// A line that is no command, with the answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("the argument is not well-formed")]
    Argument,
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
            "DATA" | "RSET" | "QUIT" | "STARTTLS" if !rest.trim().is_empty() => Err(CommandError::Argument),
            "CONNECT" | "DELETE" | "GET" | "HEAD" | "OPTIONS" | "PATCH" | "POST" | "PUT" | "TRACE" => Ok(Self::Http),
            _ => other(text),
        }
    }

    /// The command's verb, for counting.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Auth { .. } => "AUTH",
            Self::Data => "DATA",
            Self::Ehlo(_) => "EHLO",
            Self::Expn => "EXPN",
            Self::Helo(_) => "HELO",
            Self::Help => "HELP",
            Self::Http | Self::Unimplemented => "other",
            Self::Mail { .. } => "MAIL",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
            Self::Rcpt(_) => "RCPT",
            Self::Rset => "RSET",
            Self::StartTls => "STARTTLS",
            Self::Vrfy => "VRFY",
        }
    }
}

/// Error to wire, in one table.
impl From<CommandError> for Reply {
    fn from(error: CommandError) -> Self {
        let (code, enhanced, text) = match error {
            CommandError::Argument => (501, EnhancedCode(5, 5, 4), "Syntax error in the arguments"),
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
        Request::Lhlo { .. } => return Err(CommandError::Unknown),
        Request::Mail { .. } | Request::Rcpt { .. } => return Err(CommandError::Syntax),
        Request::Atrn { .. } | Request::Bdat { .. } | Request::Burl { .. } | Request::Etrn { .. } => {
            Command::Unimplemented
        }
    })
}

/// Clients call themselves all sorts of things that are no domain (RFC 5321 §4.1.4 forbids to
/// refuse mail for that), so any printable word will do.
fn greeting_name(host: &str) -> Result<String, CommandError> {
    if host.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(host.to_owned()) } else { Err(CommandError::Argument) }
}

fn mail(rest: &str) -> Result<Command, CommandError> {
    let (path, parameters) = split_path(rest, "FROM:")?;
    let from = match path {
        "" => ReversePath::Null,
        path => ReversePath::Address(address(path).ok_or(CommandError::Sender)?),
    };
    let (mut options, mut body, mut auth_parameter) = (MailOptions::default(), None, false);
    for parameter in parameters.split(' ').filter(|word| !word.is_empty()) {
        let (keyword, value) = match parameter.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (parameter, None),
        };
        let repeated = match keyword.to_ascii_uppercase().as_str() {
            "AUTH" => std::mem::replace(&mut auth_parameter, true),
            "BODY" => body.replace(is_eight_bit(value)?).is_some(),
            "SIZE" => options.size.replace(size(value)?).is_some(),
            _ => return Err(CommandError::Parameter),
        };
        if repeated {
            return Err(CommandError::Argument);
        }
    }
    options.eight_bit = body.unwrap_or(false);
    Ok(Command::Mail { from, options, auth_parameter })
}

fn rcpt(rest: &str) -> Result<Command, CommandError> {
    let (path, parameters) = split_path(rest, "TO:")?;
    if !parameters.trim().is_empty() {
        return Err(CommandError::Parameter);
    }
    if path.eq_ignore_ascii_case("postmaster") {
        return Ok(Command::Rcpt(ForwardPath::Postmaster));
    }
    Ok(Command::Rcpt(ForwardPath::Address(address(path).ok_or(CommandError::Recipient)?)))
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

/// RFC 1870 §3: one to twenty digits.
fn size(value: Option<&str>) -> Result<u64, CommandError> {
    let digits = value.filter(|value| (1..=20).contains(&value.len())).ok_or(CommandError::Argument)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CommandError::Argument);
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

/// RFC 6152 §2.
fn is_eight_bit(value: Option<&str>) -> Result<bool, CommandError> {
    match value.map(str::to_ascii_uppercase).as_deref() {
        Some("7BIT") => Ok(false),
        Some("8BITMIME") => Ok(true),
        _ => Err(CommandError::Argument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, CommandError> {
        Command::parse(line.as_bytes())
    }

    fn path(line: &str) -> String {
        match parse(line) {
            Ok(Command::Mail { from, .. }) => from.to_string(),
            Ok(Command::Rcpt(to)) => to.to_string(),
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
        use CommandError::{Argument, Parameter, Recipient, Sender};
        for (line, error) in [
            ("MAIL FROM:a@b.c", Argument),
            ("MAIL FROM:<a@b.c", Argument),
            ("MAIL FROM:<a@b.c>SIZE=1", Argument),
            ("MAIL FROM:<a b@b.c>", Sender),
            ("MAIL FROM:<postmaster>", Sender),
            ("MAIL FROM:<ü@b.c>", Sender),
            ("MAIL TO:<a@b.c>", Argument),
            ("MAIL", Argument),
            ("RCPT TO:<>", Recipient),
            ("RCPT TO:<@one.org>", Recipient),
            ("RCPT TO:<@:a@b.c>", Recipient),
            ("RCPT TO:<a@b@c.d>", Recipient),
            ("RCPT TO:<a@b.c> NOTIFY=NEVER", Parameter),
        ] {
            assert_eq!(parse(line), Err(error), "{line}");
        }
    }

    #[test]
    fn parameters_of_mail() {
        let options = |line: &str| match parse(line) {
            Ok(Command::Mail { options, .. }) => Ok((options.size, options.eight_bit)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(options("MAIL FROM:<> SIZE=12 body=8bitmime"), Ok((Some(12), true)));
        assert_eq!(options("MAIL FROM:<> BODY=7BIT"), Ok((None, false)));
        assert_eq!(options("MAIL FROM:<> SIZE=99999999999999999999"), Ok((Some(u64::MAX), false)));
        for line in ["SIZE=999999999999999999999", "SIZE=", "SIZE", "SIZE=-1", "SIZE=1 SIZE=2", "BODY=X"] {
            assert_eq!(options(&format!("MAIL FROM:<> {line}")), Err(CommandError::Argument), "{line}");
        }
        assert_eq!(options("MAIL FROM:<> RET=FULL"), Err(CommandError::Parameter));
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
        assert_eq!(parse("LHLO x"), Err(CommandError::Unknown));
        assert_eq!(parse(""), Err(CommandError::Unknown));
        assert_eq!(parse("NOOP\0"), Err(CommandError::Syntax));
        assert_eq!(parse("GET / HTTP/1.1"), Ok(Command::Http));
        assert_eq!(parse("BDAT 5 LAST"), Ok(Command::Unimplemented));
        let auth = |mechanism, initial: Option<&str>| Ok(Command::Auth { mechanism, initial: initial.map(Into::into) });
        assert_eq!(parse("AUTH PLAIN AGEAYg=="), auth(Some(Mechanism::Plain), Some("AGEAYg==")));
        assert_eq!(parse("AUTH PLAIN ="), auth(Some(Mechanism::Plain), Some("=")));
        assert_eq!(parse("auth login"), auth(Some(Mechanism::Login), None));
        assert_eq!(parse("AUTH XYZ"), auth(None, None));
    }
}
