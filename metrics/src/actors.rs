//! Actors by kind. The actor framework does not tell how full a mailbox is, so it is counted at both ends.

use std::time::Duration;

use prometheus::{Error, Histogram, IntCounter, IntGauge};

use crate::labels::label_values;
use crate::registry::Families;
use crate::{buckets, catalogue, seconds};

label_values! {
    /// A kind of actor; never one actor's name, of which there are as many as partitions.
    pub enum ActorKind {
        /// Owns the log of one partition.
        Partition = "partition",
        /// Owns the cluster image.
        Metadata = "metadata",
        /// Owns the offsets of consumer groups.
        GroupCoordinator = "group_coordinator",
        /// Finds out who lives, and drives elections.
        Controller = "controller",
        /// Copies from one broker what it leads.
        Replicator = "replicator",
        /// Starts and ends the tasks of streams.
        Streams = "streams",
        /// Runs one task of a stream.
        StreamTask = "stream_task",
    }
}

label_values! {
    /// Why a message was refused before it reached the mailbox.
    pub enum RejectReason {
        /// No permit for its bytes.
        Bytes = "bytes",
        /// No permit for another request.
        Requests = "requests",
        /// The actor is being recovered or has failed.
        Unavailable = "unavailable",
        /// The broker is shutting down.
        Draining = "draining",
    }
}

/// The handles of one kind of actor.
pub struct ActorMetrics {
    /// Messages handled.
    pub messages: IntCounter,
    /// Time of a handler for one message, in seconds.
    pub handle_duration: Histogram,
    /// Messages sent and not handled yet. See [`ActorMetrics::sent`].
    pub mailbox_messages: IntGauge,
    /// Actors started again by their supervisor.
    pub restarts: IntCounter,
    rejected: Vec<IntCounter>,
}

impl ActorMetrics {
    /// Counts a message as waiting until the guard, which rides in it, is dropped. A message that dies in its
    /// mailbox with its actor is uncounted too.
    #[must_use = "the message counts as waiting until this is dropped"]
    pub fn sent(&self) -> InMailbox {
        self.mailbox_messages.inc();
        InMailbox(self.mailbox_messages.clone())
    }

    /// Adds one handled message and the time that its handler took.
    pub fn handled(&self, duration: Duration) {
        self.messages.inc();
        self.handle_duration.observe(seconds(duration));
    }

    /// Messages refused for `reason`.
    pub fn rejected(&self, reason: RejectReason) -> &IntCounter {
        &self.rejected[reason.index()]
    }
}

/// A message in a mailbox. Dropped when its handler begins.
#[derive(Debug)]
pub struct InMailbox(IntGauge);

impl Drop for InMailbox {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The handles of every kind of actor.
pub(crate) struct Actors(Vec<ActorMetrics>);

impl Actors {
    pub(crate) fn register(families: &Families) -> Result<Actors, Error> {
        let messages = families.counter_vec(&catalogue::ACTOR_MESSAGES)?;
        let handle_duration = families.histogram_vec(&catalogue::ACTOR_HANDLE_DURATION, &buckets::SHORT_SECONDS)?;
        let mailbox_messages = families.gauge_vec(&catalogue::ACTOR_MAILBOX_MESSAGES)?;
        let restarts = families.counter_vec(&catalogue::ACTOR_RESTARTS)?;
        let rejected = families.counter_vec(&catalogue::ACTOR_REJECTED)?;
        let of_kind = |&kind: &ActorKind| {
            let label = &[kind.as_str()];
            Ok(ActorMetrics {
                messages: messages.get_metric_with_label_values(label)?,
                handle_duration: handle_duration.get_metric_with_label_values(label)?,
                mailbox_messages: mailbox_messages.get_metric_with_label_values(label)?,
                restarts: restarts.get_metric_with_label_values(label)?,
                rejected: RejectReason::ALL
                    .iter()
                    .map(|reason| rejected.get_metric_with_label_values(&[kind.as_str(), reason.as_str()]))
                    .collect::<Result<_, _>>()?,
            })
        };
        Ok(Actors(ActorKind::ALL.iter().map(of_kind).collect::<Result<_, Error>>()?))
    }

    pub(crate) fn of(&self, kind: ActorKind) -> &ActorMetrics {
        &self.0[kind.index()]
    }
}
