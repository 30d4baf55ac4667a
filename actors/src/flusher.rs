//! Threads for blocking work, so that no arbiter ever waits for a disk.
//!
//! Three pools of the same make: the *flushers* run `fsync` and nothing else, the *workers* open, close and
//! remove logs and search them, the *cleaner* compacts. Their queues are bounded by construction or by
//! permits: a partition has at most one flush and one piece of slow work outstanding, and what it appends
//! meanwhile is covered by its next flush.

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

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Jobs run outside the lock, so a poisoned queue is still a whole one.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; `None` when the pool is closed and empty.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The submitting side of a pool. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BlockingPool(Arc<Shared>);

impl BlockingPool {
    /// Starts `threads` threads named `name-0`, `name-1`, …
    pub(crate) fn start(name: &str, threads: usize, fatal: &Fatal) -> io::Result<(Self, BlockingThreads)> {
        let pool = Self(Arc::default());
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
        let mut queue = self.0.lock();
        if !queue.closed {
            queue.jobs.push_back(Box::new(job));
            self.0.changed.notify_one();
        }
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

fn work(shared: &Shared, fatal: &Fatal, thread: &str) {
    while let Some(job) = shared.next() {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
            tracing::error!(thread, panic = panic_text(&*payload), "blocking work panicked");
            fatal.report(FatalError::Thread { thread: thread.to_owned() });
        }
    }
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

    #[tokio::test]
    async fn a_panicking_job_is_fatal_and_the_thread_goes_on() {
        let fatal = Fatal::new();
        let (pool, threads) = BlockingPool::start("test", 1, &fatal).unwrap();
        assert_eq!(pool.run(|| if pool_is_broken() { 1 } else { panic!("on purpose") }).await, None);
        assert_eq!(*fatal.reported().await, FatalError::Thread { thread: "test-0".into() });
        assert_eq!(pool.run(|| 7).await, Some(7));
        threads.finish();
    }

    fn pool_is_broken() -> bool {
        std::hint::black_box(false)
    }
}
