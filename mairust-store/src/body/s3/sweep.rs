//! Uploads in parts that a crash left behind: invisible, but paid for.
//!
//! `object_store` can't list them; the request is signed by it and answered here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use http::Method;
use mairust_core::Timestamp;
use object_store::Error;
use object_store::client::{HttpRequestBody, HttpResponseBody};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use serde::Deserialize;

use super::client::{Call, Client};
use crate::body::is_key;
use crate::error::StoreError;

/// When the next sweep is due.
#[derive(Debug, Default)]
pub(super) struct Due(Mutex<Option<Timestamp>>);

/// The answer to ListMultipartUploads.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Uploads {
    upload: Vec<Upload>,
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
    initiated: String,
}

/// No upload of ours takes that long; also how often it is swept.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// A page has 1,000 uploads at most, each with a key of 1 KiB at most.
const LARGEST_ANSWER: usize = 4 << 20;
/// Pages of one sweep. A server that never comes to an end would hold us forever.
const MOST_PAGES: usize = 100;

impl Due {
    /// Whether a sweep is due now; if so, the next one is due in a day.
    pub(super) fn claim(&self, now: Timestamp) -> bool {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = due.is_none_or(|due| due <= now);
        if is_due {
            *due = Some(now.plus(AGE));
        }
        is_due
    }
}

/// Aborts uploads of ours that began more than a day ago; returns how many.
pub(super) async fn sweep(client: &Client, now: Timestamp) -> Result<u64, StoreError> {
    let (mut aborted, mut markers) = (0, Vec::new());
    for _ in 0..MOST_PAGES {
        let call = Call { operation: "sweep uploads", what: "list" };
        let page = client.within(client.deadline(), call, list(client, &markers)).await?;
        for upload in page.upload.iter().filter(|upload| upload.is_left_behind(client, now)) {
            abort(client, upload).await?;
            aborted += 1;
        }
        if !page.is_truncated {
            break;
        }
        markers = vec![("key-marker", page.next_key_marker), ("upload-id-marker", page.next_upload_id_marker)];
    }
    Ok(aborted)
}

impl Upload {
    fn is_left_behind(&self, client: &Client, now: Timestamp) -> bool {
        let began = Timestamp::parse_rfc3339(&self.initiated);
        let key = self.key.strip_prefix(client.settings.place("").as_str());
        key.is_some_and(is_key) && began.is_some_and(|began| now.since(began) > AGE)
    }
}

async fn abort(client: &Client, upload: &Upload) -> Result<(), StoreError> {
    let call = Call { operation: "sweep uploads", what: &upload.key };
    let path = Path::from(upload.key.as_str());
    let aborted = client.store.abort_multipart(&path, &upload.upload_id);
    client.within(client.deadline(), call, aborted).await?;
    tracing::info!(key = upload.key, began = upload.initiated, "an upload that was never finished is aborted");
    Ok(())
}

/// One page of unfinished uploads under our prefix.
async fn list(client: &Client, markers: &[(&str, String)]) -> Result<Uploads, Error> {
    let mut query = vec![("uploads", String::new()), ("prefix", client.settings.place(""))];
    query.extend(markers.iter().cloned());
    let options = SignedUrlOptions::new().with_query(query);
    let url = client.store.signed_url_opts(Method::GET, &Path::default(), client.settings.deadline, &options).await?;
    let request = http::Request::get(url.as_str()).body(HttpRequestBody::empty()).map_err(failed)?;
    let (head, body) = client.http.execute(request).await.map_err(failed)?.into_parts();
    let text = text(body).await?;
    if !head.status.is_success() {
        return Err(failed(format!("the server answers {}: {text}", head.status)));
    }
    quick_xml::de::from_str(&text).map_err(failed)
}

async fn text(body: HttpResponseBody) -> Result<String, Error> {
    let (mut pieces, mut text) = (body.bytes_stream(), Vec::new());
    while let Some(piece) = pieces.next().await {
        text.extend_from_slice(&piece.map_err(failed)?);
        if text.len() > LARGEST_ANSWER {
            return Err(failed("the answer is too long"));
        }
    }
    String::from_utf8(text).map_err(failed)
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "S3", source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whether_there_are_uploads_or_not() {
        let none: Uploads = quick_xml::de::from_str(
            "<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>",
        )
        .unwrap();
        assert!(none.upload.is_empty() && !none.is_truncated);
        let two: Uploads = quick_xml::de::from_str(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Bucket>b</Bucket><KeyMarker/><NextKeyMarker>t/m/2.eml</NextKeyMarker>
              <NextUploadIdMarker>b&amp;c</NextUploadIdMarker><IsTruncated>true</IsTruncated>
              <Upload><Key>t/m/1.eml</Key><UploadId>a</UploadId><Initiator><ID>x</ID></Initiator>
                <StorageClass>STANDARD</StorageClass><Initiated>2026-11-10T20:48:33.000Z</Initiated></Upload>
              <Upload><Key>t/m/2.eml</Key><UploadId>b&amp;c</UploadId><Initiated>never</Initiated></Upload>
            </ListMultipartUploadsResult>"#,
        )
        .unwrap();
        let ids: Vec<_> = two.upload.iter().map(|upload| upload.upload_id.as_str()).collect();
        assert_eq!((ids, two.is_truncated, two.next_upload_id_marker.as_str()), (vec!["a", "b&c"], true, "b&c"));
    }

    #[test]
    fn a_sweep_is_due_once_a_day() {
        let (due, now) = (Due::default(), Timestamp::from_unix(1_763_780_646));
        assert!(due.claim(now));
        assert!(!due.claim(now.plus(AGE - Duration::from_secs(1))));
        assert!(due.claim(now.plus(AGE)));
        assert!(!due.claim(now.plus(AGE)));
    }
}
