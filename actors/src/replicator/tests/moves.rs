//! Replica sets change.

use pubg1_model::{
    BrokerId, PartitionId,
    cluster::{MetadataCommand, ReplicaMove},
    topic::TopicConfig,
};

use super::cluster::{Cluster, TOPIC, records};
use crate::fixture::{offset, topic, until, within};

#[actix_rt::test]
async fn a_partition_moves_to_other_brokers_while_it_is_written() {
    let cluster = Cluster::start(4).await;
    let small = TopicConfig { segment_bytes: 16 * 1024, max_message_bytes: 8 * 1024, ..TopicConfig::default() };
    cluster.create_topic(2, small).await;
    let filler = "x".repeat(2000);
    for _ in 0..30 {
        cluster.append(&filler).await;
    }
    let before = cluster.image().replicas;
    let to: Vec<BrokerId> = (0..4).map(BrokerId).filter(|broker| !before.contains(broker)).collect();
    let (topic_id, partition) = (cluster.slot(before[0].0 as usize).await.identity.topic_id, PartitionId(0));
    let key = (topic_id, partition);
    let dirs: Vec<_> = {
        let mut dirs = Vec::new();
        for broker in &before {
            dirs.push(cluster.slot(broker.0 as usize).await.identity.dir.clone());
        }
        dirs
    };
    let moves = vec![ReplicaMove { topic_id, partition, expected: before.clone(), to: to.clone() }];
    let metadata = &cluster.broker(0).services().metadata;
    within(metadata.propose(MetadataCommand::BeginMoves { moves })).await.unwrap();
    let mut written = 30;
    // The controller ends the move when its leader says that the new replicas can stand alone.
    within(async {
        loop {
            let image = cluster.broker(0).image();
            let now = image.partition(&topic(TOPIC), partition).unwrap();
            if now.moving_to.is_none() && now.replicas == to {
                return;
            }
            assert_eq!(cluster.append("while it moves").await, written);
            written += 1;
        }
    })
    .await;
    assert_eq!(cluster.append("after").await, written);
    cluster.converged().await;
    let leader = cluster.slot(cluster.leader().await).await;
    assert!(to.contains(&leader.node.config.broker_id));
    assert_eq!(u64::try_from(records(&leader).len()).unwrap(), written + 1);
    assert_eq!(leader.view().log_end_offset, offset(written + 1));
    // Who kept it before keeps nothing of it.
    for (broker, dir) in before.iter().zip(dirs) {
        let node = cluster.broker(broker.0 as usize).node();
        until(|| node.table.find(key).is_none() && node.states.load(key).is_none() && !dir.try_exists().unwrap()).await;
    }
    cluster.end().await;
}
