//! The log on disk: segments of record batches, mapped into memory.
//!
//! One [`PartitionLog`] owns one directory and is its only writer; any number of [`LogReader`]s
//! take slices of the mapped segments without asking it. It is synchronous and has no clock: the
//! time is a parameter.

mod error;
mod log;

pub use error::{AppendError, Damage, DamageReason, FlushError, ReadError, StorageError};
pub use log::*;
