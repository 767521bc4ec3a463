//! The header fields that are put in front of a message when it is taken.

use mairust_core::{Domain, EmailAddress, MessageId, Origin, ReversePath, Timestamp};
use mairust_smtp::server::{Service, SessionInfo};

/// What a trace prefix tells.
#[derive(Debug)]
pub(crate) struct Trace<'a> {
    /// Our name.
    pub(crate) hostname: &'a Domain,
    /// Where the message comes from.
    pub(crate) origin: &'a Origin,
    /// By which protocol (RFC 3848): `ESMTPS`, `HTTP`, …
    pub(crate) protocol: &'a str,
    /// The id under which we took it.
    pub(crate) id: MessageId,
    /// Its only recipient; `None` if there are several, for they must not learn of one another.
    pub(crate) recipient: Option<&'a EmailAddress>,
    /// When.
    pub(crate) at: Timestamp,
}

impl Trace<'_> {
    /// The Received field (RFC 5321 §4.4), folded, with its final CRLF.
    pub(crate) fn received(&self) -> String {
        let mut field = String::from("Received: ");
        if self.origin.helo.is_some() || self.origin.client.is_some() {
            let helo = self.origin.helo.as_deref().filter(|helo| is_plain(helo)).unwrap_or("unknown");
            field.push_str(&format!("from {helo}"));
            match self.origin.client {
                Some(std::net::IpAddr::V4(ip)) => field.push_str(&format!(" ([{ip}])")),
                Some(std::net::IpAddr::V6(ip)) => field.push_str(&format!(" ([IPv6:{ip}])")),
                None => {}
            }
            field.push_str("\r\n\t");
        }
        field.push_str(&format!("by {} (MaiRust) with {} id {}", self.hostname, self.protocol, self.id));
        if let Some(tls) = &self.origin.tls {
            field.push_str(&format!("\r\n\t(using {} with cipher {})", tls.version, tls.cipher));
        }
        if let Some(recipient) = self.recipient {
            field.push_str(&format!("\r\n\tfor <{recipient}>"));
        }
        field.push_str(&format!(";\r\n\t{}\r\n", self.at.to_rfc5322()));
        field
    }
}

/// The Return-Path field of final delivery (RFC 5321 §4.4), with its CRLF.
pub(crate) fn return_path(sender: &ReversePath) -> String {
    format!("Return-Path: {sender}\r\n")
}

/// The name of the protocol by which the message comes (RFC 3848, RFC 6531 §4.3).
pub(crate) fn smtp_protocol(session: &SessionInfo) -> &'static str {
    match (session.peer.service, session.options.international, session.extended) {
        (Service::Lmtp, false, _) => variant(["LMTP", "LMTPA", "LMTPS", "LMTPSA"], &session.origin),
        (Service::Lmtp, true, _) => variant(["UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA"], &session.origin),
        (_, true, _) => variant(["UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"], &session.origin),
        (_, false, true) => variant(["ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA"], &session.origin),
        (_, false, false) => "SMTP",
    }
}

/// Of four names, the one for what is known: nothing, a user, TLS, or both.
fn variant(names: [&'static str; 4], origin: &Origin) -> &'static str {
    names[usize::from(origin.user.is_some()) + 2 * usize::from(origin.tls.is_some())]
}

/// A greeting argument that may stand in a header field as it is.
fn is_plain(helo: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    !helo.is_empty() && helo.len() <= 255 && helo.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use mairust_core::TlsFacts;

    use super::*;

    #[test]
    fn tells_where_a_message_came_from() {
        let at = Timestamp::from_unix(1_763_780_646);
        let id = MessageId::new(at);
        let hostname = Domain::parse("mx.example.com").unwrap();
        let recipient = EmailAddress::parse("bob@example.com").unwrap();
        let origin = Origin {
            client: Some("192.0.2.7".parse().unwrap()),
            helo: Some("mx.sender.example".to_owned()),
            tls: Some(TlsFacts { version: "TLSv1.3".to_owned(), cipher: "TLS13_AES_256_GCM_SHA384".to_owned() }),
            ..Origin::default()
        };
        let trace = Trace {
            hostname: &hostname,
            origin: &origin,
            protocol: variant(["ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA"], &origin),
            id,
            recipient: Some(&recipient),
            at,
        };
        assert_eq!(
            trace.received(),
            format!(
                "Received: from mx.sender.example ([192.0.2.7])\r\n\
                 \tby mx.example.com (MaiRust) with ESMTPS id {id}\r\n\
                 \t(using TLSv1.3 with cipher TLS13_AES_256_GCM_SHA384)\r\n\
                 \tfor <bob@example.com>;\r\n\tSat, 22 Nov 2025 03:04:06 +0000\r\n"
            )
        );
        assert_eq!(return_path(&ReversePath::Null), "Return-Path: <>\r\n");
    }

    #[test]
    fn a_greeting_can_not_forge_a_field() {
        let (hostname, at) = (Domain::parse("mx").unwrap(), Timestamp::default());
        let origin = Origin { helo: Some("a (evil) by b".to_owned()), ..Origin::default() };
        let trace = Trace {
            hostname: &hostname,
            origin: &origin,
            protocol: "SMTP",
            id: MessageId::new(at),
            recipient: None,
            at,
        };
        assert!(trace.received().starts_with("Received: from unknown\r\n\tby mx "));
    }
}
