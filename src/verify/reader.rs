//! The readers: they follow the topic while it is written, from any broker, look at old records
//! again, and ask where partitions end. The judge compares what they were told.

use std::time::Duration;

use pubg1_model::{
    Offset, PartitionId, TopicName,
    record_batch::{BatchError, BatchIter, RecordView},
};
use tokio::sync::watch;

use super::{
    brokers::{Brokers, Dice},
    clock::Recorder,
    history::{Copy, Entry, Read, Run, StoredBatch},
    payload::{Payload, fingerprint},
};
use crate::client::{Client, ClientError, FetchedBatches};

/// How long a broker may hold a request for records that are not there yet.
const WAIT: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 256 * 1024;
const BACKOFF: Duration = Duration::from_millis(20);
/// A batch that unpacks to more is none of ours.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What all readers have in common.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The brokers.
    pub brokers: Brokers,
    /// The topic.
    pub topic: TopicName,
    /// The records.
    pub payload: Payload,
    /// Where each partition began.
    pub first_offsets: Vec<u64>,
    /// An attempt that takes longer is given up.
    pub attempt_timeout: Duration,
    /// Where everything is put down.
    pub recorder: Recorder,
}

/// Calls `each` with the records from an offset on, and answers the batches that they are in.
fn each_record(from: u64, bytes: &[u8], mut each: impl FnMut(&RecordView<'_>)) -> Result<Vec<StoredBatch>, BatchError> {
    let mut batches = Vec::new();
    let mut at = 0;
    for batch in BatchIter::new(bytes) {
        let batch = batch?;
        let header = *batch.header();
        let end = at + header.total_bytes();
        let stored = bytes.get(at..end).unwrap_or_default();
        batches.push((
            header.base_offset.cast_unsigned(),
            i64::from(header.partition_leader_epoch),
            fingerprint(stored),
        ));
        at = end;
        for record in batch.decode(BATCH_BYTES_MAX)?.records() {
            let record = record?;
            if record.offset.get() >= from {
                each(&record);
            }
        }
    }
    Ok(batches)
}

/// Reads until it is told to stop.
pub async fn run(reading: Reading, mut stop: watch::Receiver<bool>, mut dice: Dice) {
    let mut next = reading.first_offsets.clone();
    let mut turn = 0;
    loop {
        let partition = turn % next.len().max(1);
        turn += 1;
        let Some(position) = next.get_mut(partition) else { return };
        let one = async {
            match dice.below(8) {
                0 => reading.ask_for_end(partition, *position, &mut dice).await,
                1 => reading.look_back(partition, *position, &mut dice).await,
                _ => reading.follow(partition, position, &mut dice).await,
            }
        };
        tokio::select! {
            () = one => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

impl Reading {
    /// Goes on where it was.
    async fn follow(&self, partition: usize, position: &mut u64, dice: &mut Dice) {
        if let Some(read) = self.read(partition, *position, WAIT, self.brokers.any(dice)).await
            && let Some(last) = read.runs.last()
        {
            *position = last.offset + last.count;
        }
    }

    /// Reads something again that was read before.
    async fn look_back(&self, partition: usize, position: u64, dice: &mut Dice) {
        let first = self.first_offsets.get(partition).copied().unwrap_or(0);
        let from = first + dice.below(position.saturating_sub(first));
        if from < position {
            drop(self.read(partition, from, Duration::ZERO, self.brokers.any(dice)).await);
        }
    }

    /// Asks this broker once, and puts its answer down. `None`: there was no answer of use.
    pub(crate) async fn read(&self, partition: usize, from: u64, wait: Duration, broker: u32) -> Option<Read> {
        let number = u32::try_from(partition).unwrap_or(u32::MAX);
        let client = self.brokers.client(broker);
        let start_us = self.recorder.now_us();
        let fetch = client.fetch(&self.topic, PartitionId(number), Offset::new(from), READ_BYTES, wait);
        let mut read =
            Read { partition: number, broker, start_us, end_us: 0, from, high_watermark: 0, runs: Vec::new() };
        match tokio::time::timeout(self.attempt_timeout + wait, fetch).await {
            Ok(Ok(fetched)) => {
                read.high_watermark = fetched.high_watermark.get();
                let runs = &mut read.runs;
                let read_all = each_record(from, &fetched.bytes, |record| {
                    Run::push(runs, record.offset.get(), self.payload.decode(number, record.value));
                });
                if read_all.is_err() {
                    // Bytes that are no batches: what nobody wrote.
                    Run::push(&mut read.runs, from, self.payload.decode(number, None));
                }
            }
            Ok(Err(error)) => match ends_at(&error) {
                Some(end) => read.high_watermark = end,
                None => {
                    tokio::time::sleep(BACKOFF).await;
                    return None;
                }
            },
            Err(_) => return None,
        }
        read.end_us = self.recorder.now_us();
        self.recorder.record(Entry::Read(read.clone()));
        Some(read)
    }

    /// Asks where the partition ends.
    async fn ask_for_end(&self, partition: usize, from: u64, dice: &mut Dice) {
        let number = u32::try_from(partition).unwrap_or(u32::MAX);
        let broker = self.brokers.any(dice);
        let start_us = self.recorder.now_us();
        let asked = self.brokers.client(broker).offsets(&self.topic, PartitionId(number));
        let Ok(Ok(offsets)) = tokio::time::timeout(self.attempt_timeout, asked).await else {
            return tokio::time::sleep(BACKOFF).await;
        };
        self.recorder.record(Entry::Read(Read {
            partition: number,
            broker,
            start_us,
            end_us: self.recorder.now_us(),
            from,
            high_watermark: offsets.end_offset.get(),
            runs: Vec::new(),
        }));
    }
}

/// "Outside the log" is an answer, too: it says where the log ends.
fn ends_at(error: &ClientError) -> Option<u64> {
    match error {
        ClientError::Refused { status: 416, details, .. } => details.get("end_offset")?.as_u64(),
        _ => None,
    }
}

/// Reads a partition from one replica, or as its leader serves it, up to `end`. Without a payload
/// only the batches are kept.
pub(super) async fn copy(
    client: &Client,
    (topic, payload): (&TopicName, Option<&Payload>),
    (partition, replica): (u32, Option<u32>),
    (start, end): (u64, u64),
    deadline: tokio::time::Instant,
) -> Copy {
    let mut copy = Copy { partition, replica, start, end: start, ..Copy::default() };
    while copy.end < end {
        let from = Offset::new(copy.end);
        let number = PartitionId(partition);
        let fetched: Result<FetchedBatches, ClientError> = match replica {
            Some(broker) => {
                let broker = pubg1_model::BrokerId(broker);
                client.fetch_from_replica(topic, number, broker, from, 4 * READ_BYTES).await
            }
            None => client.fetch(topic, number, from, 4 * READ_BYTES, Duration::ZERO).await,
        };
        let trouble = match fetched {
            Ok(fetched) if fetched.bytes.is_empty() => format!("it ends at {}", copy.end),
            Ok(fetched) => match take(&mut copy, payload, &fetched.bytes) {
                Ok(()) => continue,
                Err(error) => {
                    copy.error = Some(error.to_string());
                    return copy;
                }
            },
            Err(error) => error.to_string(),
        };
        if tokio::time::Instant::now() > deadline {
            copy.error = Some(trouble);
            return copy;
        }
        tokio::time::sleep(BACKOFF).await;
    }
    copy
}

fn take(copy: &mut Copy, payload: Option<&Payload>, bytes: &[u8]) -> Result<(), BatchError> {
    let (runs, partition, end) = (&mut copy.runs, copy.partition, &mut copy.end);
    let batches = each_record(*end, bytes, |record| {
        if let Some(payload) = payload {
            Run::push(runs, record.offset.get(), payload.decode(partition, record.value));
        }
        *end = record.offset.get() + 1;
    })?;
    let last = copy.batches.last().map(|(base, ..)| *base);
    copy.batches.extend(batches.into_iter().filter(|(base, ..)| last.is_none_or(|last| *base > last)));
    Ok(())
}
