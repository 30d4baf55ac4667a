//! One partition of the offsets topic as the coordinator sees it: its groups, and their records on the way into it.
//!
//! A request changes the groups at once, and its records are queued. One append is outstanding at a time; what is queued
//! meanwhile goes with the next. Records are numbered, and an answer waits until the records that it rests on are
//! committed: its own, and those of everything of the group that came before it. When an append fails, memory is ahead
//! of the log; so everybody who waits is told to try again, and the partition is read anew.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use pubg1_model::{GroupId, LeaderEpoch};
use tokio::sync::oneshot;

use super::{
    call::{Call, Reply},
    group::{Answer, Env, Group, Refused},
    lag::Lags,
    outbox::{Record, next_batch},
};
use crate::{
    admission::Permit,
    errors::{AppendError, GroupRequestError, OfflineReason},
};
use pubg1_model::consumer_instance::Edge;

/// Who asked for something.
pub(super) struct Client {
    pub(super) reply: oneshot::Sender<Result<Reply, Refused>>,
    // Released when the answer is sent.
    pub(super) permit: Permit,
}

impl Client {
    pub(super) fn answer(self, result: Result<Reply, Refused>) {
        let Self { reply, permit } = self;
        drop(permit);
        // Whoever asked may have gone.
        reply.send(result).map_err(drop).unwrap_or_default();
    }
}

/// An answer that waits for records to be committed.
pub(super) struct Waiting {
    /// The last of them.
    record: u64,
    group: GroupId,
    result: Result<Reply, Refused>,
    client: Client,
}

/// What is being appended, and who waits for it.
pub(super) struct Appending {
    pub(super) records: Vec<Record>,
    /// The number of the last record.
    pub(super) up_to: u64,
    pub(super) waiting: Vec<Waiting>,
}

/// The state of one partition.
pub(super) enum Shard {
    /// It is being read, or offline.
    Loading(Option<Arc<OfflineReason>>),
    /// Its groups are known.
    Ready(Box<ReadyShard>),
}

/// A partition whose groups are known.
pub(super) struct ReadyShard {
    pub(super) epoch: LeaderEpoch,
    pub(super) groups: HashMap<GroupId, Group>,
    pub(super) lags: Lags,
    queued: VecDeque<Record>,
    /// The number of the last record that was queued.
    last_queued: u64,
    /// Records up to this one are committed.
    committed: u64,
    is_appending: bool,
    waiting: Vec<Waiting>,
    /// The last record about a group that is gone.
    last_removed: u64,
}

impl ReadyShard {
    pub(super) fn new(epoch: LeaderEpoch, groups: impl IntoIterator<Item = Group>) -> Self {
        let mut shard = Self {
            epoch,
            groups: HashMap::new(),
            lags: Lags::default(),
            queued: VecDeque::new(),
            last_queued: 0,
            committed: 0,
            is_appending: false,
            waiting: Vec::new(),
            last_removed: 0,
        };
        for mut group in groups {
            shard.queue(&mut group);
            if !group.is_nothing() {
                shard.groups.insert(group.id().clone(), group);
            }
        }
        shard
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.is_appending && self.queued.is_empty()
    }

    /// Queues what a group wants stored.
    fn queue(&mut self, group: &mut Group) {
        queue(group, &mut self.queued, &mut self.last_queued);
    }

    /// Carries a request out. It is answered when that may be.
    pub(super) fn handle(&mut self, call: Call, edge: Edge, in_vain: bool, client: Client, env: Env<'_>) {
        let Call { group: id, what } = call;
        let (known, removed) = (self.groups.remove(&id), self.last_removed);
        let new = || {
            let mut group = Group::new(id.clone());
            group.last_record = removed;
            group
        };
        let mut group = known.unwrap_or_else(new);
        let Answer { mut result, depends } = group.handle(what, edge, in_vain, env);
        if let Ok(Reply::Group(description)) = &mut result {
            self.lags.describe(description, env.now_ms);
        }
        self.queue(&mut group);
        let record = group.record_of(depends);
        self.put_back(group);
        if record <= self.committed {
            return client.answer(result);
        }
        self.waiting.push(Waiting { record, group: id, result, client });
    }

    fn put_back(&mut self, group: Group) {
        if group.is_nothing() || group.is_dead() {
            self.last_removed = self.last_removed.max(group.last_record);
            self.lags.forget(group.id());
        } else {
            self.groups.insert(group.id().clone(), group);
        }
    }

    /// Does something with every group.
    pub(super) fn for_each(&mut self, mut work: impl FnMut(&mut Group)) {
        let Self { groups, queued, last_queued, last_removed, lags, .. } = self;
        groups.retain(|id, group| {
            work(group);
            queue(group, queued, last_queued);
            let is_over = group.is_nothing() || group.is_dead();
            if is_over {
                *last_removed = group.last_record.max(*last_removed);
                lags.forget(id);
            }
            !is_over
        });
    }

    /// What is appended next; `None` when an append is under way or nothing is queued.
    pub(super) fn next_append(&mut self) -> Option<Appending> {
        if self.is_appending || self.queued.is_empty() {
            return None;
        }
        self.is_appending = true;
        let records = next_batch(&mut self.queued);
        let up_to = self.last_queued - u64::try_from(self.queued.len()).unwrap_or_default();
        let waiting = self.waiting.extract_if(.., |waiting| waiting.record <= up_to).collect();
        Some(Appending { records, up_to, waiting })
    }

    /// An append was committed: who waited for it is answered.
    pub(super) fn committed(&mut self, up_to: u64) {
        (self.is_appending, self.committed) = (false, up_to);
        // Who came while it was under way, and had changed nothing.
        for Waiting { result, client, .. } in self.waiting.extract_if(.., |waiting| waiting.record <= up_to) {
            client.answer(result);
        }
    }

    /// The partition is given up: who waits for what was not appended yet is told to try again.
    pub(super) fn give_up(self, retry_after_ms: u64) {
        for Waiting { group, client, .. } in self.waiting {
            client.answer(Err(GroupRequestError::Loading { group, retry_after_ms }.into()));
        }
    }
}

fn queue(group: &mut Group, queued: &mut VecDeque<Record>, last_queued: &mut u64) {
    let records = group.take_records();
    if !records.is_empty() {
        *last_queued += u64::try_from(records.len()).unwrap_or_default();
        queued.extend(records);
        group.queued(*last_queued);
    }
}

impl Waiting {
    /// What it waited for was committed, or was not.
    pub(super) fn answer(self, appended: &Result<(), AppendError>) {
        let Self { result, client, .. } = self;
        client.answer(match appended {
            Ok(()) => result,
            Err(error) => Err(GroupRequestError::Append(error.clone()).into()),
        });
    }
}
