//! A v2 request's records on their way into partitions, and what became of each.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use pubg1_actors::{Acks, AppendError, AppendReply, Appended};
use pubg1_model::{BrokerId, LeaderEpoch, PartitionId, TopicName, cluster::TopicImage, record_batch::ProducerIdentity};

use super::{
    append::{all_duplicates, append, offsets},
    batching::BatchWriter,
    envelope::IncomingRecord,
    now_ms,
    partitioning::Partitioner,
    push,
};
use crate::{
    call::Call,
    dto::ProducedRecord,
    error::{ApiError, Cause},
};

/// What became of one record.
pub(super) enum Fate {
    /// Where it is going.
    Planned(PartitionId),
    Written {
        partition: PartitionId,
        offset: Option<u64>,
        leader: BrokerId,
        epoch: LeaderEpoch,
        duplicate: bool,
    },
    Refused(ApiError),
}

impl Fate {
    pub(super) fn entry(self) -> ProducedRecord {
        match self {
            Self::Written { partition, offset, leader, epoch, .. } => ProducedRecord {
                partition: Some(partition.0),
                offset,
                error_code: None,
                error: None,
                leader: Some(leader.0),
                leader_epoch: Some(epoch.get()),
            },
            Self::Planned(_) => refused(Cause::Internal, "the record was not handled"),
            Self::Refused(error) => refused(error.cause(), error.message()),
        }
    }
}

fn refused(cause: Cause, message: &str) -> ProducedRecord {
    ProducedRecord {
        partition: None,
        offset: None,
        error_code: Some(cause.row().code),
        error: Some(message.to_owned()),
        leader: None,
        leader_epoch: None,
    }
}

/// A request's records on their way into partitions.
pub(super) struct Request {
    pub(super) fates: Vec<Fate>,
    writers: BTreeMap<PartitionId, BatchWriter>,
}

impl Request {
    pub(super) fn plan(
        call: &Call,
        topic: &TopicImage,
        path: Option<PartitionId>,
        identity: Option<ProducerIdentity>,
        records: &[IncomingRecord<'_>],
    ) -> Result<Self, ApiError> {
        let mut partitioner = Partitioner::new(&call.state, topic, path, identity.is_some())?;
        let mut request = Self { fates: Vec::with_capacity(records.len()), writers: BTreeMap::new() };
        let now_ms = now_ms();
        for record in records {
            let partition = partitioner.choose(record)?;
            let writer = request.writers.entry(partition).or_insert_with(|| BatchWriter::new(&topic.config, identity));
            request.fates.push(match push(writer, record, now_ms) {
                Ok(()) => Fate::Planned(partition),
                // Without this record the sequence of the others would be wrong.
                Err(error) if identity.is_some() => return Err(error),
                Err(error) => Fate::Refused(error),
            });
        }
        Ok(request)
    }

    /// Appends to all partitions at once. It is an error when nothing was written anywhere for a
    /// reason that concerns the request and not a record.
    pub(super) async fn append(&mut self, call: &Call, topic: &TopicName, acks: Acks) -> Result<(), ApiError> {
        let appends = std::mem::take(&mut self.writers).into_iter().map(|(partition, writer)| async move {
            let result: Result<AppendReply, AppendFailure> = async {
                let batches = writer.finish()?;
                if batches.is_empty() {
                    return Err(AppendFailure::Nothing);
                }
                let handle = call.state.partition(topic, partition)?;
                Ok(append(call.metrics(), &handle, batches, acks).await?)
            }
            .await;
            (partition, result)
        });
        let results = join_all(appends).await;
        let nothing_written = results.iter().all(|(_, result)| result.is_err());
        for (partition, result) in results {
            match result {
                Ok(reply) => self.settle(partition, &reply.appended, reply.leader, reply.leader_epoch, None),
                Err(AppendFailure::Nothing) => {}
                Err(AppendFailure::Refused(error)) if nothing_written => return Err(error),
                Err(AppendFailure::Refused(error)) => {
                    self.settle(partition, &[], BrokerId::default(), LeaderEpoch::ZERO, Some(&error));
                }
                Err(AppendFailure::Partial { appended, leader, leader_epoch, error }) => {
                    self.settle(partition, &appended, leader, leader_epoch, Some(&error));
                }
            }
        }
        Ok(())
    }

    /// Gives the records of `partition` the offsets of `appended`, in order; those for which there
    /// is none are refused with `error`, or were sent without waiting.
    fn settle(
        &mut self,
        partition: PartitionId,
        appended: &[Appended],
        leader: BrokerId,
        epoch: LeaderEpoch,
        error: Option<&ApiError>,
    ) {
        let duplicate = all_duplicates(appended);
        let mut offsets = offsets(appended);
        for fate in &mut self.fates {
            if !matches!(fate, Fate::Planned(planned) if *planned == partition) {
                continue;
            }
            *fate = match (offsets.next(), error) {
                (None, Some(error)) => Fate::Refused(error.clone()),
                (offset, _) => Fate::Written { partition, offset, leader, epoch, duplicate },
            };
        }
    }
}

/// Why a partition's share of a request was not written, or not wholly.
enum AppendFailure {
    /// All its records were refused before.
    Nothing,
    Refused(ApiError),
    Partial {
        appended: Vec<Appended>,
        leader: BrokerId,
        leader_epoch: LeaderEpoch,
        error: ApiError,
    },
}

impl From<ApiError> for AppendFailure {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<AppendError> for AppendFailure {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Partial { appended, leader, leader_epoch, cause } => {
                Self::Partial { appended, leader, leader_epoch, error: ApiError::from(*cause) }
            }
            error => Self::Refused(error.into()),
        }
    }
}
