//! Lists in pages, and the cursors between them.
//!
//! A cursor is the base64url of a version, the position of the last entry, a hash of the filters
//! and the tenant, signed under the master key: it can't be made up, carried to another tenant or
//! used with other filters.

use aws_lc_rs::digest;
use axum::http::uri::Uri;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mairust_core::{MessageId, TenantId, Timestamp};
use mairust_store::MessagePosition;
use serde::de::DeserializeOwned;

use crate::auth::MasterKey;
use crate::problem::{ErrorCode, Problem};

const VERSION: u8 = 1;
const SIGNED_LENGTH: usize = 1 + 8 + 16 + 32 + 16;
/// Tells signatures of cursors from those of anything else under the master key.
const LABEL: &[u8] = b"mairust list cursor: ";

/// What a cursor belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CursorContext<'a> {
    pub(crate) master: &'a MasterKey,
    pub(crate) tenant: TenantId,
    pub(crate) filter_hash: [u8; 32],
}

impl CursorContext<'_> {
    /// The cursor behind a position.
    pub(crate) fn encode(&self, position: MessagePosition) -> String {
        let mut bytes = self.signed_part(position);
        let tag = self.master.sign(&labelled(&bytes));
        bytes.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position in a cursor, if it was made for this context.
    pub(crate) fn decode(&self, cursor: &str) -> Result<MessagePosition, Problem> {
        self.position(cursor).ok_or_else(|| {
            Problem::new(ErrorCode::InvalidCursor, "this cursor was not made for this list")
                .hint("Take next_cursor as it is, and keep the filters the same from page to page")
        })
    }

    fn position(&self, cursor: &str) -> Option<MessagePosition> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (signed, tag) = bytes.split_at_checked(SIGNED_LENGTH)?;
        if !self.master.verify(&labelled(signed), tag) {
            return None;
        }
        let received_at = Timestamp::from_micros(i64::from_be_bytes(signed.get(1..9)?.try_into().ok()?));
        let id = MessageId::from_bytes(signed.get(9..25)?.try_into().ok()?);
        let position = MessagePosition { received_at, id };
        (self.signed_part(position) == signed).then_some(position)
    }

    fn signed_part(&self, position: MessagePosition) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SIGNED_LENGTH + 32);
        bytes.push(VERSION);
        bytes.extend_from_slice(&position.received_at.as_micros().to_be_bytes());
        bytes.extend_from_slice(position.id.as_bytes());
        bytes.extend_from_slice(&self.filter_hash);
        bytes.extend_from_slice(self.tenant.as_bytes());
        bytes
    }
}

/// SHA-256 over filters, in the order given; an absent filter is not an empty one.
pub(crate) fn filter_hash(filters: &[Option<String>]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for filter in filters {
        match filter {
            Some(value) => {
                context.update(&[1]);
                context.update(&(value.len() as u64).to_be_bytes());
                context.update(value.as_bytes());
            }
            None => context.update(&[0]),
        }
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Reads the query of a request; what it doesn't know, it refuses.
pub(crate) fn parse_query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let parsed = axum::extract::Query::try_from_uri(uri);
    parsed.map(|query| query.0).map_err(|rejection| {
        let cause = std::error::Error::source(&rejection).map(ToString::to_string);
        Problem::invalid_query(cause.unwrap_or_else(|| rejection.to_string()))
    })
}

/// Adds the header `Link` with the address of the next page (RFC 8288).
pub(crate) fn with_next_link(uri: &Uri, cursor: Option<&str>, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let link = cursor.and_then(|cursor| HeaderValue::from_str(&next_link(uri, cursor)).ok());
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

fn next_link(uri: &Uri, cursor: &str) -> String {
    let kept =
        uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let query: Vec<_> = kept.map(str::to_owned).chain([format!("cursor={cursor}")]).collect();
    format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"))
}

fn labelled(signed: &[u8]) -> Vec<u8> {
    [LABEL, signed].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> MessagePosition {
        let at = Timestamp::from_micros(1_763_780_646_123_456);
        MessagePosition { received_at: at, id: MessageId::from_bytes([5; 16]) }
    }

    #[test]
    fn a_cursor_is_good_for_its_own_context_only() {
        let (master, other_master) = (MasterKey::new([1; 32]), MasterKey::new([2; 32]));
        let filter_hash = super::filter_hash(&[Some("a".to_owned())]);
        let context = CursorContext { master: &master, tenant: TenantId::from_bytes([1; 16]), filter_hash };
        let cursor = context.encode(position());
        assert_eq!(context.decode(&cursor).unwrap(), position());
        assert!(CursorContext { master: &other_master, ..context }.decode(&cursor).is_err());
        assert!(CursorContext { tenant: TenantId::from_bytes([2; 16]), ..context }.decode(&cursor).is_err());
        assert!(CursorContext { filter_hash: [0; 32], ..context }.decode(&cursor).is_err());
    }

    #[test]
    fn no_changed_octet_goes_unnoticed() {
        let master = MasterKey::new([1; 32]);
        let context = CursorContext { master: &master, tenant: TenantId::from_bytes([1; 16]), filter_hash: [3; 32] };
        let bytes = URL_SAFE_NO_PAD.decode(context.encode(position())).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert!(context.decode(&URL_SAFE_NO_PAD.encode(&changed)).is_err(), "octet {index}");
        }
        for text in ["", "x", "!!", "AAAA"] {
            assert!(context.decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn filters_do_not_run_into_each_other() {
        let text = |value: &str| Some(value.to_owned());
        assert_ne!(filter_hash(&[text("ab"), text("c")]), filter_hash(&[text("a"), text("bc")]));
        assert_ne!(filter_hash(&[None]), filter_hash(&[text("")]));
    }

    #[test]
    fn the_next_link_replaces_the_cursor() {
        let uri = "/api/v1/messages?limit=2&cursor=old&from=a".parse().unwrap();
        assert_eq!(next_link(&uri, "new"), "</api/v1/messages?limit=2&from=a&cursor=new>; rel=\"next\"");
    }
}
