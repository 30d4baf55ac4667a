//! What is exported is what the catalogue says, and it follows Prometheus' rules for names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

#[test]
fn the_registry_holds_exactly_the_catalogue() {
    let metrics = Metrics::new().expect("register");
    let _topic = metrics.topic("flights");
    let _group = (metrics.groups().group("g"), metrics.groups().lag("g", "flights", 0));
    let _task = (metrics.streams().task("s", 0), metrics.streams().stream("s"));
    let listed: BTreeSet<String> = catalogue().iter().map(|family| family.name.to_owned()).collect();
    assert_eq!(listed.len(), catalogue().len(), "a name is listed twice");
    assert_eq!(metrics.0.registry.names(), listed);
}

#[test]
fn type_help_and_labels_are_exported_as_listed() {
    let metrics = Metrics::new().expect("register");
    let _topic = metrics.topic("flights");
    let _group = (metrics.groups().group("g"), metrics.groups().lag("g", "flights", 0));
    let _task = (metrics.streams().task("s", 0), metrics.streams().stream("s"));
    let text = metrics.encode().expect("encode");
    let exported = Exposition::parse(&text);
    for family in catalogue() {
        assert_eq!(exported.kinds.get(family.name).map(String::as_str), Some(family.kind.as_str()), "{}", family.name);
        assert_eq!(exported.helps.get(family.name).map(String::as_str), Some(family.help), "{}", family.name);
        let series = match family.kind {
            MetricKind::Histogram => format!("{}_count", family.name),
            MetricKind::Counter | MetricKind::Gauge => family.name.to_owned(),
        };
        let labels: BTreeSet<String> = family.labels.iter().map(|&label| label.to_owned()).collect();
        assert_eq!(exported.labels.get(&series), Some(&labels), "{series}");
    }
}

#[test]
fn names_follow_the_rules() {
    for family in catalogue() {
        let name = family.name;
        let process = family.group == Group::Process;
        assert!(name.starts_with(if process { "process_" } else { "pubg1_" }), "{name}: prefix");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}: letters");
        assert_eq!(name.ends_with("_total"), family.kind == MetricKind::Counter, "{name}: `_total` is for counters");
        let stem = name.strip_suffix("_total").unwrap_or(name);
        match family.unit {
            Unit::Seconds => assert!(stem.ends_with("_seconds"), "{name}: unit"),
            // Not at the end in `bytes_in` and `bytes_out`, which Kafka's users look for.
            Unit::Bytes => assert!(stem.split('_').any(|word| word == "bytes"), "{name}: unit"),
            Unit::Count | Unit::Flag => {
                assert!(!stem.ends_with("_seconds") && !stem.ends_with("_bytes"), "{name}: unit");
            }
        }
        for word in ["counter", "gauge", "histogram", "_ms", "_count", "_sum", "_bucket", "__"] {
            assert!(!name.contains(word), "{name} contains {word}");
        }
        assert!(family.help.ends_with('.'), "{name}: the help is a sentence");
        for label in family.labels {
            assert!(!label.contains(':') && *label != "le" && *label != "instance" && *label != "job", "{name}");
        }
    }
}

#[test]
fn fixed_label_sets_start_at_zero() {
    let text = Metrics::new().and_then(|metrics| metrics.encode()).expect("encode");
    for series in [
        "pubg1_requests_total{api=\"publish\",code=\"200\"} 0",
        "pubg1_requests_in_flight{api=\"other\"} 0",
        "pubg1_request_phase_duration_seconds_count{api=\"produce_batches\",phase=\"flush\"} 0",
        "pubg1_throttled_requests_total{reason=\"bytes\"} 0",
        "pubg1_actor_rejected_total{actor=\"partition\",reason=\"bytes\"} 0",
        "pubg1_node_state{state=\"starting\"} 1",
        "pubg1_node_state{state=\"ready\"} 0",
    ] {
        assert!(text.lines().any(|line| line == series), "{series} is missing from\n{text}");
    }
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 1500, "{series} series without a topic are too many for one broker");
}

