//! One group as its coordinator has it: the protocol, the offsets, and the consumer instances. Synchronous: a request
//! changes it at once, and leaves the records of what has changed in the outbox.

mod commits;
mod describe;
mod instances;
mod members;
mod polls;
mod upkeep;

pub(super) use upkeep::StoredGroup;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use pubg1_metrics::GroupMetrics;
use pubg1_model::{
    BrokerId, GroupId, InstanceName, LeaderEpoch, TopicName,
    consumer_group::{ConsumerGroup, Generation, GroupOffsets, GroupTimeouts, Ticket, TopicPattern},
    consumer_instance::{ConsumerInstance, Edge},
};
use tokio::sync::watch;

use super::{
    call::{InstanceRequest, Reply, Request},
    outbox::{Outbox, Record},
    topics::Topics,
};
use crate::errors::GroupRequestError;

/// Consumer instances of one group, members or not.
const INSTANCES_MAX: usize = 1_000;
/// How many requests may wait for the poll of an instance.
const WAITERS_MAX: usize = 16;

/// What a group is told with each request.
#[derive(Clone, Copy)]
pub(super) struct Env<'a> {
    /// Of the monotonic clock.
    pub(super) now_ms: u64,
    /// Since 1970.
    pub(super) wall_ms: i64,
    pub(super) retry_after_ms: u64,
    pub(super) coordinator: BrokerId,
    pub(super) topics: &'a Topics,
    pub(super) numbers: Numbers<'a>,
    pub(super) metrics: &'a GroupMetrics,
}

/// Numbers that no coordinator of the group has used, each larger than those before: of polls, and of assignments.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    /// The epoch in which the coordinator leads. A broker that is started anew begins another.
    pub(super) epoch: LeaderEpoch,
    /// Counts as long as the broker lives, whatever becomes of its actors.
    pub(super) counter: &'a AtomicU64,
}

impl Numbers<'_> {
    const COUNTER_BITS: u32 = 40;

    pub(super) fn draw(self) -> u64 {
        let count = self.counter.fetch_add(1, Ordering::Relaxed) & ((1 << Self::COUNTER_BITS) - 1);
        u64::from(self.epoch.get()) << Self::COUNTER_BITS | count
    }
}

/// Why a request is not answered with what was asked for.
#[derive(Debug)]
pub(super) enum Refused {
    Error(GroupRequestError),
    /// An earlier request of the same instance has to end first, which the receiver tells.
    Later(watch::Receiver<u64>),
}

impl From<GroupRequestError> for Refused {
    fn from(error: GroupRequestError) -> Self {
        Self::Error(error)
    }
}

/// What has to be committed before an answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depends {
    Nothing,
    /// The generation of the group.
    Generation,
    /// Everything about the group.
    All,
}

/// The answer of a group.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) result: Result<Reply, Refused>,
    /// Whether it shows, or says that there is stored, what has to be committed first.
    pub(super) depends: Depends,
}

/// A consumer instance and who waits for it.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) state: ConsumerInstance,
    /// The topics that it has subscribed to, resolved.
    topics: BTreeSet<TopicName>,
    pattern: Option<TopicPattern>,
    /// Changes when a poll has ended.
    ended: watch::Sender<u64>,
    /// The version of the assignment.
    assigned: watch::Sender<u64>,
}

impl Instance {
    fn new(state: ConsumerInstance) -> Self {
        let assigned = watch::Sender::new(state.assignment_version());
        Self { state, topics: BTreeSet::new(), pattern: None, ended: watch::Sender::new(0), assigned }
    }

    /// To come again when the poll under way has ended, unless enough others wait for that.
    fn later(&self, name: &InstanceName, env: Env<'_>) -> Refused {
        if self.ended.receiver_count() >= WAITERS_MAX {
            let retry_after_ms = env.retry_after_ms;
            return GroupRequestError::Busy { instance: name.clone(), retry_after_ms }.into();
        }
        Refused::Later(self.ended.subscribe())
    }

