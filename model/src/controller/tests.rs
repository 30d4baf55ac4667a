//! The controller, one rule a test: against a metadata log that applies what it is told to, and
//! brokers that answer when they are told to.

use std::{collections::BTreeMap, mem::take, sync::Arc};

use super::*;
use crate::{
    LeaderEpoch, Offset,
    cluster::{EpochExpectation, LeaderChoice, MetadataCommand, PartitionImage, ReplicaMove},
    replication::StorageId,
    topic::TopicConfig,
};

mod elections;
mod leases;
mod liveness;
mod moves;
mod proposals;
mod random;
mod transfers;

/// The controller's own broker keeps no partition, unless a test says so.
const ME: BrokerId = BrokerId(9);
const TOPIC: TopicId = TopicId::from_bytes([1; 16]);

fn brokers(numbers: &[u32]) -> Vec<BrokerId> {
    numbers.iter().copied().map(BrokerId).collect()
}

fn epoch(number: u32) -> LeaderEpoch {
    LeaderEpoch::new(number)
}

/// A life of a broker.
fn life(broker: u32, number: u8) -> Incarnation {
    Incarnation::from_bytes([number * 16 + u8::try_from(broker).unwrap(); 16])
}

struct Harness {
    image: ClusterImage,
    controller: Controller,
    now_ms: u64,
    /// The life of each broker that runs.
    running: BTreeMap<u32, Incarnation>,
    /// What a replica answers to a fence, if not that it has adopted epoch 0 and holds nothing.
    logs: BTreeMap<(u32, u32), (Option<LeaderEpoch>, Offset)>,
    proposals: Vec<MetadataCommand>,
    fences: Vec<(u32, Vec<FenceRequest>)>,
    transfers: Vec<(u32, Vec<TransferRequest>)>,
}

impl Harness {
    /// Brokers 0 to `count` - 1 and a topic with these replicas, whose preferred leaders lead in
    /// epoch 1.
    fn led(count: u32, partitions: &[&[u32]]) -> Self {
        let mut harness = Self::new(count, partitions);
        harness.settle();
        for partition in harness.image.topic_by_id(TOPIC).unwrap().partitions.clone() {
            assert_eq!(partition.leader.as_ref(), partition.replicas.first());
        }
        harness
    }

    /// The same before the controller has done anything.
    fn new(count: u32, partitions: &[&[u32]]) -> Self {
        let mut harness = Self {
            image: ClusterImage::default(),
            controller: Controller::new(ControllerConfig::default(), ME, 0),
            now_ms: 0,
            running: BTreeMap::new(),
            logs: BTreeMap::new(),
            proposals: Vec::new(),
            fences: Vec::new(),
            transfers: Vec::new(),
        };
        harness.apply(&MetadataCommand::FormatCluster { cluster_id: "c".to_owned() });
        for broker in 0..count {
            harness.start(broker, 1);
        }
        harness.apply(&MetadataCommand::CreateTopic {
            id: TOPIC,
            name: "orders".parse().unwrap(),
            config: TopicConfig::default(),
            partitions: partitions.iter().map(|replicas| brokers(replicas)).collect(),
            created_ms: 0,
        });
        harness
    }

    /// A command that others have proposed.
    fn apply(&mut self, command: &MetadataCommand) {
        self.image.apply(command).unwrap();
        self.show_image();
    }

    fn show_image(&mut self) {
        self.controller.on_image(Arc::new(self.image.clone()), self.now_ms);
    }

    /// Starts a broker, in the life with this number.
    fn start(&mut self, broker: u32, number: u8) {
        let incarnation = life(broker, number);
        self.running.insert(broker, incarnation);
        self.apply(&MetadataCommand::RegisterBroker {
            broker: BrokerId(broker),
            http_url: format!("http://127.0.0.1:{}", 8000 + broker),
            rpc_address: format!("127.0.0.1:{}", 9000 + broker),
            incarnation,
            storage: StorageId::from_bytes([9; 16]),
            rack: None,
            replaces: self.image.brokers.get(&BrokerId(broker)).map(|known| known.incarnation),
        });
    }

    fn drain(&mut self, broker: u32, draining: bool) {
        let incarnation = self.running[&broker];
        self.apply(&MetadataCommand::SetDraining { broker: BrokerId(broker), incarnation, draining });
    }

    /// Kills a broker, so that its port refuses.
    fn kill(&mut self, broker: u32) {
        let incarnation = self.running.remove(&broker);
        self.controller.on_gone(BrokerId(broker), incarnation, self.now_ms);
    }

    /// Cuts a broker off: it is not heard of any more.
    fn silence(&mut self, broker: u32) {
        self.running.remove(&broker);
    }

    fn heartbeat(&self, broker: u32) -> Heartbeat {
        let (incarnation, version) = (self.running[&broker], self.image.version);
        let broker = BrokerId(broker);
        Heartbeat { broker, incarnation, version, resigned: Vec::new(), led: Vec::new(), full: false }
    }

    fn hear(&mut self, heartbeat: &Heartbeat) -> HeartbeatAnswer {
        self.controller.on_heartbeat(heartbeat, self.now_ms)
    }

