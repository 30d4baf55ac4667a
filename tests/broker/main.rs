//! Real brokers in processes of their own: started, filled, killed, restarted, asked.
//!
//! `PUBG1_TEST_KILLS` and `PUBG1_TEST_RECORDS` make the long runs longer; the README says with which numbers.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends by panicking, and so do the functions it calls")]

mod bench;
mod checker;
mod command_line;
mod disk_full;
mod groups;
mod harness;
mod interrupt;
mod kill;
mod launcher;
mod life;
mod lost_answer;
mod simple_surface;
mod stream_run;
mod streams;
