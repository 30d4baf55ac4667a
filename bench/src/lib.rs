//! A load generator that says how long records take to be published and to arrive, on this log and
//! on others, and what it writes about it.
//!
//! [`target`] is what a system under load has to offer, [`latency`] how times are kept, and
//! [`report`] what a run says in the end. A run keeps to an absolute schedule: a record that could
//! not be sent in time has waited since it was due, so that a pause of the system is seen in full
//! (<https://github.com/HdrHistogram/HdrHistogram#corrected-vs-raw-value-recording-calls>).

#[cfg(test)]
extern crate self as pubg1_bench;

mod environment;
mod wall_clock;

pub mod engine;
pub mod latency;
pub mod process_cost;
pub mod report;
pub mod target;
pub mod targets;
pub mod threshold;
