//! Windows over a log: what a query computes, record by record.
//!
//! A query is a [`plan::Plan`]. The [`engine::WindowEngine`] executes it: it is fed the records of
//! partitions, in the order of their offsets, and gives rows. It reads no clock and does no I/O;
//! the same records in the same order of each partition give the same bytes, however the partitions
//! are interleaved, however the records are cut into batches, and wherever it was stopped and
//! restored.

mod aggregate;
mod codec;
pub mod document;
pub mod engine;
mod expr;
mod group;
pub mod json;
mod merge;
mod number;
mod panes;
mod partial;
mod partition;
pub mod plan;
mod query;
mod rows;
mod sessions;
pub mod stages;
mod state;
mod table;
pub mod task;
pub mod time;
pub mod value;
mod window;

#[cfg(test)]
mod tests;
