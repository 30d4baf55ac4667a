//! How the broker stands: read from what is published, no message is sent.

use std::sync::Arc;

use pubg1_model::cluster::ClusterImage;
use rustix::fs::statvfs;

use crate::{
    handles::{BrokerState, Check, Readiness},
    node::{NodeContext, Phase},
    partition::{PartitionSlot, PartitionStatus},
};

/// Below this much free space a log cannot grow any more.
const DISK_FREE_BYTES_MIN: u64 = 1024 * 1024;
/// Partitions that are named when several are not well.
const NAMED_PARTITIONS: usize = 5;

/// How the broker stands, and what was looked at.
pub(crate) fn readiness(node: &NodeContext, image: &ClusterImage) -> Readiness {
    let fatal = node.fatal.get();
    let slots = node.table.slots();
    let mine = image.topics.values().flat_map(|topic| &topic.partitions);
    let mine = mine.filter(|partition| partition.is_kept_by(node.config.broker_id)).count();
    let phase = *node.phase.borrow();
    let state = match phase {
        _ if fatal.is_some() => BrokerState::Failed,
        Phase::Starting => BrokerState::Starting,
        Phase::Recovering => BrokerState::Recovering {
            done: slots.iter().filter(|slot| slot.view().status != PartitionStatus::Recovering).count(),
            total: slots.len().max(mine),
        },
        Phase::Ready => BrokerState::Ready,
        Phase::Draining | Phase::Drained => BrokerState::Draining,
    };
    let broker = Check {
        name: "broker",
        ok: fatal.is_none() && phase < Phase::Draining,
        reason: fatal.map_or_else(|| state.as_str().to_owned(), |error| error.to_string()),
    };
    let mut checks = vec![broker, metadata(node, image), partitions(&slots), disk(node)];
    if let Some(topic) = &node.config.default_topic {
        let known = image.topic(&topic.name).map_or(&[][..], |topic| &topic.partitions[..]);
        let led = known.iter().filter(|partition| partition.leader.is_some()).count();
        let own = node.table.of_topic(&topic.name);
        let unwell = own.iter().filter(|slot| !serves(&slot.view().status)).count();
        let ok = led == known.len() && unwell == 0 && !known.is_empty();
        let reason = format!("{led} of {} partitions of {} are led", known.len(), topic.name);
        checks.push(Check { name: "default_topic", ok, reason });
    }
    Readiness { state, checks }
}

fn metadata(node: &NodeContext, image: &ClusterImage) -> Check {
    let obstacle = node.obstacle.borrow().clone();
    let ok = image.is_formatted() && obstacle.is_none();
    let reason = obstacle.unwrap_or_else(|| match image.is_formatted() {
        true => format!("version {}", image.version),
        false => "the metadata log is being read".to_owned(),
    });
    Check { name: "metadata", ok, reason }
}

/// Whether a replica does what it should.
const fn serves(status: &PartitionStatus) -> bool {
    matches!(status, PartitionStatus::Leader | PartitionStatus::Follower)
}

fn partitions(slots: &[Arc<PartitionSlot>]) -> Check {
    let trouble = |slot: &Arc<PartitionSlot>| {
        let status = slot.view().status;
        let name = slot.identity.topic_partition();
        match &status {
            status if serves(status) => None,
            PartitionStatus::Offline(reason) => Some(format!("{name} is offline: {reason}")),
            other => Some(format!("{name} is {}", other.as_str())),
        }
    };
    let mut troubles: Vec<String> = slots.iter().filter_map(trouble).collect();
    if troubles.is_empty() {
        return Check { name: "partitions", ok: true, reason: format!("all {} serve", slots.len()) };
    }
    troubles.sort();
    let more = troubles.len().saturating_sub(NAMED_PARTITIONS);
    troubles.truncate(NAMED_PARTITIONS);
    if more > 0 {
        troubles.push(format!("and {more} more"));
    }
    Check { name: "partitions", ok: false, reason: troubles.join("; ") }
}

fn disk(node: &NodeContext) -> Check {
    let name = "disk";
    match measure_disk(node) {
        Some(free) if free < DISK_FREE_BYTES_MIN => {
            Check { name, ok: false, reason: format!("the disk is full, {free} bytes are free; appends are refused") }
        }
        Some(free) => Check { name, ok: true, reason: format!("{free} bytes are free") },
        None => Check { name, ok: false, reason: "the data directory's file system does not answer".to_owned() },
    }
}

/// Free bytes of the data directory's file system, stated in the metrics too.
pub(super) fn measure_disk(node: &NodeContext) -> Option<u64> {
    let space = statvfs(&node.config.data_dir).ok()?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    node.metrics.storage().set_disk(free, space.f_blocks.saturating_mul(space.f_frsize));
    Some(free)
}
