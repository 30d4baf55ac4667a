//! The group protocol, told as conversations.

mod clients;
mod histories;
mod records;
mod server_driven;
mod static_members;
mod timeouts;

use super::*;
use crate::TopicName;

/// A group with what it has answered so far.
struct Scene {
    group: ConsumerGroup,
    now_ms: u64,
    tickets: u64,
    joined: BTreeMap<Ticket, Result<JoinAnswer, GroupError>>,
    synced: BTreeMap<Ticket, Result<SyncAnswer, GroupError>>,
    reasons: Vec<RebalanceReason>,
    /// What was stored last.
    stored: Option<GroupMetadataValue>,
    topics: TopicPartitions,
}

const SESSION_MS: u32 = 10_000;
const REBALANCE_MS: u32 = 60_000;

fn id(text: &str) -> MemberId {
    MemberId::from(text)
}

fn topic(name: &str) -> TopicName {
    name.parse().unwrap()
}

fn subscription(topics: &[&str]) -> Vec<u8> {
    Subscription::to_topics(topics.iter().map(|name| topic(name))).encode().unwrap()
}

/// A dynamic member, driven by its client, that can use these protocols.
fn request(member: Option<&str>, protocols: &[&str]) -> JoinRequest {
    JoinRequest {
        member_id: member.map(id),
        group_instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        driver: Driver::Client,
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: CONSUMER_PROTOCOL_TYPE.to_owned(),
        protocols: protocols.iter().map(|name| ((*name).to_owned(), subscription(&["t"]))).collect(),
        require_known_member_id: false,
        supports_skipping_assignment: false,
    }
}

fn server_request(topics: &[&str]) -> JoinRequest {
    let protocols = vec![("cooperative-sticky".to_owned(), subscription(topics))];
    JoinRequest { driver: Driver::Server, protocols, ..request(None, &[]) }
}

fn static_request(instance: &str, protocols: &[&str]) -> JoinRequest {
    JoinRequest { group_instance_id: Some(instance.into()), ..request(None, protocols) }
}

fn sync_request(member: &str, generation: u32, assignments: &[(&str, &str)]) -> SyncRequest {
    SyncRequest {
        member_id: id(member),
        group_instance_id: None,
        generation: Generation::new(generation),
        protocol_type: None,
        protocol: None,
        assignments: assignments.iter().map(|(member, bytes)| (id(member), bytes.as_bytes().to_vec())).collect(),
    }
}

impl Scene {
    fn new() -> Self {
        Self::with(GroupTimeouts::default())
    }

    fn with(timeouts: GroupTimeouts) -> Self {
        Self {
            group: ConsumerGroup::new(timeouts),
            now_ms: 1_000,
            tickets: 0,
            joined: BTreeMap::new(),
            synced: BTreeMap::new(),
            reasons: Vec::new(),
            stored: None,
            topics: [(topic("t"), 4), (topic("u"), 4)].into(),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Does what the group wants, as a coordinator would.
    fn settle(&mut self) {
        loop {
            let effects = self.group.drain_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Joined { ticket, answer } => {
                        assert_eq!(self.joined.insert(ticket, answer), None, "answered twice");
                    }
                    Effect::Synced { ticket, answer } => {
                        assert_eq!(self.synced.insert(ticket, answer), None, "answered twice");
                    }
                    Effect::Assign { generation, protocol, members } => {
                        let assignments = assign_members(&protocol, &members, &self.topics).unwrap();
                        self.group.assign(generation, assignments, self.now_ms);
                    }
                    Effect::Store => self.stored = Some(self.group.record(5_000)),
                    Effect::Remove => self.stored = None,
                    Effect::Rebalancing(reason) => self.reasons.push(reason),
                    Effect::Assigned { .. } => {}
                }
            }
        }
    }

    fn join(&mut self, request: JoinRequest, fresh: &str) -> Ticket {
        let ticket = self.ticket();
        self.group.join(request, id(fresh), ticket, self.now_ms);
        self.settle();
        ticket
    }

    fn sync(&mut self, request: SyncRequest) -> Ticket {
        let ticket = self.ticket();
        self.group.sync(request, ticket, self.now_ms);
        self.settle();
        ticket
    }

    /// Time passes, with a tick whenever the group wants one.
    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(wake) = self.group.next_wake_ms().filter(|wake| *wake <= end) {
            self.now_ms = self.now_ms.max(wake);
            self.group.tick(self.now_ms);
            self.settle();
        }
        self.now_ms = end;
    }

    fn beat(&mut self, member: &str, generation: u32) -> Result<(), GroupError> {
        self.group.heartbeat(&id(member), None, Generation::new(generation), self.now_ms)
    }

    fn commit(&mut self, member: &str, generation: u32) -> Result<(), GroupError> {
        self.group.check_commit(Some(&id(member)), None, Some(Generation::new(generation)), self.now_ms)
    }

    fn leave(&mut self, member: &str) -> Result<(), GroupError> {
        let leaving = LeavingMember { member_id: Some(id(member)), group_instance_id: None };
        let answers = self.group.leave(&[leaving], self.now_ms);
        self.settle();
        answers.into_iter().next().unwrap()
    }

    /// The answer to a join, which must have been given and be good.
    fn welcome(&self, ticket: Ticket) -> &JoinAnswer {
        self.joined[&ticket].as_ref().unwrap()
    }

    fn refused_join(&self, ticket: Ticket) -> &GroupError {
        self.joined[&ticket].as_ref().unwrap_err()
    }

    /// Who owns what, as the server has assigned it.
    fn owned(&self, member: &str) -> Vec<String> {
        let assignment = Assignment::decode(self.group.assignment(&id(member)).unwrap()).unwrap();
        assignment.partitions.iter().map(ToString::to_string).collect()
    }

    /// Two clients, `a` (which leads) and `b`, Stable in generation 2.
    fn of_two() -> Self {
        let mut scene = Self::new();
        scene.join(request(None, &["range"]), "a");
        scene.sync(sync_request("a", 1, &[("a", "all")]));
        scene.join(request(None, &["range"]), "b");
        scene.join(request(Some("a"), &["range"]), "");
        scene.sync(sync_request("a", 2, &[("a", "left"), ("b", "right")]));
        scene.sync(sync_request("b", 2, &[]));
        assert_eq!((scene.group.state(), scene.group.generation().get()), (GroupState::Stable, 2));
        scene
    }
}
