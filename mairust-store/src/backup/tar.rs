//! Archives in the form of `tar` (POSIX ustar), as far as a backup needs it: files alone, one behind
//! the other, whose names and sizes fit into one header.

use std::io;

/// Archives are made of blocks of this many octets.
pub(super) const BLOCK: usize = 512;

/// The greatest size that a header tells: eleven octal digits.
const LARGEST: u64 = 0o77_777_777_777;
/// Where each field begins and ends.
const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const OWNER: std::ops::Range<usize> = 108..116;
const GROUP: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const TIME: std::ops::Range<usize> = 136..148;
const SUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..265;
const PREFIX: std::ops::Range<usize> = 345..500;

/// Name and size of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) size: u64,
}

/// What stands in a block where a header may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Member(Header),
    /// A block of zeros: no member follows.
    End,
}

impl Header {
    /// The block in front of a member; `time` is in seconds since 1970.
    pub(super) fn to_block(&self, time: u64) -> io::Result<[u8; BLOCK]> {
        let invalid =
            || io::Error::new(io::ErrorKind::InvalidInput, format!("no header can be written for {:?}", self.name));
        let (prefix, name) = split(&self.name).ok_or_else(invalid)?;
        if self.size > LARGEST {
            return Err(invalid());
        }
        let mut block = [0; BLOCK];
        let mut put = |field: std::ops::Range<usize>, text: &str| {
            block[field.start..field.start + text.len()].copy_from_slice(text.as_bytes());
        };
        put(NAME, name);
        put(MODE, "0000600");
        put(OWNER, "0000000");
        put(GROUP, "0000000");
        put(SIZE, &format!("{:011o}", self.size));
        put(TIME, &format!("{:011o}", time.min(LARGEST)));
        put(MAGIC, "ustar\x0000");
        put(PREFIX, prefix);
        block[TYPE] = b'0';
        let sum = format!("{:06o}\0 ", checksum(&block));
        block[SUM].copy_from_slice(sum.as_bytes());
        Ok(block)
    }

    /// Reads a block; `None` if it is neither a header of ours nor the end. Links, folders, names of
    /// other forms and the extensions of other programs are not ours.
    pub(super) fn read(block: &[u8; BLOCK]) -> Option<Read> {
        if block.iter().all(|byte| *byte == 0) {
            return Some(Read::End);
        }
        let is_ours = octal(&block[SUM]) == Some(u64::from(checksum(block)))
            && block[MAGIC] == *b"ustar\x0000"
            && block[TYPE] == b'0';
        if !is_ours {
            return None;
        }
        let (prefix, name) = (text(&block[PREFIX])?, text(&block[NAME])?);
        let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        // The name of a member leads nowhere but down.
        let is_plain = name.split('/').all(|segment| {
            !segment.is_empty()
                && !segment.starts_with('.')
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        });
        is_plain.then_some(Read::Member(Self { name, size: octal(&block[SIZE])? }))
    }

    /// Octets behind the header, with what fills the last block.
    pub(super) fn padded(&self) -> u64 {
        self.size.next_multiple_of(BLOCK as u64)
    }
}

/// A name in the two fields that there are for it.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= NAME.len() {
        return Some(("", name));
    }
    let fits = |(prefix, name): &(&str, &str)| prefix.len() <= PREFIX.len() && name.len() <= NAME.len();
    name.match_indices('/').map(|(place, _)| (&name[..place], &name[place + 1..])).find(fits)
}

/// The sum of all octets, those of the sum itself being spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = block[SUM].iter().map(|byte| u32::from(*byte)).sum();
    sum - own + 8 * u32::from(b' ')
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| u64::from_str_radix(digits, 8).ok())?
}

fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let long = format!("bodies/archive/{0}/{0}/{0}.eml", "0".repeat(36));
        for (name, size) in [("a", 0), ("rows/messages/000001.jsonl", LARGEST), (&*long, 1 << 20)] {
            let header = Header { name: name.to_owned(), size };
            assert_eq!(Header::read(&header.to_block(1).unwrap()), Some(Read::Member(header)));
        }
        assert_eq!(Header::read(&[0; BLOCK]), Some(Read::End));
        assert!(Header { name: "x".to_owned(), size: LARGEST + 1 }.to_block(1).is_err());
        assert!(Header { name: "x".repeat(300), size: 1 }.to_block(1).is_err());
    }

    #[test]
    fn refuses_what_is_not_ours() {
        for name in ["../x", "/etc/passwd", "a/../b", "a//b", "a/./b", ".ssh/key", "a\nb", "a b", "é"] {
            let block = Header { name: name.to_owned(), size: 1 }.to_block(1).unwrap();
            assert_eq!(Header::read(&block), None, "{name}");
        }
        let good = Header { name: "x".to_owned(), size: 1 }.to_block(1).unwrap();
        // A link, a folder, a long name of GNU, an extended header of POSIX, another sum, other digits.
        for (place, byte) in [(TYPE, b'2'), (TYPE, b'5'), (TYPE, b'L'), (TYPE, b'x'), (0, b'y'), (SIZE.start, b'+')] {
            let mut block = good;
            block[place] = byte;
            if place != 0 {
                let sum = format!("{:06o}\0 ", checksum(&block));
                block[SUM].copy_from_slice(sum.as_bytes());
            }
            assert_eq!(Header::read(&block), None, "{place} {byte}");
        }
    }
}
