//! Reading an archive: nothing of it is believed before all of it was looked at.

use std::collections::HashSet;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader};

use super::archive::PIECE;
use super::tar::{BLOCK, Header, Read};
use super::{BackupSummary, END, End, FORMAT, LARGEST_TEXT, MANIFEST, Manifest};
use crate::body::{digest_of_all, io_error, is_key};
use crate::error::{StoreError, StoreErrorKind};
use crate::observer::Observer;
use crate::sql::transfer::{TABLES, Table, hex};

/// An archive that is read from its beginning.
pub(crate) struct Archive {
    file: BufReader<File>,
    path: PathBuf,
    /// Of the whole file, in octets.
    len: u64,
    position: u64,
    hash: digest::Context,
}

/// A member, and where its octets are in the file.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) part: Part,
    pub(crate) offset: u64,
    header: Header,
}

/// What a member is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Manifest,
    Further,
    /// The rows of a table, and the number of the member among them.
    Rows {
        table: usize,
        number: u32,
    },
    /// A body: its key.
    Body(String),
    Gone {
        number: u32,
    },
    End,
}

/// What was found out about an archive.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) summary: BackupSummary,
    /// Keys of bodies whose messages were removed while the backup was made.
    pub(crate) gone: HashSet<String>,
}

/// Reads a backup from beginning to end: whether it is whole, and every octet the one that was written.
///
/// # Errors
/// `NotFound` if there is no such file; `Corrupt` if it is no backup, cut off, changed, or has members
/// that no backup has; `Invalid` if it has a form that this version does not know.
pub async fn verify(path: &Path, observer: &mut dyn Observer) -> Result<BackupSummary, StoreError> {
    verified(path, observer).await.map(|verified| verified.summary)
}

pub(crate) async fn verified(path: &Path, observer: &mut dyn Observer) -> Result<Verified, StoreError> {
    let mut archive = Archive::open(path).await?;
    observer.begins("bytes read back", Some(archive.len));
    let (mut before, mut manifest, mut gone, mut end) = (None, None, HashSet::new(), None);
    let (mut count, mut bodies) = (End::default(), Names::default());
    loop {
        let hash = archive.hash.clone();
        let Some(member) = archive.next().await? else { break };
        if !member.part.may_follow(before.as_ref()) {
            return Err(archive.corrupt(format_args!("{} is not where it should be", member.header.name)));
        }
        match &member.part {
            Part::Manifest => manifest = Some(archive.manifest(&member).await?),
            Part::Further => drop(archive.text(&member).await?),
            Part::Rows { table, .. } => {
                let text = archive.text(&member).await?;
                let lines = text.iter().filter(|octet| **octet == b'\n').count() as u64;
                count.rows += lines;
                count.messages += if TABLES[*table].name == "messages" { lines } else { 0 };
            }
            Part::Body(key) => {
                bodies.add(key);
                archive.pass(&member, observer).await?;
                count.bodies += 1;
            }
            Part::Gone { .. } => {
                for line in archive.lines(&member).await? {
                    let key = line.get("object").and_then(serde_json::Value::as_str).map(str::to_owned);
                    gone.insert(key.ok_or_else(|| archive.corrupt("a key is missing"))?);
                }
                count.gone = gone.len() as u64;
            }
            Part::End => {
                count.sha256 = hex(hash.finish().as_ref());
                let text = archive.text(&member).await?;
                end = serde_json::from_slice::<End>(&text).ok();
                if end.as_ref() != Some(&count) {
                    return Err(archive.corrupt("its contents are not those that were written"));
                }
            }
        }
        if !matches!(member.part, Part::Body(_)) {
            observer.advances(BLOCK as u64 + member.header.padded());
        }
        before = Some(member.part);
    }
    let (Some(manifest), Some(end)) = (manifest, end) else { return Err(archive.corrupt("it is cut off")) };
    archive.end().await?;
    if bodies.any_twice() {
        return Err(archive.corrupt("a body is in it twice"));
    }
    let End { rows, messages, bodies, .. } = end;
    Ok(Verified { summary: BackupSummary { manifest, rows, messages, bodies, bytes: archive.len }, gone })
}

/// Names, of which none may be there twice: 16 octets of memory for each.
#[derive(Default)]
struct Names(Vec<[u8; 16]>);

impl Names {
    fn add(&mut self, name: &str) {
        let hash = digest_of_all(name.as_bytes());
        self.0.extend(hash.first_chunk::<16>());
    }

    fn any_twice(mut self) -> bool {
        self.0.sort_unstable();
        self.0.windows(2).any(|pair| pair[0] == pair[1])
    }
}

