//! What other brokers of the group ask of this one.

use bytes::Bytes;
use openraft::{
    error::RaftError,
    raft::{AppendEntriesRequest, VoteRequest, VoteResponse},
};
use pubg1_model::cluster::MetadataCommand;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Leadership, MetadataHandle,
    group::{Access, Group},
    propose,
};
use crate::raft::{
    formation::{is_formed, stored_standing},
    types::{StoredMembership, TypeConfig, Vote, broker_id},
    wire::{
        self, Answer, ChunkAnswer, KIND_APPEND, KIND_JOIN, KIND_LEAVE, KIND_PROPOSE, KIND_READ, KIND_RESIGN,
        KIND_SNAPSHOT, KIND_STANDING, KIND_VOTE, Member, ReadPoint, Refusal, Resignation, Standing, StandingQuestion,
    },
};

impl MetadataHandle {
    /// Answers a request of another broker: any of the kinds of [`crate::raft::wire`].
    pub(crate) async fn answer(&self, kind: u16, body: Bytes) -> Bytes {
        match kind {
            KIND_STANDING => encode(&self.standing(&body).await),
            KIND_APPEND => encode(&self.append(&body).await),
            KIND_VOTE => encode(&self.vote(&body).await),
            KIND_SNAPSHOT => encode(&self.chunk(&body).await),
            KIND_READ => encode(&self.read_point().await),
            KIND_PROPOSE => encode(&self.propose_for_peer(&body).await),
            KIND_JOIN => encode(&self.join(&body).await),
            KIND_LEAVE => encode(&self.leave(&body).await),
            KIND_RESIGN => encode(&self.heed_resignation(&body)),
            other => encode::<()>(&Err(Refusal::Misunderstood(format!("kind {other} is not one of the metadata's")))),
        }
    }

    pub(super) fn group(&self) -> Result<Group, Refusal> {
        match self.access() {
            Access::Running(group) => Ok(group),
            Access::Closed | Access::Settling(_) => Err(Refusal::NotReady),
        }
    }

    async fn standing(&self, body: &[u8]) -> Answer<Standing> {
        let question: StandingQuestion = parse(body)?;
        self.0.group.transport.learn(question.broker, &question.address);
        let mut standing = match self.access() {
            Access::Closed => return Err(Refusal::NotReady),
            Access::Settling(store) => stored_standing(&store).map_err(|_| Refusal::NotReady)?,
            Access::Running(group) => running_standing(&group).await?,
        };
        standing.voters = self.0.group.voter_ids();
        standing.registered = self.image().brokers.contains_key(&question.broker);
        Ok(standing)
    }

    async fn append(&self, body: &[u8]) -> Answer<openraft::raft::AppendEntriesResponse<u64>> {
        let request: AppendEntriesRequest<TypeConfig> = parse(body)?;
        if let Some(leader) = request.vote.leader_id().voted_for() {
            self.hear(Leadership { broker: broker_id(leader), term: request.vote.leader_id().get_term() });
        }
        self.group()?.raft.append_entries(request).await.map_err(interrupted)
    }

    async fn vote(&self, body: &[u8]) -> Answer<VoteResponse<u64>> {
        let request: VoteRequest<u64> = parse(body)?;
        let group = self.group()?;
        if group.on_probation() {
            return Err(Refusal::Probation);
        }
        let _ballot = group.ballot.lock().await;
        self.give_up_gone_leader(&group, &request).await;
        group.raft.vote(request).await.map_err(interrupted)
    }

    async fn chunk(&self, body: &[u8]) -> Answer<ChunkAnswer> {
        let chunk = wire::decode_chunk(body).map_err(Refusal::Misunderstood)?;
        Ok(self.group()?.raft.install_snapshot(chunk).await)
    }

    async fn read_point(&self) -> Answer<ReadPoint> {
        self.group()?.read_point().await
    }

    async fn propose_for_peer(&self, body: &[u8]) -> Answer<crate::raft::types::Applied> {
        let command: MetadataCommand = parse(body)?;
        propose::propose_for_peer(&self.group()?.raft, command).await
    }

    async fn join(&self, body: &[u8]) -> Answer<wire::Joining> {
        let member: Member = parse(body)?;
        self.let_join(&self.group()?, member)
    }

    async fn leave(&self, body: &[u8]) -> Answer<()> {
        let member: Member = parse(body)?;
        self.let_leave(&self.group()?, member.broker).await
    }

    fn heed_resignation(&self, body: &[u8]) -> Answer<()> {
        let Resignation { broker, term } = parse(body)?;
        self.0.resigned.send_replace(Some(Leadership { broker, term }));
        Ok(())
    }
}

async fn running_standing(group: &Group) -> Answer<Standing> {
    let read = group.raft.with_raft_state(|state| {
        let members = state.membership_state.effective();
        (*state.vote_ref(), StoredMembership::new(*members.log_id(), members.membership().clone()))
    });
    let (vote, membership) = read.await.map_err(|_| Refusal::NotReady)?;
    let vote = Some(vote).filter(|vote| *vote != Vote::default());
    let last_index = group.raft.metrics().borrow().last_log_index;
    let formed = is_formed(vote, last_index) || group.on_probation();
    Ok(Standing { formed, vote, membership, ..Standing::default() })
}

fn interrupted(error: RaftError<u64>) -> Refusal {
    Refusal::Interrupted(error.to_string())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    wire::decode(body).map_err(Refusal::Misunderstood)
}

/// An answer as a body. Plain data can always be encoded; an empty body would be misunderstood, and said so.
fn encode<T: Serialize>(answer: &Answer<T>) -> Bytes {
    wire::encode(answer).unwrap_or_default()
}
