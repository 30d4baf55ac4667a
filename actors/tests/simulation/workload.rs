//! What clients do, on every broker, for as long as it lives: append, read, commit offsets of groups, consume. None of them
//! knows who leads; each asks the broker of its own host.

use std::{cell::Cell, rc::Rc, time::Duration};

use pubg1_actors::{Acks, AppendRequest, BrokerHandle, PartitionHandle};
use pubg1_model::{
    GroupId, Offset, PartitionId, TopicPartition,
    compression::Compression,
    record_batch::{BatchBuilder, NewRecord, ValidBatch},
};
use pubg1_transport::backoff::SplitMix64;
use tokio::{task::spawn_local, time::timeout};

use crate::{
    cluster::{PARTITIONS, topic},
    consumers::consume,
    history::{By, Shared, records_of},
};

/// What the clients of one host share, through all lives of its broker.
pub(crate) struct Clients {
    /// The host's name, part of everything it writes.
    pub(crate) name: String,
    pub(crate) history: Shared,
    /// Set when nothing is written any more.
    pub(crate) calm: Rc<Cell<bool>>,
    /// How many records, and batches, were made.
    pub(crate) made: Cell<u64>,
    /// The group's generation: after a commit whose outcome is unknown it goes on under another name.
    pub(crate) group: Cell<u64>,
    /// What was last committed or tried.
    pub(crate) committed: Cell<u64>,
    /// Reads that succeeded since calm was set, by partition; the last two are those of the groups.
    pub(crate) well: [Cell<bool>; PARTITIONS as usize + 2],
}

impl Clients {
    pub(crate) fn new(name: String, history: Shared, calm: Rc<Cell<bool>>) -> Rc<Self> {
        Rc::new(Self {
            name,
            history,
            calm,
            made: Cell::new(0),
            group: Cell::new(0),
            committed: Cell::new(0),
            well: Default::default(),
        })
    }

    /// Whether everything works again on this host.
    pub(crate) fn is_well(&self) -> bool {
        self.well.iter().all(Cell::get)
    }

    /// Starts them.
    pub(crate) fn start(self: &Rc<Self>, broker: &BrokerHandle, random: &mut SplitMix64) {
        for partition in (0..PARTITIONS).map(PartitionId) {
            let mut seed = || SplitMix64::new(random.below(u64::MAX));
            drop(spawn_local(Rc::clone(self).produce(broker.clone(), partition, seed())));
            drop(spawn_local(Rc::clone(self).read(broker.clone(), partition, seed())));
        }
        drop(spawn_local(Rc::clone(self).commit(broker.clone(), SplitMix64::new(random.below(u64::MAX)))));
        drop(spawn_local(consume(Rc::clone(self), broker.clone(), SplitMix64::new(random.below(u64::MAX)))));
    }

    /// The consumer has polled and committed.
    pub(crate) fn consumes_well(&self) {
        self.well[PARTITIONS as usize + 1].set(true);
    }

    fn batch(&self, random: &mut SplitMix64) -> (ValidBatch, Vec<String>) {
        let mut batch = BatchBuilder::new(Compression::None);
        let payloads: Vec<String> = (0..=random.below(3))
            .map(|_| {
                self.made.set(self.made.get() + 1);
                format!("{}-{}", self.name, self.made.get())
            })
            .collect();
        for payload in &payloads {
            batch.push(&NewRecord { value: Some(payload.as_bytes()), ..NewRecord::default() }).expect("it fits");
        }
        (batch.finish(None).expect("it has records"), payloads)
    }

    async fn produce(self: Rc<Self>, broker: BrokerHandle, partition: PartitionId, mut random: SplitMix64) {
        let handle = open(&broker, partition).await;
        while !self.calm.get() {
            let (batch, payloads) = self.batch(&mut random);
            let answer = handle.append(AppendRequest { batches: vec![batch], acks: Acks::All }).await;
            match answer {
                Ok(reply) => {
                    let by = By { leader: reply.leader, epoch: reply.leader_epoch };
                    let place = reply.appended.first().expect("one batch, one place");
                    let mut history = self.history.borrow_mut();
                    for (offset, payload) in (place.base_offset.get()..).zip(payloads) {
                        history.acknowledged(partition, by, (offset, payload));
                    }
                }
                Err(_) => {
                    self.history.borrow_mut().count("appends failed", 1);
                    pause(&mut random, 60).await;
                }
            }
            pause(&mut random, 50).await;
        }
    }