impl Archive {
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error| io_error("read backup", &path.display(), error);
        let file = File::open(path).await.map_err(failed)?;
        let len = file.metadata().await.map_err(failed)?.len();
        let (file, hash) = (BufReader::with_capacity(PIECE, file), digest::Context::new(&digest::SHA256));
        Ok(Self { file, path: path.to_owned(), len, position: 0, hash })
    }

    /// The next member; its octets are to be read or skipped before the one after it. `None` at a block
    /// of zeros.
    pub(crate) async fn next(&mut self) -> Result<Option<Member>, StoreError> {
        let mut block = [0; BLOCK];
        self.read(&mut block).await?;
        let header = match Header::read(&block) {
            Some(Read::Member(header)) => header,
            Some(Read::End) => return Ok(None),
            None => return Err(self.corrupt(format_args!("octet {} begins no member of a backup", self.position))),
        };
        let Some(part) = Part::of(&header.name) else {
            return Err(self.corrupt(format_args!("no backup has a member {}", header.name)));
        };
        if header.padded() > self.len - self.position {
            return Err(self.corrupt("it is cut off"));
        }
        if !matches!(part, Part::Body(_)) && header.size > LARGEST_TEXT {
            return Err(self.corrupt(format_args!("{} is too large", header.name)));
        }
        Ok(Some(Member { part, offset: self.position, header }))
    }

    /// The octets of a member that is no body.
    pub(crate) async fn text(&mut self, member: &Member) -> Result<Vec<u8>, StoreError> {
        let too_large = || self.corrupt(format_args!("{} is too large", member.header.name));
        let mut text = vec![0; usize::try_from(member.header.padded()).map_err(|_| too_large())?];
        self.read(&mut text).await?;
        text.truncate(usize::try_from(member.header.size).unwrap_or(usize::MAX));
        Ok(text)
    }

    /// The lines of a member, each one a JSON object.
    pub(crate) async fn lines(&mut self, member: &Member) -> Result<Vec<crate::sql::transfer::Line>, StoreError> {
        let text = self.text(member).await?;
        let lines = text.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice);
        lines.collect::<Result<_, _>>().map_err(|error| {
            self.corrupt(format_args!("{} has a line that can't be read", member.header.name)).with_source(error)
        })
    }

    /// Goes behind a member without reading it.
    pub(crate) async fn skip(&mut self, member: &Member) -> Result<(), StoreError> {
        let padded = member.header.padded();
        self.position += padded;
        match usize::try_from(padded) {
            // What was read already is not read again.
            Ok(padded) if padded <= self.file.buffer().len() => self.file.consume(padded),
            _ => {
                let moved = self.file.seek(SeekFrom::Start(self.position)).await;
                moved.map_err(|error| io_error("read backup", &self.path.display(), error))?;
            }
        }
        Ok(())
    }

    async fn manifest(&mut self, member: &Member) -> Result<Manifest, StoreError> {
        let text = self.text(member).await?;
        let value: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|error| self.corrupt("its manifest can't be read").with_source(error))?;
        let format = value["format"].as_u64().unwrap_or_default();
        if format != u64::from(FORMAT) {
            let context = format!("{} has form {format}, and this version reads form {FORMAT}", self.path.display());
            return Err(StoreError::new(StoreErrorKind::Invalid, "read backup", context));
        }
        serde_json::from_value(value).map_err(|error| self.corrupt("its manifest can't be read").with_source(error))
    }

    /// Reads the octets of a body and forgets them.
    async fn pass(&mut self, member: &Member, observer: &mut dyn Observer) -> Result<(), StoreError> {
        let mut left = member.header.padded();
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        observer.advances(BLOCK as u64);
        while left > 0 {
            let size = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.read(&mut piece[..size]).await?;
            left -= size as u64;
            observer.advances(size as u64);
        }
        Ok(())
    }

    /// Another block of zeros, and nothing behind it.
    async fn end(&mut self) -> Result<(), StoreError> {
        let mut block = [0; BLOCK];
        self.read(&mut block).await?;
        if block != [0; BLOCK] || self.position != self.len {
            return Err(self.corrupt("something stands behind its end"));
        }
        Ok(())
    }

    async fn read(&mut self, octets: &mut [u8]) -> Result<(), StoreError> {
        match self.file.read_exact(octets).await {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(self.corrupt("it is cut off"));
            }
            read => read.map_err(|error| io_error("read backup", &self.path.display(), error))?,
        };
        self.hash.update(octets);
        self.position += octets.len() as u64;
        Ok(())
    }

    pub(crate) fn corrupt(&self, what: impl std::fmt::Display) -> StoreError {
        let context = format!("{} is no backup that can be restored: {what}", self.path.display());
        StoreError::new(StoreErrorKind::Corrupt, "read backup", context)
    }
}

impl Member {
    /// Size in octets.
    pub(crate) fn len(&self) -> u64 {
        self.header.size
    }
}

impl Part {
    fn of(name: &str) -> Option<Self> {
        let number = |file: &str| {
            let digits = file.strip_suffix(".jsonl").filter(|digits| digits.len() >= 6)?;
            digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        match name.split_once('/') {
            None if name == MANIFEST => Some(Self::Manifest),
            None if name == END => Some(Self::End),
            None => Some(Self::Further),
            Some(("rows", rest)) => {
                let (name, file) = rest.split_once('/')?;
                let table = TABLES.iter().position(|table: &Table| table.name == name)?;
                Some(Self::Rows { table, number: number(file)? })
            }
            Some(("bodies", key)) => is_key(key).then(|| Self::Body(key.to_owned())),
            Some(("gone", file)) => Some(Self::Gone { number: number(file)? }),
            Some(_) => None,
        }
    }

    /// Whether a member may stand behind another one: each has its place, and none is there twice.
    fn may_follow(&self, before: Option<&Self>) -> bool {
        let Some(before) = before else { return *self == Self::Manifest };
        match (before, self) {
            (Self::Rows { table, number }, Self::Rows { table: next, number: following }) => {
                (next == table && *following == number + 1) || (next > table && *following == 1)
            }
            (_, Self::Rows { number, .. } | Self::Gone { number }) if self.place() > before.place() => *number == 1,
            (Self::Gone { number }, Self::Gone { number: following }) => *following == number + 1,
            (Self::Body(_), Self::Body(_)) | (Self::Further, Self::Further) => true,
            _ => self.place() > before.place(),
        }
    }

    fn place(&self) -> u8 {
        match self {
            Self::Manifest => 0,
            Self::Further => 1,
            Self::Rows { .. } => 2,
            Self::Body(_) => 3,
            Self::Gone { .. } => 4,
            Self::End => 5,
        }
    }
}
