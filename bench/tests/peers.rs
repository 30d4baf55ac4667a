//! The targets beside this log, against servers that are there: `PUBG1_TEST_TARGETS` names their
//! addresses, with spaces between. What is published is acknowledged, received, and read again.

#![cfg(any(feature = "kafka", feature = "nats", feature = "rabbitmq", feature = "redis"))]

use std::{sync::Arc, time::Duration};

use pubg1_bench::{
    engine::{self, Unobserved, Workload},
    target::{Acks, Target, Topic},
    targets::{self, Options},
};

fn topic(name: String, replicas: u32, group: Option<String>) -> Topic {
    Topic { name, partitions: 2, partition: None, replicas, record_bytes: 100, acks: Acks::All, group }
}

async fn check(address: &str, replicas: u32) {
    let target: Arc<dyn Target> = targets::open(address, &Options::default()).unwrap().into();
    for (group, keys) in [(None, 0), (Some("readers".to_owned()), 7)] {
        let topic = topic(format!("pubg1-test-{}", std::process::id()), replicas, group);
        let description = target.prepare(&topic).await.unwrap();
        assert_eq!(description.replicas, replicas, "{description:?}");
        let workload = Workload {
            rate: Some(5000.0),
            duration: Duration::from_secs(2),
            publishers: 2,
            consumers: 2,
            batch_records: 100,
            keys,
            ..Workload::default()
        };
        let measured = engine::run(&target, &topic, &workload, &Unobserved).await.unwrap();
        let totals = measured.totals;
        assert_eq!((totals.acknowledged, totals.consumed), (10_000, 10_000), "{totals:?} {:?}", measured.errors);
        // The warm-up's records are there as well.
        let all = totals.acknowledged + 5000;
        let read = engine::catch_up(&target, &topic, all, Duration::from_secs(10)).await.unwrap();
        assert_eq!((read.records, read.bytes), (all, all * 100), "{description:?}");
        target.clean(&topic).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: scripts/compare --serve DIR starts them and prints their addresses"]
async fn what_is_published_is_received_and_read_again() {
    let addresses = std::env::var("PUBG1_TEST_TARGETS").expect("addresses of servers");
    let replicas = std::env::var("PUBG1_TEST_REPLICAS").map_or(3, |count| count.parse().unwrap());
    for address in addresses.split_whitespace() {
        check(address, replicas).await;
    }
}
