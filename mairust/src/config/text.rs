//! Values that are written as text: sizes, durations, addresses, host names.
//!
//! Each form is known to serde, to the JSON schema (as its `format`) and to the loader by one
//! implementation of [`TextForm`].

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mairust_core::{
    ByteSize, Domain, EmailAddress, IpNetwork, NetworkError, Rate, SenderPattern, parse_duration, render_duration,
};
use mairust_hooks::EndpointUrl;
use mairust_hooks::scan::rspamd::RspamdEndpoint;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::model::Relay;
use super::secret::SecretRef;

/// A value with a text form.
pub(super) trait TextForm: Sized {
    /// The `format` in the JSON schema. Own names, so that no validator takes them for others.
    const FORMAT: &'static str;
    /// A regular expression for editors; the loader does not use it.
    const PATTERN: &'static str;

    /// Reads the text form.
    ///
    /// # Errors
    /// What a right text looks like.
    fn read(text: &str) -> Result<Self, String>;

    /// Writes the text form.
    fn write(&self) -> String;
}

/// A value that is a string in YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text<T>(pub(super) T);

pub(super) type SizeText = Text<ByteSize>;
pub(super) type DurationText = Text<Duration>;
pub(super) type AddressText = Text<SocketAddr>;
pub(super) type IpText = Text<IpAddr>;
pub(super) type EmailText = Text<EmailAddress>;
pub(super) type HostText = Text<Domain>;
pub(super) type NetworkText = Text<IpNetwork>;
/// A rate, or none.
pub(super) type RateText = Text<Option<Rate>>;
pub(super) type RelayText = Text<Relay>;
pub(super) type SecretText = Text<SecretRef>;
pub(super) type SenderText = Text<SenderPattern>;
pub(super) type EndpointText = Text<RspamdEndpoint>;
pub(super) type UrlText = Text<EndpointUrl>;

/// Checks a text against the form with this `format`; a text of no known form is right.
///
/// # Errors
/// What a right text looks like, without repeating the text.
pub(super) fn check_form(format: &str, text: &str) -> Result<(), String> {
    match format {
        ByteSize::FORMAT => ByteSize::read(text).map(drop),
        Domain::FORMAT => Domain::read(text).map(drop),
        EndpointUrl::FORMAT => EndpointUrl::read(text).map(drop),
        Duration::FORMAT => Duration::read(text).map(drop),
        IpAddr::FORMAT => IpAddr::read(text).map(drop),
        IpNetwork::FORMAT => IpNetwork::read(text).map(drop),
        Option::<Rate>::FORMAT => Option::<Rate>::read(text).map(drop),
        EmailAddress::FORMAT => EmailAddress::read(text).map(drop),
        Relay::FORMAT => Relay::read(text).map(drop),
        SecretRef::FORMAT => SecretRef::read(text).map(drop),
        RspamdEndpoint::FORMAT => RspamdEndpoint::read(text).map(drop),
        ScoreNumber::FORMAT => ScoreNumber::read(text).map(drop),
        SenderPattern::FORMAT => SenderPattern::read(text).map(drop),
        SocketAddr::FORMAT => SocketAddr::read(text).map(drop),
        ThresholdNumber::FORMAT => ThresholdNumber::read(text).map(drop),
        _ => Ok(()),
    }
}

impl<T: TextForm> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.write())
    }
}

impl<'de, T: TextForm> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::read(&text).map(Text).map_err(serde::de::Error::custom)
    }
}

impl<T: TextForm> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": T::FORMAT, "pattern": T::PATTERN })
    }
}

impl TextForm for ByteSize {
    const FORMAT: &'static str = "mairust-size";
    const PATTERN: &'static str = "^[0-9]+ ?(B|KiB|MiB|GiB)?$";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write a number with KiB, MiB or GiB, for example 25MiB".to_owned())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl TextForm for Duration {
    const FORMAT: &'static str = "mairust-duration";
    const PATTERN: &'static str = "^[0-9]+ ?(ms|s|m|h|d)$";

    fn read(text: &str) -> Result<Self, String> {
        parse_duration(text).map_err(|_| "write a number with ms, s, m, h or d, for example 30s".to_owned())
    }

    fn write(&self) -> String {
        render_duration(*self)
    }
}

impl TextForm for SocketAddr {
    const FORMAT: &'static str = "mairust-address";
    const PATTERN: &'static str = "^.+:[0-9]{1,5}$";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write an IP address and a port, for example 0.0.0.0:25 or \"[::]:25\"".to_owned())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl TextForm for IpAddr {
    const FORMAT: &'static str = "mairust-ip";
    const PATTERN: &'static str = "^[0-9A-Fa-f.:]+$";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write an IP address, for example 192.0.2.1 or 2001:db8::1".to_owned())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl TextForm for EmailAddress {
    const FORMAT: &'static str = "mairust-email";
    const PATTERN: &'static str = "^.+@.+$";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write a mail address, for example admin@example.com".to_owned())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl TextForm for Domain {
    const FORMAT: &'static str = "mairust-host";
    const PATTERN: &'static str = "^[A-Za-z0-9._-]+$";

