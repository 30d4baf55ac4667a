//! Tests of the whole log, each against its files.

mod compaction;
mod crash;
mod disk_faults;
mod files;
mod fixtures;
mod model;
mod page_cache;
mod readers;
mod replicated;
