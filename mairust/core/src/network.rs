//! Networks of IP addresses, as access lists name them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network in CIDR notation (RFC 4632, RFC 4291 §2.3): `192.0.2.0/24`, `2001:db8::/32`.
///
/// An IPv4 address that came over an IPv6 socket (`::ffff:192.0.2.1`) is the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpNetwork {
    /// The first address.
    first: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// It is neither an address nor an address with a prefix length.
    #[error("a network has the form 192.0.2.0/24 or 2001:db8::/32")]
    Form,
    /// There are bits behind the prefix, so it is not clear what is meant.
    #[error("the network of this address is {0}")]
    HostBits(IpNetwork),
}

impl IpNetwork {
    /// The network of this address with a prefix of this many bits; at most all of them.
    pub fn of(address: IpAddr, prefix: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let prefix = prefix.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Self { first: Ipv4Addr::from_bits(address.to_bits() & mask).into(), prefix }
            }
            IpAddr::V6(address) => {
                let prefix = prefix.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Self { first: Ipv6Addr::from_bits(address.to_bits() & mask).into(), prefix }
            }
        }
    }

    /// What one client can be expected to own: an IPv4 address, but a whole IPv6 /64, in which
    /// everybody may take as many addresses as they like (RFC 6177).
    pub fn client(address: IpAddr) -> Self {
        match address.to_canonical() {
            address @ IpAddr::V4(_) => Self::of(address, 32),
            address @ IpAddr::V6(_) => Self::of(address, 64),
        }
    }

    /// The neighbourhood of an address: its IPv4 /24 or its IPv6 /64.
    pub fn neighbourhood(address: IpAddr) -> Self {
        match address.to_canonical() {
            address @ IpAddr::V4(_) => Self::of(address, 24),
            address @ IpAddr::V6(_) => Self::of(address, 64),
        }
    }

    /// Whether the address lies in this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && Self::of(address, self.prefix).first == self.first
    }
}

impl FromStr for IpNetwork {
    type Err = NetworkError;

    /// Reads `address/prefix`, or an address alone, which is a network of one.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
        let longest: u8 = if address.is_ipv4() { 32 } else { 128 };
        let plain = |prefix: &&str| prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => longest,
            Some(prefix) => {
                let prefix = Some(prefix).filter(plain).and_then(|prefix| prefix.parse().ok());
                prefix.filter(|prefix| *prefix <= longest).ok_or(NetworkError::Form)?
            }
        };
        // Written as IPv6, an IPv4 network would have to count its bits differently.
        if address.to_canonical() != address {
            return Err(NetworkError::Form);
        }
        let network = Self::of(address, prefix);
        if network.first == address { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// Whether an address leads back to the machine that uses it: a loopback address, or none at all
/// (`0.0.0.0`, `::`). DNS of others must not name such.
pub fn is_this_machine(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Whether anybody on the Internet may have this address: none that is this machine, a network of one's own, a
/// neighbour on the link, or set aside for something else (the registries that RFC 6890 describes).
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_shared = a == 100 && (64..128).contains(&b);
    let is_for_benchmarks = a == 198 && (b == 18 || b == 19);
    let is_for_protocols = (a, b, c) == (192, 0, 0);
    !(a == 0
        || a >= 240
        || is_shared
        || is_for_benchmarks
        || is_for_protocols
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

/// Global unicast is `2000::/3`; what leads to IPv4 addresses by another way, Teredo and 6to4, is judged by these.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // 64:ff9b::/96 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        [0x2002, high, low, ..] => is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))),
        // 2001::/23 is for protocols, Teredo among them; 2001:db8::/32 and 3fff::/20 for documentation.
        [0x2001, second, ..] => second >= 0x200 && second != 0xdb8,
        [0x3fff, second, ..] => second >= 0x1000,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_read_back() {
        for text in ["192.0.2.0/24", "0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::/0", "::1/128"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("192.0.2.1").to_string(), "192.0.2.1/32");
        assert_eq!(network("::1").to_string(), "::1/128");
        for text in
            ["", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "10/8", "a/8", "::ffff:10.0.0.0/104"]
        {
            assert_eq!(text.parse::<IpNetwork>(), Err(NetworkError::Form), "{text}");
        }
        assert_eq!("10.0.0.1/8".parse::<IpNetwork>(), Err(NetworkError::HostBits(network("10.0.0.0/8"))));
    }

    #[test]
    fn addresses_lie_in_their_networks_only() {
        for (within, address) in [
            ("192.0.2.0/24", "192.0.2.255"),
            ("192.0.2.0/24", "::ffff:192.0.2.7"),
            ("0.0.0.0/0", "255.255.255.255"),
            ("2001:db8::/32", "2001:db8:ffff::1"),
            ("::/0", "::1"),
            ("10.0.0.128/25", "10.0.0.129"),
        ] {
            assert!(network(within).contains(ip(address)), "{within} {address}");
        }
        for (outside, address) in [
            ("192.0.2.0/24", "192.0.3.0"),
            ("0.0.0.0/0", "::1"),
            ("::/0", "10.0.0.1"),
            ("::/0", "::ffff:10.0.0.1"),
            ("10.0.0.128/25", "10.0.0.127"),
        ] {
            assert!(!network(outside).contains(ip(address)), "{outside} {address}");
        }
    }

    #[test]
    fn the_internet_is_what_is_left() {
        for public in [
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "2606:4700::1",
            "2001:200::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(is_public(ip(public)), "{public}");
        }
        for other in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip(other)), "{other}");
        }
    }

    #[test]
    fn clients_and_their_neighbours() {
        assert_eq!(IpNetwork::client(ip("::ffff:192.0.2.7")), network("192.0.2.7"));
        assert_eq!(IpNetwork::client(ip("2001:db8::7")), network("2001:db8::/64"));
        assert_eq!(IpNetwork::neighbourhood(ip("192.0.2.7")), network("192.0.2.0/24"));
        assert_eq!(IpNetwork::neighbourhood(ip("2001:db8::7")), network("2001:db8::/64"));
    }
}
