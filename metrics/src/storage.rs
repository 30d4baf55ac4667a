//! The log on disk: flushes, batches, recovery, damage, space.

use std::time::Duration;

use prometheus::{Error, Gauge, Histogram, IntCounter, IntGauge};

use crate::registry::Families;
use crate::{buckets, catalogue, seconds};

/// The handles of the storage of one broker.
pub struct StorageMetrics {
    /// Time of one flush of a partition, in seconds.
    pub flush_duration: Histogram,
    /// Records in each batch appended.
    pub append_batch_records: Histogram,
    /// Batches on disk whose checksum did not match, torn tails aside.
    pub checksum_failures: IntCounter,
    /// Appends refused because the disk had no space.
    pub disk_full_errors: IntCounter,
    /// Partitions with damage below their flushed offset.
    pub damaged_partitions: IntGauge,
    /// Bytes of torn tails cut off by recovery.
    pub recovery_truncated_bytes: IntCounter,
    recovery_duration: Gauge,
    disk_free_bytes: IntGauge,
    disk_total_bytes: IntGauge,
}

impl StorageMetrics {
    pub(crate) fn register(families: &Families) -> Result<StorageMetrics, Error> {
        Ok(StorageMetrics {
            flush_duration: families.histogram(&catalogue::LOG_FLUSH_DURATION, &buckets::SHORT_SECONDS)?,
            append_batch_records: families.histogram(&catalogue::LOG_APPEND_BATCH_RECORDS, &buckets::RECORDS)?,
            checksum_failures: families.counter(&catalogue::LOG_CHECKSUM_FAILURES)?,
            disk_full_errors: families.counter(&catalogue::LOG_DISK_FULL)?,
            damaged_partitions: families.gauge(&catalogue::DAMAGED_PARTITIONS)?,
            recovery_truncated_bytes: families.counter(&catalogue::RECOVERY_TRUNCATED)?,
            recovery_duration: families.gauge_f64(&catalogue::RECOVERY_DURATION)?,
            disk_free_bytes: families.gauge(&catalogue::DISK_FREE)?,
            disk_total_bytes: families.gauge(&catalogue::DISK_TOTAL)?,
        })
    }

    /// Adds one flush.
    pub fn observe_flush(&self, duration: Duration) {
        self.flush_duration.observe(seconds(duration));
    }

    /// Adds the size of one appended batch.
    pub fn observe_batch(&self, records: u32) {
        self.append_batch_records.observe(f64::from(records));
    }

    /// States how long the recovery of all logs took.
    pub fn set_recovery_duration(&self, duration: Duration) {
        self.recovery_duration.set(seconds(duration));
    }

    /// States the space of the data directory's filesystem.
    pub fn set_disk(&self, free_bytes: u64, total_bytes: u64) {
        self.disk_free_bytes.set(i64::try_from(free_bytes).unwrap_or(i64::MAX));
        self.disk_total_bytes.set(i64::try_from(total_bytes).unwrap_or(i64::MAX));
    }
}
