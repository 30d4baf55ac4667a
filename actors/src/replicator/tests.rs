//! Brokers of one cluster in one process, over the real transport, on real directories.

mod chaos;
mod cluster;
mod copies;
mod leaders;
mod moves;
mod promises;
mod repair;
