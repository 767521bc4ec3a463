//! Lines of a stream whose writer is not trusted: what is too long is cut, and the rest of it is passed over.

use std::io;
use std::mem::take;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Reads lines, and keeps of each as much as is allowed.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
    line: Line,
    has_begun: bool,
}

/// A line without its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) octets: Vec<u8>,
    /// Whether there was more of it.
    pub(super) is_cut: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Keeps up to `limit` octets of each line.
    pub(super) fn new(reader: R, limit: usize) -> Self {
        Self { reader: BufReader::new(reader), limit, line: Line::default(), has_begun: false }
    }

    /// The next line; `None` after the last one. Safe to drop: what was read is kept for the next call.
    ///
    /// # Errors
    /// When the stream can't be read.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok(take(&mut self.has_begun).then(|| take(&mut self.line)));
            }
            let end = available.iter().position(|octet| *octet == b'\n');
            let (part, used) = match end {
                Some(end) => (&available[..end], end + 1),
                None => (available, available.len()),
            };
            self.line.add(part, self.limit);
            self.reader.consume(used);
            self.has_begun = end.is_none();
            if end.is_some() {
                return Ok(Some(take(&mut self.line)));
            }
        }
    }
}

impl Line {
    fn add(&mut self, part: &[u8], limit: usize) {
        let room = limit.saturating_sub(self.octets.len());
        self.is_cut |= part.len() > room;
        self.octets.extend_from_slice(&part[..part.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8], limit: usize) -> Vec<(Vec<u8>, bool)> {
        let (mut lines, mut found) = (Lines::new(text, limit), Vec::new());
        while let Some(line) = lines.next().await.unwrap() {
            found.push((line.octets, line.is_cut));
        }
        found
    }

    #[tokio::test]
    async fn a_line_ends_where_it_ends() {
        let line = |text: &str| (text.as_bytes().to_vec(), false);
        assert_eq!(lines(b"", 9).await, []);
        assert_eq!(lines(b"\n\na\r\nb", 9).await, [line(""), line(""), line("a\r"), line("b")]);
        let long = vec![b'x'; 100_000];
        assert_eq!(lines(&long, 200_000).await, [(long.clone(), false)]);
    }

    #[tokio::test]
    async fn what_is_too_long_is_passed_over() {
        let text = [vec![b'x'; 100_000], b"\nnext\n".to_vec()].concat();
        assert_eq!(lines(&text, 4).await, [(b"xxxx".to_vec(), true), (b"next".to_vec(), false)]);
        assert_eq!(lines(b"abcd\n", 4).await, [(b"abcd".to_vec(), false)]);
    }
}
