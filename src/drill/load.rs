//! The load: what the bench engine sends on its schedule goes through the checker's producers and
//! readers, so that every attempt is in the history and every record can be found again.
//!
//! A publisher is a partition. One request of it is under way at a time, through a broker that
//! changes, and it is repeated until it is acknowledged; what becomes due meanwhile waits. So a
//! record's response time counts from when it was due, through all attempts.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use pubg1_bench::{
    engine::{Clock, Observer},
    target::{
        Description, Message, Publisher, RUN_SHIFT, STAMP_BYTES, SendError, Subscriber, Target, TargetError, Topic,
    },
};
use pubg1_model::record_batch::ProducerIdentity;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    error::CommandError,
    verify::{
        brokers::Dice,
        reader::Reading,
        writer::{Course, Lane, Writing},
    },
};

/// How long a broker may hold a request for records that are not there yet.
const WAIT: Duration = Duration::from_millis(250);
/// Records that wait for the engine to take them; readers wait when it does not.
const RECEIVED_MAX: usize = 4_096;

/// A record's number without the mark of its run.
const NUMBER_MASK: u64 = (1 << RUN_SHIFT) - 1;

/// The system under load, as the engine sees it.
pub(super) struct Load {
    shared: Arc<Shared>,
    identities: Vec<Option<ProducerIdentity>>,
    course: watch::Sender<Course>,
    reading: watch::Sender<bool>,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    lanes: JoinSet<Result<(), CommandError>>,
    readers: JoinSet<()>,
}

struct Shared {
    writing: Writing,
    reading: Reading,
    seed: u64,
    /// The runtime that outlives the engine's threads: what is under way is finished and put down.
    runtime: Handle,
    clock: OnceLock<Clock>,
    begun: watch::Sender<Option<Clock>>,
    /// When each record was due, and the number that it was given, by partition.
    sent: Vec<Mutex<Vec<Sent>>>,
}

#[derive(Clone, Copy)]
struct Sent {
    due_ns: u64,
    number: u64,
}

impl Load {
    /// A load with one producer for each of these identities, which may be none.
    pub(super) fn new(
        writing: Writing,
        reading: Reading,
        identities: Vec<Option<ProducerIdentity>>,
        seed: u64,
    ) -> Self {
        let sent = identities.iter().map(|_| Mutex::default()).collect();
        let (clock, begun) = (OnceLock::new(), watch::channel(None).0);
        let shared = Shared { writing, reading, seed, runtime: Handle::current(), clock, begun, sent };
        Self {
            shared: Arc::new(shared),
            identities,
            course: watch::channel(Course::Go).0,
            reading: watch::channel(false).0,
            tasks: Mutex::default(),
        }
    }

    /// The run's clock, once it runs.
    pub(super) fn clock(&self) -> watch::Receiver<Option<Clock>> {
        self.shared.begun.subscribe()
    }

    /// Waits until what is under way is acknowledged, or this moment; what went wrong, in words.
    pub(super) async fn finish(&self, until: Instant) -> Vec<String> {
        self.course.send_replace(Course::Finish(until));
        let mut lanes = std::mem::take(&mut self.tasks().lanes);
        let mut problems = Vec::new();
        while let Some(ended) = lanes.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => problems.push(format!("a producer gave up: {error}")),
                Err(error) => problems.push(format!("a producer ended: {error}")),
            }
        }
        problems
    }

    /// Ends the readers.
    pub(super) async fn stop_reading(&self) {
        self.reading.send_replace(true);
        let readers = std::mem::take(&mut self.tasks().readers);
        drop(readers.join_all().await);
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Load {
    fn begun(&self, clock: &Clock) {
        // A load is run once.
        let _first = self.shared.clock.set(*clock);
        self.shared.begun.send_replace(Some(*clock));
    }
}

impl Target for Load {
    fn prepare<'a>(&'a self, _topic: &'a Topic) -> BoxFuture<'a, Result<Description, TargetError>> {
        // The drill makes the topic, and describes the system.
        Box::pin(std::future::ready(Ok(Description::default())))
    }

    fn publisher<'a>(
        &'a self,
        _topic: &'a Topic,
        index: u32,
    ) -> BoxFuture<'a, Result<Box<dyn Publisher>, TargetError>> {
        let dice = Dice::new(self.shared.seed.wrapping_add(u64::from(index)));
        let identity = usize::try_from(index).ok().and_then(|index| self.identities.get(index).copied()).flatten();
        let lane = Lane::new(self.shared.writing.clone(), (index, index), identity, self.course.subscribe(), dice);
        let (queue, due) = mpsc::unbounded_channel();
        let deliver = deliver(Arc::clone(&self.shared), lane, due);
        self.tasks().lanes.spawn_on(deliver, &self.shared.runtime);
        let publisher = LoadPublisher { shared: Arc::clone(&self.shared), index, queue };
        Box::pin(std::future::ready(Ok(Box::new(publisher) as Box<dyn Publisher>)))
    }

    fn subscriber<'a>(
        &'a self,
        topic: &'a Topic,
        index: u32,
        count: u32,
    ) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        let (sender, received) = mpsc::channel(RECEIVED_MAX);
        for partition in (0..topic.partitions).filter(|partition| partition % count.max(1) == index) {
            let follow = follow(Arc::clone(&self.shared), partition, sender.clone(), self.reading.subscribe());
            self.tasks().readers.spawn_on(follow, &self.shared.runtime);
        }
        Box::pin(std::future::ready(Ok(Box::new(LoadSubscriber { received }) as Box<dyn Subscriber>)))
    }

    fn replay<'a>(&'a self, _topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        let unsupported = TargetError::Unsupported("a drill reads everything again by itself".to_owned());
        Box::pin(std::future::ready(Err(unsupported)))
    }

    fn clean<'a>(&'a self, _topic: &'a Topic) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Records that are due, on their way to a lane.
