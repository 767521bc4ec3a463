//! What a program may see of a message.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mairust_core::content::{HeaderField, TextLeaf, header_fields, map_attachments, text_leaves};
use mairust_core::{Attachment, Mail, Origin};

use super::grants::{AttachmentGrant, BodyGrant, Grants};
use super::request::{
    AttachmentView, AuthUser, AuthView, BodyFacts, BodyType, BodyView, Client, DkimView, DmarcView, EnvelopeView,
    HeaderView, MailView, MailboxView, MessageView, Policy, RawView, RecipientView, Session, SessionOrigin, SpfView,
    Tls,
};
use crate::breaker::Fingerprint;
use crate::handler::HookPoint;

/// Octets of text and HTML together that [`BodyGrant::Full`] shows.
pub const FULL_BYTES: usize = 256 << 10;

/// What of attachments is shown under a grant.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// An attachment of so many octets is shown as a whole.
    whole: usize,
    /// So many octets of one that is larger.
    start: usize,
    /// So many attachments.
    parts: usize,
    /// So many octets of all together.
    total: usize,
}

/// The room for [`AttachmentGrant::Preview`].
const PREVIEW_ROOM: Room = Room { whole: 16 << 10, start: 4 << 10, parts: 8, total: 64 << 10 };

/// The room for [`AttachmentGrant::Full`]; no request has room for more than all of it.
const FULL_ROOM: Room = Room { whole: 64 << 10, start: 4 << 10, parts: usize::MAX, total: 4 << 20 };

/// A message that programs are to see.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Where in its way it is.
    pub hook: HookPoint,
    /// The message. Its recipients are those that the tenant may know of; for `post_receive`, the one of the mailbox.
    pub mail: &'a Mail,
    /// All octets of its body.
    pub octets: &'a [u8],
    /// What else is known about it.
    pub facts: &'a MailFacts,
    /// Where the message is to be found below the base of the callback, without a `/` at either end; `None` if nothing
    /// can be asked for.
    pub links: Option<&'a str>,
}

/// What is known about a message besides what a [`Mail`] tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MailFacts {
    /// What tells it from others.
    pub fingerprint: Fingerprint,
    /// By which way it came in.
    pub origin: SessionOrigin,
    /// The listener that took it.
    pub listener: Option<String>,
    /// The port of the client.
    pub client_port: Option<u16>,
    /// Who logged in.
    pub auth_user: Option<AuthUser>,
    /// Whether SMTPUTF8 was asked for.
    pub smtputf8: Option<bool>,
    /// The parameter BODY of MAIL FROM.
    pub body: Option<BodyType>,
    /// What the policy says.
    pub policy: Option<Policy>,
    /// Once it is stored: the mailbox that it is in.
    pub mailbox: Option<MailboxView>,
    /// Once it is stored: its flags.
    pub flags: Option<Vec<String>>,
    /// Once it is stored: its tags.
    pub tags: Option<Vec<String>>,
}

impl MailFacts {
    /// What is known of any message.
    pub fn new(fingerprint: Fingerprint, origin: SessionOrigin) -> Self {
        Self {
            fingerprint,
            origin,
            listener: None,
            client_port: None,
            auth_user: None,
            smtputf8: None,
            body: None,
            policy: None,
            mailbox: None,
            flags: None,
            tags: None,
        }
    }
}

