//! `GET /metrics/kafka`: the cluster under the names and labels of kafka_exporter, so that dashboards and alerts made for
//! that one work as they are. Any broker tells about the whole cluster: scrape one of them.
//!
//! What groups have committed is asked for before where partitions end, so that no lag is negative. Each broker is asked
//! once for either, whoever asks at the same time. What is not answered in time is left out here, rather than wrong.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::{Display, Write},
    time::Duration,
};

use actix_web::{HttpResponse, http::header};
use bytes::Bytes;
use pubg1_actors::{GroupProgress, LeaderView};
use pubg1_model::{BrokerId, GroupId, Offset, PartitionId, TopicName, TopicPartition, cluster::ClusterImage};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{call::Call, dto::ErrorBody, edge::ApiResult, error::ApiError, state::AppState};

/// How long the controller and the coordinators of groups are waited for, and then the leaders once more as long. A
/// scrape gives up after four seconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The cluster under the metric names of kafka_exporter.
#[utoipa::path(get, path = "/metrics/kafka", tag = "operations", responses(
    (status = 200, description = "Prometheus text format 0.0.4: the whole cluster, with kafka_exporter's names and labels",
        body = String, content_type = "text/plain"),
    (status = "5XX", description = "Not possible now", body = ErrorBody)))]
pub(crate) async fn metrics(call: Call) -> ApiResult {
    let state = &call.state;
    let text = state.kafka_metrics.get(|| gather(state)).await?;
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, pubg1_metrics::CONTENT_TYPE)).body(text))
}

/// What was told last, and when it was known.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Option<(Instant, Bytes)>>);

impl Told {
    /// What is gathered now. One gathers, and all who ask meanwhile are told the same.
    async fn get(&self, gather: impl AsyncFnOnce() -> Result<String, ApiError>) -> Result<Bytes, ApiError> {
        let asked_at = Instant::now();
        let mut told = self.0.lock().await;
        if let Some((_, text)) = told.as_ref().filter(|(known_at, _)| *known_at > asked_at) {
            return Ok(text.clone());
        }
        let text = Bytes::from(gather().await?);
        *told = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}

/// Asks the brokers, in two rounds.
async fn gather(state: &AppState) -> Result<String, ApiError> {
    state.image()?;
    let broker = &state.broker;
    let groups = broker.groups();
    let status = timeout(PATIENCE, broker.cluster_status(PATIENCE / 2));
    let (status, groups) = tokio::join!(status, groups.progress(PATIENCE));
    let alive = status.ok().and_then(Result::ok).map(|status| status.alive);
    let views = broker.leader_views(PATIENCE).await.into_iter().collect();
    Ok(Cluster { image: &*state.image()?, alive, groups, views }.exposition())
}

/// What is told.
struct Cluster<'a> {
    image: &'a ClusterImage,
    /// The brokers that the controller hears from; `None` while no controller answers.
    alive: Option<Vec<BrokerId>>,
    groups: Vec<GroupProgress>,
    views: HashMap<TopicPartition, LeaderView>,
}

/// The families in the making: each must stand in one piece, while the cluster is gone through once.
#[derive(Default)]
struct Families {
    by_name: BTreeMap<&'static str, (&'static str, String)>,
}

impl Families {
    /// `labels` as [`labels`] writes them.
    fn add(&mut self, name: &'static str, help: &'static str, labels: &str, value: impl Display) {
        let (_, lines) = self.by_name.entry(name).or_insert_with(|| (help, String::new()));
        // Writing to a string does not fail.
        writeln!(lines, "{name}{labels} {value}").unwrap_or_default();
    }

    fn text(self) -> String {
        let family = |(name, (help, lines))| format!("# HELP {name} {help}\n# TYPE {name} gauge\n{lines}");
        self.by_name.into_iter().map(family).collect()
    }
}

