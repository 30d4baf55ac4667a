//! Gathers records for one partition into record batches.

use pubg1_model::{
    compression::Compression,
    record_batch::{BatchBuilder, BatchError, HEADER_BYTES, NewRecord, ProducerIdentity, ValidBatch},
    topic::{CleanupPolicy, TopicConfig},
};

use crate::error::{ApiError, Cause};

/// More than the record's own fields and one header's lengths can take.
const RECORD_OVERHEAD_BYTES: usize = 32;
const HEADER_OVERHEAD_BYTES: usize = 10;

/// Writes records into one batch, and begins another only where the topic's limit demands it.
pub(crate) struct BatchWriter {
    /// The batch that is being filled.
    open: Option<BatchBuilder>,
    done: Vec<ValidBatch>,
    identity: Option<ProducerIdentity>,
    batch_bytes_max: usize,
    keys_required: bool,
}

impl BatchWriter {
    /// For a topic with these settings. `identity` carries the sequence of the first record.
    pub(crate) fn new(config: &TopicConfig, identity: Option<ProducerIdentity>) -> Self {
        let batch_bytes_max = usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX);
        let keys_required = needs_keys(config);
        Self { open: None, done: Vec::new(), identity, batch_bytes_max, keys_required }
    }

    /// Adds a record. A record that is too large, or has no key where one is needed, is refused
    /// and leaves the rest as it was.
    pub(crate) fn push(&mut self, record: &NewRecord<'_>) -> Result<(), ApiError> {
        if self.keys_required && record.key.is_none() {
            return Err(ApiError::new(Cause::Unprocessable, "the topic is compacted: a record needs a key"));
        }
        let bytes = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let headers = record.headers.iter().map(|(name, value)| name.len() + bytes(*value) + HEADER_OVERHEAD_BYTES);
        let size = RECORD_OVERHEAD_BYTES + bytes(record.key) + bytes(record.value) + headers.sum::<usize>();
        if HEADER_BYTES + size > self.batch_bytes_max {
            let message =
                format!("the record has about {size} bytes, the topic takes batches of {}", self.batch_bytes_max);
            return Err(ApiError::new(Cause::TooLarge, message));
        }
        if self.open.as_ref().is_some_and(|open| open.encoded_bytes() + size > self.batch_bytes_max) {
            self.close_batch()?;
        }
        let fresh = || BatchBuilder::with_capacity(Compression::None, HEADER_BYTES + size);
        self.open.get_or_insert_with(fresh).push(record).map_err(|error| unencodable(&error))
    }

    fn close_batch(&mut self) -> Result<(), ApiError> {
        let Some(builder) = self.open.take().filter(|builder| !builder.is_empty()) else { return Ok(()) };
        let records = builder.len();
        self.done.push(builder.finish(self.identity).map_err(|error| unencodable(&error))?);
        if let Some(identity) = &mut self.identity {
            identity.sequence = advance(identity.sequence, records);
        }
        Ok(())
    }

    /// The batches, in order; none when no record was added.
    pub(crate) fn finish(mut self) -> Result<Vec<ValidBatch>, ApiError> {
        self.close_batch()?;
        Ok(self.done)
    }
}

/// Whether records without a key could never be compacted.
pub(crate) fn needs_keys(config: &TopicConfig) -> bool {
    config.cleanup_policy == CleanupPolicy::Compact
}

/// The sequence `records` after `sequence`. Sequences wrap from `i32::MAX` to 0, as in Kafka.
pub(crate) fn advance(sequence: i32, records: usize) -> i32 {
    const SEQUENCES: u64 = 1 << 31;
    let next = (u64::from(sequence.unsigned_abs()) + records as u64) % SEQUENCES;
    i32::try_from(next).unwrap_or(0)
}

fn unencodable(error: &BatchError) -> ApiError {
    ApiError::new(Cause::Unprocessable, format!("the records cannot be put into a batch: {error}"))
}

#[cfg(test)]
mod tests {
    use pubg1_model::ProducerId;

    use super::*;

    #[test]
    fn a_new_batch_begins_only_at_the_limit_and_sequences_go_on() {
        let identity = ProducerIdentity { id: ProducerId(1), epoch: 0, sequence: 10 };
        let config = TopicConfig { max_message_bytes: 2000, ..TopicConfig::default() };
        let mut writer = BatchWriter::new(&config, Some(identity));
        let value = [b'x'; 500];
        for _ in 0..7 {
            writer.push(&NewRecord { value: Some(&value), ..NewRecord::default() }).unwrap();
        }
        let too_large = [b'x'; 2000];
        let refused = writer.push(&NewRecord { value: Some(&too_large), ..NewRecord::default() });
        assert_eq!(refused.unwrap_err().cause(), Cause::TooLarge);
        let batches = writer.finish().unwrap();
        let shape: Vec<_> = batches.iter().map(|b| (b.header().base_sequence, b.header().record_count)).collect();
        assert_eq!(shape, [(10, 3), (13, 3), (16, 1)]);
        assert!(batches.iter().all(|batch| batch.bytes().len() <= 2000));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(advance(5, 10), 15);
        assert_eq!(advance(i32::MAX, 1), 0);
        assert_eq!(advance(i32::MAX - 1, 3), 1);
    }

    #[test]
    fn nothing_added_is_nothing_to_append() {
        let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..TopicConfig::default() };
        let mut writer = BatchWriter::new(&config, None);
        let refused = writer.push(&NewRecord { value: Some(b"v"), ..NewRecord::default() });
        assert_eq!(refused.unwrap_err().cause(), Cause::Unprocessable, "a compacted topic needs keys");
        assert!(writer.finish().unwrap().is_empty());
    }
}
