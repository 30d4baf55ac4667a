//! `GET /metrics/kafka`: the cluster under the names and labels of kafka_exporter, so that dashboards and alerts made for
//! that one work as they are. Any broker tells about the whole cluster: scrape one of them.
//!
//! What groups have committed is asked for before where partitions end, so that no lag is negative. Each broker is asked
//! once for either. A partition whose leader does not answer in time has no offsets here, rather than wrong ones.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{Display, Write},
    time::Duration,
};

use actix_web::{HttpResponse, http::header};
use pubg1_actors::{GroupProgress, LeaderView};
use pubg1_model::{BrokerId, Offset, TopicName, TopicPartition, cluster::ClusterImage};

use crate::{call::Call, dto::ErrorBody, edge::ApiResult};

/// How long the controller is looked for, which knows who lives.
const SEARCH: Duration = Duration::from_millis(500);

/// The cluster under the metric names of kafka_exporter.
#[utoipa::path(get, path = "/metrics/kafka", tag = "operations", responses(
    (status = 200, description = "Prometheus text format 0.0.4: the whole cluster, with kafka_exporter's names and labels",
        body = String, content_type = "text/plain"),
    (status = "5XX", description = "Not possible now", body = ErrorBody)))]
pub(crate) async fn metrics(call: Call) -> ApiResult {
    let broker = &call.state.broker;
    call.state.image()?;
    let alive = broker.cluster_status(SEARCH).await.map(|status| status.alive);
    // The one that answers does live.
    let alive = alive.unwrap_or_else(|_| vec![broker.broker_id()]);
    let groups = broker.groups().progress().await;
    let views = broker.leader_views().await.into_iter().collect();
    let text = Cluster { image: &*call.state.image()?, alive, groups, views }.exposition();
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, pubg1_metrics::CONTENT_TYPE)).body(text))
}

/// What is told.
struct Cluster<'a> {
    image: &'a ClusterImage,
    alive: Vec<BrokerId>,
    groups: Vec<GroupProgress>,
    views: HashMap<TopicPartition, LeaderView>,
}

/// The families in the making: each must stand in one piece, while the cluster is gone through once.
#[derive(Default)]
struct Families {
    by_name: BTreeMap<&'static str, (&'static str, String)>,
}

impl Families {
    fn add(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let (_, lines) = self.by_name.entry(name).or_insert_with(|| (help, String::new()));
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Writing to a string does not fail.
        writeln!(lines, "{name}{labels} {value}").unwrap_or_default();
    }

    fn text(self) -> String {
        let family = |(name, (help, lines))| format!("# HELP {name} {help}\n# TYPE {name} gauge\n{lines}");
        self.by_name.into_iter().map(family).collect()
    }
}

