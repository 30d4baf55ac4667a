//! Threads for blocking work, so that no arbiter ever waits for a disk.
//!
//! Three pools of the same make: the *flushers* run `fsync` and nothing else, the *workers* open, close and
//! remove logs and search them, the *cleaner* compacts. Their queues are bounded by construction or by
//! permits: a partition has at most one flush and one piece of slow work outstanding, and what it appends
//! meanwhile is covered by its next flush. Single threads whose work has an order are pools as well.
//!
//! What a pool does is done in the order of its [`Urgency`]: an election waits for no client's read and for no log that
//! is opened, and one of the workers is kept for it.
//!
//! In a simulation there are no threads: a job is a task on the one there is, and takes a little virtual time.

use std::{
    any::Any,
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::oneshot;

use crate::fatal::{Fatal, FatalError};

type Job = Box<dyn FnOnce() + Send>;

/// Which jobs go before which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Steps of an election: nobody leads until they are done.
    Election,
    /// What followers wait for, and commits with them.
    Replication,
    /// Anything else.
    Usual,
}

#[derive(Default)]
struct Queue {
    /// By urgency.
    jobs: [VecDeque<Job>; 3],
    /// How many jobs of less urgency than elections run, and may run at once.
    others: usize,
    others_max: usize,
    closed: bool,
}

impl Queue {
    fn push(&mut self, urgency: Urgency, job: Job) {
        let [elections, replication, usual] = &mut self.jobs;
        match urgency {
            Urgency::Election => elections,
            Urgency::Replication => replication,
            Urgency::Usual => usual,
        }
        .push_back(job);
    }

    /// The next job that may run, and whether it is one of those that leave a thread for elections.
    fn pop(&mut self) -> Option<(Job, bool)> {
        let [elections, others @ ..] = &mut self.jobs;
        if let Some(job) = elections.pop_front() {
            return Some((job, false));
        }
        if self.others == self.others_max {
            return None;
        }
        let job = others.iter_mut().find_map(VecDeque::pop_front)?;
        self.others += 1;
        Some((job, true))
    }

    fn is_empty(&self) -> bool {
        self.jobs.iter().all(VecDeque::is_empty)
    }
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// There while jobs are tasks of a simulation: where a panic is reported.
    #[cfg(any(test, feature = "testing"))]
    simulated: Option<Fatal>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Jobs run outside the lock, so a poisoned queue is still a whole one.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, and whether it has to be [ended](Self::end_other); `None` when the pool is closed and empty.
    fn next(&self) -> Option<(Job, bool)> {
        let mut queue = self.lock();
        loop {
            if let Some(next) = queue.pop() {
                return Some(next);
            }
            if queue.closed && queue.is_empty() {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end_other(&self) {
        let mut queue = self.lock();
        queue.others -= 1;
        // This thread looks for the next job itself; one that was kept waits for the end.
        if queue.closed {
            self.changed.notify_all();
        }
    }
}

/// The submitting side of a pool. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BlockingPool(Arc<Shared>);

impl BlockingPool {
    /// Starts `threads` threads named `name-0`, `name-1`, …
    pub(crate) fn start(name: &str, threads: usize, fatal: &Fatal) -> io::Result<(Self, BlockingThreads)> {
        Self::start_with(name, threads, threads, fatal)
    }

    /// The same; one of them, if there are several, is kept for elections.
    pub(crate) fn start_keeping_one(name: &str, threads: usize, fatal: &Fatal) -> io::Result<(Self, BlockingThreads)> {
        Self::start_with(name, threads, threads.saturating_sub(1).max(1), fatal)
    }

    fn start_with(name: &str, threads: usize, others_max: usize, fatal: &Fatal) -> io::Result<(Self, BlockingThreads)> {
        let queue = Queue { others_max, ..Queue::default() };
        let pool = Self(Arc::new(Shared { queue: Mutex::new(queue), ..Shared::default() }));
        let mut running = BlockingThreads { pool: pool.clone(), threads: Vec::with_capacity(threads) };
        for n in 0..threads {
            let (shared, fatal, name) = (Arc::clone(&pool.0), fatal.clone(), format!("{name}-{n}"));
            let body = {
                let name = name.clone();
                move || work(&shared, &fatal, &name)
            };
            running.threads.push(thread::Builder::new().name(name).spawn(body)?);
        }
        Ok((pool, running))
    }

    /// Queues `job`. A job that is refused, because the pool is closed, is dropped.
    pub(crate) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.submit_as(Urgency::Usual, job);
    }

    /// The same for a job that others may wait for.
    pub(crate) fn submit_as(&self, urgency: Urgency, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.0.lock();
        if !queue.closed {
            queue.push(urgency, Box::new(job));
            self.0.changed.notify_one();
            drop(queue);
            #[cfg(any(test, feature = "testing"))]
            self.simulate_one();
        }
    }

    /// Helps with what is queued before the caller blocks for it: in a simulation nobody else would.
    pub(crate) fn help(&self) {
        #[cfg(any(test, feature = "testing"))]
        if let Some(fatal) = &self.0.simulated {
            while let Some(job) = self.pop() {
                run(job, fatal, "simulated");
            }
        }
    }

    /// Nothing that is queued runs any more, and what it holds is let go: it is not needed, or the machine of a simulation
    /// has crashed.
    pub(crate) fn abandon(&self) {
        let abandoned = {
            let mut queue = self.0.lock();
            queue.closed = true;
            std::mem::take(&mut queue.jobs)
        };
        drop(abandoned);
    }

    /// Runs `work` on the pool and waits for it; `None` when it panicked or the pool is closed.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        self.submit(move || {
            // Whoever asked may have gone; the result goes with it.
            done.send(work()).map_err(drop).unwrap_or_default();
        });
        result.await.ok()
    }
}

