//! Consumer groups: who is a member, how far behind they are, what they commit. A group's series end with the group, or
//! when another broker coordinates it.

use std::time::Duration;

use prometheus::{Error, Gauge, GaugeVec, Histogram, IntCounter, IntGauge, IntGaugeVec};

use crate::labels::label_values;
use crate::registry::Families;
use crate::{buckets, catalogue, seconds};

label_values! {
    /// Where a group is in its protocol.
    pub enum GroupPhase {
        /// No members.
        Empty = "Empty",
        /// Members are joining.
        PreparingRebalance = "PreparingRebalance",
        /// The assignment is awaited.
        CompletingRebalance = "CompletingRebalance",
        /// Every member has an assignment.
        Stable = "Stable",
    }
}

label_values! {
    /// Why a group rebalances.
    pub enum RebalanceCause {
        /// A member has joined.
        MemberJoined = "member_joined",
        /// The leader has joined again.
        LeaderRejoined = "leader_rejoined",
        /// A member reads something else.
        SubscriptionChanged = "subscription_changed",
        /// A static member was replaced.
        StaticMemberReplaced = "static_member_replaced",
        /// A member has left.
        MemberLeft = "member_left",
        /// A member was silent for too long.
        MemberExpired = "member_expired",
        /// A member did not ask for its assignment.
        SyncMissing = "sync_missing",
        /// Topics have appeared, vanished or grown.
        TopicsChanged = "topics_changed",
    }
}

/// The handles of consumer groups.
pub struct GroupMetrics {
    /// Offsets committed.
    pub commits: IntCounter,
    load_duration: Histogram,
    rebalances: Vec<IntCounter>,
    phases: Vec<IntGauge>,
    members: IntGaugeVec,
    lag_records: IntGaugeVec,
    lag_seconds: GaugeVec,
}

impl GroupMetrics {
    pub(crate) fn register(families: &Families) -> Result<GroupMetrics, Error> {
        let rebalances = families.counter_vec(&catalogue::GROUP_REBALANCES)?;
        let phases = families.gauge_vec(&catalogue::GROUPS)?;
        let of_cause = |cause: &RebalanceCause| rebalances.get_metric_with_label_values(&[cause.as_str()]);
        let of_phase = |phase: &GroupPhase| phases.get_metric_with_label_values(&[phase.as_str()]);
        Ok(GroupMetrics {
            commits: families.counter(&catalogue::GROUP_COMMITS)?,
            load_duration: families.histogram(&catalogue::GROUP_LOAD_DURATION, &buckets::REQUEST_SECONDS)?,
            rebalances: RebalanceCause::ALL.iter().map(of_cause).collect::<Result<_, _>>()?,
            phases: GroupPhase::ALL.iter().map(of_phase).collect::<Result<_, _>>()?,
            members: families.gauge_vec(&catalogue::GROUP_MEMBERS)?,
            lag_records: families.gauge_vec(&catalogue::GROUP_LAG)?,
            lag_seconds: families.gauge_f64_vec(&catalogue::GROUP_LAG_SECONDS)?,
        })
    }

    /// A group rebalances for a reason that [`RebalanceCause`] knows by its label.
    pub fn rebalanced(&self, cause: &str) {
        if let Some(cause) = RebalanceCause::ALL.iter().find(|known| known.as_str() == cause) {
            self.rebalances[cause.index()].inc();
        }
    }

    /// How many groups that this broker coordinates are in a phase.
    pub fn set_groups(&self, phase: GroupPhase, groups: usize) {
        self.phases[phase.index()].set(i64::try_from(groups).unwrap_or(i64::MAX));
    }

    /// A partition of the offsets topic was read.
    pub fn observe_load(&self, duration: Duration) {
        self.load_duration.observe(seconds(duration));
    }

    /// The series of a group, which end when this is dropped.
    pub fn group(&self, group: &str) -> GroupSeries {
        let of = self.members.clone();
        GroupSeries { gauge: of.with_label_values(&[group]), of, group: group.to_owned() }
    }

    /// The series of a group in a partition, which end when this is dropped.
    pub fn lag(&self, group: &str, topic: &str, partition: u32) -> GroupLagSeries {
        let labels = [group.to_owned(), topic.to_owned(), partition.to_string()];
        let (records, seconds) = (self.lag_records.clone(), self.lag_seconds.clone());
        GroupLagSeries {
            records_gauge: records.with_label_values(&labels),
            seconds_gauge: seconds.with_label_values(&labels),
            records,
            seconds,
            labels,
        }
    }
}

/// The series of one group.
pub struct GroupSeries {
    of: IntGaugeVec,
    gauge: IntGauge,
    group: String,
}

impl GroupSeries {
    /// How many members the group has.
    pub fn set_members(&self, members: usize) {
        self.gauge.set(i64::try_from(members).unwrap_or(i64::MAX));
    }
}

impl Drop for GroupSeries {
    fn drop(&mut self) {
        // An error only says that the series is not there, which is what is wanted.
        self.of.remove_label_values(&[&self.group]).unwrap_or_default();
    }
}

/// The series of one group in one partition.
pub struct GroupLagSeries {
    records: IntGaugeVec,
    seconds: GaugeVec,
    records_gauge: IntGauge,
    seconds_gauge: Gauge,
    labels: [String; 3],
}

impl GroupLagSeries {
    /// How far the group is behind: in records, and in time since the first that it has not committed.
    pub fn set(&self, records: u64, behind: Duration) {
        self.records_gauge.set(i64::try_from(records).unwrap_or(i64::MAX));
        self.seconds_gauge.set(seconds(behind));
    }
}

impl Drop for GroupLagSeries {
    fn drop(&mut self) {
        self.records.remove_label_values(&self.labels).unwrap_or_default();
        self.seconds.remove_label_values(&self.labels).unwrap_or_default();
    }
}
