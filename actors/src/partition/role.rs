//! What a partition is on this broker, with the data that it has only then.

use std::sync::Arc;

use pubg1_metrics::{Metrics, PartitionRole};

use super::leader::LeaderState;
use crate::errors::OfflineReason;

/// The role. A follower comes with replication.
pub(super) enum Role {
    /// The log is being opened elsewhere.
    Recovering,
    /// It takes appends.
    Leader(Box<LeaderState>),
    /// It serves nothing.
    Offline(Arc<OfflineReason>),
    /// It has given its log away to be closed or removed; the actor is about to end.
    Ended,
}

/// Counts a partition in the gauge of its role. Dropping it takes it out, however the actor ends.
pub(super) struct RoleGauge {
    metrics: Metrics,
    counted: Counted,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Not,
    Leader,
    Offline,
    Damaged,
}

impl RoleGauge {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), counted: Counted::Not }
    }

    pub(super) fn set(&mut self, role: &Role) {
        let counted = match role {
            Role::Recovering | Role::Ended => Counted::Not,
            Role::Leader(_) => Counted::Leader,
            Role::Offline(reason) if matches!(**reason, OfflineReason::Damaged { .. }) => Counted::Damaged,
            Role::Offline(_) => Counted::Offline,
        };
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
    }
}
