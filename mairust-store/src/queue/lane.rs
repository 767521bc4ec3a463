//! How many jobs may be done at the same time for one destination.

use std::collections::HashMap;

/// How many more jobs whoever takes some has room for, by destination. Jobs without a destination have no bound.
#[derive(Debug, Clone, Default)]
pub struct LaneBounds {
    /// For each destination; `None` for no bound.
    bound: Option<u32>,
    /// Jobs that are being done, of destinations that have any.
    busy: HashMap<String, u32>,
    /// How many more may be begun of destinations that have less room than the bound leaves.
    narrow: HashMap<String, u32>,
}

impl LaneBounds {
    /// So many jobs for each destination, none of them being done yet.
    pub fn new(bound: u32) -> Self {
        Self { bound: Some(bound), ..Self::default() }
    }

    /// Has no more than so many more jobs begun for a destination, also where there is room for more.
    pub fn narrow(&mut self, destination: &str, room: u32) {
        self.narrow.insert(destination.to_owned(), room);
    }

    /// Counts a job that is begun.
    pub fn begin(&mut self, destination: &str) {
        if let Some(room) = self.narrow.get_mut(destination) {
            *room = room.saturating_sub(1);
        }
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
        let room = match self.bound {
            Some(bound) if !destination.is_empty() => bound.saturating_sub(self.busy(destination)),
            _ => u32::MAX,
        };
        self.narrow.get(destination).map_or(room, |narrow| room.min(*narrow))
    }

    /// How many jobs of a destination are being done, if they are counted.
    pub fn busy(&self, destination: &str) -> u32 {
        self.busy.get(destination).copied().unwrap_or_default()
    }

    /// How many destinations have no room left.
    pub fn full(&self) -> u32 {
        let narrow = self.narrow.keys().filter(|destination| !self.busy.contains_key(*destination));
        let full = self.busy.keys().chain(narrow).filter(|destination| self.room(destination) == 0).count();
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
    fn a_destination_may_have_less_room() {
        let mut bounds = LaneBounds::new(3);
        bounds.begin("a.example");
        bounds.narrow("a.example", 1);
        bounds.narrow("b.example", 0);
        bounds.narrow("c.example", 9);
        let rooms = |bounds: &LaneBounds| ["a.example", "b.example", "c.example"].map(|name| bounds.room(name));
        assert_eq!((rooms(&bounds), bounds.full()), ([1, 0, 3], 1));
        bounds.begin("a.example");
        assert_eq!((rooms(&bounds), bounds.full()), ([0, 0, 3], 2));
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