#[test]
fn requests_are_counted_by_code_and_in_flight() {
    let metrics = Metrics::new().expect("register");
    let publish = metrics.requests(Api::Publish);
    let serving = publish.begin();
    publish.observe(200, Duration::from_millis(3));
    publish.observe(418, Duration::from_millis(3));
    publish.observe_phase(Phase::Append, Duration::from_micros(400));
    metrics.throttled(ThrottleReason::Bytes);
    let text = metrics.encode().expect("encode");
    for series in [
        "pubg1_requests_total{api=\"publish\",code=\"200\"} 1",
        "pubg1_requests_total{api=\"publish\",code=\"4xx\"} 1",
        "pubg1_requests_in_flight{api=\"publish\"} 1",
        "pubg1_request_duration_seconds_bucket{api=\"publish\",le=\"0.002\"} 0",
        "pubg1_request_duration_seconds_bucket{api=\"publish\",le=\"0.004\"} 2",
        "pubg1_request_phase_duration_seconds_bucket{api=\"publish\",phase=\"append\",le=\"0.0005\"} 1",
        "pubg1_throttled_requests_total{reason=\"bytes\"} 1",
    ] {
        assert!(text.lines().any(|line| line == series), "{series} is missing from\n{text}");
    }
    drop(serving);
    assert!(metrics.encode().expect("encode").contains("pubg1_requests_in_flight{api=\"publish\"} 0"));
}

#[test]
fn a_topic_begins_sums_its_partitions_and_ends() {
    let metrics = Metrics::new().expect("register");
    let topic = metrics.topic("flights");
    assert!(Arc::ptr_eq(&topic, &metrics.topic("flights")));
    topic.records_in.inc_by(7);
    topic.deleted_bytes(DeleteReason::Retention).inc_by(11);
    let (mut first, mut second) = (topic.log(), topic.log());
    first.set(1000, 2);
    second.set(500, 1);
    second.set(600, 1);
    let has = |line: &str| metrics.encode().expect("encode").lines().any(|l| l == line);
    assert!(has("pubg1_topic_records_in_total{topic=\"flights\"} 7"));
    assert!(
        has("pubg1_log_deleted_bytes_total{topic=\"flights\",reason=\"retention\"} 11")
            || has("pubg1_log_deleted_bytes_total{reason=\"retention\",topic=\"flights\"} 11")
    );
    assert!(has("pubg1_log_size_bytes{topic=\"flights\"} 1600"));
    assert!(has("pubg1_log_segments{topic=\"flights\"} 3"));
    drop(second);
    assert!(has("pubg1_log_size_bytes{topic=\"flights\"} 1000"));
    metrics.remove_topic("flights");
    metrics.remove_topic("flights");
    assert!(!metrics.encode().expect("encode").contains("flights"));
    topic.records_in.inc();
    assert!(!metrics.encode().expect("encode").contains("flights"), "a kept handle brought the series back");
    metrics.topic("flights");
    assert!(has("pubg1_topic_records_in_total{topic=\"flights\"} 0"), "a topic created again starts at 0");
}

#[test]
fn a_message_waits_until_its_guard_is_dropped() {
    let metrics = Metrics::new().expect("register");
    let actor = metrics.actor(ActorKind::Partition);
    let guards: Vec<InMailbox> = (0..3).map(|_| actor.sent()).collect();
    assert_eq!(actor.mailbox_messages.get(), 3);
    drop(guards);
    actor.handled(Duration::from_micros(60));
    actor.rejected(RejectReason::Bytes).inc();
    assert_eq!((actor.mailbox_messages.get(), actor.messages.get()), (0, 1));
    assert_eq!(metrics.actor(ActorKind::Metadata).messages.get(), 0);
}

#[test]
fn the_node_is_in_one_state_and_one_build() {
    let metrics = Metrics::new().expect("register");
    metrics.node().set_state(NodeState::Ready);
    metrics.node().partitions(PartitionRole::Leader).set(4);
    metrics.storage().set_disk(u64::MAX, 5);
    let text = metrics.encode().expect("encode");
    let on = text.lines().filter(|l| l.starts_with("pubg1_node_state{") && l.ends_with(" 1")).count();
    assert_eq!(on, 1);
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let builds: Vec<&str> = text.lines().filter(|l| l.starts_with("pubg1_build_info{")).collect();
    assert!(matches!(builds[..], [build] if build.contains(&version) && build.ends_with(" 1")), "{builds:?}");
}

#[test]
fn two_brokers_in_one_process_do_not_share_series() {
    let (a, b) = (Metrics::new().expect("register"), Metrics::new().expect("register"));
    a.topic("flights").records_in.inc();
    assert!(!b.encode().expect("encode").contains("flights"));
}

/// Prometheus' text format, as far as these tests read it.
struct Exposition {
    kinds: BTreeMap<String, String>,
    helps: BTreeMap<String, String>,
    /// Label names by series name; `le` is left out.
    labels: BTreeMap<String, BTreeSet<String>>,
}

