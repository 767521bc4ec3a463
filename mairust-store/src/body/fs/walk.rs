//! The keys of a directory in order, without all of them in memory.
//!
//! A page needs room for a page of names in each directory on its path. A directory is read anew for
//! each page that it is part of.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

use crate::body::{is_key, is_segment};

/// Up to `limit` keys of objects below `base` behind `after`, ascending in byte order.
pub(super) fn keys(base: &Path, after: Option<&str>, limit: usize) -> io::Result<Vec<String>> {
    let mut walk = Walk { base, after: after.unwrap_or(""), limit, found: Vec::new() };
    walk.directory("")?;
    Ok(walk.found)
}

struct Walk<'a> {
    base: &'a Path,
    after: &'a str,
    limit: usize,
    found: Vec<String>,
}

impl Walk<'_> {
    /// Takes what is in a directory, whose path is empty or ends in `/`.
    fn directory(&mut self, path: &str) -> io::Result<()> {
        let mut taken: Option<String> = None;
        while self.found.len() < self.limit {
            let entries = self.first(path, taken.as_deref())?;
            let complete = entries.len() < self.limit;
            for entry in entries {
                if entry.ends_with('/') {
                    self.directory(&entry)?;
                } else if self.found.len() < self.limit {
                    self.found.push(entry.clone());
                }
                taken = Some(entry);
            }
            if complete {
                break;
            }
        }
        Ok(())
    }

    /// The first entries of a directory, at most `limit`, behind the one that was taken last.
    fn first(&self, path: &str, taken: Option<&str>) -> io::Result<BTreeSet<String>> {
        let mut first = BTreeSet::new();
        let entries = match fs::read_dir(self.base.join(path)) {
            // Removed since it was seen.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_empty() => return Ok(first),
            entries => entries?,
        };
        for entry in entries {
            let Some(entry) = name(path, &entry?) else { continue };
            if !self.may_follow(&entry) || taken.is_some_and(|taken| entry.as_str() <= taken) {
                continue;
            }
            first.insert(entry);
            if first.len() > self.limit {
                first.pop_last();
            }
        }
        Ok(first)
    }

    /// Whether an entry is a key behind `after`, or a directory with such keys.
    fn may_follow(&self, entry: &str) -> bool {
        entry > self.after || entry.ends_with('/') && self.after.starts_with(entry)
    }
}

/// The path of an entry if it is an object or can hold some; that of a directory ends in `/`, so
/// that it stands where the keys in it do.
fn name(path: &str, entry: &DirEntry) -> Option<String> {
    let name = entry.file_name().into_string().ok()?;
    let kind = entry.file_type().ok()?;
    let is_own = path.is_empty() && name == "tmp";
    if kind.is_dir() && is_segment(&name) && !is_own {
        return Some(format!("{path}{name}/"));
    }
    let key = format!("{path}{name}");
    (kind.is_file() && is_key(&key)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_stand_where_their_keys_do() {
        let base = tempfile::tempdir().unwrap();
        let mut keys =
            ["a/c.eml", "a-b/c.eml", "a.eml", "aa/c.eml", "a/b/c.eml", "a/b-c.eml", "A/x.eml", "a0.eml", "tmp.eml"];
        for file in keys.into_iter().chain(["tmp/x.eml", "a/note.txt", ".lock", "b.b/c.eml", "a/b/.eml"]) {
            let path = base.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        for number in 0..5 {
            fs::create_dir_all(base.path().join(format!("a/empty{number}/empty"))).unwrap();
        }
        keys.sort_unstable();
        for limit in 1..=keys.len() + 1 {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = super::keys(base.path(), after.as_deref(), limit).unwrap();
                after = page.last().cloned();
                let last = page.len() < limit;
                found.extend(page);
                if last {
                    break;
                }
            }
            assert_eq!(found, keys, "pages of {limit}");
        }
    }
}
