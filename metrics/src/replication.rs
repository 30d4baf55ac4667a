//! Copies of partitions: what followers fetch, and who keeps up.

use std::time::Duration;

use prometheus::{Error, Histogram, IntCounter, IntGauge};

use crate::registry::Families;
use crate::{buckets, catalogue, seconds};

/// The handles of replication of one broker.
pub struct ReplicationMetrics {
    /// Requests of followers that were answered.
    pub fetches: IntCounter,
    /// Bytes of batches copied from leaders.
    pub bytes_in: IntCounter,
    /// Bytes of batches sent to followers.
    pub bytes_out: IntCounter,
    /// Partitions led here that have a replica which is not in sync.
    pub under_replicated_partitions: IntGauge,
    /// How often a replica fell out of sync.
    pub in_sync_shrinks: IntCounter,
    /// How often a replica came back in sync.
    pub in_sync_expands: IntCounter,
    /// Whether this broker is the controller.
    pub controller: IntGauge,
    /// Brokers that the controller hears from.
    pub alive_brokers: IntGauge,
    registered_brokers: IntGauge,
    leaderless_partitions: IntGauge,
    heartbeat_duration: Histogram,
    /// Leaders that were set while this broker was the controller.
    pub elections: IntCounter,
    /// From the decision that a partition needs a new leader until it has one, in seconds.
    pub failover_duration: Histogram,
}

impl ReplicationMetrics {
    pub(crate) fn register(families: &Families) -> Result<ReplicationMetrics, Error> {
        Ok(ReplicationMetrics {
            fetches: families.counter(&catalogue::REPLICA_FETCHES)?,
            bytes_in: families.counter(&catalogue::REPLICATION_BYTES_IN)?,
            bytes_out: families.counter(&catalogue::REPLICATION_BYTES_OUT)?,
            under_replicated_partitions: families.gauge(&catalogue::UNDER_REPLICATED)?,
            in_sync_shrinks: families.counter(&catalogue::IN_SYNC_SHRINKS)?,
            in_sync_expands: families.counter(&catalogue::IN_SYNC_EXPANDS)?,
            controller: families.gauge(&catalogue::CONTROLLER)?,
            alive_brokers: families.gauge(&catalogue::ALIVE_BROKERS)?,
            registered_brokers: families.gauge(&catalogue::REGISTERED_BROKERS)?,
            leaderless_partitions: families.gauge(&catalogue::LEADERLESS)?,
            heartbeat_duration: families.histogram(&catalogue::HEARTBEAT_DURATION, &buckets::REQUEST_SECONDS)?,
            elections: families.counter(&catalogue::ELECTIONS)?,
            failover_duration: families.histogram(&catalogue::FAILOVER_DURATION, &buckets::REQUEST_SECONDS)?,
        })
    }

    /// States how many brokers there are in the cluster image.
    pub fn set_registered(&self, brokers: usize) {
        self.registered_brokers.set(i64::try_from(brokers).unwrap_or(i64::MAX));
    }

    /// States how many partitions no living broker leads, as the controller sees it.
    pub fn set_leaderless(&self, partitions: usize) {
        self.leaderless_partitions.set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }

    /// Adds a heartbeat that another broker has answered.
    pub fn observe_heartbeat(&self, duration: Duration) {
        self.heartbeat_duration.observe(seconds(duration));
    }

    /// Adds a partition that has a leader again.
    pub fn observe_failover(&self, duration: Duration) {
        self.elections.inc();
        self.failover_duration.observe(seconds(duration));
    }
}
