//! Drives a load and measures: every record has a moment at which it is due, and its response time
//! counts from that moment, whether the system let it be sent then or not.
//!
//! Each publisher and each consumer has a thread, a runtime and connections of its own: none waits
//! for another, and an answer is taken by the thread that waits for it. Threads account for
//! themselves, and hand over what they saw once a second has passed.

mod catch_up;
mod clock;
mod consuming;
mod measured;
mod observer;
mod publishing;
mod ramp;
mod recorder;
mod schedule;
mod threads;
mod timer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};

use crate::{
    process_cost::Processes,
    target::{RUN_SHIFT, Target, TargetError, Topic},
};
pub use catch_up::catch_up;
pub use clock::{Clock, SECOND_NS};
pub use measured::{Measured, SECONDS_KEPT, Second};
pub use observer::{Observer, Progress, Unobserved};
pub use ramp::{Search, ramp};
use recorder::Told;
pub use schedule::{Dues, Lane, Schedule};

/// How often the run looks whether consumers have everything.
const POLL: Duration = Duration::from_millis(5);
/// How often it is looked at what processes hold in memory.
const LOOK: Duration = Duration::from_millis(100);

/// What shall be done to a system.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Records per second, all publishers together; `None`: as many as the window lets through, a closed loop.
    pub rate: Option<f64>,
    /// How long records are measured.
    pub duration: Duration,
    /// How long before that records are sent that do not count.
    pub warm_up: Duration,
    /// The next record is due when the one before is acknowledged, one request at a time.
    pub closed_loop: bool,
    /// Publishers; each has a thread and connections of its own.
    pub publishers: u32,
    /// Consumers; they share the partitions.
    pub consumers: u32,
    /// Records per request at the most.
    pub batch_records: u32,
    /// Bytes of payloads per request at the most, but at least one record.
    pub batch_bytes: usize,
    /// Requests under way of one publisher at the most.
    pub in_flight: u32,
    /// How long a request waits for more records when it is not full.
    pub linger: Duration,
    /// Different keys; 0: records have none.
    pub keys: u32,
    /// How long answers are waited for when the last record was due.
    pub answer_limit: Duration,
    /// How long consumers have then to receive the rest.
    pub drain_limit: Duration,
    /// Processes whose cost is measured, by name.
    pub processes: Vec<(String, u32)>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            rate: Some(1000.0),
            duration: Duration::from_secs(10),
            warm_up: Duration::from_secs(1),
            closed_loop: false,
            publishers: 1,
            consumers: 1,
            batch_records: 1000,
            batch_bytes: 768 * 1024,
            in_flight: 16,
            linger: Duration::ZERO,
            keys: 0,
            answer_limit: Duration::from_secs(30),
            drain_limit: Duration::from_secs(10),
            processes: Vec::new(),
        }
    }
}

/// Where a run stands; the same for all of its threads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Connecting,
    /// The clock runs.
    Running,
    /// Consumers need not wait any longer.
    Over,
}

/// What all threads of a run have in common.
struct Shared {
    workload: Workload,
    schedule: Schedule,
    /// Records per request at the most, by their number and by their bytes.
    batch: u32,
    filling: Vec<u8>,
    /// In the upper bits of every record's number.
    mark: u64,
    acknowledged: AtomicU64,
    consumed: AtomicU64,
}

impl Shared {
    fn new(topic: &Topic, workload: &Workload) -> Self {
        let end = workload.warm_up + workload.duration;
        let schedule = Schedule {
            rate: workload.rate,
            closed_loop: workload.closed_loop,
            publishers: workload.publishers,
            end_ns: clock::nanoseconds(end),
        };
        Self {
            workload: workload.clone(),
            schedule,
            batch: batch(topic, workload),
            filling: filling(topic.record_bytes),
            mark: mark(),
            acknowledged: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
        }
    }

    fn has_consumed_all(&self) -> bool {
        self.consumed.load(Ordering::Relaxed) >= self.acknowledged.load(Ordering::Relaxed)
    }
}

