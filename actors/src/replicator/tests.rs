//! Brokers of one cluster in one process, over the real transport, on real directories.

mod chaos;
pub(crate) mod cluster;
mod copies;
mod leaders;
mod lives;
mod moves;
mod promises;
mod repair;
