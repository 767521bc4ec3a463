//! The suites against S3, with each way of encryption and without conditions.

use std::sync::Arc;

use mairust_store::{S3Bodies, S3Encryption, SqlStorage};
use tempfile::TempDir;

use super::awkward::{self, Conditions};
use super::weed;

mod plain {
    use super::plain;
    mairust_store::body_conformance_tests!(plain);
}

mod sse_s3 {
    use super::sse_s3;
    mairust_store::body_conformance_tests!(sse_s3);
}

mod sse_kms {
    use super::sse_kms;
    mairust_store::body_conformance_tests!(sse_kms);
}

mod conditions_ignored {
    use super::conditions_ignored;
    mairust_store::body_conformance_tests!(conditions_ignored);
}

mod conditions_refused {
    use super::conditions_refused;
    mairust_store::body_conformance_tests!(conditions_refused);
}

mod below_sqlite {
    use super::below_sqlite;
    mairust_store::conformance_tests!(below_sqlite);
}

async fn plain() -> (S3Bodies, ()) {
    encrypted(S3Encryption::None).await
}

async fn sse_s3() -> (S3Bodies, ()) {
    encrypted(S3Encryption::SseS3).await
}

async fn sse_kms() -> (S3Bodies, ()) {
    encrypted(S3Encryption::SseKms { key_id: "mail".to_owned() }).await
}

async fn encrypted(encryption: S3Encryption) -> (S3Bodies, ()) {
    let mut settings = weed::settings().await;
    settings.encryption = encryption;
    (S3Bodies::new(settings).unwrap(), ())
}

async fn conditions_ignored() -> (S3Bodies, ()) {
    (awkward::bodies(Conditions::Ignored).await, ())
}

async fn conditions_refused() -> (S3Bodies, ()) {
    (awkward::bodies(Conditions::Refused).await, ())
}

async fn below_sqlite() -> (SqlStorage, TempDir) {
    let (bodies, directory) = (sse_s3().await.0, TempDir::new().unwrap());
    let storage = SqlStorage::sqlite(directory.path().join("mail.db")).bodies(Arc::new(bodies)).with_search();
    (storage.open().await.unwrap(), directory)
}
