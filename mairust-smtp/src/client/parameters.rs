//! What a message asks of a peer, and the commands that say so.

use std::io;

use mairust_core::{Body, EnhancedCode, Reply, ReversePath, TlsWish};

use super::chunk::read_chunk;
use super::{LineEnds, Outgoing, Receiver};
use crate::proto::extension::Extensions;

/// What the octets of a message are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Octets {
    /// A CR or LF stands alone.
    pub(super) binary: bool,
    /// Some are over 127.
    pub(super) eight_bit: bool,
    /// Some are over 127 in the header section (RFC 6532).
    pub(super) international_fields: bool,
}

impl Octets {
    /// Looks at a message as it is sent.
    pub(super) async fn of_message(message: &Outgoing) -> io::Result<Self> {
        let octets = Self::of(&message.body).await?;
        Ok(Self { binary: octets.binary && message.line_ends == LineEnds::Keep, ..octets })
    }

    async fn of(body: &Body) -> io::Result<Self> {
        let (mut found, mut scan, mut offset) = (Self::default(), Scan::default(), 0);
        loop {
            let chunk = read_chunk(body, offset).await?;
            if chunk.is_empty() {
                found.binary |= scan.after_cr;
                return Ok(found);
            }
            offset += chunk.len() as u64;
            scan.look(&chunk, &mut found);
        }
    }

    /// Why a peer can't get the message at all.
    pub(super) fn refusal(self, peer: &Extensions, sender: &ReversePath) -> Option<Reply> {
        if sender.address().is_some_and(mairust_core::EmailAddress::is_international) && !peer.international {
            return Some(needs_smtputf8());
        }
        if self.binary && !(peer.binary && peer.chunking) {
            let text = "The message is binary, and the next host takes lines only";
            return Some(Reply::new(554, EnhancedCode(5, 6, 3), text));
        }
        None
    }
}

/// Where a scan stands.
#[derive(Debug, Default)]
struct Scan {
    after_cr: bool,
    /// Octets since the last line began; the header section ends with an empty line.
    column: usize,
    in_body: bool,
}

impl Scan {
    fn look(&mut self, chunk: &[u8], found: &mut Octets) {
        for &octet in chunk {
            found.binary |= self.after_cr != (octet == b'\n');
            if octet == b'\n' && self.after_cr {
                self.in_body |= self.column == 1;
                self.column = 0;
            } else {
                self.column += 1;
            }
            self.after_cr = octet == b'\r';
            found.eight_bit |= octet > 127;
            found.international_fields |= octet > 127 && !self.in_body;
        }
    }
}

/// MAIL with the parameters that the peer understands.
///
/// `verified` says whether it has proved who it is, under TLS.
pub(super) fn mail_command(peer: &Extensions, message: &Outgoing, octets: Octets, verified: bool) -> String {
    let mut command = format!("MAIL FROM:{}", message.sender);
    if peer.size.is_some() {
        command.push_str(&format!(" SIZE={}", message.body.len()));
    }
    // A peer without 8BITMIME gets the same bytes: nearly all of them can do it, few say so.
    if octets.binary {
        command.push_str(" BODY=BINARYMIME");
    } else if peer.eight_bit && octets.eight_bit {
        command.push_str(" BODY=8BITMIME");
    }
    let addresses = message.recipients.iter().map(|to| &to.address).chain(message.sender.address());
    let international = octets.international_fields || addresses.into_iter().any(|address| address.is_international());
    if peer.international && international {
        command.push_str(" SMTPUTF8");
    }
    if message.tls == TlsWish::Required && peer.require_tls && verified {
        command.push_str(" REQUIRETLS");
    }
    if peer.dsn {
        if let Some(ret) = message.dsn.ret {
            command.push_str(&format!(" RET={}", ret.as_str()));
        }
        if let Some(id) = &message.dsn.envelope_id {
            command.push_str(&format!(" ENVID={id}"));
        }
    }
    command
}

/// RCPT with the parameters that the peer understands; or why it can't be asked.
pub(super) fn rcpt_command(peer: &Extensions, to: &Receiver) -> Result<String, Reply> {
    if to.address.is_international() && !peer.international {
        return Err(needs_smtputf8());
    }
    let mut command = format!("RCPT TO:<{}>", to.address);
    if peer.dsn {
        if let Some(notify) = to.dsn.notify {
            command.push_str(&format!(" NOTIFY={notify}"));
        }
        if let Some(original) = &to.dsn.original {
            command.push_str(&format!(" ORCPT={original}"));
        }
    }
    Ok(command)
}

/// RFC 6531 §3.5.
fn needs_smtputf8() -> Reply {
    Reply::new(553, EnhancedCode(5, 6, 7), "The next host takes no addresses outside of ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn octets(text: &[u8]) -> Octets {
        Octets::of(&Body::from(text.to_vec())).await.unwrap()
    }

    #[tokio::test]
    async fn what_a_message_holds() {
        assert_eq!(octets(b"A: b\r\n\r\nc\r\n").await, Octets::default());
        let in_body = octets("A: b\r\n\r\nあ\r\n".as_bytes()).await;
        assert!(in_body.eight_bit && !in_body.international_fields);
        assert!(octets("A: あ\r\n\r\n".as_bytes()).await.international_fields);
        assert!(octets("A: b\r\nC: あ\r\n\r\n".as_bytes()).await.international_fields);
        assert!(!octets("\r\nあ".as_bytes()).await.international_fields);
        for binary in [&b"a\nb"[..], b"a\rb", b"a\r", b"\n", b"a\r\r\n"] {
            assert!(octets(binary).await.binary, "{}", binary.escape_ascii());
        }
    }
}
