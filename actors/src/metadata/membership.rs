//! Who takes part in the decisions: brokers become voters and cease to be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Duration,
};

use openraft::{
    BasicNode, ChangeMembers,
    error::{ChangeMembershipError, ClientWriteError, RaftError},
};
use pubg1_model::BrokerId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::{MetadataHandle, group::Group};
use crate::raft::{
    network::ask,
    types::{Raft, RaftMetrics, broker_id, node_id},
    wire::{self, Answer, Joining, KIND_LEAVE, Member, Refusal},
};

/// How long a change of the voters may take. A new one must have the whole log first.
const CHANGE_PATIENCE: Duration = Duration::from_secs(30);
/// How long one request may take: a removal waits for two entries of the log.
const REQUEST_PATIENCE: Duration = Duration::from_secs(3);
/// How long a change of the voters may stand half done before a leader that has not begun it ends it.
const CHANGE_PAUSE: Duration = Duration::from_secs(1);
/// The pause before the leader is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// How the group stands, as this broker knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MetadataStatus {
    /// The term.
    pub(crate) term: u64,
    /// The last entry of the log that is in the image.
    pub(crate) last_applied: Option<u64>,
    /// Who leads.
    pub(crate) leader: Option<BrokerId>,
    /// The brokers that decide.
    pub(crate) voters: Vec<BrokerId>,
    /// Whether that is being changed: the former voters must agree until it is done.
    pub(crate) changing: bool,
    /// The brokers that follow and do not decide.
    pub(crate) learners: Vec<BrokerId>,
    /// Whether this broker lost its disk and does not vote yet.
    pub(crate) on_probation: bool,
}

/// Why the voters were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MembershipError {
    /// Not now. It may have been begun.
    #[error("the voters were not changed in time: {0}")]
    Unavailable(String),
    /// Never so.
    #[error("{0}")]
    Refused(String),
}

impl MetadataHandle {
    /// How the group stands. Empty while it does not run here.
    pub(crate) fn status(&self) -> MetadataStatus {
        let Ok(group) = self.group() else { return MetadataStatus::default() };
        let metrics = group.raft.metrics();
        let metrics = metrics.borrow();
        let members = metrics.membership_config.membership();
        MetadataStatus {
            term: metrics.current_term,
            last_applied: metrics.last_applied.map(|last| last.index),
            leader: metrics.current_leader.map(broker_id),
            voters: members.voter_ids().map(broker_id).collect(),
            changing: members.get_joint_config().len() > 1,
            learners: members.learner_ids().map(broker_id).collect(),
            on_probation: group.on_probation(),
        }
    }

    /// Makes a broker no voter, and no member, any more.
    pub(crate) async fn remove_voter(&self, broker: BrokerId) -> Result<(), MembershipError> {
        let member = Member { broker, address: String::new() };
        let deadline = Instant::now() + CHANGE_PATIENCE;
        loop {
            let left = match self.leads() {
                Some(group) => self.let_leave(&group, broker).await,
                None => self.ask_leader(KIND_LEAVE, &member).await,
            };
            let Err(refusal) = left else { return Ok(()) };
            permanent(&refusal)?;
            if Instant::now() > deadline {
                return Err(MembershipError::Unavailable(refusal.to_string()));
            }
            sleep(AGAIN).await;
        }
    }

    fn leads(&self) -> Option<Group> {
        self.group().ok().filter(|group| group.raft.metrics().borrow().current_leader == Some(self.me()))
    }

    fn me(&self) -> u64 {
        node_id(self.0.group.broker)
    }

    async fn ask_leader<T: DeserializeOwned>(&self, kind: u16, question: &impl Serialize) -> Answer<T> {
        let leader = self.group()?.raft.current_leader().await;
        let leader = leader.map(broker_id).ok_or(Refusal::NotLeader { leader: None })?;
        let body = wire::encode(question).map_err(Refusal::Misunderstood)?;
        let answer = ask(&*self.0.group.transport, leader, kind, body, REQUEST_PATIENCE).await;
        answer.unwrap_or_else(|error| Err(Refusal::Interrupted(error.to_string())))
    }