struct Due {
    first: u64,
    count: u64,
    due_ns: u64,
    answer: oneshot::Sender<Result<(), SendError>>,
}

struct LoadPublisher {
    shared: Arc<Shared>,
    index: u32,
    queue: mpsc::UnboundedSender<Due>,
}

impl Publisher for LoadPublisher {
    fn send(&mut self, batch: &[Message], _filling: &[u8]) -> BoxFuture<'static, Result<(), SendError>> {
        let Some(first) = batch.first() else { return Box::pin(std::future::ready(Ok(()))) };
        if let Some(sent) = usize::try_from(self.index).ok().and_then(|index| self.shared.sent.get(index)) {
            let sent_now = batch.iter().map(|message| Sent { due_ns: message.due_ns, number: message.number });
            sent.lock().unwrap_or_else(PoisonError::into_inner).extend(sent_now);
        }
        let (answer, answered) = oneshot::channel();
        let (first, due_ns) = (first.number & NUMBER_MASK, first.due_ns);
        // Nobody is there when the lane has given up; then the answer is lost, too.
        let _given_up = self.queue.send(Due { first, count: batch.len() as u64, due_ns, answer });
        Box::pin(async { answered.await.unwrap_or_else(|_| Err(gave_up())) })
    }
}

fn gave_up() -> SendError {
    SendError { kind: "given up".to_owned(), reason: "the producer has given up".to_owned() }
}

/// One partition's producer: one request after the other.
async fn deliver(
    shared: Arc<Shared>,
    mut lane: Lane,
    mut queue: mpsc::UnboundedReceiver<Due>,
) -> Result<(), CommandError> {
    while let Some(due) = queue.recv().await {
        let due_at = shared.clock.get().map(|clock| shared.writing.recorder.us_at(clock.at(due.due_ns)));
        if !lane.deliver(due.first, due.count, due_at).await? {
            return Ok(());
        }
        // The engine waits no longer than its limit.
        let _too_late = due.answer.send(Ok(()));
    }
    Ok(())
}

/// One partition's reader: it stays with a broker as long as that one answers.
async fn follow(shared: Arc<Shared>, partition: u32, received: mpsc::Sender<Sent>, mut stop: watch::Receiver<bool>) {
    let Ok(index) = usize::try_from(partition) else { return };
    let mut position = shared.reading.first_offsets.get(index).copied().unwrap_or(0);
    let mut broker = partition;
    loop {
        let read = tokio::select! {
            read = shared.reading.read(index, position, WAIT, broker) => read,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some(read) = read else {
            broker = broker.wrapping_add(1);
            continue;
        };
        for (offset, id) in read.runs.iter().flat_map(|run| run.records()) {
            position = offset + 1;
            // A record that no reader should have been given is the judge's business.
            let sent = shared.sent.get(usize::try_from(id.partition).unwrap_or(usize::MAX)).and_then(|sent| {
                let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
                sent.get(usize::try_from(id.number).ok()?).copied()
            });
            // The engine ends its consumers before the readers end: what comes then is read all the same.
            if let Some(sent) = sent
                && !id.is_foreign()
                && received.send(sent).await.is_err()
            {
                break;
            }
        }
    }
}

struct LoadSubscriber {
    received: mpsc::Receiver<Sent>,
}

impl Subscriber for LoadSubscriber {
    fn receive<'a>(
        &'a mut self,
        wait: Duration,
        each: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let Ok(first) = tokio::time::timeout(wait, self.received.recv()).await else { return Ok(()) };
            let mut next = first;
            while let Some(Sent { due_ns, number }) = next {
                let mut stamp = [0; STAMP_BYTES];
                Message { due_ns, timestamp_ms: 0, number, key: None }.write(&[], &mut stamp);
                each(&stamp);
                next = self.received.try_recv().ok();
            }
            Ok(())
        })
    }
}
