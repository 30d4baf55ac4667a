//! Walks over the records of fetched batches.

use bytes::Bytes;
use pubg1_model::{
    Offset,
    record_batch::{Batch, BatchError, BatchIter, RecordView},
};

use crate::error::{ApiError, Cause};

/// What a walk meets.
pub(crate) enum Item<'a> {
    /// A record at or after the offset that was asked for.
    Record(RecordView<'a>),
    /// A batch, from one of its records on, that cannot be decoded: its producer wrote it so.
    /// The records from `offset` on are lost to readers, the log goes on at `next`.
    Undecodable { offset: Offset, next: Offset, error: BatchError },
}

/// Whether a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The item was taken; on with the next one.
    On,
    /// The item was not taken and the walk ends before it.
    StopBefore,
}

/// Shows every record of `runs` at or after `from` to `visit`, and answers the offset to go on
/// from. `output_bytes_max` limits the decompressed size of each batch.
pub(crate) fn walk(
    runs: &[Bytes],
    from: Offset,
    output_bytes_max: usize,
    mut visit: impl FnMut(Item<'_>) -> Result<Step, ApiError>,
) -> Result<Offset, ApiError> {
    let mut next = from;
    for run in runs {
        for batch in BatchIter::new(run) {
            let batch = batch.map_err(|error| {
                let message = format!("the batch at or after offset {next} cannot be read from the log: {error}");
                ApiError::new(Cause::Storage, message)
            })?;
            let end = batch.header().next_offset().unwrap_or(next).max(next);
            if batch.header().attributes.is_control() {
                next = end;
                continue;
            }
            if let Some(stopped) = walk_batch(&batch, &mut next, end, output_bytes_max, &mut visit)? {
                return Ok(stopped);
            }
            next = end;
        }
    }
    Ok(next)
}

/// One batch; answers where the visitor stopped, if it did.
fn walk_batch(
    batch: &Batch<'_>,
    next: &mut Offset,
    end: Offset,
    output_bytes_max: usize,
    visit: &mut impl FnMut(Item<'_>) -> Result<Step, ApiError>,
) -> Result<Option<Offset>, ApiError> {
    let from = *next;
    let decoded = match batch.decode(output_bytes_max) {
        Ok(decoded) => decoded,
        Err(error) => return undecodable(visit, from, end, error),
    };
    for record in decoded.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => return undecodable(visit, *next, end, error),
        };
        if record.offset < from {
            continue;
        }
        if visit(Item::Record(record))? == Step::StopBefore {
            return Ok(Some(record.offset));
        }
        *next = record.offset.plus(1);
    }
    Ok(None)
}

fn undecodable(
    visit: &mut impl FnMut(Item<'_>) -> Result<Step, ApiError>,
    offset: Offset,
    next: Offset,
    error: BatchError,
) -> Result<Option<Offset>, ApiError> {
    let step = visit(Item::Undecodable { offset, next, error })?;
    Ok((step == Step::StopBefore).then_some(offset))
}

#[cfg(test)]
mod tests {
    use pubg1_model::{
        LeaderEpoch,
        compression::Compression,
        record_batch::{BatchBuilder, NewRecord, assign},
    };

    use super::*;

    fn batch(base: u64, values: &[&str], compression: Compression) -> Vec<u8> {
        let mut builder = BatchBuilder::new(compression);
        for value in values {
            builder.push(&NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() }).unwrap();
        }
        let mut bytes = builder.finish(None).unwrap().bytes().to_vec();
        assign(&mut bytes, Offset::new(base), LeaderEpoch::new(1));
        bytes
    }

    fn collect(runs: &[Bytes], from: u64, max: usize) -> Result<(Vec<String>, u64), ApiError> {
        let mut seen = Vec::new();
        let next = walk(runs, Offset::new(from), 1000, |item| {
            if seen.len() == max {
                return Ok(Step::StopBefore);
            }
            seen.push(match item {
                Item::Record(record) => {
                    format!("{}={}", record.offset, String::from_utf8_lossy(record.value.unwrap_or_default()))
                }
                Item::Undecodable { offset, next, .. } => format!("{offset}..{next} lost"),
            });
            Ok(Step::On)
        })?;
        Ok((seen, next.get()))
    }

    #[test]
    fn it_begins_inside_a_batch_and_stops_where_told() {
        let mut first = batch(0, &["a", "b", "c"], Compression::None);
        first.extend(batch(3, &["d", "e"], Compression::Zstd));
        let runs = [Bytes::from(first), Bytes::from(batch(10, &["f"], Compression::Lz4))];
        assert_eq!(
            collect(&runs, 1, 99).unwrap(),
            (vec!["1=b".into(), "2=c".into(), "3=d".into(), "4=e".into(), "10=f".into()], 11)
        );
        assert_eq!(collect(&runs, 1, 3).unwrap(), (vec!["1=b".into(), "2=c".into(), "3=d".into()], 4));
        assert_eq!(collect(&[], 7, 3).unwrap(), (vec![], 7));
    }

    #[test]
    fn a_batch_that_cannot_be_decoded_is_shown_and_passed() {
        let bomb = "x".repeat(5000);
        let runs =
            [Bytes::from(batch(0, &[&bomb, "b"], Compression::Gzip)), Bytes::from(batch(2, &["c"], Compression::None))];
        assert_eq!(collect(&runs, 1, 99).unwrap(), (vec!["1..2 lost".into(), "2=c".into()], 3));
        assert_eq!(collect(&runs, 1, 0).unwrap(), (vec![], 1));
    }

    #[test]
    fn damage_is_an_error_of_the_log() {
        let mut bytes = batch(0, &["a"], Compression::None);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(collect(&[Bytes::from(bytes)], 0, 9).unwrap_err().cause(), Cause::Storage);
    }
}
