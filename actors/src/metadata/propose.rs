//! A command on its way: to the leader, wherever it is, into the log, and into the image of this broker.

use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use pubg1_model::{
    BrokerId,
    cluster::{MetadataCommand, MetadataReply},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{MetadataHandle, ProposeError};
use crate::{
    errors::MetadataUnavailable,
    raft::{
        ELECTION_PATIENCE,
        network::{CallError, ask},
        types::{Applied, Raft, broker_id},
        wire::{self, KIND_PROPOSE, Refusal},
    },
};

/// How long a command may take when there is a leader.
const DECISION_PATIENCE: Duration = Duration::from_secs(3);
/// The pause before a command that was certainly not taken is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The largest command: it must fit into a message to a follower.
const COMMAND_BYTES_MAX: usize = 8 << 20;

/// A command that is under way, counted.
pub(super) struct UnderWay(MetadataHandle);

impl UnderWay {
    pub(super) fn begin(handle: &MetadataHandle) -> Self {
        handle.0.proposals.send_modify(|count| *count += 1);
        Self(handle.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.proposals.send_modify(|count| *count -= 1);
    }
}

/// What became of one attempt.
enum Attempt {
    Applied(Applied),
    /// It was certainly not taken.
    NotTaken,
    /// It may have been taken.
    Unknown,
}

/// Applies a command through the leader; done when the image that it leads to is published here.
pub(super) async fn propose(
    handle: &MetadataHandle,
    raft: &Raft,
    command: MetadataCommand,
) -> Result<MetadataReply, ProposeError> {
    let retry_after_ms = handle.0.node.retry_after_ms();
    let body = wire::encode(&command).map_err(|reason| MetadataUnavailable::Storage { reason, retry_after_ms })?;
    if body.len() > COMMAND_BYTES_MAX {
        let reason = format!("a change of {} bytes is too large", body.len());
        return Err(MetadataUnavailable::Storage { reason, retry_after_ms }.into());
    }
    let start = Instant::now();
    let (no_leader, deadline) = (start + ELECTION_PATIENCE, start + DECISION_PATIENCE);
    let applied = loop {
        let Some(leader) = leader(raft, no_leader).await else {
            return Err(MetadataUnavailable::NoLeader { retry_after_ms }.into());
        };
        let attempt = if leader == handle.0.group.broker {
            write_here(raft, command.clone(), deadline).await
        } else {
            let patience = deadline.saturating_duration_since(Instant::now());
            let answer = ask::<Applied>(&*handle.0.group.transport, leader, KIND_PROPOSE, body.clone(), patience);
            match answer.await {
                Ok(Ok(applied)) => Attempt::Applied(applied),
                Ok(Err(Refusal::Interrupted(_))) | Err(CallError::OutcomeUnknown(_)) => Attempt::Unknown,
                Ok(Err(_)) | Err(CallError::NotSent(_)) => Attempt::NotTaken,
            }
        };
        match attempt {
            Attempt::Applied(applied) => break applied,
            Attempt::NotTaken if Instant::now() + RETRY_PAUSE < no_leader => sleep(RETRY_PAUSE).await,
            Attempt::NotTaken => return Err(MetadataUnavailable::NoLeader { retry_after_ms }.into()),
            Attempt::Unknown => return Err(MetadataUnavailable::OutcomeUnknown { retry_after_ms }.into()),
        }
    };
    let mut images = handle.images();
    let published = images.wait_for(|image| image.version >= applied.version);
    if !matches!(timeout_at(deadline, published).await, Ok(Ok(_))) {
        // It is done, but not to be seen here: the caller would look for it in vain.
        return Err(MetadataUnavailable::OutcomeUnknown { retry_after_ms }.into());
    }
    applied.result.map_err(ProposeError::Refused)
}

/// Waits for the group to have a leader.
async fn leader(raft: &Raft, deadline: Instant) -> Option<BrokerId> {
    let mut metrics = raft.metrics();
    let known = metrics.wait_for(|metrics| metrics.current_leader.is_some());
    let known = timeout_at(deadline, known).await.ok()?.ok()?;
    known.current_leader.map(broker_id)
}

/// Writes the command as the leader.
async fn write_here(raft: &Raft, command: MetadataCommand, deadline: Instant) -> Attempt {
    match timeout_at(deadline, raft.client_write(command)).await {
        Ok(Ok(written)) => Attempt::Applied(written.data),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Attempt::NotTaken,
        Ok(Err(_)) | Err(_) => Attempt::Unknown,
    }
}

/// A command that another broker sends here because this one leads. It is not sent on.
pub(super) async fn propose_for_peer(raft: &Raft, command: MetadataCommand) -> Result<Applied, Refusal> {
    match write_here(raft, command, Instant::now() + DECISION_PATIENCE).await {
        Attempt::Applied(applied) => Ok(applied),
        Attempt::NotTaken => Err(Refusal::NotLeader { leader: raft.current_leader().await.map(broker_id) }),
        Attempt::Unknown => Err(Refusal::Interrupted("it was not decided in time".to_owned())),
    }
}
