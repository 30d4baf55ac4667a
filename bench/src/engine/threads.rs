//! The threads of a run: each connects, waits for the clock, works, and gives its account.

use std::{future::Future, io, pin::Pin, sync::Arc};

use tokio::sync::{mpsc, watch};

use super::{
    Clock, Phase, Shared,
    consuming::consume,
    publishing::Publishing,
    recorder::{Recorder, Told},
};
use crate::target::{Target, TargetError, Topic};

pub(super) type Watched = watch::Receiver<(Phase, Option<Clock>)>;
type Work = Pin<Box<dyn Future<Output = Result<(), TargetError>>>>;
type Ready = mpsc::UnboundedSender<Result<(), TargetError>>;

/// What the threads of a run are made of.
pub(super) struct Crew<'a> {
    pub(super) target: &'a Arc<dyn Target>,
    pub(super) topic: &'a Topic,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) phase: &'a Watched,
    pub(super) told: &'a mpsc::UnboundedSender<Told>,
}

/// One thread's copy of it.
struct Hand {
    target: Arc<dyn Target>,
    topic: Topic,
    shared: Arc<Shared>,
    phase: Watched,
    told: mpsc::UnboundedSender<Told>,
    ready: Ready,
    index: u32,
}

impl Crew<'_> {
    /// Starts all threads and returns when all are connected: consumers first, so that they miss nothing.
    pub(super) async fn start(&self) -> Result<(), TargetError> {
        let workload = &self.shared.workload;
        for (count, consumes) in [(workload.consumers, true), (workload.publishers, false)] {
            let (ready, mut connected) = mpsc::unbounded_channel();
            for index in 0..count {
                self.spawn(index, consumes, ready.clone())?;
            }
            drop(ready);
            for _ in 0..count {
                let ended = || TargetError::Unsupported("a thread of the run has ended".to_owned());
                connected.recv().await.ok_or_else(ended)??;
            }
        }
        Ok(())
    }

    fn spawn(&self, index: u32, consumes: bool, ready: Ready) -> Result<(), TargetError> {
        let hand = Hand {
            target: Arc::clone(self.target),
            topic: self.topic.clone(),
            shared: Arc::clone(self.shared),
            phase: self.phase.clone(),
            told: self.told.clone(),
            ready: ready.clone(),
            index,
        };
        let name = if consumes { "consumer" } else { "publisher" };
        let told = self.told.clone();
        let body = move || {
            let worked =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error));
            let worked = worked.and_then(|runtime| {
                let work: Work = if consumes { Box::pin(hand.consume()) } else { Box::pin(hand.publish()) };
                runtime.block_on(work)
            });
            if let Err(error) = worked {
                // Who waits for it depends on whether the run has begun.
                let _begun = told.send(Told::Broken { publishes: !consumes, reason: error.to_string() });
                let _not_begun = ready.send(Err(error));
            }
        };
        std::thread::Builder::new()
            .name(format!("{name}-{index}"))
            .spawn(body)
            .map(drop)
            .map_err(|error| failed(&error))
    }
}

impl Hand {
    async fn publish(mut self) -> Result<(), TargetError> {
        let mut publisher = self.target.publisher(&self.topic, self.index).await?;
        let Some(clock) = self.begin().await else { return Ok(()) };
        let recorder = Recorder::new(clock, self.told.clone());
        let publishing = Publishing::new(&self.shared, self.index, clock, recorder).map_err(|error| failed(&error))?;
        tokio::select! {
            published = publishing.run(publisher.as_mut()) => published.map_err(|error| failed(&error)),
            // The run was given up.
            () = closed(self.phase) => Ok(()),
        }
    }

    async fn consume(mut self) -> Result<(), TargetError> {
        let count = self.shared.workload.consumers;
        let mut subscriber = self.target.subscriber(&self.topic, self.index, count).await?;
        let Some(clock) = self.begin().await else { return Ok(()) };
        let recorder = Recorder::new(clock, self.told.clone());
        consume(&self.shared, clock, recorder, subscriber.as_mut(), self.phase).await;
        Ok(())
    }

    /// Says that it is connected and waits for the clock; `None`: the run was given up.
    async fn begin(&mut self) -> Option<Clock> {
        let _given_up = self.ready.send(Ok(()));
        self.phase.wait_for(|(phase, _)| *phase != Phase::Connecting).await.ok()?.1
    }
}

/// Waits until nobody sends any more.
async fn closed(mut phase: Watched) {
    while phase.changed().await.is_ok() {}
}

fn failed(error: &io::Error) -> TargetError {
    TargetError::Unsupported(format!("a thread of the run cannot work: {error}"))
}
