//! The line that says how a run goes, while it goes on.

use indicatif::ProgressBar;
use pubg1_bench::engine::{Clock, Observer, Progress, Workload};

use crate::terminal::{Terminal, grouped};

/// A bar of the records that are acknowledged, and the times of the last second beside it.
pub(super) struct Live(ProgressBar);

impl Live {
    pub(super) fn new(terminal: Terminal, workload: &Workload) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "records of a run, for a bar")]
        let length = workload.rate.map_or(0, |rate| (rate * workload.duration.as_secs_f64()) as u64);
        let bar = terminal.progress(length, "records");
        bar.set_message("warming up");
        Self(bar)
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Observer for Live {
    fn begun(&self, _clock: &Clock) {
        self.0.reset();
        self.0.set_message("warming up");
    }

    fn progress(&self, progress: &Progress) {
        let last = &progress.last;
        let mut message = format!(
            "{}/{} s  p50 {:.2} p99 {:.2} max {:.2} ms",
            progress.at.as_secs(),
            progress.of.as_secs(),
            last.response_p50_ms,
            last.response_p99_ms,
            last.response_max_ms
        );
        if progress.consumed > 0 {
            message.push_str(&format!("  end to end p95 {:.2} ms", last.end_to_end_p95_ms));
        }
        if progress.failed > 0 {
            message.push_str(&format!("  {} failed", grouped(progress.failed)));
        }
        self.0.set_position(progress.acknowledged);
        self.0.set_message(message);
    }
}
