//! Lists in pages, and the cursors between them.
//!
//! A cursor is the base64url of a version, the position of the last entry, a hash of the filters
//! and the tenant, signed under the server key: it can't be made up, carried to another tenant or
//! used with other filters.

use aws_lc_rs::digest;
use axum::http::uri::Uri;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mairust_core::{JobId, MessageId, SuppressionId, TenantId, Timestamp, WebhookDeliveryId};
use mairust_store::{MessagePosition, QueuePosition};
use serde::de::DeserializeOwned;

use crate::auth::ServerKey;
use crate::problem::{ErrorCode, Problem};

const VERSION: u8 = 1;
/// Octets of a signature.
const TAG: usize = 32;
/// Octets of the hash of the filters, and of the tenant.
const CONTEXT_LENGTH: usize = 32 + 16;
/// Tells signatures of cursors from those of anything else under the server key.
const LABEL: &[u8] = b"mairust list cursor: ";

/// What a cursor belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CursorContext<'a> {
    pub(crate) key: &'a ServerKey,
    pub(crate) tenant: TenantId,
    pub(crate) filter_hash: [u8; 32],
}

/// A place in a list, as it stands in a cursor.
pub(crate) trait Position: Sized {
    /// Octets that tell it from others of its kind.
    fn to_bytes(&self) -> Vec<u8>;

    /// What [`to_bytes`](Self::to_bytes) wrote.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Position for MessagePosition {
    fn to_bytes(&self) -> Vec<u8> {
        [&self.received_at.as_micros().to_be_bytes()[..], self.id.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (at, id) = bytes.split_first_chunk()?;
        let received_at = Timestamp::from_micros(i64::from_be_bytes(*at));
        Some(Self { received_at, id: MessageId::from_bytes(id.try_into().ok()?) })
    }
}

impl Position for QueuePosition {
    fn to_bytes(&self) -> Vec<u8> {
        [&self.message.as_bytes()[..], self.job.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (message, job) = bytes.split_first_chunk()?;
        Some(Self { message: MessageId::from_bytes(*message), job: JobId::from_bytes(job.try_into().ok()?) })
    }
}

/// Lists in the order of their ids.
macro_rules! position_by_id {
    ($($id:ty)*) => {$(
        impl Position for $id {
            fn to_bytes(&self) -> Vec<u8> {
                self.as_bytes().to_vec()
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_bytes)
            }
        }
    )*};
}

position_by_id! { SuppressionId WebhookDeliveryId }

/// The id of a call of a hook.
impl Position for String {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_utf8(bytes.to_vec()).ok()
    }
}

/// The number of an entry of the audit log, or of an event.
impl Position for u64 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

impl CursorContext<'_> {
    /// The cursor behind a position.
    pub(crate) fn encode(&self, position: &impl Position) -> String {
        let mut bytes = self.signed_part(&position.to_bytes());
        let tag = self.key.sign(&labelled(&bytes));
        bytes.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position in a cursor, if it was made for this context.
    pub(crate) fn decode<P: Position>(&self, cursor: &str) -> Result<P, Problem> {
        self.position(cursor).ok_or_else(|| {
            Problem::new(ErrorCode::InvalidCursor, "this cursor was not made for this list")
                .hint("Take next_cursor as it is, and keep the filters the same from page to page")
        })
    }

    fn position<P: Position>(&self, cursor: &str) -> Option<P> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (signed, tag) = bytes.split_last_chunk::<TAG>()?;
        if !self.key.verify(&labelled(signed), tag) {
            return None;
        }
        let position = signed.get(1..signed.len().checked_sub(CONTEXT_LENGTH)?)?;
        (self.signed_part(position) == signed).then(|| P::from_bytes(position)).flatten()
    }

    fn signed_part(&self, position: &[u8]) -> Vec<u8> {
        [&[VERSION], position, &self.filter_hash, self.tenant.as_bytes()].concat()
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
        let (key, other_key) = (ServerKey::new([1; 32]), ServerKey::new([2; 32]));
        let filter_hash = super::filter_hash(&[Some("a".to_owned())]);
        let context = CursorContext { key: &key, tenant: TenantId::from_bytes([1; 16]), filter_hash };
        let cursor = context.encode(&position());
        assert_eq!(context.decode::<MessagePosition>(&cursor).unwrap(), position());
        assert!(context.decode::<u64>(&cursor).is_err());
        assert_eq!(context.decode::<u64>(&context.encode(&7_u64)).unwrap(), 7);
        assert!(CursorContext { key: &other_key, ..context }.decode::<MessagePosition>(&cursor).is_err());
        assert!(
            CursorContext { tenant: TenantId::from_bytes([2; 16]), ..context }
                .decode::<MessagePosition>(&cursor)
                .is_err()
        );
        assert!(CursorContext { filter_hash: [0; 32], ..context }.decode::<MessagePosition>(&cursor).is_err());
    }

    #[test]
    fn no_changed_octet_goes_unnoticed() {
        let key = ServerKey::new([1; 32]);
        let context = CursorContext { key: &key, tenant: TenantId::from_bytes([1; 16]), filter_hash: [3; 32] };
        let bytes = URL_SAFE_NO_PAD.decode(context.encode(&position())).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert!(context.decode::<MessagePosition>(&URL_SAFE_NO_PAD.encode(&changed)).is_err(), "octet {index}");
        }
        for text in ["", "x", "!!", "AAAA"] {
            assert!(context.decode::<MessagePosition>(text).is_err(), "{text}");
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
