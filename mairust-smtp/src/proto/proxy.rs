//! The header of the PROXY protocol, versions 1 and 2: by it a proxy says whose connection it
//! passes on.
//!
//! What is read never goes beyond the header, since what follows belongs to the session or to a
//! TLS handshake. Deliberately absent: the extensions (TLVs) of version 2, which are skipped, and
//! whom to believe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

/// The first octets of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of version 2.
const FIXED_LENGTH: usize = 16;

/// The longest header of version 1, CRLF included.
const LINE_LIMIT: usize = 107;

/// The shortest header of version 1: `PROXY UNKNOWN`.
const SHORTEST_LINE: usize = 15;

/// The longest rest of version 2 behind the fixed part: addresses, and room for extensions.
const REST_LIMIT: usize = 4_096;

/// What the octets so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The whole header.
    Complete(Announced),
    /// A beginning; the header has at least this many further octets.
    Missing(usize),
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// A client's: its address and port, and those it connected to.
    Client {
        /// Who connected.
        source: SocketAddr,
        /// Where to.
        destination: SocketAddr,
    },
    /// The proxy's own, as for a health check, or one of which it knows no IP address.
    Proxy,
}

/// The octets are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Neither a header of version 1 nor of version 2.
    #[error("this is no header of the PROXY protocol")]
    Malformed,
    /// A header that is longer than any of use.
    #[error("the header of the PROXY protocol is too long")]
    TooLong,
}

