//! What the controller asks of the replicas of this broker: promises, and leaderships handed over. In batches; the
//! partitions work side by side, and what they store becomes one transaction.

use std::time::Duration;

use futures_util::future::join_all;
use pubg1_model::{
    PartitionId, TopicId,
    controller::{FenceRequest, TransferRequest},
    replication::message::FenceAnswer,
};
use tokio::sync::oneshot;

use super::{Fence, Transfer};
use crate::node::NodeContext;

/// How long the answers to a batch are waited for: one that comes later is asked for again.
const FENCE_PATIENCE: Duration = Duration::from_millis(1_500);
/// Longer than a leader holds its appends.
const TRANSFER_PATIENCE: Duration = Duration::from_millis(1_500);

/// Fences replicas of this broker (kind 12). Answers come from those that have promised, on disk; a replica that is not
/// here, cannot tell what it has, or has promised a newer epoch gives none.
pub(crate) async fn fence(node: &NodeContext, requests: Vec<FenceRequest>) -> Vec<(TopicId, PartitionId, FenceAnswer)> {
    let answers = requests.into_iter().filter_map(|FenceRequest { topic_id, partition, epoch }| {
        let (reply, answer) = oneshot::channel();
        node.table.find((topic_id, partition))?.post(Fence { epoch, reply }).ok()?;
        Some(async move {
            let answer = tokio::time::timeout(FENCE_PATIENCE, answer).await.ok()?.ok()?;
            Some((topic_id, partition, answer))
        })
    });
    join_all(answers).await.into_iter().flatten().collect()
}

/// Asks leaders of this broker to hand over (kind 13). The answer names those whose successors have everything.
pub(crate) async fn transfer(node: &NodeContext, requests: Vec<TransferRequest>) -> Vec<TransferRequest> {
    let answers = requests.into_iter().filter_map(|request| {
        let TransferRequest { topic_id, partition, epoch, to } = request;
        let (reply, ready) = oneshot::channel();
        node.table.find((topic_id, partition))?.post(Transfer { epoch, to, reply }).ok()?;
        Some(async move {
            tokio::time::timeout(TRANSFER_PATIENCE, ready).await.ok()?.ok()?;
            Some(request)
        })
    });
    join_all(answers).await.into_iter().flatten().collect()
}
