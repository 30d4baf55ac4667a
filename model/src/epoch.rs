//! Leader epochs: the fencing number of a partition's leadership.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One leadership of a partition. It grows with every new leader and with every restart of one:
/// a leadership is never resumed. Stored in each record batch, outside its checksum.
///
/// See KIP-101 (<https://cwiki.apache.org/confluence/x/uqZzB>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaderEpoch(u32);

impl LeaderEpoch {
    /// The epoch before the first leader.
    pub const ZERO: Self = Self(0);
    /// The largest epoch the batch format can express.
    pub const MAX: Self = Self(i32::MAX as u32);

    /// An epoch from its number; numbers above [`LeaderEpoch::MAX`] are clamped to it.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        if value > Self::MAX.0 { Self::MAX } else { Self(value) }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.0.saturating_add(1))
    }

    /// The signed form used in batches and checkpoints.
    #[must_use]
    #[allow(clippy::cast_possible_wrap, reason = "a LeaderEpoch never exceeds i32::MAX")]
    pub const fn to_wire(self) -> i32 {
        self.0 as i32
    }

    /// An epoch from its signed form; `None` when it is negative (unknown).
    #[must_use]
    pub fn from_wire(value: i32) -> Option<Self> {
        u32::try_from(value).ok().map(Self)
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
