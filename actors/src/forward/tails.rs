//! Waiting for records that another broker leads: many readers here, one request there.
//!
//! A request that waits holds a place in the window of the connection for as long as it waits. So all who wait for the
//! same partition share one, which asks for anything new; whoever of them comes first asks it, and another one goes on
//! when that one leaves. The requests of different partitions are bounded, too: beyond that, it is looked now and then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pubg1_model::{BrokerId, LeaderEpoch, Offset};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{messages::Place, route::Route};
use crate::{errors::FetchError, partition::LeaderView, rpc::CLIENT_WINDOW};

/// Requests that wait, to all brokers together: the rest of each window is for those that are answered at once.
const WAITS_MAX: usize = CLIENT_WINDOW as usize / 4;
/// The pause between two looks at a partition for which no request may wait.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

type Key = (Place, BrokerId, LeaderEpoch);

/// The partitions of other brokers that are waited for here.
pub(crate) struct Tails {
    by_key: Mutex<HashMap<Key, (Arc<Tail>, usize)>>,
    waits: Semaphore,
}

/// The end of one partition's log, as its leader tells it in one epoch.
struct Tail {
    told: watch::Sender<Option<Result<LeaderView, FetchError>>>,
    asking: tokio::sync::Mutex<()>,
}

/// One who waits.
struct Joined<'a> {
    tails: &'a Tails,
    key: Key,
    tail: Arc<Tail>,
}

impl Default for Tails {
    fn default() -> Self {
        Self { by_key: Mutex::default(), waits: Semaphore::new(WAITS_MAX) }
    }
}

impl Tails {
    fn join(&self, key: Key) -> Joined<'_> {
        let mut by_key = self.lock();
        let new = || (Arc::new(Tail { told: watch::Sender::new(None), asking: tokio::sync::Mutex::default() }), 0);
        let (tail, joined) = by_key.entry(key).or_insert_with(new);
        *joined += 1;
        Joined { tails: self, key, tail: Arc::clone(tail) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (Arc<Tail>, usize)>> {
        // Each change is one assignment: a panic elsewhere leaves nothing half done.
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        let mut by_key = self.tails.lock();
        if let Some((_, joined)) = by_key.get_mut(&self.key) {
            *joined -= 1;
            if *joined == 0 {
                by_key.remove(&self.key);
            }
        }
    }
}

impl Tail {
    fn high_watermark(&self) -> Option<Offset> {
        self.told.borrow().as_ref()?.as_ref().ok().map(|view| view.high_watermark)
    }
}

impl Route<'_> {
    /// Waits until the record at `offset` can be read, or the time has come; the view of the leader then.
    pub(crate) async fn wait_there(
        &self,
        leader: (BrokerId, LeaderEpoch),
        offset: Offset,
        until: Instant,
    ) -> Result<LeaderView, FetchError> {
        let joined = self.node.tails.join((self.place, leader.0, leader.1));
        // What was told before is no answer to this one: the leader may have gone on since, or lead no more.
        let is_known = joined.tail.high_watermark().is_some_and(|high_watermark| high_watermark > offset);
        if !is_known && let Ok(told) = timeout_at(until, self.told_above(&joined.tail, leader, offset, until)).await {
            return told;
        }
        drop(joined);
        self.view_there(leader).await
    }

    async fn told_above(
        &self,
        tail: &Tail,
        leader: (BrokerId, LeaderEpoch),
        offset: Offset,
        until: Instant,
    ) -> Result<LeaderView, FetchError> {
        let mut news = tail.told.subscribe();
        loop {
            tokio::select! {
                biased;
                // The sender lives in the tail.
                _ = news.changed() => match &*news.borrow_and_update() {
                    Some(Ok(view)) if view.high_watermark <= offset => {}
                    Some(told) => return told.clone(),
                    None => {}
                },
                // Whoever had it before has told something, or has left.
                asking = tail.asking.lock(), if !news.has_changed().unwrap_or(false) => {
                    let told = self.ask_for_news(tail, leader, until).await;
                    tail.told.send_replace(Some(told));
                    drop(asking);
                }
            }
        }
    }

    /// Asks the leader: at once when nothing is known, else for what is new.
    async fn ask_for_news(
        &self,
        tail: &Tail,
        leader: (BrokerId, LeaderEpoch),
        until: Instant,
    ) -> Result<LeaderView, FetchError> {
        let Some(known) = tail.high_watermark() else { return self.view_there(leader).await };
        match self.node.tails.waits.try_acquire() {
            Ok(_permit) => self.view_above_there(leader, known, until).await,
            Err(_) => {
                sleep(LOOK_PAUSE).await;
                self.view_there(leader).await
            }
        }
    }
}
