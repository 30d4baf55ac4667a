//! What an operator looks at first.

use super::{FETCH, P50_P95_P99, PRODUCE, request_time};
use crate::{
    board::{Board, faults},
    panel::Panel,
};

pub(crate) fn board() -> Board {
    Board {
        name: "overview",
        title: "overview",
        description: "Whether the cluster is well, what it does now, and how fast.",
        variables: Vec::new(),
        annotations: faults(),
        rows: vec![
            ("Now", now()),
            ("Traffic", traffic()),
            ("Consumers and space", consumers_and_space()),
            ("Brokers", brokers()),
        ],
    }
}

fn now() -> Vec<Panel> {
    vec![
        Panel::number("Brokers alive", "short", "Brokers that the controller hears from.")
            .show("max(pubg1_alive_brokers{#})", "alive"),
        Panel::number("Brokers registered", "short", "Brokers of the cluster, whether they live or not.")
            .show("max(pubg1_registered_brokers{#})", "registered"),
        Panel::one("Controllers", "Brokers that take themselves for the controller.")
            .show("sum(pubg1_controller{#})", "controllers"),
        Panel::zero("Leaderless partitions", "Partitions that no living broker leads.")
            .show("max(pubg1_leaderless_partitions{#})", "leaderless"),
        Panel::zero("Offline partitions", "Copies of partitions that their broker can neither write nor read.")
            .show("sum(pubg1_offline_partitions{#})", "offline"),
        Panel::zero("Under-replicated", "Partitions with a replica that is not in sync.")
            .show("sum(pubg1_under_replicated_partitions{#})", "under-replicated"),
        Panel::zero("Damaged partitions", "Partitions with damage below their flushed offset.")
            .show("sum(pubg1_damaged_partitions{#})", "damaged"),
        Panel::number("Topics", "short", "Topics in the cluster image, those of the broker itself among them.")
            .show("max(pubg1_topics{#})", "topics"),
    ]
}

fn traffic() -> Vec<Panel> {
    vec![
        Panel::lines("Records in", "cps", "Records appended a second, by topic.")
            .show("sum by (topic) (rate(pubg1_topic_records_in_total{#}[r]))", "{{topic}}"),
        Panel::lines("Records out", "cps", "Records sent to consumers a second, by topic.")
            .show("sum by (topic) (rate(pubg1_topic_records_out_total{#}[r]))", "{{topic}}"),
        Panel::lines(
            "Requests by part of the API",
            "reqps",
            "Answers a second. Health, metrics and documentation are left out.",
        )
        .show("sum by (api) (rate(pubg1_requests_total{#, api!~\"health|metrics|docs\"}[r])) > 0", "{{api}}")
        .empty("while no client asks for anything"),
        Panel::lines(
            "Produce latency",
            "s",
            "Time of produce requests. The bounds double, so p99 may be off by a third: compare, do not quote.",
        )
        .quantiles(&P50_P95_P99, "", &request_time(PRODUCE)),
        Panel::lines("Fetch latency", "s", "Time of fetch requests, long polls included.").quantiles(
            &P50_P95_P99,
            "",
            &request_time(FETCH),
        ),
        Panel::lines(
            "Answers that are errors",
            "percentunit",
            "Share of answers with a code of 400 and above, by code.",
        )
        .show(
            "sum by (code) (rate(pubg1_requests_total{#, code=~\"[45].*\"}[r])) \
                 / on () group_left () sum(rate(pubg1_requests_total{#}[r]))",
            "{{code}}",
        ),
    ]
}

fn consumers_and_space() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Groups that are behind most",
            "short",
            "Records that a group has not committed, the largest five.",
        )
        .show("topk(5, sum by (group) (pubg1_group_lag_records{#}))", "{{group}}")
        .empty("while there is no consumer group"),
        Panel::lines(
            "The same in time",
            "s",
            "Age of the oldest record that a group has not committed, the largest five.",
        )
        .show("topk(5, max by (group) (pubg1_group_lag_seconds{#}))", "{{group}}")
        .empty("while there is no consumer group"),
        Panel::lines("Space left", "percentunit", "Part of the data directory's filesystem that is free.")
            .show("min by (instance) (pubg1_disk_free_bytes{#} / pubg1_disk_total_bytes{#})", "{{instance}}"),
        Panel::lines(
            "Space left in six hours",
            "bytes",
            "What is free then, at the pace of the last hour. Below 0 the disk is full before.",
        )
        .show("min by (instance) (predict_linear(pubg1_disk_free_bytes{#}[1h], 6 * 3600))", "{{instance}}"),
    ]
}

fn brokers() -> Vec<Panel> {
    vec![
        Panel::lines("Partitions led", "short", "Partitions that take their writes at each broker.")
            .show("sum by (instance) (pubg1_partitions{#, role=\"leader\"})", "{{instance}}"),
        Panel::lines("Elections", "short", "Leaders that the controller has set within a minute.")
            .show("sum(increase(pubg1_elections_total{#}[1m]))", "elections"),
        Panel::lines("State", "short", "Brokers by the state that they are in.")
            .show("sum by (state) (pubg1_node_state{#})", "{{state}}")
            .stacked(),
        Panel::number("Up since", "dateTimeAsIso", "When the youngest of the brokers was started.")
            .show("1000 * max(pubg1_start_time_seconds{#})", "since")
            .wide(8),
        Panel::number("Versions", "short", "Brokers by what they run.")
            .show("count by (version, revision) (pubg1_build_info{#})", "{{version}} {{revision}}")
            .wide(8),
        Panel::number("Streams", "short", "Streams by state.")
            .show("sum by (state) (max by (stream, state) (pubg1_stream_state{#})) > 0", "{{state}}")
            .empty("while there is no stream")
            .wide(8),
    ]
}
