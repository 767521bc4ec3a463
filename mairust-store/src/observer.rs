//! Whoever wants to know how far long work has come, and what it finds on its way.

use crate::consistency::Finding;

/// Is told how far long work has come. Called from the task that works: what it does should be quick.
pub trait Observer: Send {
    /// A step begins. `total` is how many units of work it has, where that is known.
    fn begins(&mut self, step: &'static str, total: Option<u64>);
    /// So many more units of the step are done.
    fn advances(&mut self, units: u64);
    /// Something is not as it should be.
    fn finds(&mut self, finding: &Finding);
}

/// Does not want to know.
impl Observer for () {
    fn begins(&mut self, _step: &'static str, _total: Option<u64>) {}
    fn advances(&mut self, _units: u64) {}
    fn finds(&mut self, _finding: &Finding) {}
}
