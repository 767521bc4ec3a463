//! How many jobs may be done at the same time for one destination.

use std::collections::HashMap;

/// How many more jobs whoever takes some has room for, by destination. Jobs without a destination have no bound.
#[derive(Debug, Clone, Default)]
pub struct LaneBounds {
    /// For each destination; `None` for no bound.
    bound: Option<u32>,
    /// Jobs that are being done, of destinations that have any.
    busy: HashMap<String, u32>,
}

impl LaneBounds {
    /// So many jobs for each destination, none of them being done yet.
    pub fn new(bound: u32) -> Self {
        Self { bound: Some(bound), busy: HashMap::new() }
    }

    /// Counts a job that is begun.
    pub fn begin(&mut self, destination: &str) {
        if self.bound.is_some() && !destination.is_empty() {
            *self.busy.entry(destination.to_owned()).or_default() += 1;
        }
    }

    /// Counts a job that has ended.
    pub fn end(&mut self, destination: &str) {
        if let Some(busy) = self.busy.get_mut(destination) {
            *busy = busy.saturating_sub(1);
            if *busy == 0 {
                self.busy.remove(destination);
            }
        }
    }

    /// How many more jobs may be begun; no destination is the empty name.
    pub fn room(&self, destination: &str) -> u32 {
        match self.bound {
            Some(bound) if !destination.is_empty() => {
                bound.saturating_sub(self.busy.get(destination).copied().unwrap_or_default())
            }
            _ => u32::MAX,
        }
    }

    /// How many destinations have no room left.
    pub fn full(&self) -> u32 {
        let full = self.bound.map_or(0, |bound| self.busy.values().filter(|busy| **busy >= bound).count());
        u32::try_from(full).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_being_done() {
        let mut bounds = LaneBounds::new(2);
        bounds.begin("a.example");
        bounds.begin("a.example");
        bounds.begin("b.example");
        assert_eq!((bounds.room("a.example"), bounds.room("b.example"), bounds.room("c.example")), (0, 1, 2));
        assert_eq!(bounds.full(), 1);
        bounds.end("a.example");
        bounds.end("b.example");
        bounds.end("b.example");
        assert_eq!((bounds.room("a.example"), bounds.room("b.example"), bounds.full()), (1, 2, 0));
    }

    #[test]
    fn work_that_stays_here_has_no_bound() {
        let mut bounds = LaneBounds::new(1);
        bounds.begin("");
        assert_eq!((bounds.room(""), bounds.full()), (u32::MAX, 0));
        let mut unbounded = LaneBounds::default();
        unbounded.begin("a.example");
        assert_eq!((unbounded.room("a.example"), unbounded.full()), (u32::MAX, 0));
    }
}
