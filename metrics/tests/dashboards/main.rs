//! Grafana's dashboards under `metrics/dashboards/` are made here, and this test says when the files are not what is
//! made:
//!
//! ```sh
//! WRITE_DASHBOARDS=1 cargo test -p pubg1-metrics --test dashboards
//! ```
//!
//! writes them. What they say is checked where the files are read, by `documents.rs` without a Prometheus and by
//! `scripts/dashboards-in-prometheus` with one.

#![allow(clippy::panic, reason = "a test ends by panicking")]

mod board;
mod boards;
mod panel;

use std::path::Path;

use board::Board;

fn all() -> [Board; 5] {
    [
        boards::overview::board(),
        boards::topics::board(),
        boards::internals::board(),
        boards::drill::board(),
        boards::streams::board(),
    ]
}

#[test]
fn the_files_are_what_is_made_here() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    let write = std::env::var_os("WRITE_DASHBOARDS").is_some();
    for board in all() {
        let path = directory.join(format!("{}.json", board.name));
        let text = format!("{:#}\n", board.json());
        if write {
            std::fs::write(&path, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let is_same = std::fs::read_to_string(&path).is_ok_and(|there| there == text);
        assert!(is_same, "{} is not what is made here; WRITE_DASHBOARDS=1 writes it", path.display());
    }
}
