//! Tests of the whole log, each against its files.

mod compaction;
mod crash;
mod disk_faults;
mod files;
mod fixtures;
mod model;
mod readers;
mod replicated;
