//! What the demo prints at its end.

use std::time::Duration;

use serde::Serialize;

use super::{
    Loaded, Restart,
    checker::{Sighting, Verdict},
    cluster::Failures,
    windows::WindowCheck,
};
use crate::terminal::{Terminal, grouped};

/// The numbers of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What a record's acknowledgement waited for.
    pub acks: &'static str,
    /// The broker's flush policy.
    pub flush: String,
    /// Records handed to the producer.
    pub sent: u64,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records found by reading everything at the end.
    pub found: u64,
    /// Acknowledged and found nowhere.
    pub lost: u64,
    /// Acknowledged at one place and found at another.
    pub moved: u64,
    /// Found more than once.
    pub duplicated: u64,
    /// Records that the reader got while they were written.
    pub read_live: u64,
    /// Of these, given twice or out of order.
    pub read_twice: u64,
    /// Of these, not there at the end: the reader saw what was not committed.
    pub read_and_gone: u64,
    /// Requests of these many records were answered as repetitions.
    pub repeated_requests_records: u64,
    /// Seconds from the first record to the last acknowledgement, the restarts included.
    pub produce_seconds: f64,
    /// Records per second over that time.
    pub produce_records_per_second: f64,
    /// Values' bytes per second over that time.
    pub produce_bytes_per_second: f64,
    /// Records per second of the reading at the end.
    pub read_records_per_second: f64,
    /// From sending to acknowledgement, half of the records.
    pub latency_p50_ms: f64,
    /// The same, 99 of 100 records.
    pub latency_p99_ms: f64,
    /// The same, the slowest: a batch that waited for a restart.
    pub latency_max_ms: f64,
    /// From the first start to being ready.
    pub start_ms: u64,
    /// Times the broker was killed.
    pub kills: u64,
    /// From starting it again to being ready, the slowest.
    pub restart_ms: u64,
    /// Records acknowledged when it was killed.
    pub killed_at: Vec<u64>,
    /// What only a cluster has to show.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Failures>,
    /// The rows of the window query beside those of a computation over the same flights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowCheck>,
}

impl Report {
    #[allow(clippy::cast_precision_loss, reason = "rates and times for people")]
    pub(super) fn new(
        flush: &str,
        load: &Loaded,
        live: &Sighting,
        found: &Sighting,
        restarts: Vec<Restart>,
        start_ms: u128,
        reading: Duration,
    ) -> Self {
        let verdict = Verdict::of(&load.ledger, found);
        let seconds = load.duration.as_secs_f64().max(1e-9);
        let ms = |us: u64| us as f64 / 1000.0;
        let whole_ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            acks: "all",
            flush: flush.to_owned(),
            sent: load.sent,
            acknowledged: load.ledger.acknowledged(),
            found: found.found(),
            lost: verdict.lost,
            moved: verdict.moved,
            duplicated: verdict.duplicated,
            read_live: live.found(),
            read_twice: live.repeated(),
            read_and_gone: live.differs_from(found),
            repeated_requests_records: load.repeated,
            produce_seconds: seconds,
            produce_records_per_second: load.sent as f64 / seconds,
            produce_bytes_per_second: load.value_bytes as f64 / seconds,
            read_records_per_second: found.found() as f64 / reading.as_secs_f64().max(1e-9),
            latency_p50_ms: ms(load.latency_us.value_at_quantile(0.5)),
            latency_p99_ms: ms(load.latency_us.value_at_quantile(0.99)),
            latency_max_ms: ms(load.latency_us.max()),
            start_ms: u64::try_from(start_ms).unwrap_or(u64::MAX),
            kills: restarts.len() as u64,
            restart_ms: restarts.iter().map(|restart| whole_ms(restart.ready_after)).max().unwrap_or(0),
            killed_at: restarts.iter().map(|restart| restart.acknowledged).collect(),
            cluster: None,
            windows: None,
        }
    }

    /// Whether every acknowledged record is where it was acknowledged, once, the readers saw nothing
    /// else, and the window query gave the right rows.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let replicas_agree = self.cluster.as_ref().is_none_or(|failures| failures.replica_problems.is_empty());
        replicas_agree
            && self.windows.as_ref().is_none_or(WindowCheck::is_clean)
            && self.lost == 0
            && self.moved == 0
            && self.duplicated == 0
            && self.read_twice == 0
            && self.read_and_gone == 0
            && self.acknowledged == self.sent
    }

    /// The table.
    #[must_use]
    pub fn table(&self, terminal: Terminal) -> String {
        let killed_at: Vec<String> = self.killed_at.iter().map(|count| grouped(*count)).collect();
        let killed = format!("{} (at {} acknowledged)", self.kills, killed_at.join(", "));
        let mut rows = vec![
            ("records sent", grouped(self.sent)),
            ("acknowledged", grouped(self.acknowledged)),
            ("found", grouped(self.found)),
            ("lost", grouped(self.lost)),
            ("moved", grouped(self.moved)),
            ("duplicated", grouped(self.duplicated)),
            ("read while written", grouped(self.read_live)),
            ("  twice or out of order", grouped(self.read_twice)),
            ("  gone at the end", grouped(self.read_and_gone)),
            ("repeated by the producer, stored once", grouped(self.repeated_requests_records)),
            ("kill -9", if self.kills == 0 { "none".to_owned() } else { killed }),
            ("first start, until ready", format!("{} ms", self.start_ms)),
            ("restart, until ready", format!("{} ms", self.restart_ms)),
            (
                "produced",
                format!(
                    "{:.0} records/s, {:.1} MB/s",
                    self.produce_records_per_second,
                    self.produce_bytes_per_second / 1e6
                ),
            ),
            ("read back", format!("{:.0} records/s", self.read_records_per_second)),
            ("acks, flush", format!("{}, {}", self.acks, self.flush)),
            ("acknowledged after, p50", format!("{:.1} ms", self.latency_p50_ms)),
            ("acknowledged after, p99", format!("{:.1} ms", self.latency_p99_ms)),
            ("acknowledged after, slowest", format!("{:.1} ms", self.latency_max_ms)),
        ];
        if let Some(failures) = &self.cluster {
            rows.extend(failures.rows());
        }
        if let Some(windows) = &self.windows {
            rows.extend(windows.rows());
        }
        let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]);
        terminal.table(&["what", "result"], rows, &["result"])
    }
}
