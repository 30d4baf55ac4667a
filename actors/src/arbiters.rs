//! The broker's own arbiters: one for metadata, one for coordination, one for the transport, N for
//! partitions, and some of low priority for streams. What replicators ask and are answered travels on their own
//! threads, those of partitions; at the leader's end, too, if there is one such thread.
//!
//! An arbiter is one thread; what blocks or floods one leaves the others alone. Which partition runs
//! where follows from a stable hash, so that it is the same after every start.
//!
//! Everything else knows only the [`Place`] it runs at. In a simulation there are no threads: every place is then the
//! one that the broker was started on.

use std::{future::Future, io};

use actix::{Actor, Addr, Context};
use actix_rt::{Arbiter, ArbiterHandle, System};
use pubg1_model::{PartitionId, TopicId};

/// Where actors and tasks run. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Place {
    /// On the thread of an arbiter.
    Thread(ArbiterHandle),
    /// Where the caller runs: on the one thread, and the one `LocalSet`, of a simulated broker.
    #[cfg(any(test, feature = "testing"))]
    Here,
}

impl Place {
    /// Runs a task there. One that comes after the end of the place is dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Thread(arbiter) => drop(arbiter.spawn(task)),
            #[cfg(any(test, feature = "testing"))]
            Self::Here => drop(actix_rt::spawn(task)),
        }
    }

    /// Starts an actor there.
    pub(crate) fn start<A>(&self, make: impl FnOnce(&mut Context<A>) -> A + Send + 'static) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        match self {
            Self::Thread(arbiter) => A::start_in_arbiter(arbiter, make),
            #[cfg(any(test, feature = "testing"))]
            Self::Here => A::create(make),
        }
    }
}

/// The running threads.
pub(crate) struct Arbiters {
    metadata: Arbiter,
    control: Arbiter,
    transport: Arbiter,
    partitions: Vec<Arbiter>,
    streams: Vec<Arbiter>,
}

/// What is needed to start actors on them.
#[derive(Clone)]
pub(crate) struct ArbiterHandles {
    pub(crate) metadata: Place,
    pub(crate) control: Place,
    pub(crate) transport: Place,
    partitions: Vec<Place>,
    streams: Vec<Place>,
}

/// How much less the threads of streams count than the others when there is not enough time for all: as with `nice`.
const STREAMS_NICE: i32 = 10;

impl Arbiters {
    /// Starts them; `None` outside a `System`, which actix needs to exist.
    pub(crate) fn start(partition_arbiters: usize, stream_threads: usize) -> Option<io::Result<Self>> {
        System::try_current()?;
        let start = || {
            let partitions = (0..partition_arbiters.max(1)).map(|_| Arbiter::try_new()).collect::<io::Result<_>>()?;
            let streams: Vec<Arbiter> =
                (0..stream_threads.max(1)).map(|_| Arbiter::try_new()).collect::<io::Result<_>>()?;
            for arbiter in &streams {
                arbiter.spawn_fn(yield_to_others);
            }
            let new = Arbiter::try_new;
            Ok(Self { metadata: new()?, control: new()?, transport: new()?, partitions, streams })
        };
        Some(start())
    }

    pub(crate) fn handles(&self) -> ArbiterHandles {
        let place = |arbiter: &Arbiter| Place::Thread(arbiter.handle());
        ArbiterHandles {
            metadata: place(&self.metadata),
            control: place(&self.control),
            transport: place(&self.transport),
            partitions: self.partitions.iter().map(place).collect(),
            streams: self.streams.iter().map(place).collect(),
        }
    }

    /// Stops every arbiter and joins its thread; its actors are dropped where they are. Blocks. Control
    /// goes first: the supervisors on it would start anew what is stopped here.
    pub(crate) fn finish(self) {
        let first = std::iter::once(self.control).chain(self.streams);
        for arbiter in first.chain(self.partitions).chain([self.transport, self.metadata]) {
            // `false`: it has stopped already.
            arbiter.stop();
            if arbiter.join().is_err() {
                tracing::error!("an arbiter's thread had panicked");
            }
        }
    }
}

impl ArbiterHandles {
    /// Everything where the caller runs.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn here() -> Self {
        Self {
            metadata: Place::Here,
            control: Place::Here,
            transport: Place::Here,
            partitions: vec![Place::Here],
            streams: vec![Place::Here],
        }
    }

    /// Where partitions run, and replicators.
    pub(crate) fn partitions(&self) -> &[Place] {
        &self.partitions
    }

    /// Where a partition runs.
    pub(crate) fn partition(&self, topic: TopicId, partition: PartitionId) -> &Place {
        &self.partitions[place(topic, partition, self.partitions.len())]
    }

    /// Where the task of a stream runs whose changelog partition this is.
    pub(crate) fn stream(&self, changelog: TopicId, partition: PartitionId) -> &Place {
        &self.streams[place(changelog, partition, self.streams.len())]
    }
}

/// The calling thread gives way to those that serve clients.
fn yield_to_others() {
    // On Linux this is about the thread, not the process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, STREAMS_NICE) {
        tracing::warn!(%error, "the priority of a thread for streams could not be lowered");
    }
}

/// FNV-1a of the topic, plus the partition: the partitions of one topic are spread evenly.
fn place(topic: TopicId, partition: PartitionId, arbiters: usize) -> usize {
    let hash = topic
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let modulus = u64::try_from(arbiters.max(1)).unwrap_or(1);
    usize::try_from(hash.wrapping_add(u64::from(partition.0)) % modulus).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placement_is_stable_and_spreads_the_partitions_of_a_topic() {
        let topic = TopicId::from_bytes([7; 16]);
        let places: Vec<usize> = (0..6).map(|p| place(topic, PartitionId(p), 3)).collect();
        for arbiter in 0..3 {
            assert_eq!(places.iter().filter(|&&place| place == arbiter).count(), 2);
        }
        assert_eq!(places, (0..6).map(|p| place(topic, PartitionId(p), 3)).collect::<Vec<_>>());
        assert_eq!(place(topic, PartitionId(u32::MAX), 1), 0);
    }
}
