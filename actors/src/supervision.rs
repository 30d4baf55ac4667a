//! Supervision of our own: actix's supervisor does not survive a panic, and a half-changed object
//! would be the wrong thing to go on with. A dead actor is made anew by its factory, from disk.
//!
//! Death is seen through a drop guard that the actor holds as its *last* field: when it is
//! announced, everything else that the actor owned is gone. Restarts are counted in a window;
//! too many of them escalate to [`FatalError`].

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    time::Duration,
};

use pubg1_metrics::IntCounter;
use tokio::{sync::oneshot, time::Instant};

use crate::fatal::{Fatal, FatalError};

/// How many restarts are borne, and how fast they follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Restarts within `window` that are borne; one more is fatal.
    pub restarts_max: usize,
    /// The window in which restarts are counted.
    pub window: Duration,
    /// The pause before the first restart in a window; it doubles with each further one.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            restarts_max: 5,
            window: Duration::from_secs(10),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(2),
        }
    }
}

/// How an actor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It said that it was done.
    Finished,
    /// It panicked, or its arbiter went away under it.
    Died,
}

/// Held by an actor as its last field. Its drop tells the supervisor.
#[derive(Debug)]
pub(crate) struct DeathGuard {
    exit: Exit,
    announce: Option<oneshot::Sender<Exit>>,
}

impl DeathGuard {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Exit>) {
        let (announce, exit) = oneshot::channel();
        (Self { exit: Exit::Died, announce: Some(announce) }, exit)
    }

    /// From here on the actor's end is an orderly one.
    pub(crate) fn finish(&mut self) {
        self.exit = Exit::Finished;
    }
}

impl Drop for DeathGuard {
    fn drop(&mut self) {
        if let Some(announce) = self.announce.take() {
            // Nobody listens any more when the supervisor itself has ended.
            announce.send(self.exit).unwrap_or_default();
        }
    }
}

/// Restarts within a sliding window: pure, so that its arithmetic can be tested.
#[derive(Debug)]
pub(crate) struct RestartHistory {
    policy: RestartPolicy,
    restarts: VecDeque<Instant>,
}

impl RestartHistory {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self { policy, restarts: VecDeque::new() }
    }

    /// The pause before the restart for a death at `now`, `jitter` of 0..=1 of it taken off up to a
    /// half; `None` when there were too many.
    pub(crate) fn on_death(&mut self, now: Instant, jitter: f64) -> Option<Duration> {
        while self.restarts.front().is_some_and(|&at| now.duration_since(at) >= self.policy.window) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= self.policy.restarts_max {
            return None;
        }
        let doublings = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX).min(16);
        self.restarts.push_back(now);
        let pause = self.policy.backoff_min.saturating_mul(1 << doublings).min(self.policy.backoff_max);
        Some(pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0))
    }
}

/// A number in 0..1 that differs from call to call. It spreads restarts, nothing depends on its quality.
pub(crate) fn jitter() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0u8) >> 32).unwrap_or(0);
    f64::from(bits) / f64::from(u32::MAX)
}

/// Who is supervised and where its deaths are told.
pub(crate) struct Supervised {
    /// The actor's name in logs and in the fatal error.
    pub(crate) name: String,
    pub(crate) policy: RestartPolicy,
    pub(crate) restarts: IntCounter,
    pub(crate) fatal: Fatal,
}

/// Runs an actor until it finishes: starts it with `start`, waits for its death, calls `died`, waits the
/// pause, starts it again. `start` must give the guard to the actor.
pub(crate) async fn supervise(supervised: Supervised, mut start: impl FnMut(DeathGuard), mut died: impl FnMut()) {
    let mut history = RestartHistory::new(supervised.policy);
    loop {
        let (guard, exit) = DeathGuard::new();
        start(guard);
        if exit.await == Ok(Exit::Finished) {
            return;
        }
        died();
        let Some(pause) = history.on_death(Instant::now(), jitter()) else {
            supervised.fatal.report(FatalError::RestartIntensity {
                actor: supervised.name,
                restarts: supervised.policy.restarts_max,
                window_ms: u64::try_from(supervised.policy.window.as_millis()).unwrap_or(u64::MAX),
            });
            return;
        };
        supervised.restarts.inc();
        tracing::warn!(actor = supervised.name, pause_ms = pause.as_millis(), "an actor died and is started again");
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    const POLICY: RestartPolicy = RestartPolicy {
        restarts_max: 3,
        window: Duration::from_secs(10),
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(25),
    };

    #[test]
    fn pauses_double_up_to_the_longest_and_intensity_ends_it() {
        let mut history = RestartHistory::new(POLICY);
        let start = Instant::now();
        let pauses: Vec<_> = (0..4).map(|i| history.on_death(start + Duration::from_millis(i), 0.0)).collect();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(pauses, [ms(10), ms(20), ms(25), None]);
    }

    #[test]
    fn restarts_outside_the_window_are_forgotten() {
        let mut history = RestartHistory::new(POLICY);
        let start = Instant::now();
        for i in 0..20 {
            assert!(history.on_death(start + Duration::from_secs(4 * i), 0.0).is_some(), "death {i}");
        }
    }

    #[test]
    fn jitter_takes_off_at_most_half() {
        let pause = |jitter| RestartHistory::new(POLICY).on_death(Instant::now(), jitter).unwrap();
        assert_eq!(pause(1.0), Duration::from_millis(5));
        assert_eq!(pause(7.0), Duration::from_millis(5));
        assert!((0.0..=1.0).contains(&jitter()));
    }

    fn supervised(fatal: &Fatal) -> (Supervised, IntCounter) {
        let metrics = pubg1_metrics::Metrics::new().unwrap();
        let restarts = metrics.actor(pubg1_metrics::ActorKind::Partition).restarts.clone();
        let supervised =
            Supervised { name: "test".into(), policy: POLICY, restarts: restarts.clone(), fatal: fatal.clone() };
        (supervised, restarts)
    }

    #[tokio::test(start_paused = true)]
    async fn an_actor_that_dies_is_started_again_until_it_finishes() {
        let fatal = Fatal::new();
        let (supervised, restarts) = supervised(&fatal);
        let starts = Rc::new(RefCell::new(0));
        let (count, died) = (Rc::clone(&starts), Rc::new(RefCell::new(0)));
        let deaths = Rc::clone(&died);
        supervise(
            supervised,
            move |mut guard| {
                *count.borrow_mut() += 1;
                if *count.borrow() == 3 {
                    guard.finish();
                }
            },
            move || *deaths.borrow_mut() += 1,
        )
        .await;
        assert_eq!((*starts.borrow(), *died.borrow(), restarts.get()), (3, 2, 2));
        assert!(fatal.get().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_actor_that_always_dies_is_fatal() {
        let fatal = Fatal::new();
        let (supervised, restarts) = supervised(&fatal);
        supervise(supervised, drop, || ()).await;
        assert_eq!(restarts.get(), 3);
        assert!(matches!(&*fatal.reported().await, FatalError::RestartIntensity { restarts: 3, .. }));
    }
}
