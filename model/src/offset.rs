//! Positions in a partition.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The position of a record in its partition: dense, starting at 0, never reused.
///
/// On disk and on the wire an offset is a signed 64-bit number, so the largest one is `i64::MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(u64);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);
    /// The largest offset that the record batch format can express.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// An offset from its number; numbers above [`Offset::MAX`] are clamped to it.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        if value > Self::MAX.0 { Self::MAX } else { Self(value) }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset `records` further on, clamped to [`Offset::MAX`].
    #[must_use]
    pub const fn plus(self, records: u64) -> Self {
        Self::new(self.0.saturating_add(records))
    }

    /// How many records lie between `earlier` and this offset; 0 when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The signed form used in batches, indexes and checkpoints.
    #[must_use]
    #[allow(clippy::cast_possible_wrap, reason = "an Offset never exceeds i64::MAX")]
    pub const fn to_wire(self) -> i64 {
        self.0 as i64
    }

    /// An offset from its signed form; `None` when it is negative.
    #[must_use]
    pub fn from_wire(value: i64) -> Option<Self> {
        u64::try_from(value).ok().map(Self)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
