//! One partition of the offsets topic as the coordinator sees it: its offsets, and the commits on their
//! way into it. One append is outstanding at a time; what arrives meanwhile goes with the next.

use std::sync::Arc;

use pubg1_model::{
    LeaderEpoch,
    compression::Compression,
    offset_commit::{OffsetCommitKey, OffsetCommitValue},
    record_batch::{BatchBuilder, BatchError, NewRecord, ValidBatch},
};
use tokio::sync::oneshot;

use super::offsets::GroupOffsets;
use crate::{
    admission::Permit,
    errors::{AppendError, CommitOffsetError, OfflineReason},
};

/// Commits in one batch. A commit has at most about 5 KiB, so a batch stays below 1 MiB.
const COMMITS_PER_BATCH: usize = 128;

/// A change of an offset that is not committed yet.
pub(super) struct PendingCommit {
    pub(super) key: OffsetCommitKey,
    /// `None` removes the offset.
    pub(super) value: Option<OffsetCommitValue>,
    pub(super) encoded_key: Vec<u8>,
    pub(super) encoded_value: Option<Vec<u8>>,
    pub(super) client: Option<Client>,
}

/// Who asked for a commit.
pub(super) struct Client {
    pub(super) reply: oneshot::Sender<Result<(), CommitOffsetError>>,
    // Released when the answer is sent.
    pub(super) permit: Permit,
}

impl PendingCommit {
    pub(super) fn answer(client: Option<Client>, result: Result<(), CommitOffsetError>) {
        if let Some(Client { reply, permit }) = client {
            drop(permit);
            // Whoever asked may have gone.
            reply.send(result).map_err(drop).unwrap_or_default();
        }
    }
}

/// The state of one partition.
pub(super) enum Shard {
    /// It is being read, or offline.
    Loading(Option<Arc<OfflineReason>>),
    /// Its offsets are known.
    Ready(ReadyShard),
}

/// A partition whose offsets are known.
pub(super) struct ReadyShard {
    pub(super) epoch: LeaderEpoch,
    pub(super) offsets: GroupOffsets,
    pub(super) queued: Vec<PendingCommit>,
    pub(super) appending: bool,
}

impl ReadyShard {
    pub(super) const fn new(epoch: LeaderEpoch, offsets: GroupOffsets) -> Self {
        Self { epoch, offsets, queued: Vec::new(), appending: false }
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.appending && self.queued.is_empty()
    }

    /// The commits of the next append; empty when one is under way or nothing is queued.
    pub(super) fn next_commits(&mut self) -> Vec<PendingCommit> {
        if self.appending || self.queued.is_empty() {
            return Vec::new();
        }
        self.appending = true;
        let rest = self.queued.split_off(self.queued.len().min(COMMITS_PER_BATCH));
        std::mem::replace(&mut self.queued, rest)
    }

    /// Takes over what was committed in this epoch and answers; an error changes nothing.
    pub(super) fn complete(&mut self, commits: Vec<PendingCommit>, result: &Result<(), AppendError>) {
        self.appending = false;
        for PendingCommit { key, value, client, .. } in commits {
            if result.is_ok() {
                self.offsets.apply(key, value);
            }
            PendingCommit::answer(client, result.clone().map_err(CommitOffsetError::from));
        }
    }
}

/// The batch that stores commits.
pub(super) fn encode(commits: &[PendingCommit], now_ms: i64) -> Result<ValidBatch, BatchError> {
    let mut batch = BatchBuilder::new(Compression::None);
    for commit in commits {
        batch.push(&NewRecord {
            timestamp_ms: now_ms,
            key: Some(&commit.encoded_key),
            value: commit.encoded_value.as_deref(),
            headers: &[],
        })?;
    }
    batch.finish(None)
}
