//! A fault and what becomes of it: detected, elected, served again, replicated in full again.

use super::{FETCH, P50_P99, PRODUCE, request_time};
use crate::{
    board::{Board, Variable, faults},
    panel::Panel,
};

pub(crate) fn board() -> Board {
    Board {
        name: "fault-drill",
        title: "fault drill",
        description: "What a fault does, from top to bottom: who is away, what clients see, when it is healed. Prometheus looks once a scrape; `pubg1 drill` measures in milliseconds.",
        variables: vec![Variable::TOPIC],
        annotations: faults(),
        rows: vec![("Who is there", there()), ("What clients see", clients()), ("How it heals", healing())],
    }
}

fn there() -> Vec<Panel> {
    vec![
        Panel::bands("Brokers that answer", "short", "Whether each broker answers its scrape.")
            .show("max by (instance) (up{job=\"pubg1\", #})", "{{instance}}"),
        Panel::bands(
            "Brokers that serve",
            "short",
            "Whether each broker is ready; it is not while it recovers or drains.",
        )
        .show("max by (instance) (pubg1_node_state{#, state=\"ready\"})", "{{instance}}"),
        Panel::lines("Alive, as the controller hears", "short", "Brokers that the controller hears from.")
            .show("max(pubg1_alive_brokers{#})", "alive")
            .show("max(pubg1_registered_brokers{#})", "registered"),
        Panel::lines("Controller", "short", "1 for the broker that is the controller.")
            .show("sum by (instance) (pubg1_controller{#})", "{{instance}}"),
        Panel::lines("Partitions led", "short", "Partitions that each broker leads.")
            .show("sum by (instance) (pubg1_partitions{#, role=\"leader\"})", "{{instance}}")
            .stacked(),
    ]
}

fn clients() -> Vec<Panel> {
    vec![
        Panel::lines("Throughput", "cps", "Records in and out a second.")
            .show("sum(rate(pubg1_topic_records_in_total{#, topic=~\"$topic\"}[r]))", "in")
            .show("sum(rate(pubg1_topic_records_out_total{#, topic=~\"$topic\"}[r]))", "out"),
        Panel::lines(
            "Errors",
            "reqps",
            "Answers with a code of 500 and above a second. Clients repeat those with 503.",
        )
        .show("sum by (code) (rate(pubg1_requests_total{#, code=~\"5..\"}[r]))", "{{code}}"),
        Panel::lines("p99 of requests", "s", "Produce and fetch, long polls included.")
            .quantiles(&[("0.99", "produce")], "", &request_time(PRODUCE))
            .quantiles(&[("0.99", "fetch")], "", &request_time(FETCH)),
        Panel::lines("Lag of groups", "s", "Age of the oldest record that each group has not committed.")
            .show("max by (group) (pubg1_group_lag_seconds{#, topic=~\"$topic\"})", "{{group}}")
            .empty("while there is no consumer group")
            .wide(12),
        Panel::lines("Groups being read", "s", "Time to read the groups of a partition after its leader has changed.")
            .quantiles(&P50_P99, "", "pubg1_group_load_duration_seconds_bucket{#}")
            .empty("while no coordinator changes")
            .wide(12),
    ]
}

fn healing() -> Vec<Panel> {
    vec![
        Panel::lines("Leaderless partitions", "short", "Partitions that no living broker leads.")
            .show("max(pubg1_leaderless_partitions{#})", "leaderless"),
        Panel::lines("Under-replicated partitions", "short", "Partitions with a replica that is not in sync.")
            .show("sum by (instance) (pubg1_under_replicated_partitions{#})", "{{instance}}")
            .stacked(),
        Panel::lines("Lag of followers", "short", "Records that the slowest follower of each partition lacks, summed.")
            .show("sum by (topic) (pubg1_replica_lag_records{#, topic=~\"$topic\"})", "{{topic}}"),
        Panel::lines("Elections", "short", "Leaders that the controller has set within a minute.")
            .show("sum(increase(pubg1_elections_total{#}[1m]))", "elections"),
        Panel::lines(
            "Out of sync, and back",
            "short",
            "Replicas that fell out of sync and came back, within a minute.",
        )
        .show("sum(increase(pubg1_in_sync_shrinks_total{#}[1m]))", "out")
        .show("sum(increase(pubg1_in_sync_expands_total{#}[1m]))", "back"),
        Panel::lines("Failover", "s", "Time from the decision that a partition needs a new leader until it has one.")
            .quantiles(&P50_P99, "", "pubg1_failover_duration_seconds_bucket{#}")
            .empty("while no leader is elected"),
        Panel::heatmap("Failovers", "s", "The same: how many partitions took how long.")
            .show("sum by (le) (increase(pubg1_failover_duration_seconds_bucket{#}[r]))", "{{le}}")
            .wide(12),
        Panel::lines("Recovery", "s", "How long the last start of each broker took to recover its logs.")
            .show("max by (instance) (pubg1_recovery_duration_seconds{#})", "{{instance}}")
            .wide(12),
    ]
}