    fn tell_ended(&self) {
        self.ended.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn tell_assigned(&self) {
        let version = self.state.assignment_version();
        self.assigned.send_if_modified(|told| std::mem::replace(told, version) != version);
    }
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    id: GroupId,
    protocol: ConsumerGroup,
    offsets: GroupOffsets,
    instances: BTreeMap<InstanceName, Instance>,
    outbox: Outbox,
    next_ticket: Ticket,
    /// Whether there is a record of the group itself.
    is_stored: bool,
    /// The number of the last record that is about it: what it shows rests on that.
    pub(super) last_record: u64,
    /// A generation, and the record with which it is stored: who is told the one waits for the other.
    generation_record: (Generation, u64),
}

impl Group {
    pub(super) fn new(id: GroupId) -> Self {
        Self::with(id, ConsumerGroup::new(GroupTimeouts::default()))
    }

    fn with(id: GroupId, protocol: ConsumerGroup) -> Self {
        Self {
            id,
            protocol,
            offsets: GroupOffsets::default(),
            instances: BTreeMap::new(),
            outbox: Outbox::default(),
            next_ticket: Ticket(0),
            is_stored: false,
            last_record: 0,
            generation_record: (Generation::default(), 0),
        }
    }

    pub(super) const fn id(&self) -> &GroupId {
        &self.id
    }

    /// Carries a request out.
    pub(super) fn handle(&mut self, what: Request, edge: Edge, in_vain: bool, env: Env<'_>) -> Answer {
        let depends = match what {
            Request::Instance(_, InstanceRequest::BeginPoll(_)) => Depends::Generation,
            Request::Instance(_, InstanceRequest::Confirm { .. } | InstanceRequest::Heartbeat) => Depends::Nothing,
            _ => Depends::All,
        };
        let result = match what {
            Request::Committed(only) => Ok(self.committed(only)),
            Request::CommitSimply(offsets) => self.commit_simply(offsets, env).map_err(Refused::from),
            Request::Describe => self.describe(env).map_err(Refused::from),
            Request::DeleteGroup => self.delete(env).map_err(Refused::from),
            Request::DeleteOffsets(partitions) => self.delete_offsets(partitions).map_err(Refused::from),
            Request::RemoveMember(member) => self.remove_member(&member, env).map_err(Refused::from),
            Request::Instance(name, what) => self.handle_instance(&name, what, edge, in_vain, env),
        };
        self.collect();
        let depends = match result {
            // It may rest on what is not committed yet, as well as an answer.
            Err(Refused::Error(_)) => Depends::All,
            Err(Refused::Later(_)) => Depends::Nothing,
            Ok(_) => depends,
        };
        Answer { result, depends }
    }

    /// The number of the record that an answer waits for.
    pub(super) const fn record_of(&self, depends: Depends) -> u64 {
        match depends {
            Depends::Nothing => 0,
            Depends::Generation => self.generation_record.1,
            Depends::All => self.last_record,
        }
    }

    /// Takes what the instances want stored into the outbox.
    fn collect(&mut self) {
        for (name, instance) in &mut self.instances {
            for change in instance.state.take_changes() {
                self.outbox.instance(&self.id, name, change);
            }
            instance.tell_assigned();
        }
    }

    /// The records of what has changed.
    pub(super) fn take_records(&mut self) -> Vec<Record> {
        self.outbox.take()
    }

    /// They were queued, the last one with this number.
    pub(super) fn queued(&mut self, last_record: u64) {
        self.last_record = last_record;
        let generation = self.protocol.generation();
        if self.generation_record.0 != generation {
            self.generation_record = (generation, last_record);
        }
    }

    /// Whether there is nothing to know of it any more.
    pub(super) fn is_nothing(&self) -> bool {
        !self.is_stored
            && self.protocol.is_idle()
            && self.offsets.is_empty()
            && self.instances.is_empty()
            && self.outbox.is_empty()
    }

    fn instance(&mut self, name: &InstanceName) -> Result<&mut Instance, GroupRequestError> {
        let unknown = || GroupRequestError::UnknownInstance { group: self.id.clone(), instance: name.clone() };
        // Asked twice for the borrow checker's sake.
        if !self.instances.contains_key(name) {
            return Err(unknown());
        }
        let unknown = unknown();
        self.instances.get_mut(name).ok_or(unknown)
    }

    /// The version of an instance's assignment, as it changes.
    pub(super) fn watch_assignment(
        &mut self,
        name: &InstanceName,
        env: Env<'_>,
    ) -> Result<watch::Receiver<u64>, GroupRequestError> {
        self.alive(name, env)?;
        Ok(self.instance(name)?.assigned.subscribe())
    }
}
