//! What a partition is on this broker, with the data that it has only then.

use std::sync::Arc;

use pubg1_metrics::{LagMetrics, Metrics, PartitionRole, TopicMetrics};
use pubg1_model::BrokerId;

use super::{PartitionStatus, replica::ReplicaState};
use crate::errors::OfflineReason;

/// The role.
pub(super) enum Role {
    /// The log is being opened elsewhere.
    Recovering,
    /// It is one of the replicas, whatever part it plays in the protocol.
    Replica(Box<ReplicaState>),
    /// It serves nothing.
    Offline(Arc<OfflineReason>),
    /// It has given its log away to be closed or removed; the actor is about to end.
    Ended,
}

/// Counts a partition in the gauges of its role. Dropping it takes it out, however the actor ends.
pub(super) struct RoleGauge {
    metrics: Metrics,
    lag: LagMetrics,
    counted: Counted,
    is_under_replicated: bool,
    /// Who was in sync; empty while it does not lead.
    in_sync: Arc<[BrokerId]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Not,
    Leader,
    Follower,
    Offline,
    Damaged,
}

impl RoleGauge {
    pub(super) fn new(metrics: &Metrics, topic: &Arc<TopicMetrics>) -> Self {
        let in_sync = Arc::new([]);
        Self { metrics: metrics.clone(), lag: topic.lag(), counted: Counted::Not, is_under_replicated: false, in_sync }
    }

    pub(super) fn set(&mut self, role: &Role) {
        match role {
            // What it is as a replica is known when it publishes.
            Role::Replica(_) => return,
            Role::Recovering | Role::Ended => self.count(Counted::Not),
            Role::Offline(reason) if matches!(**reason, OfflineReason::Damaged { .. }) => self.count(Counted::Damaged),
            Role::Offline(_) => self.count(Counted::Offline),
        }
        self.set_replication(false, &Arc::from([]));
    }

    /// Counts a replica by what it has published.
    pub(super) fn set_status(&mut self, status: &PartitionStatus) {
        self.count(match status {
            PartitionStatus::Leader => Counted::Leader,
            PartitionStatus::Follower => Counted::Follower,
            _ => Counted::Not,
        });
    }

    /// Counts what a leader knows of its followers.
    pub(super) fn set_replication(&mut self, is_under_replicated: bool, in_sync: &Arc<[BrokerId]>) {
        let replication = self.metrics.replication();
        if is_under_replicated != self.is_under_replicated {
            replication.under_replicated_partitions.add(if is_under_replicated { 1 } else { -1 });
            self.is_under_replicated = is_under_replicated;
        }
        if !self.in_sync.is_empty() && !in_sync.is_empty() {
            let lost = |from: &[BrokerId], to: &[BrokerId]| from.iter().any(|broker| !to.contains(broker));
            replication.in_sync_shrinks.inc_by(u64::from(lost(&self.in_sync, in_sync)));
            replication.in_sync_expands.inc_by(u64::from(lost(in_sync, &self.in_sync)));
        }
        if in_sync.is_empty() {
            self.lag.set(0);
        }
        self.in_sync = Arc::clone(in_sync);
    }

    /// States how many records the slowest follower lacks.
    pub(super) fn set_lag(&mut self, records: u64) {
        self.lag.set(records);
    }

    fn count(&mut self, counted: Counted) {
        if counted != self.counted {
            self.add(-1);
            self.counted = counted;
            self.add(1);
        }
    }

    fn add(&self, change: i64) {
        let (node, storage) = (self.metrics.node(), self.metrics.storage());
        match self.counted {
            Counted::Not => {}
            Counted::Leader => node.partitions(PartitionRole::Leader).add(change),
            Counted::Follower => node.partitions(PartitionRole::Follower).add(change),
            Counted::Offline => node.offline_partitions.add(change),
            Counted::Damaged => {
                node.offline_partitions.add(change);
                storage.damaged_partitions.add(change);
            }
        }
    }
}

impl Drop for RoleGauge {
    fn drop(&mut self) {
        self.add(-1);
        self.set_replication(false, &Arc::from([]));
    }
}
