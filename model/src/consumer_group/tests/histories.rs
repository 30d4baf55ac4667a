//! Random histories: clients, static clients and server-driven members that come, go, crash and sleep; coordinators that
//! die, also between a change and its record. Whatever happened, the rules hold, and in the end everybody reads.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::TopicPartition;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Client,
    Careful,
    Static,
    Server,
}

#[derive(Clone, Debug)]
enum Phase {
    Out,
    /// It has an id, or had, and joins with it.
    Again,
    Joining(Ticket),
    Joined(JoinAnswer),
    Syncing(Ticket, Generation),
    Member(Generation),
}

/// Somebody who wants to read.
#[derive(Clone, Debug)]
struct Actor {
    kind: Kind,
    topics: Vec<&'static str>,
    /// What it asked for when it joined last.
    asked: Vec<&'static str>,
    member_id: Option<MemberId>,
    phase: Phase,
    /// What it believes to read.
    reads: BTreeSet<TopicPartition>,
    /// The generation in which it was given that.
    given: Option<Generation>,
}

#[derive(Clone, Debug)]
enum Op {
    Step(usize),
    Commit(usize, u32),
    StaleSync(usize),
    Leave(usize),
    Crash(usize),
    Subscribe(usize, bool),
    Pass(u64),
    Grow,
    Failover,
    /// The next record that is to be stored is lost, and the coordinator with it.
    LoseNextRecord,
}

fn op() -> impl Strategy<Value = Op> {
    let actor = || 0..6_usize;
    prop_oneof![
        20 => actor().prop_map(Op::Step),
        3 => (actor(), 0..3_u32).prop_map(|(actor, age)| Op::Commit(actor, age)),
        1 => actor().prop_map(Op::StaleSync),
        1 => actor().prop_map(Op::Leave),
        2 => actor().prop_map(Op::Crash),
        1 => (actor(), any::<bool>()).prop_map(|(actor, both)| Op::Subscribe(actor, both)),
        3 => prop_oneof![1_u64..2_000, 2_000_u64..20_000, 50_000_u64..70_000].prop_map(Op::Pass),
        1 => Just(Op::Grow),
        1 => Just(Op::Failover),
        1 => Just(Op::LoseNextRecord),
    ]
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let kind = prop_oneof![Just(Kind::Client), Just(Kind::Careful), Just(Kind::Static), Just(Kind::Server)];
    prop_oneof![3 => proptest::collection::vec(kind, 6), 1 => Just(vec![Kind::Server; 6]), 1 => Just(vec![Kind::Client; 6])]
}

fn protocols() -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![
        Just(vec!["range"]),
        Just(vec!["roundrobin", "range"]),
        Just(vec!["cooperative-sticky"]),
        Just(vec!["cooperative-sticky", "range"]),
    ]
}

struct World {
    scene: Scene,
    actors: Vec<Actor>,
    protocols: Vec<&'static str>,
    fresh: u32,
    lose_next_record: bool,
    /// The newest generation that anybody was told of.
    told: Generation,
    /// What was shared out in each generation.
    topics_of: BTreeMap<Generation, TopicPartitions>,
    owners: BTreeMap<(Generation, TopicPartition), String>,
}

fn is_server(member: &MemberId) -> bool {
    member.as_str().starts_with('s')
}

