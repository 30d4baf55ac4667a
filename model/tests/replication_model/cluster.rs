//! The state of the model: replicas as shipped, their logs, the metadata log, the controller, what
//! is under way, and what has been committed so far.

use std::sync::Arc;

use pubg1_model::{
    BrokerId, LeaderEpoch, Offset,
    cluster::Incarnation,
    replication::{
        Election, Identity, Recovered, Replica, ReplicaSet, Role, StorageId,
        message::{DurableState, ReplicaFetch},
    },
};

use crate::scope::{Mutant, Scope, Start};

/// One record: in a correct protocol its epoch and its offset say which one it is. A leadership
/// that is resumed writes other records at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub epoch: LeaderEpoch,
    pub resumed: bool,
}

/// A replica and its log.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub replica: Replica,
    pub log: Vec<Entry>,
    /// How often the process was started; names its incarnation.
    pub life: u8,
    /// How many disks there were; names its storage.
    pub disk: u8,
    /// Whether it leads an epoch for the second time.
    pub resumed: bool,
}

/// The leader of an epoch, as committed in the metadata log.
#[derive(Clone, Debug, PartialEq)]
pub struct SetLeader {
    pub epoch: LeaderEpoch,
    pub leader: BrokerId,
    pub incarnation: Incarnation,
    /// The replica set at that entry.
    pub set: ReplicaSet,
}

/// What the metadata log holds: a linearisable register. Brokers may see it late.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    pub epoch: LeaderEpoch,
    pub set: ReplicaSet,
    pub leaders: Vec<SetLeader>,
    /// Whether the change of the replica set has begun.
    pub moved: bool,
}

/// An acknowledgement that is under way although its sender has gone on.
#[derive(Clone, Debug, PartialEq)]
pub struct Late {
    pub from: BrokerId,
    pub to: BrokerId,
    pub fetch: ReplicaFetch,
}

/// A record that some leader has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub entry: Entry,
    pub in_epoch: LeaderEpoch,
}

/// What has been used up of the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub records: u8,
    pub crashes: u8,
    pub wipes: u8,
    pub controller_changes: u8,
    pub step_downs: u8,
}

/// One state of the whole. Parts are shared between states.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub nodes: Vec<Arc<Node>>,
    pub metadata: Arc<Metadata>,
    pub election: Option<Arc<Election>>,
    /// What a deposed controller still holds.
    pub deposed: Option<Arc<Election>>,
    pub late: Vec<Late>,
    pub committed: Vec<Committed>,
    pub spent: Spent,
    /// What a step has broken, beyond what a state can show.
    pub broken: Option<Broken>,
    /// Which of the interesting things have happened, for the properties that guard against a model
    /// in which nothing does; not a part of the fingerprint.
    pub seen: Seen,
}

/// Broken by a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A leader's high watermark went back, or beyond its log.
    HighWatermark,
    /// Two records were committed at one offset.
    TwoAtOneOffset,
    /// A follower cut what it knew to be committed.
    CutBelowHighWatermark,
    /// A replica began to lead an epoch that had been led.
    LedTwice,
}

/// Reached on the way to a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub truncated: bool,
    pub late_counted: bool,
    pub forgetful_adopted: bool,
    pub move_ended: bool,
    pub deposed_refused: bool,
}

pub fn broker(index: usize) -> BrokerId {
    BrokerId(u32::try_from(index).expect("few replicas"))
}

pub fn index(broker: BrokerId) -> usize {
    usize::try_from(broker.0).expect("few replicas")
}

pub fn incarnation(broker: BrokerId, life: u8) -> Incarnation {
    let mut bytes = [0; 16];
    (bytes[0], bytes[1]) = (u8::try_from(broker.0).expect("few replicas"), life);
    Incarnation::from_bytes(bytes)
}

pub fn storage(broker: BrokerId, disk: u8) -> StorageId {
    let mut bytes = [1; 16];
    (bytes[0], bytes[1]) = (u8::try_from(broker.0).expect("few replicas"), disk);
    StorageId::from_bytes(bytes)
}

/// An offset as an index into a log.
pub fn place(offset: Offset) -> usize {
    usize::try_from(offset.get()).expect("short logs")
}

/// The end of a log.
pub fn end(log: &[Entry]) -> Offset {
    Offset::new(u64::try_from(log.len()).expect("short logs"))
}

