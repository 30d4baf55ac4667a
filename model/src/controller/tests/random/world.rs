//! A cluster reduced to what the controller can notice: a metadata log, brokers with their copies,
//! and messages that may be late or lost.

use super::super::*;
use crate::{cluster::MetadataError, replication::ReplicaSet};

/// One copy of a partition. The protocol itself is modelled elsewhere; here it is as simple as can
/// be: a follower copies everything at once.
#[derive(Clone, Debug)]
struct Copy {
    promised: LeaderEpoch,
    adopted: Option<LeaderEpoch>,
    end: Offset,
    leads: Option<(LeaderEpoch, ReplicaSet)>,
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    /// Of the controller with this number, made from the image of this version.
    Proposal {
        controller: u32,
        version: u64,
        command: MetadataCommand,
    },
    Proposed {
        controller: u32,
        ok: bool,
    },
    Fence {
        to: u32,
        incarnation: Incarnation,
        requests: Vec<FenceRequest>,
    },
    Answers {
        from: u32,
        answers: Vec<(TopicId, PartitionId, FenceAnswer)>,
    },
    Transfer {
        to: u32,
        incarnation: Incarnation,
        requests: Vec<TransferRequest>,
    },
    Ready(TransferRequest),
    Image(Arc<ClusterImage>),
}

pub(super) struct World {
    image: ClusterImage,
    controller: Controller,
    controllers: u32,
    pub(super) now_ms: u64,
    lives: BTreeMap<u32, u8>,
    running: BTreeMap<u32, Incarnation>,
    copies: BTreeMap<(u32, u32), Copy>,
    pub(super) under_way: Vec<Message>,
    /// Who led each epoch of each partition.
    leaders: BTreeMap<(u32, LeaderEpoch), (u32, Incarnation)>,
    committed: BTreeMap<u32, Offset>,
}

impl World {
    pub(super) fn new(count: u32, partitions: &[&[u32]]) -> Self {
        let Harness { image, controller, running, .. } = Harness::new(count, partitions);
        let new = |adopted| Copy { promised: epoch(0), adopted, end: Offset::ZERO, leads: None };
        let mut copies = BTreeMap::new();
        for (partition, replicas) in (0..).zip(partitions) {
            for broker in 0..count {
                let founded = replicas.contains(&broker).then_some(epoch(0));
                copies.insert((broker, partition), new(founded));
            }
        }
        Self {
            image,
            controller,
            controllers: 0,
            now_ms: 0,
            lives: running.keys().map(|broker| (*broker, 1)).collect(),
            running,
            copies,
            under_way: Vec::new(),
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
        }
    }

    pub(super) fn poll(&mut self) {
        for action in self.controller.poll(self.now_ms) {
            let message = match action {
                Action::Propose(command) => {
                    let version = self.controller.image.version;
                    Message::Proposal { controller: self.controllers, version, command }
                }
                Action::Fence { broker, incarnation, partitions: requests, .. } => {
                    Message::Fence { to: broker.0, incarnation, requests }
                }
                Action::Transfer { leader, incarnation, partitions: requests } => {
                    Message::Transfer { to: leader.0, incarnation, requests }
                }
            };
            let proposals = |known: &&Message| {
                matches!(known, Message::Proposal { controller, .. } | Message::Proposed { controller, .. }
                    if *controller == self.controllers)
            };
            let is_proposal = matches!(message, Message::Proposal { .. });
            assert!(!is_proposal || self.under_way.iter().find(proposals).is_none(), "one proposal at a time");
            self.under_way.push(message);
        }
    }

    fn apply(&mut self, command: &MetadataCommand) -> Result<(), MetadataError> {
        self.image.apply(command)?;
        self.under_way.push(Message::Image(Arc::new(self.image.clone())));
        Ok(())
    }