impl World {
    fn new(kinds: Vec<Kind>, protocols: Vec<&'static str>) -> Self {
        let actor = |kind| Actor {
            kind,
            topics: vec!["t"],
            asked: vec!["t"],
            member_id: None,
            phase: Phase::Out,
            reads: BTreeSet::new(),
            given: None,
        };
        Self {
            scene: Scene::new(),
            actors: kinds.into_iter().map(actor).collect(),
            protocols,
            fresh: 0,
            lose_next_record: false,
            told: Generation::ZERO,
            topics_of: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }

    fn is_cooperative(&self) -> bool {
        self.protocols[0] == "cooperative-sticky"
    }

    /// Does what the group wants, until it wants nothing, and checks what can be seen.
    fn settle(&mut self) {
        'again: loop {
            let effects = self.scene.group.drain_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                match effect {
                    Effect::Joined { ticket, answer } => {
                        if let Ok(answer) = &answer {
                            assert!(answer.generation >= self.told, "generations only grow");
                            self.told = answer.generation;
                        }
                        assert_eq!(self.scene.joined.insert(ticket, answer), None, "answered twice");
                    }
                    Effect::Synced { ticket, answer } => {
                        assert_eq!(self.scene.synced.insert(ticket, answer), None, "answered twice");
                    }
                    Effect::Assign { generation, protocol, members } => {
                        self.topics_of.insert(generation, self.scene.topics.clone());
                        let given = assign_members(&protocol, &members, &self.scene.topics).unwrap();
                        self.scene.group.assign(generation, given, self.scene.now_ms);
                    }
                    Effect::Store if self.lose_next_record => {
                        self.failover();
                        continue 'again;
                    }
                    Effect::Store => self.store(),
                    Effect::Remove => panic!("nobody deletes it"),
                    Effect::Rebalancing(_) | Effect::Assigned { .. } => {}
                }
            }
        }
        self.check();
    }

    fn store(&mut self) {
        let group = &mut self.scene.group;
        let value = group.record(5_000);
        let bytes = value.encode().unwrap();
        assert_eq!(GroupMetadataValue::decode(&bytes), Ok(value.clone()));
        let mut again = ConsumerGroup::restore(GroupTimeouts::default(), &value, &is_server, self.scene.now_ms);
        assert_eq!(again.record(6_000), value, "restored as it was");
        if group.state() != GroupState::PreparingRebalance {
            assert_eq!(again.describe(), group.describe());
        }
        self.scene.stored = Some(value);
    }

    /// Another coordinator reads the last record; who waited hears nothing.
    fn failover(&mut self) {
        self.lose_next_record = false;
        let timeouts = GroupTimeouts::default();
        self.scene.group = match &self.scene.stored {
            Some(value) => ConsumerGroup::restore(timeouts, value, &is_server, self.scene.now_ms),
            None => ConsumerGroup::new(timeouts),
        };
        for actor in &mut self.actors {
            let is_answered = match &actor.phase {
                Phase::Joining(ticket) => self.scene.joined.contains_key(ticket),
                Phase::Syncing(ticket, _) => self.scene.synced.contains_key(ticket),
                _ => true,
            };
            if !is_answered {
                actor.phase = if actor.member_id.is_some() { Phase::Again } else { Phase::Out };
            }
        }
    }

    /// One owner for a partition in a generation, and one for every partition while the group is Stable.
    fn check(&mut self) {
        let description = self.scene.group.describe();
        if description.state != GroupState::Stable {
            return;
        }
        let generation = description.generation;
        let (mut wanted, mut claimed, mut given) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for member in &description.members {
            let owner = member.group_instance_id.clone().map_or_else(|| member.member_id.to_string(), String::from);
            let said = Subscription::decode(&member.subscription).unwrap();
            wanted.extend(said.topics);
            if member.driver == Driver::Client {
                claimed.extend(said.owned);
            }
            for partition in Assignment::decode(&member.assignment).unwrap().partitions {
                let first = self.owners.entry((generation, partition.clone())).or_insert_with(|| owner.clone());
                assert_eq!(*first, owner, "{partition} in generation {generation}");
                given.insert(partition);
            }
        }
        let topics = &self.topics_of[&generation];
        for name in &wanted {
            for partition in 0..topics.get(name).copied().unwrap_or(0) {
                let partition = TopicPartition { topic: name.clone(), partition: crate::PartitionId(partition) };
                let is_withheld = self.is_cooperative() && claimed.contains(&partition);
                assert!(given.contains(&partition) || is_withheld, "nobody has {partition} in {generation}");
            }
        }
    }

    fn request(&self, actor: &Actor) -> JoinRequest {
        let topics = actor.topics.iter().map(|name| topic(name));
        let mut said = Subscription::to_topics(topics);
        if self.is_cooperative() && actor.kind != Kind::Server {
            said.owned.clone_from(&actor.reads);
            said.generation = actor.given;
        }
        let said = said.encode().unwrap();
        JoinRequest {
            member_id: actor.member_id.clone(),
            group_instance_id: (actor.kind == Kind::Static).then(|| "static".into()),
            driver: if actor.kind == Kind::Server { Driver::Server } else { Driver::Client },
            protocols: self.protocols.iter().map(|name| ((*name).to_owned(), said.clone())).collect(),
            require_known_member_id: actor.kind == Kind::Careful,
            ..request(None, &[])
        }
    }

    fn join(&mut self, index: usize) {
        let mut request = self.request(&self.actors[index]);
        if request.group_instance_id.is_some() {
            request.group_instance_id = Some(format!("static-{index}").into());
        }
        self.fresh += 1;
        let letter = if self.actors[index].kind == Kind::Server { 's' } else { 'c' };
        let fresh = MemberId::from(format!("{letter}{}", self.fresh));
        let ticket = self.scene.ticket();
        self.actors[index].phase = Phase::Joining(ticket);
        self.actors[index].asked = self.actors[index].topics.clone();
        if !self.is_cooperative() {
            // It stops reading before it asks for a share.
            self.actors[index].reads.clear();
        }
        if self.actors[index].kind == Kind::Server {
            // The coordinator knows the id before any answer.
            self.actors[index].member_id = Some(fresh.clone());
        }
        self.scene.group.join(request, fresh, ticket, self.scene.now_ms);
        self.settle();
    }

    /// The next thing that a client would do by itself.
    fn step(&mut self, index: usize) {
        if self.actors[index].kind == Kind::Server {
            return self.step_server(index);
        }
        match self.actors[index].phase.clone() {
            Phase::Out | Phase::Again => self.join(index),
            Phase::Joining(ticket) => match self.scene.joined.get(&ticket).cloned() {
                None => {}
                Some(Ok(answer)) => {
                    self.actors[index].member_id = Some(answer.member_id.clone());
                    self.actors[index].phase = Phase::Joined(answer);
                }
                Some(Err(GroupError::MemberIdRequired(id))) => {
                    self.actors[index].member_id = Some(id);
                    self.actors[index].phase = Phase::Again;
                }
                Some(Err(error)) => self.fail(index, &error),
            },
            Phase::Joined(answer) => self.sync(index, &answer),
            Phase::Syncing(ticket, generation) => match self.scene.synced.get(&ticket).cloned() {
                None => {}
                Some(Ok(answer)) => self.read(index, generation, &answer.assignment),
                Some(Err(error)) => self.fail(index, &error),
            },
            Phase::Member(_) if self.actors[index].asked != self.actors[index].topics => self.join(index),
            Phase::Member(generation) => {
                let id = self.actors[index].member_id.clone().unwrap();
                let beat = self.scene.group.heartbeat(&id, None, generation, self.scene.now_ms);
                self.settle();
                if let Err(error) = beat {
                    self.fail(index, &error);
                }
            }
        }
    }

    fn step_server(&mut self, index: usize) {
        let id = self.actors[index].member_id.clone();
        let is_member = id.as_ref().is_some_and(|id| self.scene.group.touch(id, self.scene.now_ms));
        let Some(id) = id.filter(|_| is_member) else {
            self.actors[index].member_id = None;
            return self.join(index);
        };
        let protocols = self.request(&self.actors[index]).protocols;
        assert_eq!(self.scene.group.resubscribe(&id, protocols, self.scene.now_ms), Ok(()));
        self.settle();
    }

    fn sync(&mut self, index: usize, answer: &JoinAnswer) {
        let mut assignments = Vec::new();
        if !answer.members.is_empty() {
            let read = |member: &JoinedMember| AssigningMember {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                driver: if is_server(&member.member_id) { Driver::Server } else { Driver::Client },
                metadata: member.metadata.clone(),
                assignment: Vec::new(),
            };
            let members: Vec<_> = answer.members.iter().map(read).collect();
            assignments = assign_members(&answer.protocol, &members, &self.scene.topics).unwrap();
            let is_waited_for = self.scene.group.state() == GroupState::CompletingRebalance;
            if is_waited_for && self.scene.group.generation() == answer.generation {
                self.topics_of.insert(answer.generation, self.scene.topics.clone());
            }
        }
        let (ticket, generation) = (self.scene.ticket(), answer.generation);
        let member_id = answer.member_id.clone();
        self.actors[index].phase = Phase::Syncing(ticket, generation);
        let request = SyncRequest { assignments, ..sync_request(member_id.as_str(), generation.get(), &[]) };
        self.scene.group.sync(request, ticket, self.scene.now_ms);
        self.settle();
    }

    /// A client has got its share. It must not meet another that has joined the same generation and reads on.
    fn read(&mut self, index: usize, generation: Generation, assignment: &[u8]) {
        let given = Assignment::decode(assignment).unwrap().partitions;
        if generation == self.scene.group.generation() {
            for (_, other) in self.actors.iter().enumerate().filter(|(other, _)| *other != index) {
                let knows = match &other.phase {
                    Phase::Member(theirs) | Phase::Syncing(_, theirs) => *theirs == generation,
                    Phase::Joined(answer) => answer.generation == generation,
                    _ => false,
                };
                let is_there = other.member_id.as_ref().is_some_and(|id| self.scene.group.has_member(id));
                if knows && is_there && other.kind != Kind::Server {
                    assert!(other.reads.is_disjoint(&given), "{:?} and {given:?}", other.reads);
                }
            }
        }
        let actor = &mut self.actors[index];
        let gives_up = !actor.reads.is_subset(&given);
        (actor.reads, actor.given) = (given, Some(generation));
        // What it has given up goes to others in another round, which it asks for.
        let asks = gives_up && self.protocols[0] == "cooperative-sticky";
        self.actors[index].phase = if asks { Phase::Again } else { Phase::Member(generation) };
    }

    fn fail(&mut self, index: usize, error: &GroupError) {
        let keeps = self.is_cooperative() && *error == GroupError::RebalanceInProgress;
        let actor = &mut self.actors[index];
        if !keeps {
            (actor.reads, actor.given) = (BTreeSet::new(), None);
        }
        actor.phase = match error {
            GroupError::RebalanceInProgress | GroupError::IllegalGeneration { .. } => Phase::Again,
            GroupError::UnknownMember | GroupError::FencedInstance => {
                actor.member_id = None;
                Phase::Out
            }
            error => panic!("{error}"),
        };
    }

    fn commit(&mut self, index: usize, age: u32) {
        let Some(id) = self.actors[index].member_id.clone() else { return };
        let current = self.scene.group.generation();
        let asked = match (&self.actors[index].phase, self.actors[index].kind) {
            (_, Kind::Server) => current,
            (Phase::Member(generation), _) => *generation,
            _ => return,
        };
        let asked = Generation::new(asked.get().saturating_sub(age));
        let answer = self.scene.group.check_commit(Some(&id), None, Some(asked), self.scene.now_ms);
        self.settle();
        if answer.is_ok() {
            assert!(asked == current && self.scene.group.has_member(&id));
        } else if asked == current && self.scene.group.has_member(&id) {
            assert_eq!(answer, Err(GroupError::RebalanceInProgress));
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Step(index) => self.step(index),
            Op::Commit(index, age) => self.commit(index, age),
            Op::StaleSync(index) => {
                let Some(id) = self.actors[index].member_id.clone() else { return };
                let before = self.scene.group.describe();
                let ticket = self.scene.ticket();
                let old = self.scene.group.generation().get().saturating_sub(1);
                let everything = [(id.clone(), b"stale".to_vec())].into();
                let request = SyncRequest { assignments: everything, ..sync_request(id.as_str(), old, &[]) };
                if old < self.scene.group.generation().get() {
                    self.scene.group.sync(request, ticket, self.scene.now_ms);
                    self.settle();
                    assert!(self.scene.synced[&ticket].is_err());
                    assert_eq!(self.scene.group.describe(), before);
                }
            }
            Op::Leave(index) => {
                let Some(id) = self.actors[index].member_id.clone() else { return };
                let leaving = LeavingMember { member_id: Some(id), group_instance_id: None };
                drop(self.scene.group.leave(&[leaving], self.scene.now_ms));
                self.settle();
                self.crash(index);
            }
            Op::Crash(index) => self.crash(index),
            Op::Subscribe(index, both) => {
                self.actors[index].topics = if both { vec!["t", "u"] } else { vec!["u"] };
            }
            Op::Pass(ms) => self.pass(ms),
            Op::Grow => {
                *self.scene.topics.get_mut("t").unwrap() += 1;
                self.scene.group.topics_changed(self.scene.now_ms);
                self.settle();
            }
            Op::Failover => {
                self.failover();
                self.settle();
            }
            Op::LoseNextRecord => self.lose_next_record = true,
        }
    }

    /// A process is gone; another begins in its place, which knows nothing. Server-driven members are in the log.
    fn crash(&mut self, index: usize) {
        let actor = &mut self.actors[index];
        if actor.kind != Kind::Server {
            actor.member_id = None;
        }
        actor.phase = Phase::Out;
        (actor.reads, actor.given) = (BTreeSet::new(), None);
    }

    fn pass(&mut self, ms: u64) {
        let end = self.scene.now_ms + ms;
        while let Some(wake) = self.scene.group.next_wake_ms().filter(|wake| *wake <= end) {
            self.scene.now_ms = self.scene.now_ms.max(wake);
            self.scene.group.tick(self.scene.now_ms);
            self.settle();
            let next = self.scene.group.next_wake_ms();
            assert!(next.is_none_or(|next| next > self.scene.now_ms), "a tick does all there is to do");
        }
        self.scene.now_ms = end;
    }

    /// Everybody behaves: soon they read everything, each partition once, and nothing changes any more.
    fn converge(&mut self) {
        self.lose_next_record = false;
        for _ in 0..200 {
            for index in 0..self.actors.len() {
                self.step(index);
            }
            self.pass(500);
        }
        let generation = self.scene.group.generation();
        assert_eq!(self.scene.group.state(), GroupState::Stable, "{:#?}", self.scene.group);
        assert_eq!(self.scene.group.member_count(), self.actors.len());
        let description = self.scene.group.describe();
        let given = description.members.iter().map(|member| Assignment::decode(&member.assignment).unwrap().partitions);
        let given: Vec<_> = given.flatten().collect();
        let wanted: BTreeSet<_> = self.actors.iter().flat_map(|actor| &actor.topics).collect();
        let topics = &self.topics_of[&generation];
        let expected: u32 = wanted.into_iter().map(|name| topics[*name]).sum();
        assert_eq!(given.len(), usize::try_from(expected).unwrap(), "{given:?}");
        for actor in &self.actors {
            let id = actor.member_id.as_ref().unwrap();
            let given = Assignment::decode(self.scene.group.assignment(id).unwrap()).unwrap();
            assert!(actor.kind == Kind::Server || actor.reads == given.partitions);
        }
    }

    /// Nobody says anything any more: whoever still waits is answered.
    fn fall_silent(&mut self) {
        self.pass(10_000_000);
        assert_eq!(self.scene.group.state(), GroupState::Empty);
        assert_eq!(self.scene.group.next_wake_ms(), None);
        for actor in &self.actors {
            match &actor.phase {
                Phase::Joining(ticket) => assert!(self.scene.joined.contains_key(ticket), "{ticket:?}"),
                Phase::Syncing(ticket, _) => assert!(self.scene.synced.contains_key(ticket), "{ticket:?}"),
                _ => {}
            }
        }
    }
}

/// More than usual, as a history is long; `PROPTEST_CASES` asks for any number.
fn cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(400), ..config }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_rules_hold_and_everybody_reads_in_the_end(
        kinds in kinds(),
        protocols in protocols(),
        ops in proptest::collection::vec(op(), 0..150),
        is_silent: bool,
    ) {
        let mut world = World::new(kinds, protocols);
        for op in ops {
            world.apply(op);
        }
        if is_silent {
            world.lose_next_record = false;
            world.fall_silent();
        } else {
            world.converge();
        }
    }
}
