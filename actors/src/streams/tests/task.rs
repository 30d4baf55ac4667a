//! What the actor of a task answers, asked as its driver and its readers do.

use std::sync::Arc;

use bytes::Bytes;
use pubg1_metrics::ActorKind;
use tokio::sync::oneshot;

use super::*;
use crate::streams::{
    cell::TaskCell,
    messages::{CaughtUp, DriverEnded, Feed, OwnTime, ReadWindows, Resumed},
    windows::TaskWindowsQuery,
};

fn cells(broker: &BrokerHandle, told: &StreamDescription) -> Vec<Arc<TaskCell>> {
    let changelog = broker.image().topic(&told.topics.changelog).unwrap().id;
    broker.services().streams.of_changelog(changelog)
}

/// The only task of a stream that stands still: nobody else tells it anything.
async fn held(broker: &BrokerHandle) -> Arc<TaskCell> {
    create_input(broker, 1).await;
    within(broker.streams().create(document("s", |_| ()), FRESH)).await.unwrap();
    described(broker, "s", is_caught_up).await;
    within(broker.streams().pause(&stream("s"))).await.unwrap();
    let told = described(broker, "s", |told| told.tasks[0].state == StreamTaskState::Paused).await;
    cells(broker, &told).remove(0)
}

#[actix_rt::test]
async fn a_task_that_knows_of_records_it_has_not_read_is_not_caught_up() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let cell = held(&broker).await;
    let is_up = async || within(cell.ask(OwnTime)).await.flatten().unwrap().is_caught_up;
    within(cell.ask(CaughtUp { at: offset(0) })).await.unwrap();
    assert!(is_up().await);
    within(cell.ask(Feed { batches: Bytes::new(), end: offset(5) })).await.unwrap().unwrap();
    assert!(!is_up().await, "five records are there");
    within(cell.ask(CaughtUp { at: offset(0) })).await.unwrap();
    assert!(is_up().await);
    within(cell.ask(Resumed)).await.unwrap();
    assert!(!is_up().await, "nobody has looked since it stood still");
    drop(cell);
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}

#[actix_rt::test]
async fn readers_that_have_gone_take_no_place() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let cell = held(&broker).await;
    let ask = async |reply| {
        let (from_ms, to_ms, limit) = (i64::MIN, i64::MAX, 10);
        let query = TaskWindowsQuery { key: None, from_ms, to_ms, closed: true, open: true, latest: true, limit };
        let past = offset(1_000);
        within(cell.ask(ReadWindows { query, open: Vec::new(), past, reply })).await.unwrap();
    };
    for _ in 0..300 {
        ask(oneshot::channel().0).await;
    }
    let (reply, mut rows) = oneshot::channel();
    ask(reply).await;
    assert_eq!(rows.try_recv(), Err(oneshot::error::TryRecvError::Empty), "it waits");
    drop(cell);
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}

#[actix_rt::test]
async fn a_task_whose_driver_has_ended_is_started_again() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    create_input(&broker, 1).await;
    let document = document("s", |_| ());
    within(broker.streams().create(document.clone(), FRESH)).await.unwrap();
    let told = described(&broker, "s", is_caught_up).await;
    for cell in cells(&broker, &told) {
        within(cell.ask(DriverEnded)).await.unwrap();
    }
    let inputs = [records(0, 0..100)];
    produce(&broker, 0, &inputs[0]).await;
    gives(&broker, "s.out", &oracle(&document, &inputs, false)).await;
    assert_eq!(broker.metrics().actor(ActorKind::StreamTask).restarts.get(), 1);
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}

#[actix_rt::test]
async fn a_stream_that_was_paused_comes_to_rest_again() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    drop(held(&broker).await);
    within(broker.streams().resume(&stream("s"))).await.unwrap();
    described(&broker, "s", is_caught_up).await;
    let handled = || broker.metrics().actor(ActorKind::StreamTask).messages.get();
    let before = handled();
    pass(Duration::from_millis(500)).await;
    let messages = handled() - before;
    assert!(messages < 100, "{messages} messages although nothing happens");
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}