    pub(super) fn deliver(&mut self, message: Message) {
        let now_ms = self.now_ms;
        match message {
            Message::Proposal { controller, version, command } => {
                let is_newest = version == self.image.version;
                let outcome = self.apply(&command);
                match &outcome {
                    Ok(()) => {}
                    Err(error) => {
                        assert!(!is_newest, "{command:?} does not fit the image it was made from: {error}");
                        assert!(is_race(error), "{command:?}: {error}");
                    }
                }
                self.under_way.push(Message::Proposed { controller, ok: outcome.is_ok() });
            }
            Message::Proposed { controller, ok } => {
                if controller == self.controllers {
                    self.controller.on_proposed(ok, now_ms);
                }
            }
            Message::Fence { to, incarnation, requests } => {
                if self.running.get(&to) == Some(&incarnation) {
                    let answers = requests.iter().filter_map(|request| self.fence(to, incarnation, request)).collect();
                    self.under_way.push(Message::Answers { from: to, answers });
                }
            }
            Message::Answers { from, answers } => self.controller.on_fence_answers(BrokerId(from), answers, now_ms),
            Message::Transfer { to, incarnation, requests } => {
                for request in requests {
                    let leads = self.copies[&(to, request.partition.0)].leads.as_ref();
                    let leads = leads.is_some_and(|(leads, _)| *leads == request.epoch);
                    if leads && self.running.get(&to) == Some(&incarnation) {
                        self.copy_from(to, request.partition.0, request.to.0);
                        self.under_way.push(Message::Ready(request));
                    }
                }
            }
            Message::Ready(request) => self.controller.on_transfer_ready(&request, now_ms),
            Message::Image(image) => self.controller.on_image(image, now_ms),
        }
    }

    /// A message is lost; whoever waits for the outcome of a proposal hears that it is unknown.
    pub(super) fn lose(&mut self, message: &Message) {
        match message {
            Message::Proposal { controller, .. } | Message::Proposed { controller, .. } => {
                self.under_way.push(Message::Proposed { controller: *controller, ok: false });
            }
            // A process tells itself.
            Message::Image(image) => self.under_way.push(Message::Image(Arc::clone(image))),
            _ => {}
        }
    }

    fn fence(
        &mut self,
        broker: u32,
        incarnation: Incarnation,
        request: &FenceRequest,
    ) -> Option<(TopicId, PartitionId, FenceAnswer)> {
        let FenceRequest { topic_id, partition, epoch } = *request;
        let copy = self.copies.get_mut(&(broker, partition.0))?;
        if epoch < copy.promised {
            return None;
        }
        copy.promise(epoch);
        let (adopted_epoch, counted_offset) = (copy.adopted, copy.end);
        let broker = BrokerId(broker);
        Some((topic_id, partition, FenceAnswer { broker, incarnation, epoch, adopted_epoch, counted_offset }))
    }

    pub(super) fn kill(&mut self, broker: u32, is_noticed: bool) {
        let Some(incarnation) = self.running.remove(&broker) else { return };
        for ((_, _), copy) in self.copies.range_mut((broker, 0)..=(broker, u32::MAX)) {
            copy.leads = None;
        }
        if is_noticed {
            self.controller.on_gone(BrokerId(broker), Some(incarnation), self.now_ms);
        }
    }

    pub(super) fn start(&mut self, broker: u32) {
        if self.running.contains_key(&broker) {
            return;
        }
        let number = self.lives.entry(broker).and_modify(|number| *number = *number % 14 + 1).or_insert(1);
        let incarnation = life(broker, *number);
        self.running.insert(broker, incarnation);
        let known = self.image.brokers[&BrokerId(broker)].clone();
        let register = MetadataCommand::RegisterBroker {
            broker: BrokerId(broker),
            http_url: known.http_url,
            rpc_address: known.rpc_address,
            incarnation,
            storage: known.storage,
            rack: None,
            replaces: Some(known.incarnation),
        };
        self.apply(&register).unwrap();
        self.learn(broker);
    }