/// Reads the octets that a connection began with.
///
/// # Errors
/// When they are no beginning of a header.
pub fn parse(input: &[u8]) -> Result<Progress, ProxyError> {
    let Some(&first) = input.first() else { return Ok(Progress::Missing(SHORTEST_LINE)) };
    if first == SIGNATURE[0] { parse_binary(input) } else { parse_line(input) }
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 1024 25` and CRLF.
fn parse_line(input: &[u8]) -> Result<Progress, ProxyError> {
    let start = b"PROXY ";
    if !start.starts_with(&input[..input.len().min(start.len())]) {
        return Err(ProxyError::Malformed);
    }
    let Some(line) = input.strip_suffix(b"\r\n") else {
        if input.contains(&b'\n') {
            return Err(ProxyError::Malformed);
        }
        if input.len() >= LINE_LIMIT {
            return Err(ProxyError::TooLong);
        }
        let end = if input.ends_with(b"\r") { 1 } else { 2 };
        return Ok(Progress::Missing(end.max(SHORTEST_LINE.saturating_sub(input.len()))));
    };
    let text = std::str::from_utf8(line).ok().filter(|_| input.len() <= LINE_LIMIT);
    let words: Vec<&str> = text.ok_or(ProxyError::Malformed)?.split(' ').collect();
    let announced = match words[..] {
        ["PROXY", "UNKNOWN", ..] => Some(Announced::Proxy),
        ["PROXY", "TCP4", source, destination, from, to] => {
            client(address::<Ipv4Addr>(source), address::<Ipv4Addr>(destination), from, to)
        }
        ["PROXY", "TCP6", source, destination, from, to] => {
            client(address::<Ipv6Addr>(source), address::<Ipv6Addr>(destination), from, to)
        }
        _ => None,
    };
    announced.map(Progress::Complete).ok_or(ProxyError::Malformed)
}

fn address<A: std::str::FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<A>().ok().map(Into::into)
}

fn client(source: Option<IpAddr>, destination: Option<IpAddr>, from: &str, to: &str) -> Option<Announced> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    Some(Announced::Client {
        source: SocketAddr::new(source?, port(from)?),
        destination: SocketAddr::new(destination?, port(to)?),
    })
}

/// Version 2: the signature, version and command, family and transport, the length of the rest,
/// and the rest.
fn parse_binary(input: &[u8]) -> Result<Progress, ProxyError> {
    if !input.starts_with(&SIGNATURE[..input.len().min(SIGNATURE.len())]) {
        return Err(ProxyError::Malformed);
    }
    let Some(fixed) = input.get(..FIXED_LENGTH) else {
        return Ok(Progress::Missing(FIXED_LENGTH - input.len()));
    };
    let local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Malformed),
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > REST_LIMIT {
        return Err(ProxyError::TooLong);
    }
    let rest = &input[FIXED_LENGTH..];
    if rest.len() < length {
        return Ok(Progress::Missing(length - rest.len()));
    }
    // Other families and transports carry no address that means anything here.
    let announced = match (local, fixed[13]) {
        (false, 0x11) => endpoints::<4>(&rest[..length])?,
        (false, 0x21) => endpoints::<16>(&rest[..length])?,
        _ => Announced::Proxy,
    };
    Ok(Progress::Complete(announced))
}

/// Source and destination address of this many octets each, then both ports.
fn endpoints<const N: usize>(rest: &[u8]) -> Result<Announced, ProxyError>
where
    [u8; N]: Into<IpAddr>,
{
    let octets = |range: Range<usize>| rest.get(range).ok_or(ProxyError::Malformed);
    let ip =
        |start: usize| octets(start..start + N)?.try_into().map_err(|_| ProxyError::Malformed).map(<[u8; N]>::into);
    let port = |start: usize| octets(start..start + 2).map(|port| u16::from_be_bytes([port[0], port[1]]));
    Ok(Announced::Client {
        source: SocketAddr::new(ip(0)?, port(2 * N)?),
        destination: SocketAddr::new(ip(N)?, port(2 * N + 2)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds no more than what is asked for; returns the result and how much was taken.
    fn read(mut input: &[u8]) -> (Result<Announced, ProxyError>, usize) {
        let mut taken = Vec::new();
        loop {
            match parse(&taken) {
                Ok(Progress::Complete(announced)) => return (Ok(announced), taken.len()),
                Ok(Progress::Missing(count)) => {
                    assert!(count > 0);
                    let Some((part, rest)) = input.split_at_checked(count) else { panic!("the input ended") };
                    taken.extend_from_slice(part);
                    input = rest;
                }
                Err(error) => return (Err(error), taken.len()),
            }
        }
    }

    fn announced(source: &str, destination: &str) -> Announced {
        Announced::Client { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[test]
    fn lines_announce_clients() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1024 25", announced("192.0.2.1:1024", "192.0.2.2:25")),
            ("PROXY TCP6 2001:db8::1 ::1 65535 0", announced("[2001:db8::1]:65535", "[::1]:0")),
            ("PROXY UNKNOWN", Announced::Proxy),
            ("PROXY UNKNOWN ffff:f...f:ffff whatever", Announced::Proxy),
        ] {
            let header = format!("{line}\r\n");
            let (result, taken) = read(format!("{header}EHLO x\r\n").as_bytes());
            assert_eq!((result, taken), (Ok(expected), header.len()), "{line}");
        }
    }

    #[test]
    fn binary_headers_announce_clients() {
        let ports = [4, 0, 0, 25];
        let four = [&[192, 0, 2, 1, 192, 0, 2, 2][..], &ports].concat();
        let six = [&Ipv6Addr::LOCALHOST.octets()[..], &Ipv6Addr::UNSPECIFIED.octets(), &ports].concat();
        let with_extension = [&four[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        for (header, expected) in [
            (binary(0x21, 0x11, &four), announced("192.0.2.1:1024", "192.0.2.2:25")),
            (binary(0x21, 0x21, &six), announced("[::1]:1024", "[::]:25")),
            (binary(0x21, 0x11, &with_extension), announced("192.0.2.1:1024", "192.0.2.2:25")),
            (binary(0x20, 0x11, &four), Announced::Proxy),
            (binary(0x20, 0x00, &[]), Announced::Proxy),
            (binary(0x21, 0x00, &[]), Announced::Proxy),
            (binary(0x21, 0x31, &[0; 216]), Announced::Proxy),
        ] {
            let (result, taken) = read(&[&header[..], b"\x16\x03\x01"].concat());
            assert_eq!((result, taken), (Ok(expected), header.len()));
        }
    }

    #[test]
    fn everything_else_is_no_header() {
        for line in [
            "EHLO client.example\r\n\r\n",
            "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXYUNKNOWN   \r\n",
        ] {
            assert_eq!(read(line.as_bytes()).0, Err(ProxyError::Malformed), "{line:?}");
        }
        assert_eq!(read(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes()).0, Err(ProxyError::TooLong));
        for header in [
            binary(0x11, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 12]),
            [b"\r\n\r\n\0\r\nQUIX\n", &[0; 100][..]].concat(),
        ] {
            assert_eq!(read(&header).0, Err(ProxyError::Malformed), "{}", header.escape_ascii());
        }
        assert_eq!(read(&binary(0x21, 0x11, &[0; 4_097])).0, Err(ProxyError::TooLong));
    }

    #[test]
    fn no_input_is_too_strange() {
        let headers =
            [b"PROXY TCP4 192.0.2.1 192.0.2.2 1024 25\r\n".to_vec(), binary(0x21, 0x11, &[7; 30]), vec![0; 40]];
        for header in headers {
            for position in 0..header.len() {
                for byte in 0..=u8::MAX {
                    let mut changed = header.clone();
                    changed[position] = byte;
                    for end in [position + 1, changed.len()] {
                        if let Ok(Progress::Missing(count)) = parse(&changed[..end]) {
                            assert!((1..=REST_LIMIT).contains(&count));
                        }
                    }
                }
            }
        }
    }
}
