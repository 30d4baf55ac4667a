//! `POST /groups/{group}/seek`: moves a group that has no members, or shows where it would come to.

use pubg1_actors::FetchError;
use pubg1_model::{Offset, PartitionId, TopicPartition};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    call::{Call, topic_name},
    consumers::places::{Target, offset, unprocessable},
    dto::{
        ErrorBody,
        groups::{GroupMoved, SeekEntry, Time},
    },
    edge::ApiResult,
    error::ApiError,
    reply,
    state::{AppState, no_partition},
    time_text::timestamp_ms,
};

/// The body of `POST /groups/{group}/seek`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeekGroup {
    /// The topic.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,200}$")]
    topic: String,
    /// The partitions; all of the topic when absent.
    #[schema(min_items = 1)]
    partitions: Option<Vec<u32>>,
    /// Where to.
    #[schema(value_type = SeekTo)]
    to: Value,
    /// Only tell what would be done.
    #[serde(default)]
    #[schema(required = false)]
    dry_run: bool,
}

/// Where a group is sent.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what the seek's own reader takes")]
pub(crate) enum SeekTo {
    Beginning,
    End,
    /// This record.
    Offset(u64),
    /// The first record at or after this time.
    Timestamp(Time),
}

/// Where `to` says.
fn target(to: &Value) -> Result<Target, ApiError> {
    match to {
        Value::String(text) if text == "beginning" => return Ok(Target::Beginning),
        Value::String(text) if text == "end" => return Ok(Target::End),
        Value::Object(members) if members.len() == 1 => {
            if members.contains_key("offset") {
                return offset(to).map(Target::Offset);
            }
            if let Some(time) = members.get("timestamp") {
                return timestamp_ms(time).map(Target::Timestamp);
            }
        }
        _ => {}
    }
    let ways = r#""beginning", "end", {"offset": n} or {"timestamp": …}"#;
    Err(unprocessable(format!("to={to}: give {ways}")))
}

/// Moves a consumer group that has no members: it goes on from there. With `dry_run` it only tells where that is.
#[utoipa::path(
    post, path = "/groups/{group}/seek", tag = "groups",
    params(("group" = String, Path, description = "The consumer group")),
    request_body = SeekGroup,
    responses(
        (status = 200, description = "Where each partition was and is", body = GroupMoved),
        (status = "4XX", description = "Refused; nothing was changed", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn seek(mut call: Call) -> ApiResult {
    let group = call.group()?;
    let body: SeekGroup = call.json().await?;
    let target = target(&body.to)?;
    let places = places(&call.state, &body)?;
    let groups = call.state.broker.groups();
    let committed = groups.committed(&group, Some(places.clone())).await?;
    let mut entries = Vec::with_capacity(places.len());
    let mut offsets = Vec::with_capacity(places.len());
    for place in places {
        let from = committed.get(&place).map(|committed| committed.offset);
        let (entry, to) = entry(&call.state, &place, &target, from).await?;
        entries.push(entry);
        offsets.push((place, to));
    }
    if !body.dry_run {
        groups.seek_group(&group, offsets).await?;
    }
    reply::json(&GroupMoved { group: group.into(), dry_run: body.dry_run, offsets: entries })
}

fn places(state: &AppState, body: &SeekGroup) -> Result<Vec<TopicPartition>, ApiError> {
    let topic = topic_name(&body.topic)?;
    let count = state.topic(&topic)?.partitions.len();
    let mut numbers = match &body.partitions {
        Some(numbers) if numbers.is_empty() => return Err(unprocessable("partitions is empty")),
        Some(numbers) => numbers.clone(),
        None => (0..).take(count).collect(),
    };
    numbers.sort_unstable();
    numbers.dedup();
    if let Some(number) = numbers.iter().find(|number| **number as usize >= count) {
        return Err(no_partition(&topic, number));
    }
    let place = |number| TopicPartition { topic: topic.clone(), partition: PartitionId(number) };
    Ok(numbers.into_iter().map(place).collect())
}

async fn entry(
    state: &AppState,
    place: &TopicPartition,
    target: &Target,
    from: Option<Offset>,
) -> Result<(SeekEntry, Offset), ApiError> {
    let handle = state.partition(&place.topic, place.partition)?;
    let view = handle.leader_view().await?;
    let (beginning, end) = (view.log_start_offset, view.high_watermark);
    let to = match target {
        Target::Beginning => beginning,
        Target::End => end,
        Target::Timestamp(timestamp_ms) => {
            handle.find_timestamp(*timestamp_ms).await?.map_or(end, |(offset, _)| offset)
        }
        Target::Offset(offset) if (beginning..=end).contains(offset) => *offset,
        Target::Offset(requested) => {
            let (requested, log_start_offset, high_watermark) = (*requested, beginning, end);
            let error = FetchError::OffsetOutOfRange { requested, log_start_offset, high_watermark };
            return Err(ApiError::from(error).with("topic", place.topic.as_str()).with("partition", place.partition.0));
        }
    };
    let entry = SeekEntry {
        topic: place.topic.as_str().to_owned(),
        partition: place.partition.0,
        committed: from.map(Offset::get),
        offset: to.get(),
        beginning: beginning.get(),
        end: end.get(),
        lag: end.get().saturating_sub(to.get()),
    };
    Ok((entry, to))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Cause;

    #[test]
    fn a_group_is_sent_to_a_record_a_time_or_an_end() {
        for (to, expected) in [
            (json!("beginning"), Target::Beginning),
            (json!("end"), Target::End),
            (json!({"offset": 7}), Target::Offset(Offset::new(7))),
            (json!({"timestamp": 7}), Target::Timestamp(7)),
            (json!({"timestamp": "1970-01-01T00:00:01Z"}), Target::Timestamp(1000)),
        ] {
            assert_eq!(target(&to).unwrap(), expected, "{to}");
        }
        for to in [
            json!("middle"),
            json!(7),
            json!({}),
            json!({"offset": -1}),
            json!({"offset": 1, "timestamp": 1}),
            json!({"timestamp": "soon"}),
            json!(null),
        ] {
            assert_eq!(target(&to).unwrap_err().cause(), Cause::Unprocessable, "{to}");
        }
    }
}
