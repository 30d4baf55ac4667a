//! What a commit names. The dialect knows two meanings, told apart by the member's name: `offsets` are records that
//! were processed, `partitions` say where to go on.

use pubg1_actors::OffsetToCommit;
use pubg1_model::Offset;
use serde_json::{Map, Value};

use super::places::{each, offset, place, unprocessable};
use crate::error::ApiError;

/// What is to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// Everything that was delivered.
    Delivered,
    /// These offsets, each the next record to be read.
    Offsets(Vec<OffsetToCommit>),
}

/// Reads the body of `POST …/offsets` of a consumer instance.
pub(crate) fn of_instance(body: Option<&Map<String, Value>>) -> Result<Commit, ApiError> {
    let member = |name| body.and_then(|body| body.get(name));
    match (member("offsets"), member("partitions")) {
        (None, None) => Ok(Commit::Delivered),
        (Some(processed), None) => {
            let mut offsets = each(processed, entry)?;
            for entry in &mut offsets {
                let next = Some(entry.offset).filter(|offset| *offset < Offset::MAX).map(|offset| offset.plus(1));
                entry.offset = next.ok_or_else(|| unprocessable("there is no record after the largest offset"))?;
            }
            Ok(Commit::Offsets(offsets))
        }
        (None, Some(next)) => each(next, entry).map(Commit::Offsets),
        (Some(_), Some(_)) => Err(unprocessable("give offsets (processed) or partitions (to be read next), not both")),
    }
}

/// Reads `offsets` that name the next record to be read.
pub(crate) fn next_offsets(body: &Map<String, Value>) -> Result<Option<Vec<OffsetToCommit>>, ApiError> {
    body.get("offsets").map(|offsets| each(offsets, entry)).transpose()
}

fn entry(entry: &Value) -> Result<OffsetToCommit, ApiError> {
    let metadata = match entry.get("metadata") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => return Err(unprocessable(format!("metadata {other} is no text"))),
    };
    Ok(OffsetToCommit { partition: place(entry)?, offset: offset(entry)?, leader_epoch: None, metadata })
}

#[cfg(test)]
mod tests {
    use pubg1_model::{PartitionId, TopicPartition};
    use serde_json::json;

    use super::*;
    use crate::error::Cause;

    fn of(body: Value) -> Result<Commit, ApiError> {
        of_instance(body.as_object())
    }

    fn committed(offset: u64, metadata: &str) -> Commit {
        let partition = TopicPartition { topic: "t".parse().unwrap(), partition: PartitionId(2) };
        let metadata = metadata.to_owned();
        Commit::Offsets(vec![OffsetToCommit { partition, offset: Offset::new(offset), leader_epoch: None, metadata }])
    }

    #[test]
    fn the_name_of_the_list_decides_what_its_numbers_mean() {
        let entry = json!([{"topic": "t", "partition": 2, "offset": 7}]);
        assert_eq!(of(json!({"offsets": entry})).unwrap(), committed(8, ""));
        assert_eq!(of(json!({"partitions": entry})).unwrap(), committed(7, ""));
        let noted = json!([{"topic": "t", "partition": 2, "offset": 0, "metadata": "m"}]);
        assert_eq!(of(json!({"partitions": noted})).unwrap(), committed(0, "m"));
        assert_eq!(of(json!({})).unwrap(), Commit::Delivered);
        assert_eq!(of_instance(None).unwrap(), Commit::Delivered);
        assert_eq!(next_offsets(json!({"offsets": entry}).as_object().unwrap()).unwrap().unwrap()[0].offset.get(), 7);
    }

    #[test]
    fn what_cannot_be_committed_is_refused() {
        for body in [
            json!({"offsets": [], "partitions": []}),
            json!({"offsets": {}}),
            json!({"offsets": [{"topic": "t", "partition": 0}]}),
            json!({"offsets": [{"topic": "t", "partition": 0, "offset": -1}]}),
            json!({"offsets": [{"topic": "t", "partition": 0, "offset": Offset::MAX.get()}]}),
            json!({"partitions": [{"topic": "t", "partition": 0, "offset": 1, "metadata": 1}]}),
        ] {
            assert_eq!(of(body.clone()).unwrap_err().cause(), Cause::Unprocessable, "{body}");
        }
    }
}