/// Runs a load against a topic that is prepared. Dropping the future ends it.
///
/// # Errors
/// A publisher or a consumer that cannot connect. Whatever fails later is counted.
pub async fn run(
    target: &Arc<dyn Target>,
    topic: &Topic,
    workload: &Workload,
    observer: &dyn Observer,
) -> Result<Measured, TargetError> {
    let shared = Arc::new(Shared::new(topic, workload));
    let (phase, watched) = watch::channel((Phase::Connecting, None));
    let (told, mut hearing) = mpsc::unbounded_channel();
    let crew = threads::Crew { target, topic, shared: &shared, phase: &watched, told: &told };
    crew.start().await?;
    drop(told);
    let clock = Clock::starting_in(publishing::LEAD, workload.warm_up);
    let mut measured = Measured::new(clock, workload);
    phase.send_replace((Phase::Running, Some(clock)));
    observer.begun(&clock);

    let mut account = Account { publishers_left: workload.publishers, threads_left: threads_of(workload) };
    let mut processes = None;
    let mut drained_by = None;
    let mut next_look = clock.zero();
    let mut next_report = clock.zero() + Duration::from_secs(1);
    let mut ticks = tokio::time::interval(POLL);
    while account.threads_left > 0 {
        tokio::select! {
            heard = hearing.recv() => match heard {
                Some(heard) => account.hear(heard, &mut measured),
                None => break,
            },
            _ = ticks.tick() => {}
        }
        let now = Instant::now();
        if processes.is_none() && now >= clock.zero() {
            processes = Some(Processes::begin(&workload.processes));
        }
        if let Some(processes) = processes.as_mut().filter(|_| drained_by.is_none() && now >= next_look) {
            next_look = now + LOOK;
            processes.look();
        }
        if now >= next_report {
            next_report += Duration::from_secs(1);
            observer.progress(&Progress::of(&measured, &shared, workload));
        }
        if account.publishers_left == 0 && drained_by.is_none() {
            drained_by = Some(now + workload.drain_limit);
            // Of a run in which nothing was due after the warm-up, it is what nothing costs.
            measured.processes = processes.get_or_insert_with(|| Processes::begin(&workload.processes)).end();
        }
        if drained_by.is_some_and(|limit| now > limit || shared.has_consumed_all()) {
            phase.send_if_modified(|(phase, _)| std::mem::replace(phase, Phase::Over) != Phase::Over);
        }
    }
    measured.finish(topic.record_bytes, workload.duration);
    Ok(measured)
}

/// What of the threads is still to come.
struct Account {
    publishers_left: u32,
    threads_left: u32,
}

impl Account {
    fn hear(&mut self, told: Told, measured: &mut Measured) {
        match told {
            Told::Part(second, part) => measured.add(second, *part),
            Told::Published { never_sent } => {
                measured.totals.due += never_sent;
                self.ended(true);
            }
            Told::Consumed => self.ended(false),
            Told::Broken { publishes, reason } => {
                *measured.errors.entry(reason).or_default() += 1;
                self.ended(publishes);
            }
        }
    }

    fn ended(&mut self, publishes: bool) {
        self.publishers_left = self.publishers_left.saturating_sub(u32::from(publishes));
        self.threads_left = self.threads_left.saturating_sub(1);
    }
}

fn batch(topic: &Topic, workload: &Workload) -> u32 {
    let by_bytes = u32::try_from(workload.batch_bytes / topic.record_bytes.max(1)).unwrap_or(u32::MAX);
    workload.batch_records.min(by_bytes).max(1)
}

const fn threads_of(workload: &Workload) -> u32 {
    workload.publishers.saturating_add(workload.consumers)
}

/// What payloads are filled with: printable, and hard to compress.
fn filling(bytes: usize) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let letter = |_| {
        // An xorshift generator: chance enough for a filling.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        LETTERS[usize::try_from(state >> 58).unwrap_or(0)]
    };
    (0..bytes).map(letter).collect()
}

/// A number that no other run has, most likely, in the bits above a record's number.
fn mark() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8) >> RUN_SHIFT << RUN_SHIFT
}

#[cfg(test)]
mod tests;
