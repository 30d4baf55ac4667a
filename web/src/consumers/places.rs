//! Partitions, and offsets in them, as request bodies name them.

use pubg1_model::{Offset, PartitionId, TopicPartition};
use serde_json::{Map, Value};

use crate::{
    call::topic_name,
    dto::groups::PartitionName,
    error::{ApiError, Cause},
    state::AppState,
    time_text::timestamp_ms,
};

impl From<TopicPartition> for PartitionName {
    fn from(place: TopicPartition) -> Self {
        Self { topic: place.topic.into(), partition: place.partition.0 }
    }
}

pub(crate) fn unprocessable(message: impl Into<String>) -> ApiError {
    ApiError::new(Cause::Unprocessable, message)
}

/// Refuses partitions that do not exist.
pub(crate) fn exist<'p>(
    state: &AppState,
    places: impl IntoIterator<Item = &'p TopicPartition>,
) -> Result<(), ApiError> {
    places.into_iter().try_for_each(|place| state.partition(&place.topic, place.partition).map(drop))
}

/// The partition that an entry of a list names.
pub(crate) fn place(entry: &Value) -> Result<TopicPartition, ApiError> {
    let topic = entry.get("topic").and_then(Value::as_str);
    let topic = topic_name(topic.ok_or_else(|| unprocessable(format!("{entry} names no topic")))?)?;
    let number = entry.get("partition").ok_or_else(|| unprocessable(format!("{entry} names no partition")))?;
    // Kafka numbers partitions with 31 bits.
    let in_range = |number: &u32| i32::try_from(*number).is_ok();
    let partition = number.as_u64().and_then(|number| u32::try_from(number).ok()).filter(in_range).map(PartitionId);
    let partition = partition.ok_or_else(|| unprocessable(format!("{number} is not the number of a partition")))?;
    Ok(TopicPartition { topic, partition })
}

/// The offset that an entry of a list names.
pub(crate) fn offset(entry: &Value) -> Result<Offset, ApiError> {
    let number = entry.get("offset").ok_or_else(|| unprocessable(format!("{entry} names no offset")))?;
    let offset = number.as_u64().filter(|offset| *offset <= Offset::MAX.get()).map(Offset::new);
    offset.ok_or_else(|| unprocessable(format!("{number} is not an offset")))
}

/// The list that a body has under a name, each entry read by `read`.
pub(crate) fn each<T>(list: &Value, read: impl Fn(&Value) -> Result<T, ApiError>) -> Result<Vec<T>, ApiError> {
    let items = list.as_array().ok_or_else(|| unprocessable(format!("{list} is not a list")))?;
    items.iter().map(read).collect()
}

/// The body `{"partitions": […]}`, with one at least.
pub(crate) fn list(body: Map<String, Value>) -> Result<Vec<TopicPartition>, ApiError> {
    let list = body.get("partitions").ok_or_else(|| unprocessable("partitions is missing"))?;
    let mut places = each(list, place)?;
    if places.is_empty() {
        return Err(unprocessable("partitions is empty"));
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

/// Where a seek shall lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Offset(Offset),
    /// The first record at or after this time.
    Timestamp(i64),
    Beginning,
    End,
}

/// The body of `POST …/positions`: `offsets`, `timestamps`, or both.
pub(crate) fn targets(body: &Map<String, Value>) -> Result<Vec<(TopicPartition, Target)>, ApiError> {
    let mut targets = Vec::new();
    if let Some(offsets) = body.get("offsets") {
        targets.extend(each(offsets, |entry| Ok((place(entry)?, Target::Offset(offset(entry)?))))?);
    }
    if let Some(timestamps) = body.get("timestamps") {
        let time = |entry: &Value| timestamp_ms(entry.get("timestamp").unwrap_or(&Value::Null));
        targets.extend(each(timestamps, |entry| Ok((place(entry)?, Target::Timestamp(time(entry)?))))?);
    }
    if targets.is_empty() {
        return Err(unprocessable("give offsets or timestamps, with one entry at least"));
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(partition: u32) -> TopicPartition {
        TopicPartition { topic: "t".parse().unwrap(), partition: PartitionId(partition) }
    }

    #[test]
    fn lists_name_partitions_once() {
        let of = |body: Value| list(body.as_object().unwrap().clone());
        let entries =
            json!([{"topic": "t", "partition": 1}, {"topic": "t", "partition": 0}, {"topic": "t", "partition": 1}]);
        assert_eq!(of(json!({"partitions": entries})).unwrap(), [at(0), at(1)]);
        for body in [
            json!({}),
            json!({"partitions": []}),
            json!({"partitions": 1}),
            json!({"partitions": [1]}),
            json!({"partitions": [{"topic": "t"}]}),
            json!({"partitions": [{"topic": "t", "partition": -1}]}),
            json!({"partitions": [{"topic": "t", "partition": 2_147_483_648_u32}]}),
            json!({"partitions": [{"topic": "t", "partition": "0"}]}),
            json!({"partitions": [{"topic": 1, "partition": 0}]}),
        ] {
            assert_eq!(of(body.clone()).unwrap_err().cause(), Cause::Unprocessable, "{body}");
        }
    }

    #[test]
    fn seeks_name_offsets_or_times() {
        let of = |body: Value| targets(body.as_object().unwrap());
        let both = json!({"offsets": [{"topic": "t", "partition": 0, "offset": 7, "metadata": "x"}],
            "timestamps": [{"topic": "t", "partition": 1, "timestamp": "1970-01-01T00:00:01Z"}]});
        assert_eq!(of(both).unwrap(), [(at(0), Target::Offset(Offset::new(7))), (at(1), Target::Timestamp(1000))]);
        for body in [
            json!({}),
            json!({"offsets": []}),
            json!({"offsets": [{"topic": "t", "partition": 0}]}),
            json!({"offsets": [{"topic": "t", "partition": 0, "offset": -1}]}),
            json!({"offsets": [{"topic": "t", "partition": 0, "offset": u64::MAX}]}),
            json!({"timestamps": [{"topic": "t", "partition": 0}]}),
        ] {
            assert_eq!(of(body.clone()).unwrap_err().cause(), Cause::Unprocessable, "{body}");
        }
    }
}
