//! A publisher's thread: takes what is due, keeps a window of requests under way, and waits for
//! whatever comes first.

use std::{collections::BTreeMap, future::poll_fn, sync::atomic::Ordering, task::Poll, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{
    Shared,
    clock::{Clock, nanoseconds},
    recorder::{Recorder, Told},
    schedule::{Dues, Lane},
    timer::Timer,
};
use crate::target::{Message, Publisher, SendError};

/// Kind of an error: the run ended before the answer came.
const NO_ANSWER: &str = "no answer";

struct Answer {
    dues: Dues,
    sent_ns: u64,
    result: Result<(), SendError>,
}

type Window = FuturesUnordered<BoxFuture<'static, Answer>>;

pub(super) struct Publishing<'a> {
    shared: &'a Shared,
    clock: Clock,
    lane: Lane,
    recorder: Recorder,
    timer: Timer,
    messages: Vec<Message>,
    window: Window,
    under_way: BTreeMap<u64, Dues>,
    index: u64,
}

impl<'a> Publishing<'a> {
    pub(super) fn new(shared: &'a Shared, index: u32, clock: Clock, recorder: Recorder) -> std::io::Result<Self> {
        Ok(Self {
            shared,
            clock,
            lane: shared.schedule.lane(index),
            recorder,
            timer: Timer::new()?,
            messages: Vec::new(),
            window: FuturesUnordered::new(),
            under_way: BTreeMap::new(),
            index: u64::from(index),
        })
    }

    /// Publishes until nothing is due any more and all is answered, or the limit for answers is over.
    pub(super) async fn run(mut self, publisher: &mut dyn Publisher) -> std::io::Result<()> {
        let limit_ns = self.shared.schedule.end_ns + nanoseconds(self.shared.workload.answer_limit);
        let mut is_flushed = false;
        // Before the clock's beginning it shows 0, at which a record is due.
        let beginning = self.clock.at(0);
        self.timer.until(beginning).await?;
        loop {
            self.send_due(publisher);
            let now_ns = self.clock.now_ns();
            self.recorder.hand_over(now_ns);
            let is_over = self.lane.is_over(now_ns);
            if is_over && is_flushed && self.window.is_empty() {
                break;
            }
            let has_room = self.window.len() < self.in_flight();
            let wake_ns = if has_room { self.next_send().unwrap_or(limit_ns) } else { limit_ns };
            let wake = self.clock.at(wake_ns.min(limit_ns));
            tokio::select! {
                biased;
                Some(answer) = self.window.next(), if !self.window.is_empty() => {
                    self.take(answer);
                    self.take_ready().await;
                    let overcome = publisher.overcome();
                    if !overcome.is_empty() {
                        self.recorder.overcame(self.clock.now_ns(), overcome);
                    }
                }
                () = publisher.flush(), if is_over && !is_flushed => is_flushed = true,
                waited = self.timer.until(wake) => waited?,
            }
            let now_ns = self.clock.now_ns();
            if now_ns >= limit_ns {
                self.give_up(now_ns);
                break;
            }
        }
        self.recorder.overcame(self.clock.now_ns(), publisher.overcome());
        let never_sent = match self.shared.schedule.rate {
            Some(_) => self.lane.waiting(self.shared.schedule.end_ns.saturating_sub(1)),
            None => 0,
        };
        self.recorder.never_sent(never_sent, self.clock.now_ns());
        self.recorder.ended();
        self.recorder.finish(Told::Published { never_sent });
        Ok(())
    }

    fn in_flight(&self) -> usize {
        if self.lane.one_at_a_time() { 1 } else { usize::try_from(self.shared.workload.in_flight.max(1)).unwrap_or(1) }
    }

    /// Sends what is due, as far as the window has room.
    fn send_due(&mut self, publisher: &mut dyn Publisher) {
        let workload = &self.shared.workload;
        while self.window.len() < self.in_flight() {
            let now_ns = self.clock.now_ns();
            let waiting = self.lane.waiting(now_ns);
            if waiting == 0 || self.lingers(now_ns, waiting) {
                return;
            }
            let Some(dues) = self.lane.take(now_ns, self.shared.batch) else { return };
            self.messages.clear();
            for index in 0..dues.count {
                let (due_ns, count) = (dues.at(index), dues.first + u64::from(index));
                self.messages.push(Message {
                    due_ns,
                    timestamp_ms: self.clock.unix_ms(due_ns),
                    number: self.shared.mark | count,
                    key: key(count, self.index, workload.keys),
                });
            }
            self.recorder.sent(&dues);
            let sent_ns = self.clock.now_ns();
            let sending = publisher.send(&self.messages, &self.shared.filling);
            self.under_way.insert(dues.first, dues);
            self.window.push(Box::pin(async move { Answer { dues, sent_ns, result: sending.await } }));
        }
    }

    /// Whether a batch that is not full shall wait for more.
    fn lingers(&self, now_ns: u64, waiting: u64) -> bool {
        let Some(end_ns) = self.linger_end(waiting) else { return false };
        now_ns < end_ns
    }

    /// Until when a batch of so many waiting records is held back.
    fn linger_end(&self, waiting: u64) -> Option<u64> {
        let workload = &self.shared.workload;
        let missing = u64::from(self.shared.batch).checked_sub(waiting).filter(|missing| *missing > 0)?;
        if workload.linger.is_zero() {
            return None;
        }
        let first_ns = self.lane.due_of_next(0)?;
        let full_ns = self.lane.due_of_next(waiting + missing - 1).unwrap_or(u64::MAX);
        let last_ns = self.shared.schedule.end_ns;
        Some(first_ns.saturating_add(nanoseconds(workload.linger)).min(full_ns).min(last_ns))
    }

    /// When there will be something to send.
    fn next_send(&self) -> Option<u64> {
        let next_ns = self.lane.due_of_next(0)?;
        let waiting = self.lane.waiting(self.clock.now_ns()).max(1);
        Some(self.linger_end(waiting).map_or(next_ns, |end_ns| end_ns.max(next_ns)))
    }

    fn take(&mut self, answer: Answer) {
        let Answer { dues, sent_ns, result } = answer;
        let now_ns = self.clock.now_ns();
        self.under_way.remove(&dues.first);
        self.lane.answered(now_ns);
        match result {
            Ok(()) => {
                let measured = self.recorder.acknowledged(&dues, sent_ns, now_ns);
                self.shared.acknowledged.fetch_add(measured, Ordering::Relaxed);
            }
            Err(error) => self.recorder.failed(&dues, now_ns, &error.kind),
        }
    }

    /// Takes the answers that are there, without waiting for more.
    async fn take_ready(&mut self) {
        // As many as the window holds; others may come meanwhile, and due records shall not wait for them.
        for _ in 0..self.window.len() {
            let ready = poll_fn(|context| Poll::Ready(self.window.poll_next_unpin(context))).await;
            match ready {
                Poll::Ready(Some(answer)) => self.take(answer),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    fn give_up(&mut self, now_ns: u64) {
        for dues in std::mem::take(&mut self.under_way).into_values() {
            self.recorder.failed(&dues, now_ns, NO_ANSWER);
        }
    }
}

/// The key of a record: numbers spread over all keys, differently for each publisher.
fn key(count: u64, publisher: u64, keys: u32) -> Option<u32> {
    if keys == 0 {
        return None;
    }
    let mixed = (count ^ (publisher << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    u32::try_from(mixed % u64::from(keys)).ok()
}

/// How long threads are given to be awake before the first record is due.
pub(super) const LEAD: Duration = Duration::from_millis(20);
