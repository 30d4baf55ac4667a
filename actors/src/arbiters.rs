//! The broker's own arbiters: one for metadata, one for coordination, N for partitions.
//!
//! An arbiter is one thread; what blocks or floods one leaves the others alone. Which partition runs
//! where follows from a stable hash, so that it is the same after every start.

use std::io;

use actix_rt::{Arbiter, ArbiterHandle, System};
use pubg1_model::{PartitionId, TopicId};

/// The running threads.
pub(crate) struct Arbiters {
    metadata: Arbiter,
    control: Arbiter,
    partitions: Vec<Arbiter>,
}

/// What is needed to start actors on them.
#[derive(Clone)]
pub(crate) struct ArbiterHandles {
    pub(crate) metadata: ArbiterHandle,
    pub(crate) control: ArbiterHandle,
    partitions: Vec<ArbiterHandle>,
}

impl Arbiters {
    /// Starts them; `None` outside a `System`, which actix needs to exist.
    pub(crate) fn start(partition_arbiters: usize) -> Option<io::Result<Self>> {
        System::try_current()?;
        let start = || {
            let partitions = (0..partition_arbiters.max(1)).map(|_| Arbiter::try_new()).collect::<io::Result<_>>()?;
            Ok(Self { metadata: Arbiter::try_new()?, control: Arbiter::try_new()?, partitions })
        };
        Some(start())
    }

    pub(crate) fn handles(&self) -> ArbiterHandles {
        ArbiterHandles {
            metadata: self.metadata.handle(),
            control: self.control.handle(),
            partitions: self.partitions.iter().map(Arbiter::handle).collect(),
        }
    }

    /// Stops every arbiter and joins its thread; its actors are dropped where they are. Blocks. Control
    /// goes first: the supervisors on it would start anew what is stopped here.
    pub(crate) fn finish(self) {
        for arbiter in std::iter::once(self.control).chain(self.partitions).chain([self.metadata]) {
            // `false`: it has stopped already.
            arbiter.stop();
            if arbiter.join().is_err() {
                tracing::error!("an arbiter's thread had panicked");
            }
        }
    }
}

impl ArbiterHandles {
    /// Where a partition runs.
    pub(crate) fn partition(&self, topic: TopicId, partition: PartitionId) -> &ArbiterHandle {
        &self.partitions[place(topic, partition, self.partitions.len())]
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
