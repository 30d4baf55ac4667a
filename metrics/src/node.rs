//! The broker as a whole: what runs, since when, in which state, with how many partitions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Error, Gauge, IntGauge};

use crate::labels::label_values;
use crate::registry::Families;
use crate::{catalogue, seconds};

label_values! {
    /// The states of a broker, in the order in which it passes them.
    pub enum NodeState {
        /// Configuration is read, nothing is open.
        Starting = "starting",
        /// Logs are being recovered; health answers, data does not.
        Recovering = "recovering",
        /// Serves.
        Ready = "ready",
        /// Refuses new work and flushes what it has.
        Draining = "draining",
        /// Something final happened, such as a failed flush; the process is about to end.
        Failed = "failed",
    }
}

label_values! {
    /// What a broker is for a partition.
    pub enum PartitionRole {
        /// Takes its writes.
        Leader = "leader",
        /// Copies from its leader.
        Follower = "follower",
    }
}

/// The handles of the broker as a whole.
pub struct NodeMetrics {
    /// Partitions that can neither be written nor read.
    pub offline_partitions: IntGauge,
    /// Topics in the cluster image.
    pub topics: IntGauge,
    /// Version of the cluster image.
    pub metadata_version: IntGauge,
    start_time: Gauge,
    states: Vec<IntGauge>,
    partitions: Vec<IntGauge>,
}

impl NodeMetrics {
    pub(crate) fn register(families: &Families) -> Result<NodeMetrics, Error> {
        families.process()?;
        let build_info = families.gauge_vec(&catalogue::BUILD_INFO)?;
        let states = families.gauge_vec(&catalogue::NODE_STATE)?;
        let partitions = families.gauge_vec(&catalogue::PARTITIONS)?;
        let metrics = NodeMetrics {
            offline_partitions: families.gauge(&catalogue::OFFLINE_PARTITIONS)?,
            topics: families.gauge(&catalogue::TOPICS)?,
            metadata_version: families.gauge(&catalogue::METADATA_VERSION)?,
            start_time: families.gauge_f64(&catalogue::START_TIME)?,
            states: NodeState::ALL
                .iter()
                .map(|state| states.get_metric_with_label_values(&[state.as_str()]))
                .collect::<Result<_, _>>()?,
            partitions: PartitionRole::ALL
                .iter()
                .map(|role| partitions.get_metric_with_label_values(&[role.as_str()]))
                .collect::<Result<_, _>>()?,
        };
        metrics.set_state(NodeState::Starting);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        metrics.start_time.set(seconds(since_epoch));
        let revision = option_env!("BUILD_REVISION").unwrap_or("unknown");
        build_info.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION"), revision])?.set(1);
        Ok(metrics)
    }

    /// Enters a state and leaves the others.
    pub fn set_state(&self, state: NodeState) {
        for (index, gauge) in self.states.iter().enumerate() {
            gauge.set(i64::from(index == state.index()));
        }
    }

    /// Partitions on this broker with `role`.
    pub fn partitions(&self, role: PartitionRole) -> &IntGauge {
        &self.partitions[role.index()]
    }
}
