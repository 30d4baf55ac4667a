//! How long partitions are without a leader, for the metrics.

use std::{collections::HashMap, time::Duration};

use pubg1_model::{
    LeaderEpoch, PartitionId, TopicId,
    cluster::{ClusterImage, MetadataCommand},
};

/// Partitions whose epoch this controller has ended, and since when they wait for a leader.
#[derive(Debug, Default)]
pub(super) struct Failovers(HashMap<(TopicId, PartitionId), Waiting>);

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ended: LeaderEpoch,
    since_ms: u64,
}

impl Failovers {
    /// A command is about to be proposed.
    pub(super) fn on_proposal(&mut self, command: &MetadataCommand, now_ms: u64) {
        let MetadataCommand::BeginEpochs { partitions } = command else { return };
        for ended in partitions {
            let waiting = Waiting { ended: ended.expected, since_ms: now_ms };
            self.0.entry((ended.topic_id, ended.partition)).or_insert(waiting);
        }
    }

    /// The image has changed: how long those waited that have a leader now.
    pub(super) fn on_image(&mut self, image: &ClusterImage, now_ms: u64) -> Vec<Duration> {
        let mut waited = Vec::new();
        self.0.retain(|(topic, partition), waiting| {
            let Some(placed) = image.partition_by_id(*topic, *partition) else { return false };
            let is_led = placed.leader_epoch > waiting.ended && placed.leader.is_some();
            if is_led {
                waited.push(Duration::from_millis(now_ms.saturating_sub(waiting.since_ms)));
            }
            !is_led
        });
        waited
    }
}

#[cfg(test)]
mod tests {
    use pubg1_model::{
        BrokerId,
        cluster::{EpochExpectation, Incarnation, LeaderChoice},
        replication::StorageId,
        topic::TopicConfig,
    };

    use super::*;

    #[test]
    fn a_partition_waits_from_the_end_of_its_epoch_until_a_leader_is_set() {
        let (id, partition, broker) = (TopicId::from_bytes([1; 16]), PartitionId(0), BrokerId(0));
        let incarnation = Incarnation::from_bytes([2; 16]);
        let mut image = ClusterImage::default();
        let expected = LeaderEpoch::ZERO;
        let begin =
            MetadataCommand::BeginEpochs { partitions: vec![EpochExpectation { topic_id: id, partition, expected }] };
        for command in [
            MetadataCommand::FormatCluster { cluster_id: "c".to_owned() },
            MetadataCommand::RegisterBroker {
                broker,
                http_url: "http://a:1".to_owned(),
                rpc_address: String::new(),
                incarnation,
                storage: StorageId::from_bytes([3; 16]),
                rack: None,
                replaces: None,
            },
            MetadataCommand::CreateTopic {
                id,
                name: "t".parse().unwrap(),
                config: TopicConfig::default(),
                partitions: vec![vec![broker]],
                created_ms: 0,
            },
            begin.clone(),
        ] {
            image.apply(&command).unwrap();
        }
        let mut failovers = Failovers::default();
        failovers.on_proposal(&begin, 100);
        failovers.on_proposal(&begin, 150);
        assert!(failovers.on_image(&image, 160).is_empty());
        let choice = LeaderChoice { topic_id: id, partition, epoch: expected.next(), leader: broker, incarnation };
        image.apply(&MetadataCommand::SetLeaders { leaders: vec![choice] }).unwrap();
        assert_eq!(failovers.on_image(&image, 175), [Duration::from_millis(75)]);
        assert!(failovers.on_image(&image, 180).is_empty());
    }
}
