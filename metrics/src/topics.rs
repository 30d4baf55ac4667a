//! Records and bytes by topic. The only family whose label is not a closed set: a topic's series begin when its
//! first partition opens and end when it is deleted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Error, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::catalogue;
use crate::labels::label_values;
use crate::registry::Families;

label_values! {
    /// Why bytes left a log.
    pub enum DeleteReason {
        /// Older or larger than the topic keeps.
        Retention = "retention",
        /// Superseded by a later record with the same key.
        Compaction = "compaction",
        /// Asked for by a client.
        Request = "request",
    }
}

/// The handles of one topic. Shared by its partitions.
pub struct TopicMetrics {
    /// Records appended.
    pub records_in: IntCounter,
    /// Bytes of record batches appended.
    pub bytes_in: IntCounter,
    /// Records sent to consumers.
    pub records_out: IntCounter,
    /// Bytes of record batches read for consumers.
    pub bytes_out: IntCounter,
    log_size_bytes: IntGauge,
    log_segments: IntGauge,
    lag_records: IntGauge,
    deleted_bytes: Vec<IntCounter>,
}

impl TopicMetrics {
    /// Bytes that left the topic's logs for `reason`.
    pub fn deleted_bytes(&self, reason: DeleteReason) -> &IntCounter {
        &self.deleted_bytes[reason.index()]
    }

    /// One partition's share of the topic's size. Dropping it takes the share back.
    pub fn log(self: &Arc<Self>) -> LogMetrics {
        LogMetrics { topic: Arc::clone(self), size_bytes: 0, segments: 0 }
    }

    /// What one partition adds to the lag of the topic's followers. Dropping it takes that back.
    pub fn lag(self: &Arc<Self>) -> LagMetrics {
        LagMetrics { topic: Arc::clone(self), records: 0 }
    }
}

/// One partition's share of `pubg1_log_size_bytes` and `pubg1_log_segments`.
pub struct LogMetrics {
    topic: Arc<TopicMetrics>,
    size_bytes: i64,
    segments: i64,
}

impl LogMetrics {
    /// States the partition's present size; the topic's gauges move by the difference.
    pub fn set(&mut self, size_bytes: u64, segments: usize) {
        let size_bytes = i64::try_from(size_bytes).unwrap_or(i64::MAX);
        let segments = i64::try_from(segments).unwrap_or(i64::MAX);
        self.topic.log_size_bytes.add(size_bytes - self.size_bytes);
        self.topic.log_segments.add(segments - self.segments);
        self.size_bytes = size_bytes;
        self.segments = segments;
    }
}

impl Drop for LogMetrics {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

/// One partition's share of `pubg1_replica_lag_records`.
pub struct LagMetrics {
    topic: Arc<TopicMetrics>,
    records: i64,
}

impl LagMetrics {
    /// States how many records the slowest follower lacks; the topic's gauge moves by the difference.
    pub fn set(&mut self, records: u64) {
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        self.topic.lag_records.add(records - self.records);
        self.records = records;
    }
}

impl Drop for LagMetrics {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The handles of all topics.
pub(crate) struct Topics {
    records_in: IntCounterVec,
    bytes_in: IntCounterVec,
    records_out: IntCounterVec,
    bytes_out: IntCounterVec,
    log_size_bytes: IntGaugeVec,
    log_segments: IntGaugeVec,
    lag_records: IntGaugeVec,
    deleted_bytes: IntCounterVec,
    by_name: Mutex<HashMap<String, Arc<TopicMetrics>>>,
}

impl Topics {
    pub(crate) fn register(families: &Families) -> Result<Topics, Error> {
        Ok(Topics {
            records_in: families.counter_vec(&catalogue::TOPIC_RECORDS_IN)?,
            bytes_in: families.counter_vec(&catalogue::TOPIC_BYTES_IN)?,
            records_out: families.counter_vec(&catalogue::TOPIC_RECORDS_OUT)?,
            bytes_out: families.counter_vec(&catalogue::TOPIC_BYTES_OUT)?,
            log_size_bytes: families.gauge_vec(&catalogue::LOG_SIZE)?,
            log_segments: families.gauge_vec(&catalogue::LOG_SEGMENTS)?,
            lag_records: families.gauge_vec(&catalogue::REPLICA_LAG)?,
            deleted_bytes: families.counter_vec(&catalogue::LOG_DELETED)?,
            by_name: Mutex::default(),
        })
    }

    pub(crate) fn topic(&self, name: &str) -> Arc<TopicMetrics> {
        // A panic elsewhere cannot leave this map half changed, so its poison says nothing.
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = by_name.get(name) {
            return Arc::clone(topic);
        }
        let topic = Arc::new(self.begin(name));
        by_name.insert(name.to_owned(), Arc::clone(&topic));
        topic
    }

    pub(crate) fn remove(&self, name: &str) {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if by_name.remove(name).is_none() {
            return;
        }
        for family in [&self.records_in, &self.bytes_in, &self.records_out, &self.bytes_out] {
            // An error only says that the series is not there, which is what is wanted.
            family.remove_label_values(&[name]).unwrap_or_default();
        }
        for family in [&self.log_size_bytes, &self.log_segments, &self.lag_records] {
            family.remove_label_values(&[name]).unwrap_or_default();
        }
        for reason in DeleteReason::ALL {
            self.deleted_bytes.remove_label_values(&[name, reason.as_str()]).unwrap_or_default();
        }
    }

    fn begin(&self, name: &str) -> TopicMetrics {
        TopicMetrics {
            records_in: self.records_in.with_label_values(&[name]),
            bytes_in: self.bytes_in.with_label_values(&[name]),
            records_out: self.records_out.with_label_values(&[name]),
            bytes_out: self.bytes_out.with_label_values(&[name]),
            log_size_bytes: self.log_size_bytes.with_label_values(&[name]),
            log_segments: self.log_segments.with_label_values(&[name]),
            lag_records: self.lag_records.with_label_values(&[name]),
            deleted_bytes: DeleteReason::ALL
                .iter()
                .map(|reason| self.deleted_bytes.with_label_values(&[name, reason.as_str()]))
                .collect(),
        }
    }
}
