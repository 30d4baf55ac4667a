//! One poll: begun at the coordinator, read here, delivered before the client gets a byte, and confirmed when it has
//! them all.

use std::{pin::pin, time::Duration};

use actix_rt::Arbiter;
use pubg1_actors::{AppendError, GroupRequestError, PollGrant, PollRequest};
use pubg1_metrics::Phase;
use pubg1_model::{
    Offset, TopicPartition,
    consumer_instance::{InstanceDefinition, PollId},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    Consumer,
    fetch::{self, Source},
    receipt::Receipt,
    render::{self, Bounds, Page, Piece},
};
use crate::{
    call::Call,
    error::{ApiError, Cause},
    records::{fetch::waiting_permit, query::Form},
};

/// An earlier poll of the same instance has this long to end, even when the client does not want to wait.
const PATIENCE_MIN: Duration = Duration::from_secs(2);
/// How long it may take to write an answer, on top of the time that the poll waits for records.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// A group that changes this often while a poll is going on leaves no time to read.
const ATTEMPTS_MAX: usize = 10;
/// The coordinator is asked this long for changes, then again.
const NOTICE_MAX: Duration = Duration::from_secs(5);
/// A wait that ends before its time, or fails, does not begin again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What a client asks for.
pub(crate) struct Ask<'a> {
    /// The last poll that the client has received, where it says so itself.
    pub(crate) acknowledged: Option<PollId>,
    /// How long to wait for records; as the instance was told when absent.
    pub(crate) wait: Option<Duration>,
    pub(crate) max_bytes: usize,
    pub(crate) max_records: usize,
    /// How records are to be sent to an instance with this definition.
    pub(crate) form: &'a dyn Fn(&InstanceDefinition) -> Result<Form, ApiError>,
}

/// What a poll has found.
pub(crate) struct Polled {
    pub(crate) poll: PollId,
    pub(crate) form: Form,
    pub(crate) body: Vec<u8>,
    pub(crate) records: usize,
    /// Something was delivered, so that its number means something to the coordinator. Where a reset has led to is
    /// nothing that a client could confirm or commit.
    pub(crate) is_delivered: bool,
    /// The generation of its group in which it was given this; `None` for an instance that is no member.
    pub(crate) generation: Option<u32>,
    /// Where the instance is in each of its partitions after it, as far as that is known.
    pub(crate) positions: Vec<(TopicPartition, Offset)>,
    /// To be settled when the client has the body; there is none when there is nothing to have.
    pub(crate) receipt: Option<Receipt>,
}

/// How an attempt ended.
enum Outcome {
    Polled(Polled),
    /// The assignment has changed, or the coordinator: begin another poll.
    Changed,
}

impl Consumer {
    /// Begins a poll. A client that goes away while it waits for that leaves nothing behind for others to wait for: what
    /// is granted to nobody is given back.
    async fn begin(&self, request: PollRequest) -> Result<(PollGrant, Receipt), ApiError> {
        let (answer, asked) = oneshot::channel();
        let consumer = self.clone();
        drop(actix_rt::spawn(async move {
            let granted = consumer.groups.begin_poll(&consumer.group, &consumer.name, request).await;
            let granted = granted.map(|grant| {
                let receipt = consumer.receipt(grant.poll);
                (grant, receipt)
            });
            drop(answer.send(granted));
        }));
        match asked.await {
            Ok(granted) => Ok(granted?),
            Err(_) => Err(ApiError::new(Cause::Draining, "the broker is shutting down")),
        }
    }

    /// Ends a poll, sooner or later, wherever the receipt goes.
    pub(crate) fn receipt(&self, poll: PollId) -> Receipt {
        let Self { groups, group, name } = self.clone();
        Receipt::new(move |received| {
            detach(move || async move {
                if let Err(error) = groups.confirm(&group, &name, poll, received).await {
                    // The coordinator ends it by itself, and delivers again what is not confirmed.
                    tracing::debug!(%group, instance = %name, poll = poll.0, received, %error, "a poll was not ended");
                }
            });
        })
    }
}

/// Has this thread do work that nobody waits for. When the thread is about to end the work is left.
pub(crate) fn detach<F: Future<Output = ()> + 'static>(work: impl FnOnce() -> F + Send + 'static) {
    let begin = move || drop(actix_rt::spawn(work()));
    let is_left = Arbiter::try_current().is_none_or(|arbiter| !arbiter.spawn_fn(begin));
    if is_left {
        tracing::debug!("the thread ends; what it was still to tell is not told");
    }
}

/// Polls for a consumer.
pub(crate) async fn poll(call: &Call, consumer: &Consumer, ask: &Ask<'_>) -> Result<Polled, ApiError> {
    let began = Instant::now();
    let mut deadline = ask.wait.map(|wait| began + wait);
    for _ in 0..ATTEMPTS_MAX {
        let wait = deadline.map_or(call.limits().wait_max, |at| at.saturating_duration_since(Instant::now()));
        let request = PollRequest {
            acknowledged: ask.acknowledged,
            patience: wait.max(PATIENCE_MIN),
            held_for: wait + ANSWER_TIME,
        };
        let (grant, receipt) = consumer.begin(request).await?;
        let form = (ask.form)(&grant.definition)?;
        let default = Duration::from_millis(grant.definition.request_timeout_ms).min(call.limits().wait_max);
        let deadline = *deadline.get_or_insert(began + default);
        let attempt = Attempt { call, consumer, ask, form, deadline };
        if let Outcome::Polled(polled) = attempt.run(grant, receipt).await? {
            return Ok(polled);
        }
    }
    let message = format!("group {} changes all the time; try again", consumer.group);
    Err(ApiError::new(Cause::Unavailable, message))
}

