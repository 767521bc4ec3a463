//! Reads a body piece by piece, off the async threads where that takes a file.

use std::io;

use bytes::Bytes;
use mairust_core::Body;

/// How much of a body is read at once.
pub(super) const CHUNK: usize = 64 << 10;

/// The bytes of a body from `offset` on, at most [`CHUNK`]; none at the end.
pub(super) async fn read_chunk(body: &Body, offset: u64) -> io::Result<Bytes> {
    if let Some(bytes) = body.in_memory() {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        return Ok(bytes.slice(start..bytes.len().min(start + CHUNK)));
    }
    let body = body.clone();
    let read = move || {
        let mut buffer = vec![0; CHUNK];
        let count = body.read_at(offset, &mut buffer)?;
        buffer.truncate(count);
        Ok(Bytes::from(buffer))
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}
