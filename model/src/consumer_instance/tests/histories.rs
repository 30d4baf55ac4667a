//! Random histories: edges that die, answers that get lost, coordinators that come back with what was committed of
//! their records. Nothing may be skipped.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The client asks for records: how many there are, and how the answer fares.
    Poll { edge: u32, records: u64, fate: Fate },
    /// An answer of before reaches the client at last, and its edge says so.
    Arrive { received: bool },
    /// The client commits what it has.
    Commit,
    /// The client names the offsets that it has come to.
    CommitNamed,
    /// Others take a partition, or it comes back.
    Reassign { owned: u8 },
    /// The coordinator dies; this many of its last records had not been committed.
    Failover { lost: usize },
    /// An edge dies with what it had in hand.
    EdgeDies,
    /// Nothing happens for a while.
    Pass { ms: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Read, delivered, received, confirmed.
    Fine,
    /// The edge dies before it delivers.
    NotDelivered,
    /// Delivered, and then it is open whether the client gets it.
    Open,
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![3 => Just(Fate::Fine), 1 => Just(Fate::NotDelivered), 2 => Just(Fate::Open)];
    prop_oneof![
        6 => (0..3_u32, 0..4_u64, fate).prop_map(|(edge, records, fate)| Step::Poll { edge, records, fate }),
        2 => any::<bool>().prop_map(|received| Step::Arrive { received }),
        3 => Just(Step::Commit),
        2 => Just(Step::CommitNamed),
        1 => (0..8_u8).prop_map(|owned| Step::Reassign { owned }),
        2 => (0..6_usize).prop_map(|lost| Step::Failover { lost }),
        1 => Just(Step::EdgeDies),
        1 => (0..5_000_u64).prop_map(|ms| Step::Pass { ms }),
    ]
}

const PARTITIONS: u32 = 3;

/// Records of the log.
#[derive(Clone, Debug)]
enum Record {
    Instance(InstanceChange),
    Commit(TopicPartition, Offset),
}

struct World {
    instance: ConsumerInstance,
    committed: BTreeMap<TopicPartition, Offset>,
    log: Vec<Record>,
    /// What was answered rests on these: they are committed for certain.
    certain: usize,
    now_ms: u64,
    next_poll: u64,
    /// What reached the client, by partition.
    received: BTreeMap<TopicPartition, BTreeSet<u64>>,
    /// An answer that may still arrive.
    in_hand: Option<(PollId, Vec<Range>)>,
    confirmation: Confirmation,
    /// The last poll that the client has, when it says so itself.
    token: Option<PollId>,
}

impl World {
    fn new(confirmation: Confirmation) -> Self {
        let mut world = Self {
            instance: instance(confirmation, &[0, 1, 2]),
            committed: BTreeMap::new(),
            log: Vec::new(),
            certain: 0,
            now_ms: 0,
            next_poll: 1,
            received: BTreeMap::new(),
            in_hand: None,
            confirmation,
            token: None,
        };
        world.store();
        world.certain = world.log.len();
        world
    }

    fn store(&mut self) {
        self.log.extend(self.instance.take_changes().into_iter().map(Record::Instance));
    }

    /// An answer is given: what it rests on is committed.
    fn answered(&mut self) {
        self.store();
        self.certain = self.log.len();
    }

    fn owned(&self) -> BTreeSet<TopicPartition> {
        self.instance.assignment().cloned().collect()
    }

    fn take(&mut self, ranges: &[Range]) {
        for Range { partition, from, next } in ranges {
            self.received.entry(partition.clone()).or_default().extend(from.get()..next.get());
        }
    }

    fn poll(&mut self, edge_number: u32, records: u64, fate: Fate) {
        // A client that asks again has given up on what it was owed.
        self.in_hand = None;
        let poll = PollId(self.next_poll);
        self.next_poll += 1;
        let new = NewPoll { edge: edge(edge_number), acknowledged: self.token, ..new_poll(poll.0, poll.0) };
        let committed = self.committed.clone();
        let begun = match self.instance.begin_poll(new, |partition| committed.get(partition).copied(), self.now_ms) {
            Ok(begun) => begun,
            Err(under_way) => {
                // Waited for, in vain: then it is over for whoever holds it.
                assert!(under_way.until_ms > self.now_ms);
                self.now_ms = under_way.until_ms;
                self.instance.begin_poll(new, |partition| committed.get(partition).copied(), self.now_ms).unwrap()
            }
        };
        self.store();
        for (partition, start) in &begun.partitions {
            let committed = self.committed.get(partition).copied().unwrap_or(Offset::ZERO);
            let PollStart::At(start) = start else { continue };
            assert!(*start >= committed, "{partition} was committed up to {committed}, and begins at {start}");
        }
        if fate == Fate::NotDelivered {
            return;
        }
        let range = |(partition, start): &(TopicPartition, PollStart)| {
            let from = match start {
                PollStart::At(offset) => *offset,
                PollStart::Reset(_) => Offset::ZERO,
            };
            Range { partition: partition.clone(), from, next: offset(from.get() + records) }
        };
        let ranges: Vec<Range> = begun.partitions.iter().map(range).collect();
        assert_eq!(self.instance.deliver(poll, &ranges, self.now_ms), Ok(vec![]));
        self.answered();
        self.in_hand = Some((poll, ranges));
        if fate == Fate::Fine {
            self.arrive(true);
        }
    }

