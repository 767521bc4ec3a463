//! What survives what.

/// What an acknowledged write survives. Published figures name the level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// A loss of power: bodies, their directories and the database's log are synced before the
    /// answer.
    #[default]
    PowerSafe,
    /// `kill -9` of any process; a loss of power may undo the last moments.
    CrashSafe,
    /// A proper stop; whatever else happens may undo the last moments. For tests.
    Relaxed,
}

impl Durability {
    /// All of them, the safest first.
    pub const ALL: [Self; 3] = [Self::PowerSafe, Self::CrashSafe, Self::Relaxed];

    /// Its name in configurations and figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PowerSafe => "power-safe",
            Self::CrashSafe => "crash-safe",
            Self::Relaxed => "relaxed",
        }
    }

    /// The level of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }

    pub(crate) fn survives_power_loss(self) -> bool {
        self == Self::PowerSafe
    }
}
