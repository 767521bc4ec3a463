//! Sizes and durations as people write them: `25MiB`, `2m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes, written as `512`, `64KiB`, `25MiB` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// The text is no size or no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(&'static str);

impl UnitError {
    /// `form` says what a right text looks like.
    pub(crate) fn new(form: &'static str) -> Self {
        Self(form)
    }
}

const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

impl FromStr for ByteSize {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = UnitError("a size is a number with KiB, MiB or GiB, for example 25MiB");
        if let Ok(bytes) = text.parse() {
            return Ok(Self(bytes));
        }
        scaled(text, &SIZE_UNITS).map(Self).ok_or(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZE_UNITS
            .iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// Parses `250ms`, `30s`, `2m`, `4h` or `5d`.
///
/// # Errors
/// When the text is something else.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = UnitError("a duration is a number with ms, s, m, h or d, for example 30s");
    scaled(text, &TIME_UNITS).map(Duration::from_millis).ok_or(wrong)
}

/// The shortest form that [`parse_duration`] reads back as the same milliseconds.
pub fn render_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut units = TIME_UNITS;
    units.sort_by_key(|(_, factor)| std::cmp::Reverse(*factor));
    let (unit, factor) =
        units.iter().find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor)).unwrap_or(&("ms", 1));
    format!("{}{unit}", millis / factor)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    number.trim_end().parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back() {
        for text in ["25MiB", "1GiB", "3B", "64KiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        assert_eq!("512".parse(), Ok(ByteSize(512)));
        for text in ["", "MiB", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_back() {
        for text in ["250ms", "30s", "2m", "4h", "5d"] {
            assert_eq!(render_duration(parse_duration(text).unwrap()), text);
        }
        assert!(parse_duration("5").is_err());
    }
}
