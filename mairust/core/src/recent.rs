//! What is remembered about strangers: the most recent of them, never more than a bound.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

/// A map that forgets what was not used for long when it is full: two generations, of which the
/// older one is dropped when the younger one has grown to its bound. Each operation takes constant
/// time, so that whoever fills it up gains nothing.
#[derive(Debug, Clone)]
pub struct RecentMap<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Entries of one generation.
    bound: usize,
}

impl<K: Eq + Hash, V> RecentMap<K, V> {
    /// Remembers at least the `bound` most recently used keys, and at most twice as many.
    pub fn new(bound: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), bound: bound.max(1) }
    }

    /// What is remembered under a key, which counts as used now; made by `new` if there is
    /// nothing.
    pub fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if !self.young.contains_key(&key) && self.young.len() >= self.bound {
            self.old = mem::take(&mut self.young);
        }
        let old = &mut self.old;
        self.young.entry(key).or_insert_with_key(|key| old.remove(key).unwrap_or_else(new))
    }

    /// What is remembered under a key. This is no use of it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.young.get_mut(key).or_else(|| self.old.get_mut(key))
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_recent_ones_and_no_more() {
        let mut map = RecentMap::new(10);
        for key in 0..1_000 {
            *map.entry(key, || 0) += key;
            *map.entry(0, || 0) += 1;
            assert!(map.young.len() + map.old.len() <= 20);
            for recent in (key - 8).max(1)..=key {
                assert_eq!(map.get_mut(&recent).copied(), Some(recent));
            }
        }
        assert_eq!(map.get_mut(&0).copied(), Some(1_000), "what is used all the time is never forgotten");
        assert_eq!(map.get_mut(&500), None);
        map.remove(&0);
        assert_eq!(map.get_mut(&0), None);
    }
}