    /// A broker applies the newest image: it leads what it is to lead, if it can.
    pub(super) fn learn(&mut self, broker: u32) {
        let Some(incarnation) = self.running.get(&broker).copied() else { return };
        for (number, partition) in self.image.topic_by_id(TOPIC).unwrap().numbered_partitions() {
            let copy = self.copies.get_mut(&(broker, number.0)).unwrap();
            let epoch = partition.leader_epoch;
            if let Some((_, set)) = copy.leads.as_mut().filter(|(leads, _)| *leads == epoch) {
                *set = partition.replica_set();
            }
            let is_named = partition.leader.zip(partition.leader_incarnation) == Some((BrokerId(broker), incarnation));
            let is_fit = copy.promised == epoch && copy.adopted.is_some_and(|adopted| adopted < epoch);
            if is_named && is_fit {
                copy.adopted = Some(epoch);
                copy.leads = Some((epoch, partition.replica_set()));
                let former = self.leaders.insert((number.0, epoch), (broker, incarnation));
                assert_eq!(former, None, "two leaders of epoch {epoch}");
                let committed = self.committed.get(&number.0).copied().unwrap_or_default();
                assert!(copy.end >= committed, "a committed record is missing from the leader");
            }
        }
    }

    pub(super) fn beat(&mut self, broker: u32) {
        let Some(incarnation) = self.running.get(&broker).copied() else { return };
        let mut heartbeat = Heartbeat {
            broker: BrokerId(broker),
            incarnation,
            version: self.image.version,
            resigned: Vec::new(),
            led: Vec::new(),
            full: true,
        };
        for (number, partition) in self.image.topic_by_id(TOPIC).unwrap().numbered_partitions() {
            let leads = self.copies[&(broker, number.0)].leads.clone();
            if let Some((epoch, set)) = leads {
                heartbeat.led.push(self.report(broker, number, epoch, &set));
            } else if partition.leader.zip(partition.leader_incarnation) == Some((BrokerId(broker), incarnation)) {
                heartbeat.resigned.push((TOPIC, number, partition.leader_epoch));
            }
        }
        self.controller.on_heartbeat(&heartbeat, self.now_ms);
    }

    fn report(&self, leader: u32, partition: PartitionId, epoch: LeaderEpoch, set: &ReplicaSet) -> LedPartition {
        let end = self.copies[&(leader, partition.0)].end;
        let has_all = |broker: &BrokerId| {
            let copy = &self.copies[&(broker.0, partition.0)];
            copy.adopted == Some(epoch) && copy.end == end
        };
        let in_sync = set.members().filter(|broker| has_all(broker)).collect();
        let move_complete = match set {
            ReplicaSet::Joint { new, .. } => ReplicaSet::Stable(new.clone())
                .is_quorum(|broker| has_all(&broker))
                .then(|| self.move_to(partition, new)),
            ReplicaSet::Stable(_) => None,
        };
        LedPartition { topic_id: TOPIC, partition, epoch, in_sync, move_complete }
    }

    /// When the move to these replicas began, if it is under way.
    fn move_to(&self, partition: PartitionId, new: &[BrokerId]) -> u64 {
        let placed = self.image.topic_by_id(TOPIC).and_then(|topic| topic.partition(partition));
        let placed = placed.filter(|placed| placed.moving_to.as_deref() == Some(new));
        placed.map_or(0, |placed| placed.moving_since)
    }

    /// A record, by whoever thinks that it leads.
    pub(super) fn produce(&mut self, partition: u32) {
        for ((_, number), copy) in &mut self.copies {
            if *number == partition && copy.leads.is_some() {
                copy.end = copy.end.plus(1);
            }
        }
    }

    /// A replica copies from whoever leads the newest epoch.
    pub(super) fn copy(&mut self, partition: u32, to: u32) {
        let leading = self.copies.iter().filter(|((_, number), _)| *number == partition);
        let leading = leading.filter_map(|((broker, _), copy)| Some((copy.leads.as_ref()?.0, *broker)));
        if let Some((_, leader)) = leading.max() {
            self.copy_from(leader, partition, to);
        }
    }

    fn copy_from(&mut self, leader: u32, partition: u32, to: u32) {
        let source = self.copies[&(leader, partition)].clone();
        let Some((epoch, set)) = source.leads else { return };
        let copy = self.copies.get_mut(&(to, partition)).unwrap();
        if to == leader || !self.running.contains_key(&to) || !set.contains(BrokerId(to)) || epoch < copy.promised {
            return;
        }
        copy.promise(epoch);
        (copy.adopted, copy.end) = (Some(epoch), source.end);
        let counted = |broker: BrokerId| {
            let copy = &self.copies[&(broker.0, partition)];
            (copy.adopted == Some(epoch)).then_some(copy.end)
        };
        if let Some(offset) = set.quorum_reached(counted) {
            let committed = self.committed.entry(partition).or_default();
            *committed = offset.max(*committed);
        }
    }