/// Labels as they stand behind a name.
fn labels(pairs: &[(&str, &dyn Display)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
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
        // Without a controller nobody knows; a count would raise an alarm that no broker is the cause of.
        let Some(heard) = &self.alive else { return };
        let alive = || self.image.brokers.iter().filter(|(id, _)| heard.contains(id));
        families.add("kafka_brokers", "Number of brokers that are alive.", "", alive().count());
        for (id, registered) in alive() {
            let address = registered.http_url.trim_start_matches("http://");
            let labels = labels(&[("address", &address), ("id", &id.0)]);
            families.add("kafka_broker_info", "Information about a broker that is alive.", &labels, 1);
        }
    }

    fn partitions(&self, families: &mut Families) {
        for topic in self.image.topics.values() {
            let (name, count) = (&topic.name, topic.partitions.len());
            families.add(
                "kafka_topic_partitions",
                "Number of partitions of the topic.",
                &labels(&[("topic", name)]),
                count,
            );
            for (partition, placed) in topic.numbered_partitions() {
                let labels = labels(&[("partition", &partition.0), ("topic", name)]);
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
        families.add("kafka_consumergroup_members", help, &labels(&[("consumergroup", id)]), group.members);
        let mut topics: BTreeMap<&TopicName, BTreeMap<PartitionId, Offset>> = BTreeMap::new();
        for (place, offset) in &group.committed {
            topics.entry(&place.topic).or_default().insert(place.partition, *offset);
        }
        for (topic, committed) in topics {
            self.group_topic(families, id, topic, &committed);
        }
    }

    /// A topic that a group has committed in: each of its partitions, and the sums over those that are known.
    fn group_topic(
        &self,
        families: &mut Families,
        group: &GroupId,
        topic: &TopicName,
        committed: &BTreeMap<PartitionId, Offset>,
    ) {
        let image = self.image.topic(topic).into_iter();
        let mut partitions: BTreeSet<PartitionId> =
            image.flat_map(|topic| topic.numbered_partitions().map(|(partition, _)| partition)).collect();
        partitions.extend(committed.keys());
        let (mut offset_sum, mut lag_sum) = (0_u64, None);
        for partition in partitions {
            let labels = labels(&[("consumergroup", group), ("partition", &partition.0), ("topic", topic)]);
            let mut add = |family, help, value: &dyn Display| families.add(family, help, &labels, value);
            let offset_help = "The offset that the consumer group has committed; -1 when it has committed none.";
            let lag_help = "Records of the partition that the consumer group has not committed; -1 when it never has.";
            let Some(offset) = committed.get(&partition) else {
                add("kafka_consumergroup_current_offset", offset_help, &-1);
                add("kafka_consumergroup_lag", lag_help, &-1);
                continue;
            };
            add("kafka_consumergroup_current_offset", offset_help, &offset.get());
            offset_sum = offset_sum.saturating_add(offset.get());
            if let Some(view) = self.views.get(&TopicPartition { topic: topic.clone(), partition }) {
                let lag = lag(view, *offset);
                add("kafka_consumergroup_lag", lag_help, &lag);
                lag_sum = Some(lag_sum.unwrap_or(0_u64).saturating_add(lag));
            }
        }
        let labels = labels(&[("consumergroup", group), ("topic", topic)]);
        let help = "The sum over the topic of the offsets that the consumer group has committed.";
        families.add("kafka_consumergroup_current_offset_sum", help, &labels, offset_sum);
        if let Some(lag) = lag_sum {
            let help = "Records of the topic that the consumer group has not committed.";
            families.add("kafka_consumergroup_lag_sum", help, &labels, lag);
        }
    }
}

/// How many records there are that a group could read and has not committed. What retention has taken is not to be read.
fn lag(view: &LeaderView, committed: Offset) -> u64 {
    view.high_watermark.get().saturating_sub(committed.max(view.log_start_offset).get())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use pubg1_model::{
        LeaderEpoch, TopicId,
        cluster::{PartitionImage, TopicImage},
        topic::TopicConfig,
    };

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

    fn place(partition: u32) -> TopicPartition {
        TopicPartition { topic: "t".parse().unwrap(), partition: PartitionId(partition) }
    }

    /// A cluster whose topic `t` has three partitions.
    fn image() -> ClusterImage {
        let topic = TopicImage {
            id: TopicId::from_bytes([1; 16]),
            name: "t".parse().unwrap(),
            config: TopicConfig::default(),
            created_ms: 0,
            partitions: vec![PartitionImage::new(vec![BrokerId(0)]); 3],
        };
        let mut image = ClusterImage::default();
        image.topics.insert(topic.name.clone(), Arc::new(topic));
        image
    }

    #[test]
    fn a_group_tells_of_all_partitions_of_a_topic_and_has_sums_over_what_is_known() {
        let committed = vec![(place(0), Offset::new(4)), (place(1), Offset::new(5))];
        let group = GroupProgress { group: "g".parse().unwrap(), members: 2, committed };
        let views = HashMap::from([(place(0), view(0, 10)), (place(2), view(0, 10))]);
        let text = Cluster { image: &image(), alive: Some(Vec::new()), groups: vec![group], views }.exposition();
        for line in [
            "kafka_brokers 0",
            "kafka_consumergroup_members{consumergroup=\"g\"} 2",
            "kafka_consumergroup_current_offset{consumergroup=\"g\",partition=\"1\",topic=\"t\"} 5",
            "kafka_consumergroup_current_offset{consumergroup=\"g\",partition=\"2\",topic=\"t\"} -1",
            "kafka_consumergroup_current_offset_sum{consumergroup=\"g\",topic=\"t\"} 9",
            "kafka_consumergroup_lag{consumergroup=\"g\",partition=\"0\",topic=\"t\"} 6",
            "kafka_consumergroup_lag{consumergroup=\"g\",partition=\"2\",topic=\"t\"} -1",
            "kafka_consumergroup_lag_sum{consumergroup=\"g\",topic=\"t\"} 6",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing from\n{text}");
        }
        let unknown = "kafka_consumergroup_lag{consumergroup=\"g\",partition=\"1\"";
        assert!(!text.contains(unknown), "its leader does not say where it ends\n{text}");
    }

    #[test]
    fn without_a_controller_nothing_is_said_of_brokers() {
        let text = Cluster { image: &image(), alive: None, groups: Vec::new(), views: HashMap::new() }.exposition();
        assert!(!text.contains("kafka_broker"), "{text}");
        assert!(text.contains("kafka_topic_partitions{topic=\"t\"} 3\n"), "{text}");
    }

    #[actix_rt::test]
    async fn who_asks_while_it_is_gathered_is_told_the_same() {
        let (told, gathered) = (Told::default(), Cell::new(0));
        let gather = async || {
            gathered.set(gathered.get() + 1);
            tokio::task::yield_now().await;
            Ok(gathered.get().to_string())
        };
        let both = tokio::join!(told.get(gather), told.get(gather));
        assert_eq!((both.0.unwrap(), both.1.unwrap()), ("1".into(), "1".into()));
        assert_eq!(told.get(gather).await.unwrap(), "2", "who asks later is told what is so then");
    }

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(escaped(&"a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
