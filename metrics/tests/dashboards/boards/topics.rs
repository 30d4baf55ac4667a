//! Topics, and the groups that read them.

use super::P50_P99;
use crate::{
    board::{Board, Variable},
    panel::Panel,
};

pub(crate) fn board() -> Board {
    Board {
        name: "topics-and-groups",
        title: "topics and groups",
        description: "What goes in and out of each topic, what it takes on disk, and who is behind.",
        variables: vec![Variable::TOPIC, Variable::GROUP],
        annotations: Vec::new(),
        rows: vec![("Topics", topics()), ("Consumer groups", groups())],
    }
}

fn topics() -> Vec<Panel> {
    let of = |family: &str| format!("sum by (topic) (rate({family}{{#, topic=~\"$topic\"}}[r]))");
    let sum = |family: &str| format!("sum by (topic) ({family}{{#, topic=~\"$topic\"}})");
    vec![
        Panel::lines("Records in", "cps", "Records appended a second.")
            .show(of("pubg1_topic_records_in_total"), "{{topic}}"),
        Panel::lines("Records out", "cps", "Records sent to consumers a second.")
            .show(of("pubg1_topic_records_out_total"), "{{topic}}"),
        Panel::lines("Lag of followers", "short", "Records that the slowest follower of each partition lacks, summed.")
            .show(sum("pubg1_replica_lag_records"), "{{topic}}"),
        Panel::lines("Bytes in", "Bps", "Bytes of record batches appended a second.")
            .show(of("pubg1_topic_bytes_in_total"), "{{topic}}"),
        Panel::lines("Bytes out", "Bps", "Bytes of record batches read for consumers a second.")
            .show(of("pubg1_topic_bytes_out_total"), "{{topic}}"),
        Panel::lines("Deleted", "Bps", "Bytes that leave the logs a second, by reason.")
            .show(
                "sum by (topic, reason) (rate(pubg1_log_deleted_bytes_total{#, topic=~\"$topic\"}[r])) > 0",
                "{{topic}} {{reason}}",
            )
            .empty("while nothing is deleted"),
        Panel::lines("Size", "bytes", "Bytes of record batches on disk, all replicas together.")
            .show(sum("pubg1_log_size_bytes"), "{{topic}}")
            .wide(12),
        Panel::lines("Segments", "short", "Files that the logs consist of, all replicas together.")
            .show(sum("pubg1_log_segments"), "{{topic}}")
            .wide(12),
    ]
}

fn groups() -> Vec<Panel> {
    let none = "while there is no consumer group";
    let chosen = "#, group=~\"$group\", topic=~\"$topic\"";
    vec![
        Panel::lines("Lag", "short", "Records that groups have not committed yet.")
            .show(format!("sum by (group, topic) (pubg1_group_lag_records{{{chosen}}})"), "{{group}} {{topic}}")
            .empty(none),
        Panel::lines("Lag in time", "s", "Age of the oldest record that a group has not committed yet.")
            .show(format!("max by (group, topic) (pubg1_group_lag_seconds{{{chosen}}})"), "{{group}} {{topic}}")
            .empty(none),
        Panel::lines(
            "How lag changes",
            "cps",
            "Records a second by which a group falls behind; below 0 it catches up.",
        )
        .show(format!("sum by (group) (deriv(pubg1_group_lag_records{{{chosen}}}[5m]))"), "{{group}}")
        .empty(none),
        Panel::lines("Partitions that are behind most", "short", "Records that are not committed, the largest ten.")
            .show(
                format!("topk(10, sum by (group, topic, partition) (pubg1_group_lag_records{{{chosen}}}))"),
                "{{group}} {{topic}}/{{partition}}",
            )
            .empty(none),
        Panel::lines("Members", "short", "Members of each group.")
            .show("sum by (group) (pubg1_group_members{#, group=~\"$group\"})", "{{group}}")
            .empty(none),
        Panel::lines("Groups", "short", "Groups by state.")
            .show("sum by (state) (pubg1_groups{#})", "{{state}}")
            .stacked(),
        Panel::lines("Commits", "cps", "Offsets committed a second, by the broker that coordinates the groups.")
            .show("sum by (instance) (rate(pubg1_group_commits_total{#}[r]))", "{{instance}}"),
        Panel::lines("Rebalances", "short", "Rebalances within a minute, by what began them.")
            .show("sum by (reason) (increase(pubg1_group_rebalances_total{#}[1m]))", "{{reason}}"),
        Panel::lines("Loading groups", "s", "Time to read the groups of a partition after its leader has changed.")
            .quantiles(&P50_P99, "", "pubg1_group_load_duration_seconds_bucket{#}")
            .empty("while no coordinator changes"),
    ]
}
