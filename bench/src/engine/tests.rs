//! The engine against systems that are made up: one that answers at once, and one that pauses.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use std::future::ready;

use super::*;
use crate::{
    report::Load,
    target::{Description, Message, Publisher, SendError, Subscriber},
    targets::sink::Sink,
};

fn topic() -> Topic {
    Topic::plain()
}

fn short(rate: f64) -> Workload {
    Workload {
        rate: Some(rate),
        duration: Duration::from_millis(300),
        warm_up: Duration::from_millis(50),
        ..Workload::default()
    }
}

async fn against(target: impl Target + 'static, workload: &Workload) -> Measured {
    let target: Arc<dyn Target> = Arc::new(target);
    run(&target, &topic(), workload, &Unobserved).await.unwrap()
}

#[tokio::test]
async fn every_record_that_is_due_is_sent_acknowledged_and_received_once() {
    let workload = Workload { publishers: 3, consumers: 2, keys: 5, ..short(10_000.0) };
    let measured = against(Sink::default(), &workload).await;
    let totals = measured.totals;
    assert_eq!((totals.due, totals.sent, totals.failed), (3000, 3000, 0), "{totals:?}");
    assert_eq!((totals.acknowledged, totals.consumed), (3000, 3000), "{totals:?}");
    let report = measured.report();
    assert_eq!((report.response.count, report.service.count), (3000, 3000));
    assert_eq!(report.end_to_end.unwrap().count, 3000);
    assert_eq!(report.intervals.iter().map(|interval| interval.acknowledged).sum::<u64>(), 3000);
    assert_eq!(report.load, Load::OpenLoop);
}

#[tokio::test]
async fn without_a_rate_the_loop_is_closed_and_says_so() {
    let measured = against(Sink::default(), &Workload { rate: None, consumers: 0, ..short(1.0) }).await;
    assert_eq!(measured.load, Load::ClosedLoop);
    assert!(measured.totals.acknowledged > 1000 && measured.totals.asked_rate.is_none());
    assert_eq!(measured.totals.due, measured.totals.acknowledged);
    assert!(measured.report().end_to_end.is_none());
}

/// Answers at once, except that nothing is answered in one stretch of time; refuses every hundredth request.
#[derive(Default)]
struct Pausing {
    refuses: bool,
    began: Arc<Mutex<Option<Instant>>>,
}

const PAUSE_FROM: Duration = Duration::from_millis(150);
const PAUSE_UNTIL: Duration = Duration::from_millis(400);

struct PausingPublisher {
    refuses: bool,
    requests: u32,
    began: Arc<Mutex<Option<Instant>>>,
}

impl Publisher for PausingPublisher {
    fn send(&mut self, _batch: &[Message], _filling: &[u8]) -> BoxFuture<'static, Result<(), SendError>> {
        self.requests += 1;
        if self.refuses && self.requests.is_multiple_of(100) {
            return Box::pin(ready(Err(SendError { kind: "refused".to_owned(), reason: String::new() })));
        }
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let began = *began.get_or_insert_with(Instant::now);
        Box::pin(async move {
            if (PAUSE_FROM..PAUSE_UNTIL).contains(&began.elapsed()) {
                tokio::time::sleep_until((began + PAUSE_UNTIL).into()).await;
            }
            Ok(())
        })
    }
}

impl Target for Pausing {
    fn prepare<'a>(&'a self, _topic: &'a Topic) -> BoxFuture<'a, Result<Description, TargetError>> {
        Box::pin(ready(Ok(Description::default())))
    }

    fn publisher<'a>(
        &'a self,
        _topic: &'a Topic,
        _index: u32,
    ) -> BoxFuture<'a, Result<Box<dyn Publisher>, TargetError>> {
        let began = Arc::clone(&self.began);
        Box::pin(ready(Ok(
            Box::new(PausingPublisher { refuses: self.refuses, requests: 0, began }) as Box<dyn Publisher>
        )))
    }

    fn subscriber<'a>(
        &'a self,
        _topic: &'a Topic,
        _index: u32,
        _count: u32,
    ) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        Box::pin(ready(Err(TargetError::Unsupported("nothing to receive".to_owned()))))
    }

    fn replay<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        self.subscriber(topic, 0, 1)
    }

    fn clean<'a>(&'a self, _topic: &'a Topic) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(ready(Ok(())))
    }
}

/// Of a run of a second, a quarter lies in the pause: a quarter of the records has waited.
#[tokio::test]
async fn a_pause_is_seen_by_every_record_that_was_due_in_it_unless_the_loop_is_closed() {
    let workload = Workload { duration: Duration::from_secs(1), consumers: 0, ..short(1000.0) };
    let open = against(Pausing::default(), &workload).await;
    assert_eq!(open.totals.acknowledged, 1000, "{:?}", open.totals);
    let p80 = open.response.quantile_ms(0.80);
    assert!(p80 > 20.0, "the open loop shows the pause: {p80} ms");
    assert!(open.response.quantile_ms(1.0) >= 240.0);
    let silence_ms = open.totals.longest_silence_ms;
    assert!((200.0..1000.0).contains(&silence_ms), "{silence_ms} ms without an acknowledgement");

    let closed = against(Pausing::default(), &Workload { closed_loop: true, ..workload }).await;
    assert_eq!(closed.load, Load::ClosedLoop);
    assert!(closed.totals.acknowledged < 800, "the schedule moved: {:?}", closed.totals);
    let p99 = closed.response.quantile_ms(0.99);
    assert!(p99 < 100.0, "the closed loop hides the pause: {p99} ms");
}

#[tokio::test]
async fn what_fails_is_counted_by_kind_and_what_cannot_begin_ends_the_run() {
    let workload = Workload { consumers: 0, batch_records: 1, ..short(10_000.0) };
    let measured = against(Pausing { refuses: true, ..Pausing::default() }, &workload).await;
    let refused = measured.errors.get("refused").copied().unwrap_or(0);
    assert!(refused > 0 && measured.totals.failed == refused, "{:?}", measured.errors);
    assert_eq!(measured.totals.acknowledged + refused, measured.totals.sent);

    let target: Arc<dyn Target> = Arc::new(Pausing::default());
    let error = run(&target, &topic(), &short(10.0), &Unobserved).await.unwrap_err();
    assert!(error.to_string().contains("nothing to receive"), "{error}");
}

/// The limit for answers is over before the pause is.
#[tokio::test]
async fn who_gets_no_answer_stops_waiting() {
    let workload =
        Workload { duration: Duration::from_millis(200), consumers: 0, answer_limit: Duration::ZERO, ..short(1000.0) };
    let measured = against(Pausing::default(), &workload).await;
    assert!(measured.errors.contains_key("no answer"), "{:?}", measured.errors);
    let totals = measured.totals;
    assert_eq!((totals.due, totals.acknowledged + totals.failed), (200, 200), "{totals:?}");
}