    fn read(text: &str) -> Result<Self, String> {
        match Self::parse(text) {
            Ok(domain) if !domain.is_literal() => Ok(domain),
            _ => Err("write a host name, for example mail.example.com".to_owned()),
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl TextForm for IpNetwork {
    const FORMAT: &'static str = "mairust-network";
    const PATTERN: &'static str = "^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| match error {
            NetworkError::HostBits(network) => format!("the network of this address is {network}"),
            _ => "write a network or an address, for example 192.0.2.0/24 or 2001:db8::/32".to_owned(),
        })
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl TextForm for Option<Rate> {
    const FORMAT: &'static str = "mairust-rate";
    const PATTERN: &'static str = "^(unlimited|[0-9]+ ?/ ?[0-9]+ ?(ms|s|m|h|d))$";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| "write a number and a time, for example 60/1m, or unlimited".to_owned()),
        }
    }

    fn write(&self) -> String {
        self.map_or_else(|| "unlimited".to_owned(), |rate| rate.to_string())
    }
}

impl TextForm for Relay {
    const FORMAT: &'static str = "mairust-host-port";
    const PATTERN: &'static str = "^.+:[0-9]{1,5}$";

    fn read(text: &str) -> Result<Self, String> {
        let advice = || "write a host and a port, for example smtp.example.com:587 or \"[::1]:25\"".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(advice)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(advice)?;
        let bracketed = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().map_err(|_| advice())?.to_string(),
            None => Domain::read(host).map_err(|_| advice())?.to_string(),
        };
        Ok(Self { host, port })
    }

    fn write(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

impl TextForm for EndpointUrl {
    const FORMAT: &'static str = "mairust-base-url";
    const PATTERN: &'static str = "^https?://[^?#]+$";

    fn read(text: &str) -> Result<Self, String> {
        let advice = || "write a URL without a query, for example https://mail.example.com".to_owned();
        Self::parse(text).ok().filter(|url| !url.as_str().contains('?')).ok_or_else(advice)
    }

    fn write(&self) -> String {
        self.as_str().to_owned()
    }
}

impl TextForm for SenderPattern {
    const FORMAT: &'static str = "mairust-sender";
    const PATTERN: &'static str = "^[^ ]+$";

    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl TextForm for RspamdEndpoint {
    const FORMAT: &'static str = "mairust-url";
    const PATTERN: &'static str = "^(http://[^/]+/?|unix:/.+)$";

    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// What a rule adds to a score. A number in YAML, which the loader takes for a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ScoreNumber(pub(super) f64);

/// A score from which on something is done: a number, or `never`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ThresholdNumber(pub(super) Option<f64>);

impl ScoreNumber {
    const FORMAT: &'static str = "mairust-score";

    fn read(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        number.map(Self).ok_or_else(|| "write a number, for example 2.5".to_owned())
    }
}

impl ThresholdNumber {
    const FORMAT: &'static str = "mairust-threshold";
    const NEVER: &'static str = "never";

    fn read(text: &str) -> Result<Self, String> {
        if text == Self::NEVER {
            return Ok(Self(None));
        }
        let number = ScoreNumber::read(text).map_err(|_| "write a number, for example 6, or never".to_owned())?;
        Ok(Self(Some(number.0)))
    }
}

impl Serialize for ScoreNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl Serialize for ThresholdNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(number) => serializer.serialize_f64(number),
            None => serializer.serialize_str(Self::NEVER),
        }
    }
}

impl<'de> Deserialize<'de> for ScoreNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ThresholdNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ScoreNumber {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Self::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "format": Self::FORMAT })
    }
}

impl JsonSchema for ThresholdNumber {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Self::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "string"], "format": Self::FORMAT, "pattern": "^never$" })
    }
}

/// `host:port`, with brackets around an IPv6 address.
impl std::fmt::Display for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.write())
    }
}

impl std::str::FromStr for Relay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_read_back() {
        for text in ["smtp.example.com:587", "127.0.0.1:25", "[::1]:2525"] {
            assert_eq!(Relay::read(text).unwrap().write(), text);
        }
        for text in ["", "host", "host:", "host:0", "host:65536", ":25", "::1:25", "[::1:25", "[x]:25", "a b:25"] {
            assert!(Relay::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_form_is_checked_by_its_name() {
        for (format, right, wrong) in [
            (ByteSize::FORMAT, "25MiB", "25MB"),
            (Domain::FORMAT, "mx.example.com", "[127.0.0.1]"),
            (Duration::FORMAT, "5m", "5"),
            (IpAddr::FORMAT, "2001:db8::1", "[::1]"),
            (IpNetwork::FORMAT, "10.0.0.0/8", "10.0.0.1/8"),
            (Option::<Rate>::FORMAT, "60/1m", "60"),
            (Option::<Rate>::FORMAT, "unlimited", "none"),
            (EmailAddress::FORMAT, "a@例え.jp", "a"),
            (Relay::FORMAT, "a:25", "a"),
            (SecretRef::FORMAT, "env:KEY", "short"),
            (RspamdEndpoint::FORMAT, "http://127.0.0.1:11333", "https://rspamd"),
            (ScoreNumber::FORMAT, "-2.5", "inf"),
            (SenderPattern::FORMAT, "*.example.com", "*"),
            (SocketAddr::FORMAT, "[::]:25", "25"),
            (ThresholdNumber::FORMAT, "never", "always"),
        ] {
            assert_eq!(check_form(format, right), Ok(()), "{format}");
            assert!(check_form(format, wrong).is_err(), "{format}");
        }
    }
}
