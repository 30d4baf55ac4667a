//! The API as a client sees it: a real broker, a real server, real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail that way")]

mod batches;
mod cluster;
mod consumer_client;
mod consumers;
mod errors;
mod events;
mod group_admin;
mod group_cluster;
mod group_reads;
mod harness;
mod idempotence;
mod kafka_metrics;
mod limits;
mod lines;
mod operations;
mod polls;
mod raw_http;
mod reads;
mod simple;
mod streams;
mod topics;
mod v2;