    /// A leader reports the partition, as it leads it by the image.
    fn report(&mut self, partition: u32, in_sync: &[u32], move_complete: Option<&[u32]>) {
        let image = self.partition(partition).clone();
        let mut heartbeat = self.heartbeat(image.leader.unwrap().0);
        heartbeat.led.push(LedPartition {
            topic_id: TOPIC,
            partition: PartitionId(partition),
            epoch: image.leader_epoch,
            in_sync: brokers(in_sync),
            // Of another set: of the move before.
            move_complete: move_complete.map(|to| match image.moving_to == Some(brokers(to)) {
                true => image.moving_since,
                false => image.moving_since.saturating_sub(1),
            }),
        });
        self.hear(&heartbeat);
    }

    /// Time passes in which every running broker is heard of and the controller is polled.
    fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        loop {
            for broker in self.running.keys().copied().collect::<Vec<_>>() {
                let heartbeat = self.heartbeat(broker);
                self.hear(&heartbeat);
            }
            self.poll();
            if self.now_ms >= until_ms {
                return;
            }
            self.now_ms = self.controller.next_wake_ms(self.now_ms).clamp(self.now_ms + 1, until_ms);
        }
    }

    fn poll(&mut self) {
        for action in self.controller.poll(self.now_ms) {
            match action {
                Action::Propose(command) => self.proposals.push(command),
                Action::Fence { broker, incarnation, partitions, version } => {
                    assert_eq!(version, self.image.version);
                    assert_eq!(self.image.brokers[&broker].incarnation, incarnation);
                    self.fences.push((broker.0, partitions));
                }
                Action::Transfer { leader, partitions, .. } => self.transfers.push((leader.0, partitions)),
            }
        }
    }

    /// The proposal that the controller makes now.
    #[track_caller]
    fn proposed(&mut self) -> MetadataCommand {
        self.poll();
        assert_eq!(self.proposals.len(), 1, "{:?}", self.proposals);
        self.proposals.pop().unwrap()
    }

    #[track_caller]
    fn proposes_nothing(&mut self) {
        self.poll();
        assert_eq!(self.proposals, [], "nothing is to be proposed");
    }

    /// Applies the proposal that the controller makes now; answers it.
    #[track_caller]
    fn apply_proposed(&mut self) -> MetadataCommand {
        let command = self.proposed();
        self.apply(&command);
        self.controller.on_proposed(true, self.now_ms);
        command
    }

    /// The brokers that were sent fences since it was asked last, in order.
    fn fenced(&mut self) -> Vec<u32> {
        self.poll();
        let mut fenced: Vec<_> = take(&mut self.fences).into_iter().map(|(broker, _)| broker).collect();
        fenced.sort_unstable();
        fenced
    }

    /// A broker answers the fence of the current epoch of these partitions.
    fn answer(&mut self, broker: u32, partitions: &[u32]) {
        let answers = partitions.iter().map(|partition| {
            let (adopted_epoch, counted_offset) =
                self.logs.get(&(broker, *partition)).copied().unwrap_or((Some(epoch(0)), Offset::ZERO));
            let (incarnation, epoch) = (self.running[&broker], self.partition(*partition).leader_epoch);
            let broker = BrokerId(broker);
            let answer = FenceAnswer { broker, incarnation, epoch, adopted_epoch, counted_offset };
            (TOPIC, PartitionId(*partition), answer)
        });
        let answers = answers.collect();
        self.controller.on_fence_answers(BrokerId(broker), answers, self.now_ms);
    }

    fn partition(&self, partition: u32) -> &PartitionImage {
        self.image.partition_by_id(TOPIC, PartitionId(partition)).unwrap()
    }

    fn leadership(&self, partition: u32) -> (Option<u32>, u32) {
        let partition = self.partition(partition);
        (partition.leader.map(|leader| leader.0), partition.leader_epoch.get())
    }

    /// Carries everything out until the controller wants nothing more at this time.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.poll();
            let fences = take(&mut self.fences);
            let proposals = take(&mut self.proposals);
            if fences.is_empty() && proposals.is_empty() {
                return;
            }
            for command in proposals {
                self.apply(&command);
                self.controller.on_proposed(true, self.now_ms);
            }
            for (broker, requests) in fences {
                if self.running.contains_key(&broker) {
                    let partitions: Vec<_> = requests.iter().map(|request| request.partition.0).collect();
                    self.answer(broker, &partitions);
                }
            }
        }
        panic!("the controller does not come to rest");
    }
}

fn begins(partitions: &[(u32, u32)]) -> MetadataCommand {
    let expectation = |&(partition, expected): &(u32, u32)| EpochExpectation {
        topic_id: TOPIC,
        partition: PartitionId(partition),
        expected: epoch(expected),
    };
    MetadataCommand::BeginEpochs { partitions: partitions.iter().map(expectation).collect() }
}

/// Partition, epoch, leader; in its first life.
fn sets(leaders: &[(u32, u32, u32)]) -> MetadataCommand {
    let choice = |&(partition, of, leader): &(u32, u32, u32)| LeaderChoice {
        topic_id: TOPIC,
        partition: PartitionId(partition),
        epoch: epoch(of),
        leader: BrokerId(leader),
        incarnation: life(leader, 1),
    };
    MetadataCommand::SetLeaders { leaders: leaders.iter().map(choice).collect() }
}