    async fn read(self: Rc<Self>, broker: BrokerHandle, partition: PartitionId, mut random: SplitMix64) {
        let handle = open(&broker, partition).await;
        loop {
            let calm = self.calm.get();
            let floor = self.history.borrow().read_begins(partition);
            let from = if random.below(3) == 0 { 0 } else { random.below(floor + 1) };
            match handle.read(Offset::new(from), 1024).await {
                Ok(fetched) => {
                    let by = By { leader: fetched.leader, epoch: fetched.leader_epoch };
                    let records = records_of(&fetched.runs, from);
                    let mut history = self.history.borrow_mut();
                    history.read_ends(partition, by, floor, fetched.high_watermark.get());
                    history.records_read(partition, by, from, &records);
                    if records.is_empty() && from < floor {
                        history.violate(format!("{partition}: nothing is read at {from}, {floor} was committed"));
                    }
                    if calm {
                        self.well[usize::try_from(partition.0).expect("small")].set(true);
                    }
                }
                Err(pubg1_actors::FetchError::OffsetOutOfRange { requested, high_watermark, .. }) => {
                    // What was committed is in range on everyone who may answer.
                    let text = format!("{partition}: {requested} is out of range, below {high_watermark}");
                    self.history.borrow_mut().violate(text);
                }
                Err(_) => self.history.borrow_mut().count("reads failed", 1),
            }
            let floor = self.history.borrow().read_begins(partition);
            if let Ok(view) = handle.leader_view().await {
                let by = By { leader: view.leader, epoch: view.leader_epoch };
                self.history.borrow_mut().read_ends(partition, by, floor, view.high_watermark.get());
            }
            pause(&mut random, 40).await;
        }
    }

    async fn commit(self: Rc<Self>, broker: BrokerHandle, mut random: SplitMix64) {
        drop(open(&broker, PartitionId(0)).await);
        // What a former life had under way may still come.
        self.group.set(self.group.get() + 1);
        loop {
            let calm = self.calm.get();
            let name = format!("{}.{}", self.name, self.group.get());
            let group: GroupId = name.parse().expect("a name");
            let place = TopicPartition { topic: topic(), partition: PartitionId(0) };
            if !calm {
                let offset = self.committed.get() + 1;
                self.committed.set(offset);
                let commit = broker.commit_offset(group.clone(), place.clone(), Offset::new(offset), String::new());
                match commit.await {
                    Ok(()) => self.history.borrow_mut().committed(&name, offset),
                    Err(_) => {
                        self.history.borrow_mut().count("group commits failed", 1);
                        self.group.set(self.group.get() + 1);
                        pause(&mut random, 60).await;
                        continue;
                    }
                }
            }
            let floor = self.history.borrow().group_read_begins(&name);
            match broker.committed_offset(group, place).await {
                Ok(found) => {
                    let found = found.map(|found| found.offset.get());
                    self.history.borrow_mut().group_read_ends(&name, floor, found);
                    if calm {
                        self.well[PARTITIONS as usize].set(true);
                    }
                }
                Err(_) => self.history.borrow_mut().count("group reads failed", 1),
            }
            pause(&mut random, 80).await;
        }
    }
}

/// The partition, once this broker knows of it.
async fn open(broker: &BrokerHandle, partition: PartitionId) -> PartitionHandle {
    loop {
        match broker.partition(&topic(), partition) {
            Ok(handle) => return handle,
            Err(_) => pass(Duration::from_millis(20)).await,
        }
    }
}

/// What a client does between two requests.
pub(crate) async fn pause(random: &mut SplitMix64, at_most_ms: u64) {
    pass(Duration::from_millis(1 + random.below(at_most_ms))).await;
}

/// Lets virtual time pass.
async fn pass(time: Duration) {
    timeout(time, std::future::pending::<()>()).await.expect_err("it never ends by itself");
}
