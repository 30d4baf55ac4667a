//! Streams: what their tasks on this broker read, hold and give. A task's series end with it: when its stream is deleted,
//! or when another broker runs it. Two generations of a stream have the same series: these end with the last task that
//! has them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus::{Error, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::labels::label_values;
use crate::registry::Families;
use crate::{buckets, catalogue, seconds};

label_values! {
    /// What became of a record that a stream has read.
    pub enum StreamOutcome {
        /// It is in at least one window.
        Accepted = "accepted",
        /// The filter did not want it.
        Filtered = "filtered",
        /// All its windows were closed.
        Late = "late",
        /// Its time is too far after its append.
        Future = "future",
        /// It is not JSON.
        Malformed = "malformed",
        /// It has no time.
        NoTime = "no_time",
        /// It was deleted before it was read.
        Skipped = "skipped",
    }
}

label_values! {
    /// What a stream does, or why it does not.
    pub enum StreamCondition {
        /// It reads.
        Running = "running",
        /// It has read all that it was to read.
        Finished = "finished",
        /// It was asked to pause.
        Paused = "paused",
        /// It stopped: it took more memory than it may.
        Memory = "memory",
        /// It stopped: records were deleted before it had read them.
        Gap = "gap",
        /// It stopped: it met what it cannot get over.
        Failed = "failed",
    }
}

/// How many have the series of a stream, or of a stream's task.
#[derive(Clone, Default)]
struct Holders(Arc<Mutex<BTreeMap<Vec<String>, usize>>>);

impl Holders {
    /// One more. While the guard is held, none ends.
    fn begin(&self, labels: &[String]) -> MutexGuard<'_, BTreeMap<Vec<String>, usize>> {
        let mut holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *holders.entry(labels.to_vec()).or_default() += 1;
        holders
    }

    /// One less; after the last one the series are removed.
    fn end(&self, labels: &[String], remove: impl FnOnce()) {
        let mut holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = holders.get_mut(labels) {
            *count -= 1;
            if *count == 0 {
                holders.remove(labels);
                remove();
            }
        }
    }
}

/// The families of streams.
pub struct StreamMetrics {
    records: IntCounterVec,
    rows: IntCounterVec,
    corrections: IntCounterVec,
    commits: IntCounterVec,
    fenced: IntCounterVec,
    commit_duration: HistogramVec,
    watermark_lag: GaugeVec,
    input_lag: IntGaugeVec,
    open_windows: IntGaugeVec,
    groups: IntGaugeVec,
    state_bytes: IntGaugeVec,
    idle: IntGaugeVec,
    restore_duration: GaugeVec,
    states: IntGaugeVec,
    holders: Holders,
}

impl StreamMetrics {
    pub(crate) fn register(families: &Families) -> Result<StreamMetrics, Error> {
        Ok(StreamMetrics {
            records: families.counter_vec(&catalogue::STREAM_RECORDS)?,
            rows: families.counter_vec(&catalogue::STREAM_ROWS)?,
            corrections: families.counter_vec(&catalogue::STREAM_CORRECTIONS)?,
            commits: families.counter_vec(&catalogue::STREAM_COMMITS)?,
            fenced: families.counter_vec(&catalogue::STREAM_FENCED)?,
            commit_duration: families.histogram_vec(&catalogue::STREAM_COMMIT_DURATION, &buckets::REQUEST_SECONDS)?,
            watermark_lag: families.gauge_f64_vec(&catalogue::STREAM_WATERMARK_LAG)?,
            input_lag: families.gauge_vec(&catalogue::STREAM_INPUT_LAG)?,
            open_windows: families.gauge_vec(&catalogue::STREAM_OPEN_WINDOWS)?,
            groups: families.gauge_vec(&catalogue::STREAM_GROUPS)?,
            state_bytes: families.gauge_vec(&catalogue::STREAM_STATE)?,
            idle: families.gauge_vec(&catalogue::STREAM_IDLE)?,
            restore_duration: families.gauge_f64_vec(&catalogue::STREAM_RESTORE_DURATION)?,
            states: families.gauge_vec(&catalogue::STREAM_CONDITION)?,
            holders: Holders::default(),
        })
    }

    /// In which states a stream is. The series end when this is dropped.
    pub fn stream(&self, stream: &str) -> StreamStateSeries {
        let labels = vec![stream.to_owned()];
        let _begun = self.holders.begin(&labels);
        let state = |state: &StreamCondition| self.states.with_label_values(&[stream, state.as_str()]);
        StreamStateSeries {
            states: StreamCondition::ALL.iter().map(state).collect(),
            family: self.states.clone(),
            holders: self.holders.clone(),
            labels,
        }
    }

