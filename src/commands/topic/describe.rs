//! `pubg1 topic describe`: each partition with what its replicas say of themselves.

use pubg1_model::TopicName;
use serde_json::{Value, json};

use crate::{
    client::{
        Client,
        reply::{OffsetsReply, PartitionReply, ReplicaState, ReplicasReply, TopicReply},
    },
    error::CommandError,
    terminal::{Terminal, grouped},
    view::broker_list,
};

/// Statuses of a broker that does not know the question: it is older.
const UNKNOWN: [Option<u16>; 2] = [Some(404), Some(405)];

/// Shows it.
///
/// # Errors
/// The broker's.
pub(super) async fn run(client: &Client, terminal: Terminal, name: &TopicName) -> Result<(), CommandError> {
    let topic = client.topic(name).await?;
    let mut partitions = Vec::new();
    for partition in &topic.partitions {
        partitions.push(Described::ask(client, name, partition).await?);
    }
    let document = json!({
        "name": topic.name,
        "configs": topic.configs,
        "partitions": partitions.iter().map(Described::document).collect::<Vec<_>>(),
    });
    terminal.print(&document, |_| {
        let tables =
            [partition_table(terminal, &partitions), replica_table(terminal, &partitions), configs(terminal, &topic)];
        tables.into_iter().filter(|table| !table.is_empty()).collect::<Vec<_>>().join("\n\n")
    })
}

/// A partition, and what could be learned of it.
struct Described {
    partition: PartitionReply,
    replicas: Option<ReplicasReply>,
    /// From its first record to the last committed one; `None` when nobody serves it.
    offsets: Option<OffsetsReply>,
    error: Option<String>,
}

