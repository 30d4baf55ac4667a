//! The metrics of a broker: one catalogue, typed handles, Prometheus text.
//!
//! [`catalogue()`] lists every family that a broker exports. [`Metrics`] registers exactly these and hands out
//! typed groups of handles; nobody outside this crate names a metric by a string. There is no global registry:
//! each [`Metrics`] owns its own, so two brokers can live in one process.
//!
//! Two habits keep the numbers honest. Label values come from closed enums, except a topic's name, and the series
//! of these enums exist from the start at 0, so that `rate()` sees the first event. And a handle is looked up once
//! and kept: counting a record costs an atomic addition, never a lookup.
//!
//! Names follow Prometheus' own rules: prefix `pubg1_`, base units (seconds, bytes), `_total` on counters. The
//! exception is `process_*`, whose names are fixed by convention. A node's name is not a label: the scrape adds it.

mod actors;
mod buckets;
mod catalogue;
mod groups;
mod labels;
mod node;
mod registry;
mod replication;
mod requests;
mod storage;
mod streams;
mod topics;

use std::sync::Arc;
use std::time::Duration;

pub use actors::{ActorKind, ActorMetrics, InMailbox, RejectReason};
pub use catalogue::{Group, MetricDescription, MetricKind, Unit, catalogue};
pub use groups::{GroupLagSeries, GroupMetrics, GroupPhase, GroupSeries, RebalanceCause};
pub use node::{NodeMetrics, NodeState, PartitionRole};
pub use prometheus::{Error, Gauge, Histogram, IntCounter, IntGauge};
pub use replication::ReplicationMetrics;
pub use requests::{Api, InFlight, Phase, RequestMetrics, ThrottleReason};
pub use storage::StorageMetrics;
pub use streams::{
    StreamCondition, StreamMetrics, StreamOutcome, StreamStateSeries, StreamTaskGauges, StreamTaskSeries,
};
pub use topics::{DeleteReason, LagMetrics, LogMetrics, TopicMetrics};

/// The content type of [`Metrics::encode`]: Prometheus text format, version 0.0.4.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of one broker. Cheap to clone; clones share the same series.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: registry::Families,
    requests: requests::Requests,
    topics: topics::Topics,
    replication: ReplicationMetrics,
    groups: GroupMetrics,
    streams: StreamMetrics,
    storage: StorageMetrics,
    actors: actors::Actors,
    node: NodeMetrics,
}

impl Metrics {
    /// Registers every family of the catalogue, each fixed label set at 0.
    ///
    /// # Errors
    /// The registry's, when two families of the catalogue contradict each other; a test rules that out.
    pub fn new() -> Result<Metrics, Error> {
        let registry = registry::Families::new();
        Ok(Metrics(Arc::new(Families {
            requests: requests::Requests::register(&registry)?,
            topics: topics::Topics::register(&registry)?,
            replication: ReplicationMetrics::register(&registry)?,
            groups: GroupMetrics::register(&registry)?,
            streams: StreamMetrics::register(&registry)?,
            storage: StorageMetrics::register(&registry)?,
            actors: actors::Actors::register(&registry)?,
            node: NodeMetrics::register(&registry)?,
            registry,
        })))
    }

    /// The present values in Prometheus' text format, sorted by name. Send with [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// When the encoder refuses a family, for example one without a help text.
    pub fn encode(&self) -> Result<String, Error> {
        self.0.registry.encode()
    }

    /// The handles of one part of the HTTP API.
    pub fn requests(&self, api: Api) -> &RequestMetrics {
        self.0.requests.of(api)
    }

    /// Counts a request that was refused because a budget was used up (answered with 429 or 503).
    pub fn throttled(&self, reason: ThrottleReason) {
        self.0.requests.throttled(reason).inc();
    }

    /// The handles of a topic. Its series begin here. Keep what this returns: it takes a lock.
    pub fn topic(&self, name: &str) -> Arc<TopicMetrics> {
        self.0.topics.topic(name)
    }

    /// Ends the series of a deleted topic. Handles that are still held go on counting, unseen.
    pub fn remove_topic(&self, name: &str) {
        self.0.topics.remove(name);
    }

    /// Copies of partitions: what followers fetch, and who keeps up.
    pub fn replication(&self) -> &ReplicationMetrics {
        &self.0.replication
    }

    /// Consumer groups: members, lag, commits.
    pub fn groups(&self) -> &GroupMetrics {
        &self.0.groups
    }

    /// Streams: what their tasks read, hold and give.
    pub fn streams(&self) -> &StreamMetrics {
        &self.0.streams
    }

    /// Flushing, recovery, damage and disk space.
    pub fn storage(&self) -> &StorageMetrics {
        &self.0.storage
    }

    /// The handles of one kind of actor.
    pub fn actor(&self, kind: ActorKind) -> &ActorMetrics {
        self.0.actors.of(kind)
    }

    /// What the broker is and how it stands.
    pub fn node(&self) -> &NodeMetrics {
        &self.0.node
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("families", &catalogue().len()).finish_non_exhaustive()
    }
}

/// A duration in the unit that Prometheus wants.
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests;
