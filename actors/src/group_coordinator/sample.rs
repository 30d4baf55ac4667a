//! What there is behind the offsets that groups have committed, asked of the leaders of the partitions.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use pubg1_model::{BrokerId, Offset, record_batch::BatchIter};
use pubg1_transport::Payload;

use super::{
    lag::{ReadPosition, Sampled},
    routed::kind,
};
use crate::{metadata::MetadataHandle, node::NodeContext, partition::PartitionSlot};

/// How long a leader may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks each leader once. Who does not answer is left out.
pub(super) async fn sample(
    node: &Arc<NodeContext>,
    metadata: &MetadataHandle,
    wanted: Vec<ReadPosition>,
) -> Vec<(ReadPosition, Sampled)> {
    let image = metadata.image();
    let mut by_leader: BTreeMap<BrokerId, Vec<ReadPosition>> = BTreeMap::new();
    for position in wanted {
        let partition = image.partition(&position.0.topic, position.0.partition);
        if let Some(leader) = partition.and_then(|partition| partition.leader) {
            by_leader.entry(leader).or_default().push(position);
        }
    }
    let asked = by_leader.into_iter().map(|(leader, positions)| async move {
        let sampled = if leader == node.config.broker_id {
            look(node, positions.clone()).await
        } else {
            let asked = node.rpc.call(leader, kind::SAMPLE, &positions, Payload::empty(), PATIENCE).await;
            asked.map(|(sampled, _)| sampled).unwrap_or_default()
        };
        let found = |(position, sampled): (ReadPosition, Option<Sampled>)| Some((position, sampled?));
        positions.into_iter().zip(sampled).filter_map(found).collect::<Vec<_>>()
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// What there is in partitions that are led here, on a thread that may wait for the disk.
pub(super) async fn look(node: &Arc<NodeContext>, positions: Vec<ReadPosition>) -> Vec<Option<Sampled>> {
    let to_look = Arc::clone(node);
    let look = move || {
        let sampled = |(partition, offset): &ReadPosition| {
            look_at(&*to_look.table.get(&partition.topic, partition.partition)?, *offset)
        };
        positions.iter().map(sampled).collect()
    };
    node.workers.run(look).await.unwrap_or_default()
}

fn look_at(slot: &PartitionSlot, offset: Offset) -> Option<Sampled> {
    let view = slot.leader_view().ok()?;
    let from = offset.max(view.log_start_offset);
    let first = slot.read_internally(from, 1).ok().filter(|_| from < view.high_watermark);
    let header = first.as_ref().and_then(|fetched| BatchIter::new(fetched.runs.first()?).next()?.ok());
    Some(Sampled {
        log_start_offset: view.log_start_offset,
        high_watermark: view.high_watermark,
        // Of the batch that holds the record: the record itself may be a little younger.
        timestamp_ms: header.map(|batch| batch.header().base_timestamp).filter(|at| *at >= 0),
    })
}
