//! One look at a cluster: its brokers, its topics, who leads what, and how far the partitions are.

pub mod changes;

use std::{collections::BTreeMap, fmt, str::FromStr};

use pubg1_model::{BrokerId, PartitionId, TopicName};

use crate::client::{
    Client, ClientError,
    reply::{ClusterReply, HealthReply, PartitionReply, TopicReply},
};

const NOT_FOUND: u16 = 404;

/// A partition by its name: `TOPIC/P`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionName {
    /// Its topic.
    pub topic: TopicName,
    /// Its number.
    pub partition: PartitionId,
}

impl FromStr for PartitionName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, partition) = text.rsplit_once('/').ok_or("must be TOPIC/PARTITION, for example flights/0")?;
        let topic = topic.parse().map_err(|error: pubg1_model::InvalidName| error.to_string())?;
        let partition = partition.parse().map_err(|_| format!("{partition:?} is no partition's number"))?;
        Ok(Self { topic, partition: PartitionId(partition) })
    }
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// How many partitions a broker has, and in which role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// It leads them.
    pub leads: usize,
    /// It follows, and has everything that is committed.
    pub follows: usize,
    /// It should follow, and lags or is not there.
    pub lags: usize,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct View {
    /// The brokers, the controller, the metadata.
    pub cluster: ClusterReply,
    /// Every topic, the brokers' own among them.
    pub topics: Vec<TopicReply>,
    /// How the cluster is; `None` when the broker would not say.
    pub health: Option<HealthReply>,
}

impl View {
    /// Looks.
    ///
    /// # Errors
    /// The broker's, and that there is none.
    pub async fn look(client: &Client) -> Result<Self, ClientError> {
        let cluster = client.cluster().await?;
        let mut topics = Vec::new();
        for name in client.topics(true).await? {
            match client.topic(&name).await {
                Ok(topic) => topics.push(topic),
                // Deleted since the list was made.
                Err(error) if error.status() == Some(NOT_FOUND) => {}
                Err(error) => return Err(error),
            }
        }
        let health = match client.health().await {
            Ok(health) => Some(health),
            Err(error) if error.status() == Some(NOT_FOUND) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { cluster, topics, health })
    }

    /// Every partition with its name, in order.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionName, &PartitionReply)> {
        self.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| {
                (PartitionName { topic: topic.name.clone(), partition: partition.partition }, partition)
            })
        })
    }

    /// How many partitions each broker has.
    #[must_use]
    pub fn loads(&self) -> BTreeMap<BrokerId, Load> {
        let mut loads: BTreeMap<BrokerId, Load> =
            self.cluster.brokers.iter().map(|broker| (broker.broker_id, Load::default())).collect();
        for (_, partition) in self.partitions() {
            for replica in &partition.replicas {
                let load = loads.entry(replica.broker).or_default();
                match (partition.leader() == Some(replica.broker), replica.in_sync) {
                    (true, _) => load.leads += 1,
                    (false, true) => load.follows += 1,
                    (false, false) => load.lags += 1,
                }
            }
        }
        loads
    }
}

/// Numbers of brokers as people write them: `0,1,3`.
#[must_use]
pub fn broker_list(brokers: &[BrokerId]) -> String {
    brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Three brokers, one of them dead; a topic of two partitions, one without a leader.
    pub(crate) fn a_view() -> View {
        let brokers: Vec<_> = (0..3)
            .map(|id| {
                json!({
                    "broker_id": id, "http_url": format!("http://127.0.0.1:800{id}"),
                    "rpc_address": format!("127.0.0.1:900{id}"), "rack": null, "incarnation": 7,
                    "draining": id == 1, "alive": id != 2,
                })
            })
            .collect();
        let cluster = json!({
            "cluster_id": "c", "broker_id": 0, "controller": 1, "version": 9, "brokers": brokers,
            "metadata": { "term": 4, "last_applied": 12, "voters": [0, 1, 2] },
        });
        let replica = |broker: u32, leader: bool, in_sync: bool| json!({ "broker": broker, "leader": leader, "in_sync": in_sync });
        let topic = json!({ "name": "flights", "configs": {}, "partitions": [
            { "partition": 0, "leader": 0, "leader_epoch": 5,
              "replicas": [replica(0, true, true), replica(1, false, true), replica(2, false, false)] },
            { "partition": 1, "leader": -1, "leader_epoch": 3, "replicas": [replica(2, false, false)] },
        ]});
        let health = json!({
            "status": "unavailable", "controller": 1, "brokers": 3, "brokers_alive": 2, "partitions": 2,
            "offline_partitions": 1, "under_replicated_partitions": 2, "problems": ["flights/1: no replica is alive"],
        });
        View {
            cluster: serde_json::from_value(cluster).unwrap(),
            topics: vec![serde_json::from_value(topic).unwrap()],
            health: Some(serde_json::from_value(health).unwrap()),
        }
    }

    #[test]
    fn loads_are_counted_by_role() {
        let loads = a_view().loads();
        assert_eq!(loads[&BrokerId(0)], Load { leads: 1, follows: 0, lags: 0 });
        assert_eq!(loads[&BrokerId(1)], Load { leads: 0, follows: 1, lags: 0 });
        assert_eq!(loads[&BrokerId(2)], Load { leads: 0, follows: 0, lags: 2 });
    }

    #[test]
    fn partitions_have_names() {
        let name: PartitionName = "flights/3".parse().unwrap();
        assert_eq!((name.topic.as_str(), name.partition.0, name.to_string().as_str()), ("flights", 3, "flights/3"));
        for wrong in ["flights", "flights/", "/3", "flights/-1", "fl ights/1"] {
            assert!(wrong.parse::<PartitionName>().is_err(), "{wrong}");
        }
    }
}
