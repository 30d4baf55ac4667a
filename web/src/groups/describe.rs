//! `GET /groups/{group}`: its members, and how far they are behind.
//!
//! What is committed the coordinator tells; where the partitions end, and how old the first record is that was not
//! read, the broker that is asked finds out by itself. A partition whose leader cannot be asked has no lag, not a wrong
//! one.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use pubg1_actors::{GroupDescription, GroupMember, GroupPartition, LagSample, PartitionHandle};
use pubg1_model::Offset;

use crate::{
    call::Call,
    dto::{
        ErrorBody,
        groups::{GroupBody, GroupPartitionEntry, MemberEntry, PartitionName, Trend},
    },
    edge::ApiResult,
    produce::now_ms,
    records::walk::{Item, Step, walk},
    reply,
    state::AppState,
};

/// Partitions that are asked at the same time.
const AT_ONCE: usize = 32;
/// A leader that does not answer for this long is not waited for.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Lag that changes by a smaller part than this is steady: one in so many.
const STEADY_PART: u64 = 20;

/// Describes a consumer group.
#[utoipa::path(
    get, path = "/groups/{group}", tag = "groups",
    params(("group" = String, Path, description = "The consumer group")),
    responses(
        (status = 200, description = "The group", body = GroupBody),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn describe(call: Call) -> ApiResult {
    let description = call.state.broker.groups().describe(&call.group()?).await?;
    reply::json(&body(&call.state, description).await)
}

async fn body(state: &AppState, group: GroupDescription) -> GroupBody {
    let mut partitions: Vec<GroupPartitionEntry> = stream::iter(group.partitions)
        .map(|partition| entry(state, partition))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    partitions.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    GroupBody {
        group: group.group.into(),
        state: group.status.into(),
        protocol_type: group.protocol_type,
        protocol: group.protocol,
        generation: group.generation,
        coordinator: group.coordinator.0,
        leader: group.leader,
        members: group.members.into_iter().map(member).collect(),
        lag: partitions.iter().filter_map(|partition| partition.lag).fold(0, u64::saturating_add),
        partitions,
    }
}

fn member(member: GroupMember) -> MemberEntry {
    MemberEntry {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        instance_id: member.instance.map(String::from),
        client_id: member.client_id,
        client_host: member.client_host,
        topics: member.topics.into_iter().map(String::from).collect(),
        assignment: member.assignment.into_iter().map(PartitionName::from).collect(),
    }
}

async fn entry(state: &AppState, partition: GroupPartition) -> GroupPartitionEntry {
    let GroupPartition { partition: place, committed, owner, lag_samples } = partition;
    let handle = state.partition(&place.topic, place.partition).ok();
    let committed_offset = committed.as_ref().map(|committed| committed.offset);
    let asked = async {
        let lag = Lag::of(&handle?, committed_offset).await?;
        Some(lag)
    };
    let lag = tokio::time::timeout(ANSWER_TIME, asked).await.ok().flatten();
    GroupPartitionEntry {
        topic: place.topic.into(),
        partition: place.partition.0,
        committed: committed_offset.map(Offset::get),
        committed_at: committed.as_ref().map(|committed| committed.commit_timestamp_ms),
        leader_epoch: committed.as_ref().and_then(|committed| committed.leader_epoch).map(|epoch| epoch.get()),
        metadata: committed.map(|committed| committed.metadata),
        end: lag.as_ref().map(|lag| lag.end.get()),
        lag: lag.as_ref().and_then(|lag| lag.records),
        lag_seconds: lag.as_ref().and_then(|lag| lag.seconds),
        trend: trend(&lag_samples),
        owner,
    }
}

/// How far a group is behind in a partition.
struct Lag {
    end: Offset,
    records: Option<u64>,
    seconds: Option<f64>,
}

impl Lag {
    /// `None` when the leader cannot be asked now.
    async fn of(handle: &PartitionHandle, committed: Option<Offset>) -> Option<Self> {
        let view = handle.leader_view_at_once().await.ok()?;
        let end = view.high_watermark;
        // What was deleted can no longer be read.
        let Some(from) = committed.map(|offset| offset.max(view.log_start_offset)) else {
            return Some(Self { end, records: None, seconds: None });
        };
        let records = end.get().saturating_sub(from.get());
        let seconds = if records == 0 { Some(0.0) } else { age_seconds(handle, from).await };
        Some(Self { end, records: Some(records), seconds })
    }
}

/// How old the first record at or after `from` is.
async fn age_seconds(handle: &PartitionHandle, from: Offset) -> Option<f64> {
    /// The decompressed size of a batch of which only the first records are looked at.
    const OUTPUT_BYTES_MAX: usize = 64 << 20;
    let fetched = handle.read(from, 1).await.ok()?;
    let mut timestamp_ms = None;
    let seen = walk(&fetched.runs, from, OUTPUT_BYTES_MAX, |item| {
        if let Item::Record(record) = item {
            timestamp_ms = Some(record.timestamp_ms);
        }
        Ok(if timestamp_ms.is_some() { Step::StopBefore } else { Step::On })
    });
    seen.ok()?;
    // A producer's clock may be ahead of ours.
    let age = Duration::from_millis(u64::try_from(now_ms().saturating_sub(timestamp_ms?)).unwrap_or(0));
    Some(age.as_secs_f64())
}

/// Where the lag goes: the later half of the samples beside the earlier one.
fn trend(samples: &[LagSample]) -> Option<Trend> {
    let (earlier, later) = samples.split_at(samples.len() / 2);
    let mean = |samples: &[LagSample]| {
        let sum = samples.iter().fold(0_u64, |sum, sample| sum.saturating_add(sample.lag));
        sum.checked_div(samples.len() as u64)
    };
    let (before, now) = (mean(earlier)?, mean(later)?);
    let tolerance = before / STEADY_PART;
    Some(if now > before.saturating_add(tolerance) {
        Trend::Growing
    } else if now < before.saturating_sub(tolerance) {
        Trend::Shrinking
    } else {
        Trend::Steady
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_compares_the_halves_of_the_samples() {
        let of = |lags: &[u64]| {
            let sample = |(index, lag): (usize, &u64)| LagSample { age_ms: 1000 * (10 - index as u64), lag: *lag };
            trend(&lags.iter().enumerate().map(sample).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[5]), None);
        assert_eq!(of(&[0, 0, 0]), Some(Trend::Steady));
        assert_eq!(of(&[0, 1]), Some(Trend::Growing));
        assert_eq!(of(&[100, 102, 101, 103]), Some(Trend::Steady));
        assert_eq!(of(&[100, 120, 150, 180]), Some(Trend::Growing));
        assert_eq!(of(&[100, 50, 2, 0]), Some(Trend::Shrinking));
        assert_eq!(of(&[u64::MAX, u64::MAX, 0, 0]), Some(Trend::Shrinking));
    }
}
