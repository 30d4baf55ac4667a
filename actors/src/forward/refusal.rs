//! Errors that say that a partition is not led where it was asked for.

use std::sync::Arc;

use pubg1_model::BrokerId;

use super::Absent;
use crate::errors::{AppendError, DeleteRecordsError, FetchError, GroupRequestError, LookupError, OfflineReason};

/// An error that can say that the partition is not led here, and that tells whether anything was done.
pub(crate) trait Refusal: Sized {
    /// Another broker leads, or none.
    fn not_leader(leader: Option<BrokerId>, retry_after_ms: u64) -> Self;
    /// The replica, or the broker, is not ready yet.
    fn not_ready(retry_after_ms: u64) -> Self;
    /// The replica serves nothing.
    fn offline(reason: Arc<OfflineReason>) -> Self;
    /// The broker shuts down.
    fn draining() -> Self;
    /// The topic is gone.
    fn deleted() -> Self;
    /// Whether nothing was done because the one that was asked does not lead, or not yet.
    fn is_not_leading(&self) -> bool;
    /// Whether nothing was done because the one that was asked shuts down.
    fn is_draining(&self) -> bool;

    /// What [`Absent`] means for the one who asked.
    fn absent(absent: Absent, retry_after_ms: u64) -> Self {
        match absent {
            Absent::Deleted => Self::deleted(),
            Absent::Draining => Self::draining(),
            Absent::Recovering | Absent::Outdated => Self::not_ready(retry_after_ms),
            Absent::Offline(reason) => Self::offline(reason),
            Absent::Awaited(leader) => Self::not_leader(leader, retry_after_ms),
        }
    }

    /// What the answer of another broker means here: its end is not that of this one.
    fn told_elsewhere(self, leader: BrokerId, retry_after_ms: u64) -> Self {
        if self.is_draining() { Self::not_leader(Some(leader), retry_after_ms) } else { self }
    }
}

macro_rules! as_it_is {
    ($($error:ty),+) => {$(
        impl Refusal for $error {
            fn not_leader(leader: Option<BrokerId>, retry_after_ms: u64) -> Self {
                Self::NotLeader { leader, retry_after_ms }
            }
            fn not_ready(retry_after_ms: u64) -> Self {
                Self::NotReady { retry_after_ms }
            }
            fn offline(reason: Arc<OfflineReason>) -> Self {
                Self::Offline(reason)
            }
            fn draining() -> Self {
                Self::Draining
            }
            fn deleted() -> Self {
                Self::Deleted
            }
            fn is_not_leading(&self) -> bool {
                matches!(self, Self::NotLeader { .. } | Self::NotReady { .. })
            }
            fn is_draining(&self) -> bool {
                *self == Self::Draining
            }
        }
    )+};
}

as_it_is!(AppendError, FetchError);

/// Errors that are those of appending and some more, with what else says that nothing was done yet.
macro_rules! as_an_append {
    ($($error:ty, $is_not_yet:expr;)+) => {$(
        impl Refusal for $error {
            fn not_leader(leader: Option<BrokerId>, retry_after_ms: u64) -> Self {
                AppendError::not_leader(leader, retry_after_ms).into()
            }
            fn not_ready(retry_after_ms: u64) -> Self {
                AppendError::not_ready(retry_after_ms).into()
            }
            fn offline(reason: Arc<OfflineReason>) -> Self {
                AppendError::Offline(reason).into()
            }
            fn draining() -> Self {
                AppendError::Draining.into()
            }
            fn deleted() -> Self {
                AppendError::Deleted.into()
            }
            fn is_not_leading(&self) -> bool {
                let is_not_yet: fn(&Self) -> bool = $is_not_yet;
                is_not_yet(self) || matches!(self, Self::Append(error) if error.is_not_leading())
            }
            fn is_draining(&self) -> bool {
                matches!(self, Self::Append(error) if error.is_draining())
            }
        }
    )+};
}

as_an_append! {
    DeleteRecordsError, |_| false;
    GroupRequestError, |error| {
        matches!(error, Self::Loading { .. } | Self::UnknownPartition(LookupError::NotReady { .. }))
    };
}