#[cfg(any(test, feature = "testing"))]
impl BlockingPool {
    /// A pool without threads, for a broker of a simulation.
    pub(crate) fn simulated(fatal: &Fatal) -> Self {
        let queue = Queue { others_max: usize::MAX, ..Queue::default() };
        Self(Arc::new(Shared { queue: Mutex::new(queue), simulated: Some(fatal.clone()), ..Shared::default() }))
    }

    fn pop(&self) -> Option<Job> {
        self.0.lock().pop().map(|(job, _)| job)
    }

    /// Lets the next job run after a while, as a task. The machine may have crashed under the one who asks: then
    /// there is no runtime, and nothing runs.
    fn simulate_one(&self) {
        let Some(fatal) = self.0.simulated.clone() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let pool = self.clone();
        drop(runtime.spawn(async move {
            tokio::time::sleep(simulated_delay(crate::supervision::jitter())).await;
            if let Some(job) = pool.pop() {
                run(job, &fatal, "simulated");
            }
        }));
    }
}

/// How long a disk takes in a simulation: mostly little, now and then long.
#[cfg(any(test, feature = "testing"))]
fn simulated_delay(luck: f64) -> std::time::Duration {
    let longest_ms = if luck > 0.98 { 60.0 } else { 3.0 };
    std::time::Duration::from_secs_f64(luck * longest_ms / 1000.0)
}

fn work(shared: &Shared, fatal: &Fatal, thread: &str) {
    while let Some((job, leaves_one)) = shared.next() {
        run(job, fatal, thread);
        if leaves_one {
            shared.end_other();
        }
    }
}

fn run(job: Job, fatal: &Fatal, thread: &str) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
        tracing::error!(thread, panic = panic_text(&*payload), "blocking work panicked");
        fatal.report(FatalError::Thread { thread: thread.to_owned() });
    }
}

/// Runs `work` in a job that may panic without harm to others: what it said then is given back, and is not fatal.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| panic_text(&*payload).to_owned())
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}

/// The threads of a pool.
pub(crate) struct BlockingThreads {
    pool: BlockingPool,
    threads: Vec<thread::JoinHandle<()>>,
}

impl BlockingThreads {
    /// Takes no more jobs, runs those that are queued and joins the threads. Blocks.
    pub(crate) fn finish(mut self) {
        self.close();
        for thread in self.threads.drain(..) {
            // `work` catches panics; a thread that still ended by one has nothing to hand over.
            thread.join().unwrap_or_default();
        }
    }

    fn close(&self) {
        self.pool.0.lock().closed = true;
        self.pool.0.changed.notify_all();
    }
}

impl Drop for BlockingThreads {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn queued_jobs_run_in_order_before_the_threads_end() {
        let (pool, threads) = BlockingPool::start("test", 1, &Fatal::new()).unwrap();
        let (sender, results) = mpsc::channel();
        for n in 0..100 {
            let sender = sender.clone();
            pool.submit(move || sender.send(n).unwrap());
        }
        threads.finish();
        drop(sender);
        assert_eq!(results.iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        pool.submit(|| panic!("a closed pool runs nothing"));
    }

    #[test]
    fn an_election_waits_for_nothing_and_replication_for_what_runs() {
        let (pool, threads) = BlockingPool::start_keeping_one("test", 2, &Fatal::new()).unwrap();
        let (sender, results) = mpsc::channel();
        let (resume, held) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        pool.submit(move || {
            begun.send(()).unwrap();
            held.recv().unwrap_or_default();
        });
        has_begun.recv().unwrap();
        let tell = |what: &'static str| {
            let sender = sender.clone();
            move || sender.send(what).unwrap()
        };
        pool.submit(tell("usual"));
        pool.submit_as(Urgency::Replication, tell("replication"));
        pool.submit_as(Urgency::Election, tell("election"));
        assert_eq!(results.recv().unwrap(), "election");
        assert!(results.try_recv().is_err(), "one thread is kept");
        drop(resume);
        assert_eq!([results.recv().unwrap(), results.recv().unwrap()], ["replication", "usual"]);
        threads.finish();
    }

    #[tokio::test]
    async fn a_panicking_job_is_fatal_and_the_thread_goes_on() {
        let fatal = Fatal::new();
        let (pool, threads) = BlockingPool::start("test", 1, &fatal).unwrap();
        assert_eq!(pool.run(|| if pool_is_broken() { 1 } else { panic!("on purpose") }).await, None);
        assert_eq!(*fatal.reported().await, FatalError::Thread { thread: "test-0".into() });
        assert_eq!(pool.run(|| 7).await, Some(7));
        threads.finish();
    }

    #[tokio::test]
    async fn a_panic_that_is_caught_is_not_fatal() {
        let fatal = Fatal::new();
        let (pool, threads) = BlockingPool::start("test", 1, &fatal).unwrap();
        let panics = || if pool_is_broken() { 1 } else { panic!("on purpose") };
        assert_eq!(pool.run(move || caught(panics)).await, Some(Err("on purpose".to_owned())));
        assert_eq!(pool.run(|| caught(|| 7)).await, Some(Ok(7)));
        threads.finish();
        assert!(fatal.get().is_none());
    }

    fn pool_is_broken() -> bool {
        std::hint::black_box(false)
    }
}