impl View<'_> {
    /// What may be seen under these grants. Nothing that is shown to programs is made anywhere else.
    ///
    /// Parses the message for each of header fields, text and attachments that may be seen.
    pub fn under(&self, grants: &Grants) -> MailView {
        let known = grants.read_envelope;
        let facts = self.facts;
        MailView {
            redacted: self.redacted(grants),
            session: known.then(|| self.session()).flatten(),
            envelope: known.then(|| self.envelope()),
            auth_results: known.then(|| self.auth_results()).flatten(),
            policy: facts.policy.clone().filter(|_| known),
            message: self.message(grants),
            mailbox: facts.mailbox.clone().map(|mailbox| MailboxView {
                address: mailbox.address.filter(|_| known),
                folder: mailbox.folder.filter(|_| known),
                ..mailbox
            }),
            flags: facts.flags.clone().filter(|_| known),
            tags: facts.tags.clone().filter(|_| known),
        }
    }

    /// What is left out. It depends on the hook and the grants, not on what the message has.
    fn redacted(&self, grants: &Grants) -> Vec<String> {
        let mut names = Vec::new();
        if !grants.read_envelope {
            names.extend(["session", "envelope"]);
            names.extend((self.hook != HookPoint::PreSend).then_some("auth_results"));
            names.extend(["policy", "message.fingerprint"]);
        }
        match (grants.read_headers, &grants.read_headers_only) {
            (false, _) => names.push("message.headers"),
            (true, Some(_)) => names.push("message.headers.others"),
            (true, None) => {}
        }
        names.extend(match grants.read_body {
            BodyGrant::None => Some("message.body"),
            BodyGrant::Preview => Some("message.body.full"),
            BodyGrant::Full => None,
        });
        names.extend(match grants.read_attachments {
            AttachmentGrant::None => Some("message.attachments"),
            AttachmentGrant::Metadata => Some("message.attachments[].content"),
            AttachmentGrant::Preview => Some("message.attachments[].content.full"),
            AttachmentGrant::Full => None,
        });
        if !grants.read_envelope && self.hook == HookPoint::PostReceive {
            names.extend(["mailbox.address", "mailbox.folder", "flags", "tags"]);
        }
        names.into_iter().map(str::to_owned).collect()
    }

    fn session(&self) -> Option<Session> {
        let (origin, facts) = (self.mail.origin(), self.facts);
        let is_known = *origin != Origin::default() || facts.auth_user.is_some();
        if !is_known && facts.origin != SessionOrigin::Internal {
            return None;
        }
        let iprev = self.mail.auth_results().and_then(|results| results.iprev.as_ref());
        let client = origin.client.map(|ip| Client {
            ip,
            port: facts.client_port,
            ptr: iprev.and_then(|iprev| iprev.name.clone()),
        });
        Some(Session {
            origin: facts.origin,
            listener: facts.listener.clone(),
            client,
            helo: origin.helo.clone(),
            tls: origin.tls.as_ref().map(|tls| Tls { version: tls.version.clone(), cipher: tls.cipher.clone() }),
            auth_user: facts.auth_user.clone(),
        })
    }

    fn envelope(&self) -> EnvelopeView {
        let envelope = self.mail.envelope();
        let recipient = |address: &mairust_core::EmailAddress| RecipientView { address: address.to_string() };
        EnvelopeView {
            mail_from: envelope.sender.address().map(ToString::to_string),
            rcpt_to: envelope.recipients.iter().map(recipient).collect(),
            smtputf8: self.facts.smtputf8,
            body: self.facts.body,
        }
    }

    fn auth_results(&self) -> Option<AuthView> {
        if self.hook == HookPoint::PreSend {
            return None;
        }
        let results = self.mail.auth_results()?;
        let spf = results.spf.as_ref().or(results.spf_helo.as_ref());
        let dkim = results.dkim.iter().map(|found| DkimView {
            result: found.outcome.to_string(),
            domain: found.domain.clone(),
            selector: found.selector.clone(),
        });
        Some(AuthView {
            spf: spf.map(|found| SpfView { result: found.outcome.to_string(), domain: found.domain.clone() }),
            dkim: dkim.collect(),
            dmarc: results.dmarc.as_ref().map(|found| DmarcView {
                result: found.outcome.to_string(),
                policy: found.policy.map(|policy| policy.as_str().to_owned()),
                domain: found.domain.clone(),
            }),
        })
    }

    fn message(&self, grants: &Grants) -> MessageView {
        let size = self.octets.len() as u64;
        let raw = self.link("raw").filter(|_| grants.shows_everything()).map(|href| RawView { href, size });
        MessageView {
            id: self.mail.id().map(|id| id.to_string()),
            size,
            fingerprint: grants.read_envelope.then(|| format!("sha256:{}", hex(&self.facts.fingerprint.0))),
            has_attachments: !self.mail.content().attachments.is_empty(),
            headers: grants.read_headers.then(|| {
                let seen = header_fields(self.octets).into_iter().filter(|field| grants.shows_header(&field.name));
                seen.map(header).collect()
            }),
            headers_truncated: false,
            body: match grants.read_body {
                BodyGrant::None => None,
                BodyGrant::Preview => Some(preview(text_leaves(self.octets), grants.preview_limit())),
                BodyGrant::Full => Some(full(self.octets, self.link("body"))),
            },
            attachments: match grants.read_attachments {
                AttachmentGrant::None => None,
                AttachmentGrant::Metadata => Some(self.attachments()),
                AttachmentGrant::Preview => Some(self.attachments_with_content(PREVIEW_ROOM)),
                AttachmentGrant::Full => {
                    let mut seen = self.attachments_with_content(FULL_ROOM);
                    for view in &mut seen {
                        view.href = self.link(&format!("attachments/{}", view.index));
                    }
                    Some(seen)
                }
            },
            attachments_truncated: false,
            raw,
        }
    }

    fn attachments(&self) -> Vec<AttachmentView> {
        (0..).zip(&self.mail.content().attachments).map(|(index, attachment)| metadata(index, attachment)).collect()
    }

    fn attachments_with_content(&self, mut room: Room) -> Vec<AttachmentView> {
        let contents = map_attachments(self.octets, |octets| {
            let shown = room.take(octets);
            (hex(digest(&SHA256, octets).as_ref()), shown.map(|part| STANDARD.encode(part)), shown != Some(octets))
        });
        let mut seen = self.attachments();
        for (view, (sha256, content, truncated)) in seen.iter_mut().zip(contents) {
            (view.sha256, view.content_b64, view.truncated) = (Some(sha256), content, Some(truncated));
        }
        seen
    }

    fn link(&self, place: &str) -> Option<String> {
        self.links.map(|message| format!("{message}/{place}"))
    }
}

