//! Lines that arrived together: appended together, answered in order.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use pubg1_actors::{AppendError, Appended, LeaderView};
use pubg1_model::{BrokerId, LeaderEpoch, PartitionId, record_batch::ValidBatch};

use super::{
    Lines,
    acks::{self, Written},
    known::{self, Sent},
    source::NumberedLine,
};
use crate::{
    error::{ApiError, Cause},
    json_text,
    line_splitter::Line,
    produce::{
        append::{append, offsets},
        batching::{BatchWriter, advance},
        envelope::{IncomingRecord, RawRecord, json_form, natural_key},
        now_ms,
        partitioning::Partitioner,
        push,
    },
    state::AppState,
};

/// What became of one line.
enum Fate {
    Planned(PartitionId),
    Written(Written),
    Refused(ApiError),
}

/// One round of a produce stream.
pub(crate) struct Group<'s> {
    stream: &'s mut Lines,
    lines: Vec<NumberedLine>,
    fates: Vec<Fate>,
}

/// What was written of one partition's share.
pub(super) struct Outcome {
    pub(super) appended: Vec<Appended>,
    leader: BrokerId,
    epoch: LeaderEpoch,
    pub(super) error: Option<AppendError>,
}

impl<'s> Group<'s> {
    pub(crate) fn new(stream: &'s mut Lines, lines: Vec<NumberedLine>) -> Self {
        let fates = Vec::with_capacity(lines.len());
        Self { stream, lines, fates }
    }

    /// Appends the lines and writes their acknowledgements into `output`.
    pub(crate) async fn append(mut self, output: &mut Vec<u8>) {
        let shares = self.plan();
        let (state, topic, acks) = (Arc::clone(&self.stream.state), Arc::clone(&self.stream.topic), self.stream.acks);
        if self.stream.identity.is_some() {
            for (partition, writer) in shares {
                self.append_sequence(partition, writer).await;
            }
        } else {
            let appends = shares.into_iter().map(|(partition, writer)| {
                let (state, topic) = (&state, &topic.name);
                async move {
                    let batches = writer.finish();
                    (
                        partition,
                        match batches {
                            Ok(batches) => write(state, topic, partition, batches, acks).await,
                            Err(error) => Err(error),
                        },
                    )
                }
            });
            for (partition, result) in join_all(appends).await {
                self.settle(partition, result);
            }
        }
        for (line, fate) in self.lines.iter().zip(self.fates) {
            match fate {
                Fate::Written(ack) => acks::written(output, &ack),
                Fate::Refused(error) => acks::refused(output, &error, line.number),
                Fate::Planned(_) => {
                    let error = ApiError::new(Cause::Internal, "the line was not handled");
                    acks::refused(output, &error, line.number);
                }
            }
        }
    }

    /// Reads the lines and gathers them by partition.
    fn plan(&mut self) -> BTreeMap<PartitionId, BatchWriter> {
        let Lines { state, topic, path, identity, bound_to, broken, .. } = &mut *self.stream;
        let mut writers = BTreeMap::new();
        let mut partitioner = match Partitioner::new(state, topic, *path, identity.is_some()) {
            Ok(partitioner) => partitioner.bound_to(*bound_to),
            Err(error) => {
                self.fates.extend(self.lines.iter().map(|_| Fate::Refused(error.clone())));
                return writers;
            }
        };
        let now_ms = now_ms();
        for line in &self.lines {
            if let Some(error) = broken {
                self.fates.push(Fate::Refused(error.clone()));
                continue;
            }
            let planned = parse(&line.line).and_then(|record| {
                let partition = partitioner.choose(&record)?;
                let writer = writers.entry(partition).or_insert_with(|| BatchWriter::new(&topic.config, *identity));
                push(writer, &record, now_ms).map(|()| partition)
            });
            self.fates.push(match planned {
                Ok(partition) => {
                    if identity.is_some() {
                        *bound_to = Some(partition);
                    }
                    Fate::Planned(partition)
                }
                Err(error) => {
                    if identity.is_some() {
                        *broken = Some(after(line.number, error.cause()));
                    }
                    Fate::Refused(error)
                }
            });
        }
        writers
    }

    /// Gives the lines of a partition their offsets, or the error.
    fn settle(&mut self, partition: PartitionId, result: Result<Outcome, ApiError>) {
        let (outcome, error) = match result {
            Ok(mut outcome) => {
                let error = outcome.error.take().map(ApiError::from);
                (Some(outcome), error)
            }
            Err(error) => (None, Some(error)),
        };
        let mut appended = outcome
            .iter()
            .flat_map(|outcome| outcome.appended.iter())
            .flat_map(|batch| offsets(std::slice::from_ref(batch)).map(|offset| (offset, batch.duplicate)));
        let mut first_refused = None;
        for (line, fate) in self.lines.iter().zip(&mut self.fates) {
            if !matches!(fate, Fate::Planned(planned) if *planned == partition) {
                continue;
            }
            *fate = match (appended.next(), &error, &outcome) {
                (None, Some(error), _) => {
                    first_refused.get_or_insert((line.number, error.cause()));
                    Fate::Refused(error.clone())
                }
                (offset, _, outcome) => Fate::Written(Written {
                    partition,
                    offset: offset.map(|(offset, _)| offset),
                    leader: outcome.as_ref().map_or_else(BrokerId::default, |outcome| outcome.leader),
                    epoch: outcome.as_ref().map_or(LeaderEpoch::ZERO, |outcome| outcome.epoch),
                    duplicate: offset.is_some_and(|(_, duplicate)| duplicate),
                }),
            };
        }
        if let Some((line, cause)) = first_refused {
            self.stream.broken.get_or_insert_with(|| after(line, cause));
        }
    }

