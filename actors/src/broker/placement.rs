//! Which replicas run here, and what they are told: follows the cluster image.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Weak},
};

use pubg1_model::{
    BrokerId, PartitionId, TopicId, TopicName,
    cluster::{ClusterImage, PartitionImage, TopicImage},
};
use tokio::sync::Mutex;

use crate::{
    arbiters::ArbiterHandles,
    data_dir::{partition_dir, partition_of_dir},
    group_coordinator::GroupCoordinatorHandle,
    metadata::MetadataHandle,
    node::{NodeContext, Removal},
    partition::{
        Assignment, AssignmentChanged, DirLocks, PartitionIdentity, PartitionSlot, Remove, name_of_aside,
        start_partition,
    },
    replica_states::PartitionKey,
};

/// Starts and ends replicas as topics and replica sets change.
pub(super) struct Placement {
    pub(super) node: Arc<NodeContext>,
    pub(super) metadata: MetadataHandle,
    pub(super) groups: GroupCoordinatorHandle,
    pub(super) arbiters: ArbiterHandles,
    replicas: Replicas,
}

impl Placement {
    pub(super) fn new(
        node: Arc<NodeContext>,
        metadata: MetadataHandle,
        groups: GroupCoordinatorHandle,
        arbiters: ArbiterHandles,
    ) -> Self {
        let replicas = Replicas::new(Arc::clone(&node), arbiters.clone());
        Self { node, metadata, groups, arbiters, replicas }
    }

    /// Tells the replicas here what the image says of them, and nothing more.
    pub(super) fn tell(&self) {
        self.replicas.tell(&self.metadata.image());
    }

    /// Makes what runs here agree with the image.
    pub(super) fn reconcile(&mut self) {
        self.replicas.follow(&self.metadata.image());
    }
}

/// The locks of a directory, as long as somebody holds on to them.
#[derive(Default)]
struct KnownLocks {
    log: Weak<Mutex<()>>,
    compaction: Weak<Mutex<()>>,
}

/// The replicas of this broker.
pub(crate) struct Replicas {
    node: Arc<NodeContext>,
    arbiters: ArbiterHandles,
    placed: HashMap<PartitionKey, Arc<PartitionSlot>>,
    topics: HashMap<TopicId, TopicName>,
    /// The locks on directories that may still be in use: a replica that comes back waits for its former removal.
    locks: HashMap<PartitionKey, KnownLocks>,
}

impl Replicas {
    pub(crate) fn new(node: Arc<NodeContext>, arbiters: ArbiterHandles) -> Self {
        Self { node, arbiters, placed: HashMap::new(), topics: HashMap::new(), locks: HashMap::new() }
    }

    /// Starts the replicas that are new, ends those that are not kept here any more, and tells the others what has
    /// changed. The image must not be older than this broker's registration.
    pub(crate) fn follow(&mut self, image: &ClusterImage) {
        self.end_those_not_kept(image);
        let gone: Vec<TopicName> =
            self.topics.extract_if(|id, _| image.topic_by_id(*id).is_none()).map(|(_, name)| name).collect();
        for topic in gone.iter().filter(|topic| image.topic(topic).is_none()) {
            self.node.metrics.remove_topic(topic.as_str());
        }
        let (me, mut started, mut sources) = (self.node.config.broker_id, Vec::new(), BTreeSet::new());
        for topic in image.topics.values() {
            self.topics.entry(topic.id).or_insert_with(|| topic.name.clone());
            for (partition, partition_image) in topic.numbered_partitions() {
                if !partition_image.is_kept_by(me) {
                    continue;
                }
                sources.extend(partition_image.leader);
                match self.placed.get(&(topic.id, partition)) {
                    Some(slot) => tell(slot, topic, partition_image, image.version),
                    None => {
                        let assignment = assignment(topic, partition_image, image.version);
                        started.push(self.start(topic, partition, assignment));
                    }
                }
            }
        }
        self.node.table.insert(started);
        self.node.sources.retain(|broker: BrokerId| broker != me && sources.contains(&broker));
    }

    fn tell(&self, image: &ClusterImage) {
        for topic in image.topics.values() {
            for (partition, partition_image) in topic.numbered_partitions() {
                let kept = partition_image.is_kept_by(self.node.config.broker_id);
                if let Some(slot) = self.placed.get(&(topic.id, partition)).filter(|_| kept) {
                    tell(slot, topic, partition_image, image.version);
                }
            }
        }
    }