    /// The series of a task, which end when all that have them are dropped. `task` is its partition of the changelog:
    /// those of the input come first, then the shards of the merge.
    pub fn task(&self, stream: &str, task: u32) -> StreamTaskSeries {
        let labels = [stream.to_owned(), task.to_string()];
        let _begun = self.holders.begin(&labels);
        let outcome = |outcome: &StreamOutcome| {
            self.records.with_label_values(&[labels[0].as_str(), labels[1].as_str(), outcome.as_str()])
        };
        StreamTaskSeries {
            records: StreamOutcome::ALL.iter().map(outcome).collect(),
            rows: self.rows.with_label_values(&labels),
            corrections: self.corrections.with_label_values(&labels),
            commits: self.commits.with_label_values(&labels),
            fenced: self.fenced.with_label_values(&labels),
            commit_duration: self.commit_duration.with_label_values(&labels),
            watermark_lag: self.watermark_lag.with_label_values(&labels),
            input_lag: self.input_lag.with_label_values(&labels),
            open_windows: self.open_windows.with_label_values(&labels),
            groups: self.groups.with_label_values(&labels),
            state_bytes: self.state_bytes.with_label_values(&labels),
            idle: self.idle.with_label_values(&labels),
            restore_duration: self.restore_duration.with_label_values(&labels),
            _end: Removal {
                holders: self.holders.clone(),
                counters: [&self.rows, &self.corrections, &self.commits, &self.fenced].map(Clone::clone),
                records: self.records.clone(),
                durations: self.commit_duration.clone(),
                whole: [&self.input_lag, &self.open_windows, &self.groups, &self.state_bytes, &self.idle]
                    .map(Clone::clone),
                seconds: [&self.watermark_lag, &self.restore_duration].map(Clone::clone),
                labels,
            },
        }
    }
}

/// The series of one task.
pub struct StreamTaskSeries {
    records: Vec<IntCounter>,
    /// Rows that were published.
    pub rows: IntCounter,
    /// Of these, final ones that took the place of a final one.
    pub corrections: IntCounter,
    /// Commits.
    pub commits: IntCounter,
    /// Commits that were refused because another broker leads.
    pub fenced: IntCounter,
    commit_duration: Histogram,
    watermark_lag: Gauge,
    input_lag: IntGauge,
    open_windows: IntGauge,
    groups: IntGauge,
    state_bytes: IntGauge,
    idle: IntGauge,
    restore_duration: Gauge,
    _end: Removal,
}

/// What a task stands at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamTaskGauges {
    /// Wall clock less the task's time; `None` while it has none.
    pub watermark_lag: Option<Duration>,
    /// Records not read yet.
    pub input_lag: u64,
    /// Windows, or sessions, that are open.
    pub open_windows: u64,
    /// Groups in them.
    pub groups: u64,
    /// Bytes of memory.
    pub state_bytes: u64,
    /// Whether nobody waits for the partition.
    pub is_idle: bool,
}

impl StreamTaskSeries {
    /// Records that had this outcome.
    pub fn records(&self, outcome: StreamOutcome) -> &IntCounter {
        &self.records[outcome.index()]
    }

    /// A commit was stored at the quorum.
    pub fn committed(&self, took: Duration) {
        self.commits.inc();
        self.commit_duration.observe(seconds(took));
    }

    /// The task has read what it knows.
    pub fn restored(&self, took: Duration) {
        self.restore_duration.set(seconds(took));
    }

    /// What the task stands at now.
    pub fn set(&self, gauges: StreamTaskGauges) {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.watermark_lag.set(gauges.watermark_lag.map_or(0.0, seconds));
        self.input_lag.set(whole(gauges.input_lag));
        self.open_windows.set(whole(gauges.open_windows));
        self.groups.set(whole(gauges.groups));
        self.state_bytes.set(whole(gauges.state_bytes));
        self.idle.set(i64::from(gauges.is_idle));
    }
}

/// In which states a stream is: its generations count one by one.
pub struct StreamStateSeries {
    states: Vec<IntGauge>,
    family: IntGaugeVec,
    holders: Holders,
    labels: Vec<String>,
}

impl StreamStateSeries {
    /// The states of its generations.
    pub fn set(&self, conditions: &[StreamCondition]) {
        let mut counts = vec![0; StreamCondition::ALL.len()];
        for condition in conditions {
            counts[condition.index()] += 1;
        }
        self.states.iter().zip(counts).for_each(|(gauge, count)| gauge.set(count));
    }
}

impl Drop for StreamStateSeries {
    fn drop(&mut self) {
        let Self { family, holders, labels, .. } = self;
        holders.end(labels, || {
            for state in StreamCondition::ALL {
                // An error only says that the series is not there, which is what is wanted.
                family.remove_label_values(&[labels[0].as_str(), state.as_str()]).unwrap_or_default();
            }
        });
    }
}

/// Takes the series out of their families.
struct Removal {
    labels: [String; 2],
    holders: Holders,
    counters: [IntCounterVec; 4],
    records: IntCounterVec,
    durations: HistogramVec,
    whole: [IntGaugeVec; 5],
    seconds: [GaugeVec; 2],
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.holders.end(&self.labels, || self.remove());
    }
}

impl Removal {
    fn remove(&self) {
        let Self { labels, counters, records, durations, whole, seconds, holders: _ } = self;
        // An error only says that the series is not there, which is what is wanted.
        counters.iter().for_each(|of| of.remove_label_values(labels).unwrap_or_default());
        for outcome in StreamOutcome::ALL {
            let labels = [labels[0].as_str(), labels[1].as_str(), outcome.as_str()];
            records.remove_label_values(&labels).unwrap_or_default();
        }
        durations.remove_label_values(labels).unwrap_or_default();
        whole.iter().for_each(|of| of.remove_label_values(labels).unwrap_or_default());
        seconds.iter().for_each(|of| of.remove_label_values(labels).unwrap_or_default());
    }
}