/// A label's value as the format wants it.
fn escaped(value: &dyn Display) -> String {
    value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Cluster<'_> {
    fn exposition(&self) -> String {
        let mut families = Families::default();
        self.brokers(&mut families);
        self.partitions(&mut families);
        for group in &self.groups {
            self.group(&mut families, group);
        }
        families.text()
    }

    fn brokers(&self, families: &mut Families) {
        let alive = || self.image.brokers.iter().filter(|(id, _)| self.alive.contains(id));
        families.add("kafka_brokers", "Number of brokers that are alive.", &[], alive().count());
        for (id, registered) in alive() {
            let address = registered.http_url.trim_start_matches("http://");
            let labels: [(&str, &dyn Display); 2] = [("address", &address), ("id", &id.0)];
            families.add("kafka_broker_info", "Information about a broker that is alive.", &labels, 1);
        }
    }

    fn partitions(&self, families: &mut Families) {
        for topic in self.image.topics.values() {
            let (name, count) = (&topic.name, topic.partitions.len());
            families.add("kafka_topic_partitions", "Number of partitions of the topic.", &[("topic", name)], count);
            for (partition, placed) in topic.numbered_partitions() {
                let labels: [(&str, &dyn Display); 2] = [("partition", &partition.0), ("topic", name)];
                let mut add = |family, help, value| families.add(family, help, &labels, value);
                let view = self.views.get(&TopicPartition { topic: name.clone(), partition });
                if let Some(leader) = placed.leader {
                    add("kafka_topic_partition_leader", "The broker that leads the partition.", u64::from(leader.0));
                }
                if let Some(view) = view {
                    let (first, end) = (view.log_start_offset.get(), view.high_watermark.get());
                    add("kafka_topic_partition_current_offset", "The offset after the last readable record.", end);
                    add("kafka_topic_partition_oldest_offset", "The offset of the first record.", first);
                    let in_sync = view.in_sync.len() as u64;
                    add("kafka_topic_partition_in_sync_replica", "Number of replicas in sync.", in_sync);
                }
                let replicas = placed.replicas.len();
                add("kafka_topic_partition_replicas", "Number of replicas of the partition.", replicas as u64);
                let preferred = placed.leader.is_some() && placed.leader.as_ref() == placed.replicas.first();
                let help = "1 when the preferred broker leads the partition.";
                add("kafka_topic_partition_leader_is_preferred", help, u64::from(preferred));
                // Nobody has told that all replicas are in sync.
                let under_replicated = view.is_none_or(|view| view.in_sync.len() < replicas);
                let help = "1 when a replica of the partition is not in sync, or the leader does not say.";
                add("kafka_topic_partition_under_replicated_partition", help, u64::from(under_replicated));
            }
        }
    }

    fn group(&self, families: &mut Families, group: &GroupProgress) {
        let id = &group.group;
        let help = "Number of members of the consumer group.";
        families.add("kafka_consumergroup_members", help, &[("consumergroup", id)], group.members);
        // By topic: the sum of what is committed, and of what is not.
        let mut sums: BTreeMap<&TopicName, (u64, Option<u64>)> = BTreeMap::new();
        for (place, committed) in &group.committed {
            let labels: [(&str, &dyn Display); 3] =
                [("consumergroup", id), ("partition", &place.partition.0), ("topic", &place.topic)];
            let help = "The offset that the consumer group has committed.";
            families.add("kafka_consumergroup_current_offset", help, &labels, committed.get());
            let sum = sums.entry(&place.topic).or_default();
            sum.0 = sum.0.saturating_add(committed.get());
            if let Some(view) = self.views.get(place) {
                let lag = lag(view, *committed);
                let help = "Records of the partition that the consumer group has not committed.";
                families.add("kafka_consumergroup_lag", help, &labels, lag);
                sum.1 = Some(sum.1.unwrap_or(0).saturating_add(lag));
            }
        }
        for (topic, (committed, lag)) in sums {
            let labels: [(&str, &dyn Display); 2] = [("consumergroup", id), ("topic", topic)];
            let help = "The sum over the topic of the offsets that the consumer group has committed.";
            families.add("kafka_consumergroup_current_offset_sum", help, &labels, committed);
            if let Some(lag) = lag {
                let help = "Records of the topic that the consumer group has not committed.";
                families.add("kafka_consumergroup_lag_sum", help, &labels, lag);
            }
        }
    }
}

/// How many records there are that a group could read and has not committed. What retention has taken is not to be read.
fn lag(view: &LeaderView, committed: Offset) -> u64 {
    view.high_watermark.get().saturating_sub(committed.max(view.log_start_offset).get())
}

#[cfg(test)]
mod tests {
    use pubg1_model::{LeaderEpoch, PartitionId};

    use super::*;

    fn view(start: u64, end: u64) -> LeaderView {
        LeaderView {
            leader: BrokerId(0),
            leader_epoch: LeaderEpoch::ZERO,
            log_start_offset: Offset::new(start),
            high_watermark: Offset::new(end),
            log_end_offset: Offset::new(end),
            in_sync: [BrokerId(0)].into(),
        }
    }

    #[test]
    fn lag_is_what_can_be_read_and_never_negative() {
        assert_eq!(lag(&view(0, 10), Offset::new(4)), 6);
        assert_eq!(lag(&view(8, 10), Offset::new(4)), 2, "the rest is gone");
        assert_eq!(lag(&view(0, 10), Offset::new(12)), 0, "an older leader was asked");
    }

    #[test]
    fn a_group_has_sums_over_what_is_known() {
        let place = |partition| TopicPartition { topic: "t".parse().unwrap(), partition: PartitionId(partition) };
        let committed = vec![(place(0), Offset::new(4)), (place(1), Offset::new(5))];
        let group = GroupProgress { group: "g".parse().unwrap(), members: 2, committed };
        let image = ClusterImage::default();
        let views = HashMap::from([(place(0), view(0, 10))]);
        let text = Cluster { image: &image, alive: Vec::new(), groups: vec![group], views }.exposition();
        for line in [
            "kafka_brokers 0",
            "kafka_consumergroup_members{consumergroup=\"g\"} 2",
            "kafka_consumergroup_current_offset{consumergroup=\"g\",partition=\"1\",topic=\"t\"} 5",
            "kafka_consumergroup_current_offset_sum{consumergroup=\"g\",topic=\"t\"} 9",
            "kafka_consumergroup_lag{consumergroup=\"g\",partition=\"0\",topic=\"t\"} 6",
            "kafka_consumergroup_lag_sum{consumergroup=\"g\",topic=\"t\"} 6",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing from\n{text}");
        }
        assert!(!text.contains("kafka_consumergroup_lag{consumergroup=\"g\",partition=\"1\""), "{text}");
    }

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(escaped(&"a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