    /// Begins to make a broker a voter, as the leader; asked again, it says how that stands.
    pub(super) fn let_join(&self, group: &Group, member: Member) -> Answer<Joining> {
        if member.address.is_empty() {
            return Err(Refusal::Misunderstood(format!("broker {} does not say where it is reached", member.broker)));
        }
        let Standing { is_voter, address, changing } = self.standing_of(group, member.broker)?;
        if is_voter && !changing && address.as_ref() == Some(&member.address) {
            return Ok(Joining::Done);
        }
        self.0.group.transport.learn(member.broker, &member.address);
        if self.joining().insert(member.broker) {
            let (handle, raft) = (self.clone(), group.raft.clone());
            drop(tokio::spawn(async move {
                let broker = member.broker;
                let moved = address.is_some_and(|address| address != member.address);
                match timeout(CHANGE_PATIENCE, make_voter(&raft, member, moved, is_voter && !changing)).await {
                    Ok(Ok(())) => tracing::info!(%broker, "a broker is a voter of the metadata"),
                    Ok(Err(error)) => tracing::warn!(%broker, %error, "a broker was not made a voter"),
                    Err(_) => tracing::warn!(%broker, "a broker that shall be a voter does not catch up"),
                }
                handle.joining().remove(&broker);
            }));
        }
        Ok(Joining::UnderWay)
    }

    fn joining(&self) -> std::sync::MutexGuard<'_, BTreeSet<BrokerId>> {
        self.0.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a broker out of the group, as the leader.
    pub(super) async fn let_leave(&self, group: &Group, broker: BrokerId) -> Answer<()> {
        let Standing { is_voter, address, .. } = self.standing_of(group, broker)?;
        let node = BTreeSet::from([node_id(broker)]);
        let change = match (is_voter, address) {
            (true, _) => ChangeMembers::RemoveVoters(node),
            (false, Some(_)) => ChangeMembers::RemoveNodes(node),
            (false, None) => return Ok(()),
        };
        change_members(&group.raft, change, false).await
    }

    /// What a broker is in the group that this one leads.
    fn standing_of(&self, group: &Group, broker: BrokerId) -> Answer<Standing> {
        let metrics = group.raft.metrics();
        let metrics = metrics.borrow();
        if metrics.current_leader != Some(self.me()) {
            return Err(Refusal::NotLeader { leader: metrics.current_leader.map(broker_id) });
        }
        let (members, node) = (metrics.membership_config.membership(), node_id(broker));
        let is_voter = members.voter_ids().any(|voter| voter == node);
        let address = members.get_node(&node).map(|known| known.addr.clone());
        Ok(Standing { is_voter, address, changing: members.get_joint_config().len() > 1 })
    }
}

struct Standing {
    is_voter: bool,
    /// `None`: it is no member at all.
    address: Option<String>,
    /// Whether the voters are being changed.
    changing: bool,
}

/// Ends the change of voters that a former leader has begun and not ended: until then the former voters must agree.
pub(super) async fn end_changes(handle: &MetadataHandle, group: &Group) {
    let mut metrics = group.raft.metrics();
    let is_left = |metrics: &RaftMetrics| {
        metrics.current_leader == Some(metrics.id)
            && metrics.membership_config.membership().get_joint_config().len() > 1
    };
    while metrics.wait_for(is_left).await.is_ok() {
        // Whoever has begun it may be about to end it.
        sleep(CHANGE_PAUSE).await;
        let now = metrics.borrow().clone();
        let configs = now.membership_config.membership().get_joint_config();
        if let Some(voters) = configs.last().filter(|_| is_left(&now) && handle.joining().is_empty()) {
            let voters = ChangeMembers::ReplaceAllVoters(voters.clone());
            if let Err(error) = change_members(&group.raft, voters, true).await {
                tracing::warn!(%error, "a change of the voters could not be ended yet");
            }
        }
    }
}

async fn make_voter(raft: &Raft, member: Member, moved: bool, is_voter: bool) -> Answer<()> {
    let (id, node) = (node_id(member.broker), BasicNode::new(member.address));
    if moved {
        // The same broker under another address: openraft warns of mistaking one for another, which the handshake
        // of the transport excludes.
        change_members(raft, ChangeMembers::SetNodes(BTreeMap::from([(id, node.clone())])), true).await?;
    }
    if is_voter {
        return Ok(());
    }
    raft.add_learner(id, node, true).await.map_err(refusal)?;
    change_members(raft, ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await
}

async fn change_members(raft: &Raft, change: ChangeMembers<u64, BasicNode>, retain: bool) -> Answer<()> {
    raft.change_membership(change, retain).await.map(drop).map_err(refusal)
}

fn refusal(error: RaftError<u64, ClientWriteError<u64, BasicNode>>) -> Refusal {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            Refusal::NotLeader { leader: forward.leader_id.map(broker_id) }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => {
            Refusal::Busy
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            Refusal::Misunderstood(error.to_string())
        }
        RaftError::Fatal(error) => Refusal::Interrupted(error.to_string()),
    }
}

/// Whether it is of no use to ask again.
fn permanent(refusal: &Refusal) -> Result<(), MembershipError> {
    match refusal {
        Refusal::Misunderstood(reason) => Err(MembershipError::Refused(reason.clone())),
        _ => Ok(()),
    }
}