    pub(super) fn begin_move(&mut self, partition: u32, to: &[u32]) {
        let (topic_id, number) = (TOPIC, PartitionId(partition));
        let expected = self.image.partition_by_id(topic_id, number).unwrap().replicas.clone();
        let moves = vec![ReplicaMove { topic_id, partition: number, expected, to: brokers(to) }];
        self.apply(&MetadataCommand::BeginMoves { moves }).unwrap_or_default();
    }

    pub(super) fn cancel_move(&mut self, partition: u32) {
        let (topic_id, partition) = (TOPIC, PartitionId(partition));
        if let Some(to) = self.image.partition_by_id(topic_id, partition).unwrap().moving_to.clone() {
            self.apply(&MetadataCommand::CancelMove { topic_id, partition, to }).unwrap();
        }
    }

    pub(super) fn drain(&mut self, broker: u32, draining: bool) {
        let (broker, incarnation) = (BrokerId(broker), self.image.brokers[&BrokerId(broker)].incarnation);
        self.apply(&MetadataCommand::SetDraining { broker, incarnation, draining }).unwrap();
    }

    pub(super) fn request(&mut self, partition: u32, to: u32) {
        let asked = self.controller.request_leader(TOPIC, PartitionId(partition), BrokerId(to), self.now_ms);
        asked.unwrap_or_default();
    }

    /// Another controller takes over; what the former one has sent is still under way.
    pub(super) fn change_controller(&mut self) {
        self.controllers += 1;
        self.controller = Controller::new(ControllerConfig::default(), ME, self.now_ms);
        self.controller.on_image(Arc::new(self.image.clone()), self.now_ms);
    }

    /// Nothing fails for so long, and everybody does what they have to.
    pub(super) fn calm(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            for broker in self.running.keys().copied().collect::<Vec<_>>() {
                self.learn(broker);
                self.beat(broker);
                for partition in 0..u32::try_from(self.image.partition_count()).unwrap() {
                    self.copy(partition, broker);
                }
            }
            for message in take(&mut self.under_way) {
                self.deliver(message);
            }
            self.poll();
            self.now_ms += 20;
        }
    }

    pub(super) fn is_led(&self, partition: u32) -> bool {
        let image = self.image.partition_by_id(TOPIC, PartitionId(partition)).unwrap();
        let leads = |leader: BrokerId| {
            let leads = self.copies[&(leader.0, partition)].leads.as_ref();
            leads.is_some_and(|(epoch, _)| *epoch == image.leader_epoch) && self.running.contains_key(&leader.0)
        };
        image.leader.is_some_and(leads)
    }

    /// Whether a quorum of those that run remembers, taking a move back if need be.
    pub(super) fn can_be_led(&self, partition: u32) -> bool {
        let image = self.image.partition_by_id(TOPIC, PartitionId(partition)).unwrap();
        let counts = |broker: BrokerId| {
            self.running.contains_key(&broker.0) && self.copies[&(broker.0, partition)].adopted.is_some()
        };
        ReplicaSet::Stable(image.replicas.clone()).is_quorum(counts)
    }

    pub(super) fn offline_reason(&self, partition: u32) -> Option<String> {
        self.controller.offline_reason(TOPIC, PartitionId(partition))
    }
}

impl Copy {
    fn promise(&mut self, epoch: LeaderEpoch) {
        if epoch > self.promised {
            self.promised = epoch;
            self.leads = None;
        }
    }
}

/// Whether a proposal was refused because others were faster.
fn is_race(error: &MetadataError) -> bool {
    matches!(
        error,
        MetadataError::StaleEpoch { .. }
            | MetadataError::LedAlready { .. }
            | MetadataError::Restarted { .. }
            | MetadataError::NotMoving { .. }
            | MetadataError::NotLed { .. }
            | MetadataError::NotAReplica { .. }
    )
}
