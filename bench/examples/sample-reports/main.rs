//! Writes made-up reports into a directory, each as JSON: what a browser check makes pages and plots of.
//!
//! `cargo run -p pubg1-bench --example sample-reports -- DIRECTORY`

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "times and counts are made up, and small"
)]

mod samples;

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(env::args_os().nth(1).ok_or("which directory?")?);
    fs::create_dir_all(&directory)?;
    let reports = [
        ("drill", samples::drill()),
        ("repeated-drill", samples::repeated_drill()),
        ("ramp", samples::ramp()),
        ("one", samples::bench("PubG1", 1_000, 0.6)),
        ("other", samples::bench("NATS JetStream", 1_000, 1.4)),
        ("third", samples::bench("RabbitMQ Streams", 1_000, 4.9)),
    ];
    for (name, report) in &reports {
        fs::write(directory.join(name).with_extension("json"), serde_json::to_vec(report)?)?;
    }
    Ok(())
}