impl Described {
    async fn ask(client: &Client, name: &TopicName, partition: &PartitionReply) -> Result<Self, CommandError> {
        let number = partition.partition;
        let replicas = match client.replicas(name, number).await {
            Ok(replicas) => Some(replicas),
            Err(error) if UNKNOWN.contains(&error.status()) || error.is_retriable() => None,
            Err(error) => return Err(error.into()),
        };
        let (offsets, error) = match client.offsets(name, number).await {
            Ok(offsets) => (Some(offsets), None),
            // Without a leader there is nothing to say about offsets, and much about the rest.
            Err(error) if error.is_retriable() => (None, Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { partition: partition.clone(), replicas, offsets, error })
    }

    fn document(&self) -> Value {
        let in_sync: Vec<_> =
            self.partition.replicas.iter().filter(|replica| replica.in_sync).map(|replica| replica.broker).collect();
        json!({
            "partition": self.partition.partition,
            "leader": self.partition.leader(),
            "leader_epoch": self.partition.leader_epoch,
            "replicas": self.partition.replicas.iter().map(|replica| replica.broker).collect::<Vec<_>>(),
            "in_sync": in_sync,
            "moving_to": self.replicas.as_ref().and_then(|replicas| replicas.moving_to.clone()),
            "beginning_offset": self.offsets.map(|offsets| offsets.beginning_offset),
            "end_offset": self.offsets.map(|offsets| offsets.end_offset),
            "error": self.error,
            "replica_states": self.replicas.as_ref().map(|replicas| &replicas.replicas),
        })
    }
}

fn partition_table(terminal: Terminal, partitions: &[Described]) -> String {
    let rows = partitions.iter().map(|described| {
        let partition = &described.partition;
        let brokers = |only_in_sync: bool| {
            let chosen = partition.replicas.iter().filter(|replica| replica.in_sync || !only_in_sync);
            broker_list(&chosen.map(|replica| replica.broker).collect::<Vec<_>>())
        };
        let moving = described.replicas.as_ref().and_then(|replicas| replicas.moving_to.as_deref());
        let moving = moving.map_or_else(String::new, |to| format!(" → {}", broker_list(to)));
        let offset = |of: fn(&OffsetsReply) -> u64| {
            described.offsets.as_ref().map_or_else(|| "-".to_owned(), |offsets| grouped(of(offsets)))
        };
        vec![
            partition.partition.to_string(),
            partition.leader().map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
            partition.leader_epoch.to_string(),
            format!("{}{moving}", brokers(false)),
            brokers(true),
            offset(|offsets| offsets.beginning_offset.get()),
            offset(|offsets| offsets.end_offset.get()),
            offset(|offsets| offsets.end_offset.since(offsets.beginning_offset)),
        ]
    });
    let columns = ["partition", "leader", "epoch", "replicas", "in sync", "begins at", "ends at", "records"];
    terminal.table(&columns, rows, &["partition", "epoch", "begins at", "ends at", "records"])
}

/// One row for each replica, where there is more than one of any partition, or something is wrong.
fn replica_table(terminal: Terminal, partitions: &[Described]) -> String {
    let states = || partitions.iter().filter_map(|described| described.replicas.as_ref());
    let interesting = |state: &ReplicasReply| {
        state.replicas.len() > 1 || state.replicas.iter().any(|replica| replica.error.is_some())
    };
    if !states().any(interesting) {
        return String::new();
    }
    let rows = states().flat_map(|state| {
        state.replicas.iter().map(|replica| {
            let mut row = vec![state.partition.to_string(), replica.broker.to_string()];
            row.extend(replica_cells(replica));
            row
        })
    });
    let columns =
        ["partition", "broker", "role", "in sync", "epoch", "begins at", "high watermark", "log end", "on disk", ""];
    let right = ["partition", "broker", "epoch", "begins at", "high watermark", "log end", "on disk"];
    terminal.table(&columns, rows, &right)
}

fn replica_cells(replica: &ReplicaState) -> [String; 8] {
    let dash = || "-".to_owned();
    let offset = |offset: Option<u64>| offset.map_or_else(dash, grouped);
    [
        replica.role.clone().unwrap_or_else(dash),
        replica.in_sync.map_or_else(dash, |in_sync| if in_sync { "yes".to_owned() } else { "no".to_owned() }),
        replica.adopted_epoch.map_or_else(dash, |epoch| epoch.to_string()),
        offset(replica.log_start_offset),
        offset(replica.high_watermark),
        offset(replica.log_end_offset),
        offset(replica.flushed_offset),
        replica.error.clone().unwrap_or_default(),
    ]
}

fn configs(terminal: Terminal, topic: &TopicReply) -> String {
    let rows = topic.configs.iter().map(|(name, value)| {
        let text = match value {
            Value::Null => "none".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        vec![name.clone(), text]
    });
    terminal.table(&["setting", "value"], rows, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{terminal::OutputFormat, view::tests::a_view};

    const PLAIN: Terminal = Terminal { format: OutputFormat::Table, color: false };

    fn described() -> Vec<Described> {
        let replicas = json!({
            "topic": "flights", "partition": 0, "leader": 0, "leader_epoch": 5, "moving_to": [1, 3],
            "replicas": [
                { "broker": 0, "role": "leader", "in_sync": true, "adopted_epoch": 5, "log_start_offset": 10,
                  "high_watermark": 1500, "log_end_offset": 1510, "flushed_offset": 1505, "error": null },
                { "broker": 2, "role": null, "in_sync": false, "adopted_epoch": null, "log_start_offset": null,
                  "high_watermark": null, "log_end_offset": null, "flushed_offset": null, "error": "connection refused" },
            ],
        });
        let offsets = json!({ "beginning_offset": 10, "end_offset": 1500 });
        let view = a_view();
        let mut partitions = view.topics[0].partitions.iter().cloned();
        vec![
            Described {
                partition: partitions.next().unwrap(),
                replicas: Some(serde_json::from_value(replicas).unwrap()),
                offsets: Some(serde_json::from_value(offsets).unwrap()),
                error: None,
            },
            Described {
                partition: partitions.next().unwrap(),
                replicas: None,
                offsets: None,
                error: Some("no leader".to_owned()),
            },
        ]
    }

    fn row(table: &str, line: usize) -> String {
        table.lines().nth(line).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn partitions_and_their_replicas_are_shown_even_without_a_leader() {
        let partitions = described();
        let table = partition_table(PLAIN, &partitions);
        assert_eq!(row(&table, 1), "0 0 5 0,1,2 → 1,3 0,1 10 1,500 1,490", "{table}");
        assert_eq!(row(&table, 2), "1 none 3 2 - - -", "{table}");
        let table = replica_table(PLAIN, &partitions);
        assert_eq!(row(&table, 1), "0 0 leader yes 5 10 1,500 1,510 1,505", "{table}");
        assert_eq!(row(&table, 2), "0 2 - no - - - - - connection refused", "{table}");
        let document = partitions[1].document();
        assert_eq!((&document["leader"], &document["end_offset"]), (&Value::Null, &Value::Null));
        assert_eq!(partitions[0].document()["replica_states"][0]["flushed_offset"], 1505);
    }
}