    fn end_those_not_kept(&mut self, image: &ClusterImage) {
        let me = self.node.config.broker_id;
        let is_kept = |(topic, partition): PartitionKey| {
            let partition = image.topic_by_id(topic).and_then(|topic| topic.partition(partition));
            partition.is_some_and(|partition| partition.is_kept_by(me))
        };
        let ended: Vec<_> = self.placed.extract_if(|key, _| !is_kept(*key)).map(|(_, slot)| slot).collect();
        self.node.table.remove(&ended);
        for slot in ended {
            slot.dismiss(image.topic_by_id(slot.identity.topic_id).is_some());
            // One that has died finds that it is not kept here when it is started again.
            slot.post(Remove(Removal::begin(&self.node))).map_err(drop).unwrap_or_default();
        }
        self.locks.retain(|_, known| known.log.strong_count() + known.compaction.strong_count() > 0);
    }

    fn start(&mut self, topic: &TopicImage, partition: PartitionId, assignment: Assignment) -> Arc<PartitionSlot> {
        let identity = PartitionIdentity {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition,
            dir: partition_dir(&self.node.config.data_dir.join("partitions"), topic.id, partition),
        };
        let key = identity.key();
        let known = self.locks.entry(key).or_default();
        let locks = DirLocks {
            log: known.log.upgrade().unwrap_or_default(),
            compaction: known.compaction.upgrade().unwrap_or_default(),
        };
        *known = KnownLocks { log: Arc::downgrade(&locks.log), compaction: Arc::downgrade(&locks.compaction) };
        let slot = PartitionSlot::new(identity, Arc::clone(&self.node), assignment, locks);
        let arbiter = self.arbiters.partition(topic.id, partition).clone();
        start_partition(&slot, arbiter, &self.arbiters.control);
        self.placed.insert(key, Arc::clone(&slot));
        slot
    }
}

fn assignment(topic: &TopicImage, image: &PartitionImage, version: u64) -> Assignment {
    Assignment { image: image.clone(), config: topic.config.clone(), version }
}

/// Tells a replica what is new for it, if anything is.
fn tell(slot: &PartitionSlot, topic: &TopicImage, image: &PartitionImage, version: u64) {
    let is_known = slot.assignment().is_some_and(|told| told.image == *image && told.config == topic.config);
    if !is_known {
        slot.assign(assignment(topic, image, version));
        // One that does not run looks when it is opened.
        slot.post(AssignmentChanged).map_err(drop).unwrap_or_default();
    }
}

/// Removes the directories of replicas that are no longer kept here, in case the process ended before their removal
/// did, or they were moved away meanwhile. Anything that nobody knows is left alone and told. Done before any replica is
/// started: one that comes back must not find its directory being removed.
pub(super) async fn remove_leftovers(node: &Arc<NodeContext>, metadata: &MetadataHandle, partitions: PathBuf) {
    let (image, me, states) = (metadata.image(), node.config.broker_id, node.states.clone());
    let remove = move || {
        let entries = match std::fs::read_dir(&partitions) {
            Ok(entries) => entries,
            Err(error) => return tracing::warn!(dir = %partitions.display(), %error, "cannot be listed"),
        };
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let key = partition_of_dir(name_of_aside(name).unwrap_or(name));
            let is_left = key.and_then(|key| is_left_over(&image, me, key));
            match (key, is_left) {
                (_, Some(false)) => {}
                (Some(key), Some(true)) => match std::fs::remove_dir_all(&path) {
                    Ok(()) => states.remove(key),
                    Err(error) => {
                        tracing::warn!(dir = %path.display(), %error, "a replica that is not kept here stays on disk");
                    }
                },
                _ => tracing::warn!(path = %path.display(), "belongs to no topic that is known; it is left alone"),
            }
        }
    };
    // `None`: the broker is being stopped.
    node.workers.run(remove).await.unwrap_or_default();
}

/// Whether a replica is known not to be kept here; `None`: nobody knows of it.
fn is_left_over(image: &ClusterImage, me: BrokerId, (topic, partition): PartitionKey) -> Option<bool> {
    match image.topic_by_id(topic).and_then(|topic| topic.partition(partition)) {
        Some(partition) => Some(!partition.is_kept_by(me)),
        None => image.was_deleted(topic).then_some(true),
    }
}
