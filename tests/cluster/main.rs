//! Real clusters of broker processes: formed, written to, killed, paused, wiped, damaged, restarted.
//!
//! One cluster at a time, so that times mean something. `PUBG1_TEST_KILLS`, `PUBG1_TEST_PAUSES`,
//! `PUBG1_TEST_BLACKOUTS`, `PUBG1_TEST_FAILOVERS`, `PUBG1_TEST_COORDINATOR_KILLS`, `PUBG1_TEST_FREEZES`,
//! `PUBG1_TEST_STREAM_KILLS`, `PUBG1_TEST_STREAM_PAUSES` and `PUBG1_TEST_POWER_CUTS` make the long runs longer; `docs/VERIFICATION.md` says what they count.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends by panicking, and so do the functions it calls")]

mod demo;
mod disks;
mod drill;
mod failover;
mod forming;
mod groups;
mod harness;
mod kills;
mod pauses;
mod power_cut;
mod rebalances;
mod rolling;
mod stream_oracle;
mod streams;