    /// Appends the share of an idempotent producer. A sequence that was appended before, in other
    /// batches than now, is recognised by what the log expects next: the lines up to there are
    /// duplicates, and the rest is appended.
    async fn append_sequence(&mut self, partition: PartitionId, writer: BatchWriter) {
        let (state, topic) = (Arc::clone(&self.stream.state), Arc::clone(&self.stream.topic));
        let planned = self.fates.iter().filter(|fate| matches!(fate, Fate::Planned(_))).count();
        let batches = match writer.finish() {
            Ok(batches) => batches,
            Err(error) => return self.settle(partition, Err(error)),
        };
        let result = match known::send(&state, &topic.name, partition, &batches, self.stream.acks).await {
            Ok(Sent::Written(outcome)) => Ok(outcome),
            Ok(Sent::Known(known, committed)) => {
                let known = known.min(planned);
                self.acknowledge_known(partition, known, &committed);
                self.advance(known);
                if known == planned {
                    return;
                }
                match self.rebuild(partition) {
                    Ok(batches) => write(&state, &topic.name, partition, batches, self.stream.acks).await,
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        let written: usize = result
            .as_ref()
            .map_or(0, |outcome| if outcome.error.is_some() { offsets(&outcome.appended).count() } else { usize::MAX });
        let left = self.fates.iter().filter(|fate| matches!(fate, Fate::Planned(_))).count();
        self.advance(written.min(left));
        self.settle(partition, result);
    }

    /// The batches of the lines that are still planned.
    fn rebuild(&self, partition: PartitionId) -> Result<Vec<ValidBatch>, ApiError> {
        let mut writer = BatchWriter::new(&self.stream.topic.config, self.stream.identity);
        let now_ms = now_ms();
        for (line, fate) in self.lines.iter().zip(&self.fates) {
            if matches!(fate, Fate::Planned(planned) if *planned == partition) {
                push(&mut writer, &parse(&line.line)?, now_ms)?;
            }
        }
        writer.finish()
    }

    /// Acknowledges the first `known` planned lines as duplicates whose offset is not known any more.
    fn acknowledge_known(&mut self, partition: PartitionId, known: usize, committed: &LeaderView) {
        let (leader, epoch) = (committed.leader, committed.leader_epoch);
        let ack = Written { partition, offset: None, leader, epoch, duplicate: true };
        for fate in self.fates.iter_mut().filter(|fate| matches!(fate, Fate::Planned(_))).take(known) {
            *fate = Fate::Written(ack);
        }
    }

    fn advance(&mut self, lines: usize) {
        if let Some(identity) = &mut self.stream.identity {
            identity.sequence = advance(identity.sequence, lines);
        }
    }
}

/// Appends a partition's share. A refusal by the partition is an outcome, too.
pub(super) async fn write(
    state: &AppState,
    topic: &pubg1_model::TopicName,
    partition: PartitionId,
    batches: Vec<ValidBatch>,
    acks: pubg1_actors::Acks,
) -> Result<Outcome, ApiError> {
    let handle = state.partition(topic, partition)?;
    let nothing =
        |error| Outcome { appended: Vec::new(), leader: BrokerId::default(), epoch: LeaderEpoch::ZERO, error };
    if batches.is_empty() {
        return Ok(nothing(None));
    }
    match append(state.metrics.requests(Lines::API), &handle, batches, acks).await {
        Ok(reply) => {
            Ok(Outcome { appended: reply.appended, leader: reply.leader, epoch: reply.leader_epoch, error: None })
        }
        Err(AppendError::Partial { appended, leader, leader_epoch, cause }) => {
            Ok(Outcome { appended, leader, epoch: leader_epoch, error: Some(*cause) })
        }
        Err(error) => Ok(nothing(Some(error))),
    }
}

/// Why a line was not written: one before it was not.
fn after(line: u64, cause: Cause) -> ApiError {
    ApiError::new(cause, format!("not written, because line {line} was not; send again from there"))
}

fn parse(line: &Line) -> Result<IncomingRecord<'_>, ApiError> {
    match line {
        Line::Whole(line) => json_text::parse::<RawRecord<'_>>(line)?.decode(natural_key, json_form),
        Line::TooLong => Err(ApiError::new(Cause::TooLarge, "the line is too long; send the record by itself")),
    }
}
