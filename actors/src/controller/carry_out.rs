//! What the rules ask for, done: each action is a task whose end comes back as a message.

use std::time::Duration;

use pubg1_model::{
    BrokerId, PartitionId, TopicId,
    controller::{Action, TransferRequest},
    replication::message::FenceAnswer,
};
use pubg1_transport::Payload;

use super::{
    ControllerHandle,
    messages::{FenceAnswered, FenceBatch, Proposed, TransferAnswered},
};
use crate::rpc::kind;

/// How long a broker may take to store the promises of a batch.
const FENCE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a leader may take to bring its successor up to its own end.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn start(handle: &ControllerHandle, term: u64, action: Action) {
    let handle = handle.clone();
    match action {
        Action::Propose(command) => {
            actix_rt::spawn(async move {
                let result = handle.0.metadata.propose_own(command).await;
                if let Err(error) = &result {
                    tracing::debug!(%error, "a proposal of the controller was not applied");
                }
                handle.post(Proposed { term, applied: result.is_ok() });
            });
        }
        Action::Fence { broker, version, partitions, .. } => {
            actix_rt::spawn(fence(handle, term, broker, FenceBatch { version, partitions }));
        }
        Action::Transfer { leader, partitions, .. } => {
            actix_rt::spawn(transfer(handle, term, leader, partitions));
        }
    }
}

async fn fence(handle: ControllerHandle, term: u64, broker: BrokerId, batch: FenceBatch) {
    let rpc = &handle.0.node.rpc;
    let answered = rpc.call(broker, kind::FENCE, &batch, Payload::empty(), FENCE_TIMEOUT).await;
    let answers: Vec<(TopicId, PartitionId, FenceAnswer)> = match answered {
        Ok((answers, _)) => answers,
        // It is fenced again as long as it matters.
        Err(error) => return tracing::debug!(%broker, %error, "a broker was not fenced"),
    };
    handle.post(FenceAnswered { term, broker, answers });
}

async fn transfer(handle: ControllerHandle, term: u64, leader: BrokerId, partitions: Vec<TransferRequest>) {
    let rpc = &handle.0.node.rpc;
    let answered = rpc.call(leader, kind::TRANSFER, &partitions, Payload::empty(), TRANSFER_TIMEOUT).await;
    let ready: Vec<TransferRequest> = match answered {
        Ok((ready, _)) => ready,
        Err(error) => return tracing::debug!(%leader, %error, "leaderships were not handed over"),
    };
    handle.post(TransferAnswered { term, ready });
}