impl Node {
    pub fn identity(broker: BrokerId, life: u8, disk: u8) -> Identity {
        Identity {
            broker,
            incarnation: incarnation(broker, life),
            registration: u64::from(life),
            storage: storage(broker, disk),
        }
    }

    /// Whether it may still lead on this entry of the metadata log.
    pub fn can_lead(&self, entry: &SetLeader, scope: &Scope) -> bool {
        let replica = &self.replica;
        let same_life = replica.identity().incarnation == entry.incarnation || scope.breaks(Mutant::IgnoresIncarnation);
        matches!(replica.role(), Role::Waiting)
            && replica.promised_epoch() == entry.epoch
            && replica.adopted_epoch() < Some(entry.epoch)
            && same_life
    }

    pub fn leads(&self, epoch: LeaderEpoch) -> bool {
        self.replica.leading().is_some_and(|progress| progress.epoch() == epoch)
    }

    /// Whether it lost its disk and has not yet taken over what it held.
    pub fn has_lost_its_disk(&self) -> bool {
        self.disk > 0 && self.replica.adopted_epoch().is_none()
    }

    pub fn holds(&self, offset: usize, entry: Entry) -> bool {
        self.log.get(offset) == Some(&entry)
    }
}

impl State {
    pub fn initial(scope: &Scope) -> Self {
        let node = |index| {
            let identity = Node::identity(broker(index), 0, 0);
            let replica = if index < 3 {
                Replica::founded(identity, scope.counting, LeaderEpoch::ZERO)
            } else {
                Replica::forgotten(identity, scope.counting, Recovered::empty(), LeaderEpoch::ZERO)
            };
            Arc::new(Node { replica, log: Vec::new(), life: 0, disk: 0, resumed: false })
        };
        let set = ReplicaSet::Stable((0..3).map(broker).collect());
        let metadata = Metadata { epoch: LeaderEpoch::ZERO, set, leaders: Vec::new(), moved: false };
        let mut state = Self {
            nodes: (0..scope.replicas()).map(node).collect(),
            metadata: Arc::new(metadata),
            election: None,
            deposed: None,
            late: Vec::new(),
            committed: Vec::new(),
            spent: Spent::default(),
            broken: None,
            seen: Seen::default(),
        };
        if scope.start == Start::Led {
            state.lead_first();
        }
        state
    }

    /// The first election, in which nothing can go wrong.
    fn lead_first(&mut self) {
        let epoch = LeaderEpoch::ZERO.next();
        for at in 0..3 {
            let node = Arc::make_mut(&mut self.nodes[at]);
            node.replica.fence(epoch).expect("the first fence");
        }
        let set = self.metadata.set.clone();
        let leader = Arc::make_mut(&mut self.nodes[0]);
        let incarnation = leader.replica.identity().incarnation;
        leader.replica.elect(epoch, incarnation, set.clone(), 0).expect("the first leader");
        let entry = SetLeader { epoch, leader: broker(0), incarnation, set };
        let metadata = Arc::make_mut(&mut self.metadata);
        (metadata.epoch, metadata.leaders) = (epoch, vec![entry]);
    }

    pub fn node(&self, broker: BrokerId) -> &Node {
        &self.nodes[index(broker)]
    }

    pub fn node_mut(&mut self, broker: BrokerId) -> &mut Node {
        Arc::make_mut(&mut self.nodes[index(broker)])
    }

    /// Who was made leader of this epoch.
    pub fn set_leader(&self, epoch: LeaderEpoch) -> Option<&SetLeader> {
        self.metadata.leaders.iter().find(|entry| entry.epoch == epoch)
    }

    /// Whether any replica has lost its disk and not recovered.
    pub fn any_forgetful(&self) -> bool {
        self.nodes.iter().any(|node| node.has_lost_its_disk())
    }
}

/// What recovery finds of a replica when its log ends at `keep`.
pub fn recovered(node: &Node, keep: Offset, scope: &Scope) -> Recovered {
    let mut found = node.replica.to_recovered();
    if keep < found.log_end {
        found.epochs.truncate_to(keep);
    }
    found.log_end = keep;
    found.flushed = found.flushed.min(keep);
    found.high_watermark = if scope.hints { found.high_watermark } else { Offset::ZERO };
    found
}

/// The same, before it led its epoch: what a leadership that is resumed pretends.
pub fn before_leading(found: Recovered) -> Recovered {
    let DurableState { promised_epoch, .. } = found.durable;
    Recovered { durable: DurableState { promised_epoch, adopted_epoch: Some(LeaderEpoch::ZERO) }, ..found }
}
