//! `pubg1 group describe`: a group's members, and how far it is in each partition.

use std::collections::BTreeMap;

use pubg1_model::{GroupId, TopicName};

use crate::{
    client::{
        Client,
        group_reply::{GroupReply, MemberReply},
    },
    error::CommandError,
    terminal::{Terminal, grouped},
};

/// Shows it.
///
/// # Errors
/// The broker's.
pub(super) async fn run(client: &Client, terminal: Terminal, name: &GroupId) -> Result<(), CommandError> {
    let group = client.group(name).await?;
    terminal.print(&group, |group| {
        let tables = [headline(name, group), members(terminal, group), partitions(terminal, group)];
        tables.into_iter().filter(|table| !table.is_empty()).collect::<Vec<_>>().join("\n\n")
    })
}

fn headline(name: &GroupId, group: &GroupReply) -> String {
    let mut line = format!("group {name} is {}", group.state);
    if let Some(generation) = group.generation {
        line.push_str(&format!(", generation {generation}"));
    }
    if let Some(protocol) = group.protocol.as_deref().filter(|protocol| !protocol.is_empty()) {
        line.push_str(&format!(", assigned by {protocol}"));
    }
    match group.coordinator {
        Some(broker) => line.push_str(&format!(", kept by broker {broker}")),
        None => line.push_str(", kept by nobody at the moment"),
    }
    line
}

/// `flights 0-2,5; airports 1`.
fn assignment(member: &MemberReply) -> String {
    let mut topics: BTreeMap<&TopicName, Vec<u32>> = BTreeMap::new();
    for place in &member.assignment {
        topics.entry(&place.topic).or_default().push(place.partition.0);
    }
    let topics = topics.into_iter().map(|(topic, mut partitions)| {
        partitions.sort_unstable();
        format!("{topic} {}", ranges(&partitions))
    });
    topics.collect::<Vec<_>>().join("; ")
}

fn ranges(sorted: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let text = |(first, last): (u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.into_iter().map(text).collect::<Vec<_>>().join(",")
}

fn members(terminal: Terminal, group: &GroupReply) -> String {
    if group.members.is_empty() {
        return "no members".to_owned();
    }
    let rows = group.members.iter().map(|member| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            member.member_id.clone(),
            text(&member.instance_id),
            text(&member.group_instance_id),
            text(&member.client_id),
            text(&member.client_host),
            assignment(member),
        ]
    });
    terminal.table(&["member", "instance", "static name", "client", "host", "reads"], rows, &[])
}

fn partitions(terminal: Terminal, group: &GroupReply) -> String {
    if group.partitions.is_empty() {
        return String::new();
    }
    let dash = || "-".to_owned();
    let rows = group.partitions.iter().map(|partition| {
        let number = |number: Option<u64>| number.map_or_else(dash, grouped);
        vec![
            format!("{}/{}", partition.topic, partition.partition),
            number(partition.committed),
            number(partition.end),
            number(partition.lag),
            partition.lag_seconds.map_or_else(dash, |seconds| format!("{seconds:.1}")),
            partition.trend.clone().unwrap_or_else(dash),
            partition.owner.clone().unwrap_or_else(dash),
        ]
    });
    let columns = ["partition", "committed", "ends at", "lag", "lag in s", "trend", "owner"];
    terminal.table(&columns, rows, &["committed", "ends at", "lag", "lag in s"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::terminal::OutputFormat;

    #[test]
    fn a_group_is_shown_with_its_members_and_its_lag() {
        let place = |topic: &str, partition: u32| json!({ "topic": topic, "partition": partition });
        let group: GroupReply = serde_json::from_value(json!({
            "group": "mail", "state": "Stable", "protocol": "range", "generation": 4, "coordinator": 2,
            "members": [{ "member_id": "m-1", "instance_id": "i-1",
                "assignment": [place("t", 5), place("t", 0), place("t", 1), place("a", 3)] }],
            "partitions": [
                { "topic": "t", "partition": 0, "committed": 1000, "end": 3500, "lag": 2500, "lag_seconds": 1.26,
                  "trend": "growing", "owner": "m-1" },
                { "topic": "t", "partition": 2, "committed": null, "end": 1, "lag": null },
            ],
        }))
        .unwrap();
        let name: GroupId = "mail".parse().unwrap();
        let line = headline(&name, &group);
        assert_eq!(line, "group mail is Stable, generation 4, assigned by range, kept by broker 2");
        let plain = Terminal { format: OutputFormat::Table, color: false };
        let row = |table: &str, line: usize| {
            table.lines().nth(line).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row(&members(plain, &group), 1), "m-1 i-1 a 3; t 0-1,5");
        let table = partitions(plain, &group);
        assert_eq!(row(&table, 1), "t/0 1,000 3,500 2,500 1.3 growing m-1", "{table}");
        assert_eq!(row(&table, 2), "t/2 - 1 - - - -", "{table}");
        let nobody = GroupReply { state: "Empty".to_owned(), ..GroupReply::default() };
        assert_eq!(headline(&name, &nobody), "group mail is Empty, kept by nobody at the moment");
        assert_eq!((members(plain, &nobody).as_str(), partitions(plain, &nobody).as_str()), ("no members", ""));
    }
}