impl Room {
    /// What is shown of the next attachment; `None` if there is no room for any.
    fn take<'o>(&mut self, octets: &'o [u8]) -> Option<&'o [u8]> {
        if self.parts == 0 || (self.total == 0 && !octets.is_empty()) {
            return None;
        }
        let fits = octets.len() <= self.whole.min(self.total);
        let shown = if fits { octets } else { &octets[..octets.len().min(self.start).min(self.total)] };
        (self.parts, self.total) = (self.parts - 1, self.total - shown.len());
        Some(shown)
    }
}

fn header(field: HeaderField) -> HeaderView {
    let (raw, raw_b64) = match String::from_utf8(field.octets) {
        Ok(text) if text.replace("\r\n", "").replace('\n', "") == field.value => (None, None),
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    };
    HeaderView { name: field.name, value: field.value, raw, raw_b64 }
}

fn metadata(index: u32, attachment: &Attachment) -> AttachmentView {
    AttachmentView {
        index,
        filename: attachment.filename.clone(),
        content_type: attachment.content_type.clone(),
        size: attachment.size,
        sha256: None,
        content_b64: None,
        truncated: None,
        href: None,
    }
}

/// The beginning of the first plain text, or else of the first HTML.
fn preview(mut leaves: Vec<TextLeaf>, limit: usize) -> BodyView {
    let first = leaves.iter().position(|leaf| leaf.media_type == "text/plain");
    let first = first.or_else(|| leaves.iter().position(TextLeaf::is_html));
    let Some(leaf) = first.map(|place| leaves.swap_remove(place)) else {
        return BodyView::Preview { text: None, facts: BodyFacts::default() };
    };
    let mut facts = facts(&leaf);
    let mut text = leaf.into_shown();
    facts.bytes_total = text.len() as u64;
    cut(&mut text, limit);
    facts.count(text.len());
    BodyView::Preview { text: Some(text), facts }
}

/// All texts of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeText {
    /// The plain text, or HTML reduced to text if there is no other; `None` if there is neither.
    pub text: Option<String>,
    /// The HTML as it was written.
    pub html: Option<String>,
    /// Where it comes from, and how much there is.
    pub facts: BodyFacts,
}

/// All texts of a message with these octets, decoded.
pub fn whole_text(octets: &[u8]) -> WholeText {
    let (html, plain): (Vec<_>, Vec<_>) = text_leaves(octets).into_iter().partition(TextLeaf::is_html);
    let mut facts = plain.first().or(html.first()).map(facts).unwrap_or_default();
    facts.lossy = plain.iter().chain(&html).any(|leaf| leaf.lossy);
    let written = (!html.is_empty()).then(|| html.iter().map(|leaf| leaf.text.as_str()).collect::<Vec<_>>().join("\n"));
    let shown = if plain.is_empty() { html } else { plain };
    let text = (!shown.is_empty()).then(|| shown.into_iter().map(TextLeaf::into_shown).collect::<Vec<_>>().join("\n"));
    facts.bytes_total = (length(&text) + length(&written)) as u64;
    WholeText { text, html: written, facts }
}

/// All texts, as far as there is room. Neither text nor HTML takes the room of the other.
fn full(octets: &[u8], href: Option<String>) -> BodyView {
    let WholeText { mut text, mut html, mut facts } = whole_text(octets);
    let room = FULL_BYTES - length(&html).min(FULL_BYTES / 2);
    text.iter_mut().for_each(|text| cut(text, room));
    let room = FULL_BYTES - length(&text);
    html.iter_mut().for_each(|html| cut(html, room));
    facts.count(length(&text) + length(&html));
    BodyView::Full { text, html, facts, href }
}

fn length(part: &Option<String>) -> usize {
    part.as_ref().map_or(0, String::len)
}

fn facts(leaf: &TextLeaf) -> BodyFacts {
    BodyFacts {
        source: Some(leaf.media_type.clone()),
        charset: leaf.charset.clone(),
        lossy: leaf.lossy,
        ..BodyFacts::default()
    }
}

impl BodyFacts {
    /// Takes note of how many octets are shown.
    pub(super) fn count(&mut self, shown: usize) {
        self.bytes = shown as u64;
        self.truncated = self.bytes < self.bytes_total;
    }
}

/// Cuts at a character.
fn cut(text: &mut String, octets: usize) {
    text.truncate(text.floor_char_boundary(octets));
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