    fn arrive(&mut self, received: bool) {
        let Some((poll, ranges)) = self.in_hand.take() else { return };
        if received {
            // Bytes that are on their way arrive whatever the coordinator thinks by now.
            self.take(&ranges);
            // A poll without records leaves the client's token as it is.
            if self.confirmation == Confirmation::Token && ranges.iter().any(|range| range.next > range.from) {
                self.token = Some(poll);
            }
        }
        self.instance.confirm(poll, received, self.now_ms).unwrap_or_default();
        self.store();
    }

    fn commit(&mut self) {
        let committed = self.committed.clone();
        self.instance.catch_up(|partition| committed.get(partition).copied());
        let positions = match (self.confirmation, self.token) {
            (Confirmation::Token, Some(token)) => match self.instance.acknowledge(token, self.now_ms) {
                Ok(()) => {
                    self.instance.catch_up(|partition| committed.get(partition).copied());
                    self.instance.confirmed_positions()
                }
                Err(PollOver) => return,
            },
            (Confirmation::Token, None) => return,
            (Confirmation::Edge, _) => match self.instance.positions_to_commit(self.now_ms) {
                Ok(positions) => positions,
                Err(_) => return,
            },
        };
        self.store();
        for (partition, offset) in positions {
            let before = self.committed.get(&partition).copied().unwrap_or(Offset::ZERO);
            assert!(offset >= before, "{partition} goes back from {before} to {offset}");
            self.log.push(Record::Commit(partition.clone(), offset));
            self.committed.insert(partition, offset);
        }
        self.answered();
    }

    fn commit_named(&mut self) {
        for partition in self.owned() {
            let received = self.received.get(&partition).cloned().unwrap_or_default();
            let come_to = (0..).find(|offset| !received.contains(offset)).map(offset);
            if let Some(come_to) = come_to.filter(|it| *it > Offset::ZERO) {
                self.log.push(Record::Commit(partition.clone(), come_to));
                self.committed.insert(partition, come_to);
            }
        }
        self.answered();
    }

    fn failover(&mut self, lost: usize) {
        self.log.truncate(self.log.len().saturating_sub(lost).max(self.certain));
        let (mut definition, mut positions) = (None, BTreeMap::new());
        self.committed.clear();
        for record in &self.log {
            match record.clone() {
                Record::Instance(InstanceChange::Definition(stored)) => definition = Some(stored),
                Record::Instance(InstanceChange::Position(partition, Some(stored))) => {
                    positions.insert(partition, stored);
                }
                Record::Instance(InstanceChange::Position(partition, None)) => drop(positions.remove(&partition)),
                Record::Commit(partition, offset) => drop(self.committed.insert(partition, offset)),
            }
        }
        let owned = self.owned();
        self.instance = ConsumerInstance::restore(definition.unwrap(), self.now_ms);
        for (partition, position) in positions {
            self.instance.restore_position(partition, position, self.now_ms);
        }
        self.instance.set_assignment(owned, self.next_poll);
        self.store();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Poll { edge, records, fate } => self.poll(edge, records, fate),
            Step::Arrive { received } => self.arrive(received),
            Step::Commit => self.commit(),
            Step::CommitNamed => self.commit_named(),
            Step::Reassign { owned } => {
                let owned = (0..PARTITIONS).filter(|number| owned & (1 << number) != 0).map(partition).collect();
                self.instance.set_assignment(owned, self.next_poll);
                self.answered();
            }
            Step::Failover { lost } => self.failover(lost),
            Step::EdgeDies => {
                // Whatever it had in hand may or may not have left; here it has not.
                self.in_hand = None;
                if let Some(under_way) = self.instance.under_way(self.now_ms) {
                    self.instance.drop_poll(under_way.poll);
                }
            }
            Step::Pass { ms } => self.now_ms += ms,
        }
    }

    /// Everything below what is committed has reached the client.
    fn check(&self) -> Result<(), TestCaseError> {
        for (partition, committed) in &self.committed {
            let received = self.received.get(partition).cloned().unwrap_or_default();
            let skipped = (0..committed.get()).find(|offset| !received.contains(offset));
            prop_assert_eq!(skipped, None, "{} was committed up to {}", partition, committed);
        }
        for (partition, position) in self.instance.positions() {
            let received = self.received.get(partition).cloned().unwrap_or_default();
            prop_assert!((0..position.get()).all(|offset| received.contains(&offset)), "{} was skipped", partition);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_skipped(token: bool, steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new(if token { Confirmation::Token } else { Confirmation::Edge });
        for step in steps {
            world.step(step);
            world.check()?;
        }
        // In the end a quiet poll gets everything that is there.
        world.now_ms += 100_000;
        world.poll(0, 1, Fate::Fine);
        world.poll(0, 0, Fate::Fine);
        world.commit();
        world.check()?;
        for partition in world.owned() {
            prop_assert!(world.committed.contains_key(&partition));
        }
    }
}