/// One poll under way.
struct Attempt<'a> {
    call: &'a Call,
    consumer: &'a Consumer,
    ask: &'a Ask<'a>,
    form: Form,
    deadline: Instant,
}

impl Attempt<'_> {
    async fn run(&self, grant: PollGrant, receipt: Receipt) -> Result<Outcome, ApiError> {
        let mut sources = self.sources(&grant);
        if !self.read(&grant, &mut sources).await? {
            return Ok(Outcome::Changed);
        }
        let bounds = Bounds {
            max_bytes: self.ask.max_bytes,
            max_records: self.ask.max_records,
            output_bytes_max: self.call.limits().decompressed_bytes_max,
        };
        let page = render::page(&sources, self.form, bounds);
        if page.pieces.iter().all(|piece| piece.records == 0)
            && let Some(failure) = failure(&mut sources)
        {
            return Err(failure);
        }
        self.deliver((grant.poll, grant.generation), page, receipt).await
    }

    /// The partitions to read; each poll begins with another one.
    fn sources(&self, grant: &PollGrant) -> Vec<Source> {
        let policy = grant.definition.auto_offset_reset;
        let source =
            |(place, start): &(TopicPartition, _)| Source::new(&self.call.state, place.clone(), *start, policy);
        let mut sources: Vec<Source> = grant.partitions.iter().map(source).collect();
        let turn = usize::try_from(grant.poll.0 % sources.len().max(1) as u64).unwrap_or(0);
        sources.rotate_left(turn);
        sources
    }

    /// Reads until there is enough, or time is up; `false` when the assignment has changed while there was nothing.
    async fn read(&self, grant: &PollGrant, sources: &mut [Source]) -> Result<bool, ApiError> {
        let enough = usize::try_from(grant.definition.fetch_min_bytes).unwrap_or(usize::MAX).max(1);
        let enough = enough.min(self.ask.max_bytes.max(1));
        let is_over = |sources: &[Source]| {
            fetch::bytes(sources) >= enough || Instant::now() >= self.deadline || fetch::is_draining(sources)
        };
        fetch::gather(sources, self.ask.max_bytes).await;
        if is_over(sources) {
            return Ok(true);
        }
        let _permit = waiting_permit(self.call)?;
        let mut changed = pin!(self.changed(grant.assignment_version));
        let waiting = async {
            loop {
                tokio::select! {
                    () = &mut changed => return fetch::bytes(sources) > 0,
                    () = fetch::wait(sources, self.deadline) => {}
                }
                fetch::gather(sources, self.ask.max_bytes).await;
                if is_over(sources) {
                    return true;
                }
            }
        };
        Ok(self.call.timed(Phase::Wait, waiting).await)
    }

    /// Returns when the instance has other partitions than it had, or is gone.
    async fn changed(&self, version: u64) {
        let Consumer { groups, group, name } = self.consumer;
        loop {
            let patience = self.deadline.saturating_duration_since(Instant::now()).min(NOTICE_MAX) + PAUSE;
            match groups.await_change(group, name, version, patience).await {
                Ok(now) if now != version => return,
                Err(GroupRequestError::UnknownInstance { .. } | GroupRequestError::Append(AppendError::Draining)) => {
                    return;
                }
                Ok(_) | Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Stores what is to be given, and makes a body of it.
    async fn deliver(
        &self,
        (poll, mut generation): (PollId, Option<u32>),
        page: Page,
        receipt: Receipt,
    ) -> Result<Outcome, ApiError> {
        let Page { mut pieces, error } = page;
        let ranges: Vec<_> = pieces.iter().filter_map(Piece::range).collect();
        if !ranges.is_empty() {
            let Consumer { groups, group, name } = self.consumer;
            let delivered = match groups.deliver(group, name, poll, ranges).await {
                Err(GroupRequestError::PollGone(_)) => return Ok(Outcome::Changed),
                outcome => outcome?,
            };
            // The partitions that are left are its own in this one.
            generation = delivered.generation;
            pieces.retain(|piece| !delivered.refused.contains(&piece.place));
            if pieces.is_empty() && Instant::now() < self.deadline {
                return Ok(Outcome::Changed);
            }
        }
        let records = pieces.iter().map(|piece| piece.records).sum();
        let is_delivered = pieces.iter().any(Piece::moves);
        let receipt = if records == 0 {
            // There is nothing that the client could miss.
            receipt.settle(true);
            None
        } else {
            Some(receipt)
        };
        match error {
            Some(error) => Err(error),
            None => Ok(Outcome::Polled(Polled {
                poll,
                form: self.form,
                body: render::assemble(&pieces, self.form),
                records,
                is_delivered,
                generation,
                positions: pieces.into_iter().map(|piece| (piece.place, piece.next)).collect(),
                receipt,
            })),
        }
    }
}

/// Why nothing was read, if that is an error: a partition has no position and may not be given one, this broker goes
/// away, or none of the partitions can be read.
fn failure(sources: &mut [Source]) -> Option<ApiError> {
    let is_decisive = |source: &&mut Source| {
        source.failure.as_ref().is_some_and(|error| matches!(error.cause(), Cause::NoPosition | Cause::Draining))
    };
    if let Some(source) = sources.iter_mut().find(is_decisive) {
        return source.failure.take();
    }
    let all_failed = sources.iter().all(|source| source.failure.is_some());
    sources.first_mut().filter(|_| all_failed)?.failure.take()
}
