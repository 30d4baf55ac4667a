//! How far groups are behind, looked at every few seconds. Each place is asked for once, however many groups read it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use pubg1_metrics::{GroupLagSeries, GroupMetrics, GroupSeries};
use pubg1_model::{GroupId, Offset, TopicPartition};

use super::group::Group;
use crate::handles::{GroupDescription, LagSample};

/// How often is looked.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// How many samples are kept: a minute.
const SAMPLES_MAX: usize = 12;
/// How many places are looked at in one go.
const PLACES_MAX: usize = 10_000;

/// A place where a group reads next.
pub(super) type ReadPosition = (TopicPartition, Offset);

/// What there is at and behind a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Sampled {
    pub(super) log_start_offset: Offset,
    pub(super) high_watermark: Offset,
    /// The timestamp of the record there.
    pub(super) timestamp_ms: Option<i64>,
}

/// How far one group is behind in one partition.
struct Lag {
    samples: VecDeque<(u64, u64)>,
    series: GroupLagSeries,
}

/// How far the groups of a shard are behind.
#[derive(Default)]
pub(super) struct Lags {
    by_group: HashMap<GroupId, BTreeMap<TopicPartition, Lag>>,
    members: HashMap<GroupId, GroupSeries>,
}

impl Lags {
    /// The places that groups have reached; of very many some at a time, from the one after `last` on.
    pub(super) fn wanted<'a>(
        groups: impl Iterator<Item = &'a Group>,
        last: Option<&ReadPosition>,
    ) -> Vec<ReadPosition> {
        let mut first: BTreeSet<ReadPosition> = groups.flat_map(Group::read_positions).collect();
        let from_last = last.map_or_else(BTreeSet::new, |last| first.split_off(last));
        from_last.into_iter().chain(first).take(PLACES_MAX).collect()
    }

    /// Notes what was found.
    pub(super) fn note(
        &mut self,
        group: &Group,
        ends: &HashMap<ReadPosition, Sampled>,
        (now_ms, wall_ms): (u64, i64),
        metrics: &GroupMetrics,
    ) {
        let id = group.id();
        let members = self.members.entry(id.clone()).or_insert_with(|| metrics.group(id.as_str()));
        members.set_members(group.member_count());
        let positions: Vec<ReadPosition> = group.read_positions().collect();
        let lags = self.by_group.entry(id.clone()).or_default();
        lags.retain(|partition, _| group.reads(partition));
        for position in positions {
            // What was committed since is looked at the next time.
            let Some(sampled) = ends.get(&position) else { continue };
            let (partition, offset) = position;
            let series = || metrics.lag(id.as_str(), partition.topic.as_str(), partition.partition.0);
            let lag = lags.entry(partition.clone());
            let lag = lag.or_insert_with(|| Lag { samples: VecDeque::new(), series: series() });
            let (records, behind) = sampled.behind(offset, wall_ms);
            lag.series.set(records, behind);
            if lag.samples.len() >= SAMPLES_MAX {
                lag.samples.pop_front();
            }
            lag.samples.push_back((now_ms, records));
        }
    }

    pub(super) fn forget(&mut self, group: &GroupId) {
        self.by_group.remove(group);
        self.members.remove(group);
    }

    /// Adds what is known to a description.
    pub(super) fn describe(&self, description: &mut GroupDescription, now_ms: u64) {
        let Some(lags) = self.by_group.get(&description.group) else { return };
        for partition in &mut description.partitions {
            let Some(lag) = lags.get(&partition.partition) else { continue };
            let sample = |(at_ms, lag): &(u64, u64)| LagSample { age_ms: now_ms.saturating_sub(*at_ms), lag: *lag };
            partition.lag_samples = lag.samples.iter().map(sample).collect();
        }
    }
}

impl Sampled {
    /// How far a reader at `offset` is behind: in records, and in time. What retention has taken is not to be read.
    fn behind(&self, offset: Offset, wall_ms: i64) -> (u64, Duration) {
        let from = offset.max(self.log_start_offset).get();
        let records = self.high_watermark.get().saturating_sub(from);
        let behind = self.timestamp_ms.filter(|_| records > 0).map_or(0, |at| wall_ms.saturating_sub(at).max(0));
        (records, Duration::from_millis(behind.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_never_negative() {
        let sampled = |start, end, timestamp_ms| Sampled {
            log_start_offset: Offset::new(start),
            high_watermark: Offset::new(end),
            timestamp_ms,
        };
        let behind = |sampled: Sampled, offset| sampled.behind(Offset::new(offset), 1_000);
        assert_eq!(behind(sampled(0, 10, Some(400)), 4), (6, Duration::from_millis(600)));
        assert_eq!(behind(sampled(8, 10, Some(400)), 4), (2, Duration::from_millis(600)), "the rest is gone");
        assert_eq!(behind(sampled(0, 10, Some(400)), 10), (0, Duration::ZERO));
        assert_eq!(behind(sampled(0, 10, Some(400)), 11), (0, Duration::ZERO), "an older leader was asked");
        assert_eq!(behind(sampled(0, 10, Some(2_000)), 9), (1, Duration::ZERO), "a clock ahead of this one");
        assert_eq!(behind(sampled(0, 10, None), 9), (1, Duration::ZERO));
    }
}
