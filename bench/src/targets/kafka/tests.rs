//! Against the brokers that librdkafka brings for tests: they speak the protocol on real sockets.

use std::time::Duration;

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

use super::*;
use crate::target::Message;

fn topic() -> Topic {
    Topic { name: "records".to_owned(), partitions: 2, replicas: 3, ..Topic::plain() }
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let target = Kafka::new(&format!("kafka://127.0.0.1:{port}")).unwrap();
    let said = target.prepare(&topic()).await.unwrap_err().to_string();
    assert!(said.starts_with(&format!("127.0.0.1:{port} does not answer: ")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_acknowledged_and_read() {
    let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(3).unwrap();
    cluster.create_topic("records", 2, 3).unwrap();
    let target = Kafka::new(&format!("kafka://{}", cluster.bootstrap_servers())).unwrap();
    let description = target.prepare(&topic()).await.unwrap();
    assert_eq!((description.replicas, description.name.as_str()), (3, "Kafka protocol"));

    let mut live = target.subscriber(&topic(), 0, 1).await.unwrap();
    let mut publisher = target.publisher(&topic(), 0).await.unwrap();
    let batch: Vec<Message> =
        (0..6_000).map(|number| Message { due_ns: number, timestamp_ms: 1, number, key: Some(7) }).collect();
    let (first, second) = (publisher.send(&batch, b"filling"), publisher.send(&batch, b"filling"));
    first.await.unwrap();
    second.await.unwrap();
    let mut replay = target.replay(&topic()).await.unwrap();
    for reader in [&mut live, &mut replay] {
        let mut numbers = Vec::new();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while numbers.len() < 12_000 && tokio::time::Instant::now() < deadline {
            let mut each = |payload: &[u8]| numbers.push(Message::read_stamp(payload).unwrap().1);
            reader.receive(Duration::from_millis(100), &mut each).await.unwrap();
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..6_000).flat_map(|number| [number, number]).collect::<Vec<u64>>());
    }
}