impl Exposition {
    fn parse(text: &str) -> Exposition {
        let mut parsed = Exposition { kinds: BTreeMap::new(), helps: BTreeMap::new(), labels: BTreeMap::new() };
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("type");
                parsed.kinds.insert(name.to_owned(), kind.to_owned());
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("help");
                parsed.helps.insert(name.to_owned(), help.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').expect("sample");
                value.parse::<f64>().expect("a number");
                let (name, labels) = series.split_once('{').map_or((series, ""), |(n, l)| (n, l.trim_end_matches('}')));
                let names =
                    labels.split("\",").filter_map(|pair| pair.split_once('=')).map(|(name, _)| name.to_owned());
                parsed.labels.insert(name.to_owned(), names.filter(|name| name != "le").collect());
            }
        }
        parsed
    }
}

#[test]
fn the_series_of_a_group_end_with_it() {
    let metrics = Metrics::new().expect("register");
    let (members, lag) = (metrics.groups().group("g"), metrics.groups().lag("g", "flights", 3));
    members.set_members(2);
    lag.set(7, Duration::from_millis(1500));
    let text = metrics.encode().expect("encode");
    for line in [
        "pubg1_group_members{group=\"g\"} 2",
        "pubg1_group_lag_seconds{group=\"g\",partition=\"3\",topic=\"flights\"} 1.5",
        "pubg1_group_lag_records{group=\"g\",partition=\"3\",topic=\"flights\"} 7",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is missing from\n{text}");
    }
    drop((members, lag));
    metrics.groups().rebalanced("member_left");
    metrics.groups().rebalanced("nobody knows");
    let text = metrics.encode().expect("encode");
    assert!(!text.contains("group=\"g\""), "{text}");
    assert!(text.contains("pubg1_group_rebalances_total{reason=\"member_left\"} 1"), "{text}");
}

#[test]
fn the_series_of_a_stream_s_task_end_with_it() {
    let metrics = Metrics::new().expect("register");
    let (task, other) = (metrics.streams().task("s", 3), metrics.streams().task("s", 4));
    task.records(StreamOutcome::Late).inc_by(2);
    task.committed(Duration::from_millis(3));
    task.set(StreamTaskGauges { input_lag: 7, is_idle: true, ..StreamTaskGauges::default() });
    let text = metrics.encode().expect("encode");
    for line in [
        "pubg1_stream_records_total{outcome=\"late\",stream=\"s\",task=\"3\"} 2",
        "pubg1_stream_commits_total{stream=\"s\",task=\"3\"} 1",
        "pubg1_stream_input_lag_records{stream=\"s\",task=\"3\"} 7",
        "pubg1_stream_idle{stream=\"s\",task=\"3\"} 1",
        "pubg1_stream_idle{stream=\"s\",task=\"4\"} 0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is missing from\n{text}");
    }
    drop(task);
    assert!(!metrics.encode().expect("encode").contains("task=\"3\""));
    drop(other);
    assert!(!metrics.encode().expect("encode").contains("stream=\"s\""));
}

#[test]
fn the_series_of_a_task_live_as_long_as_a_task_of_any_generation() {
    let metrics = Metrics::new().expect("register");
    let (before, after) = (metrics.streams().task("s", 0), metrics.streams().task("s", 0));
    before.rows.inc_by(2);
    drop(before);
    after.rows.inc_by(3);
    let text = metrics.encode().expect("encode");
    assert!(text.contains("pubg1_stream_rows_total{stream=\"s\",task=\"0\"} 5"), "{text}");
    drop(after);
    assert!(!metrics.encode().expect("encode").contains("stream=\"s\""));
}

#[test]
fn the_states_of_a_stream_are_those_of_its_generations() {
    let metrics = Metrics::new().expect("register");
    let stream = metrics.streams().stream("s");
    stream.set(&[StreamCondition::Running, StreamCondition::Memory]);
    stream.set(&[StreamCondition::Running, StreamCondition::Failed]);
    let text = metrics.encode().expect("encode");
    for (state, count) in [("running", 1), ("failed", 1), ("memory", 0), ("paused", 0)] {
        let line = format!("pubg1_stream_state{{state=\"{state}\",stream=\"s\"}} {count}");
        assert!(text.lines().any(|it| it == line), "{line} is missing from\n{text}");
    }
    drop(stream);
    assert!(!metrics.encode().expect("encode").contains("stream=\"s\""));
}
