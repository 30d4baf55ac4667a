//! What the brokers of the metadata group say to each other: one kind each, the body as JSON.
//!
//! Commands are a tagged enum, which only a self-describing format can carry. A chunk of a snapshot travels as it is,
//! behind its JSON.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::{
    error::{InstallSnapshotError, RaftError},
    raft::InstallSnapshotRequest,
};
use pubg1_model::BrokerId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::types::{StoredMembership, TypeConfig, Vote};

/// Append entries; also the leader's heartbeat.
pub(crate) const KIND_APPEND: u16 = 1;
/// Ask for a vote.
pub(crate) const KIND_VOTE: u16 = 2;
/// A chunk of a snapshot.
pub(crate) const KIND_SNAPSHOT: u16 = 3;
/// How does the group stand, as far as you know?
pub(crate) const KIND_STANDING: u16 = 4;
/// Let me, or the broker named, be a voter.
pub(crate) const KIND_JOIN: u16 = 5;
/// How far must I have applied to know what you know?
pub(crate) const KIND_READ: u16 = 6;
/// Let the broker named be no voter any more.
pub(crate) const KIND_LEAVE: u16 = 7;
/// I lead no more; elect another one now.
pub(crate) const KIND_RESIGN: u16 = 8;
/// Apply a command.
pub(crate) const KIND_PROPOSE: u16 = 10;

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// Nothing was done: its metadata log is being opened, or it is shutting down.
    #[error("its metadata log is not open")]
    NotReady,
    /// Nothing was done: it may have forgotten whom it voted for.
    #[error("it lost its disk and takes no part in votes yet")]
    Probation,
    /// Nothing was done: another broker decides, or nobody does.
    #[error("it does not lead the metadata")]
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<BrokerId>,
    },
    /// Nothing was done: another change of the voters is under way.
    #[error("another change of the voters is under way")]
    Busy,
    /// Nothing was done: the request was not understood.
    #[error("not understood: {0}")]
    Misunderstood(String),
    /// It may or may not have been done.
    #[error("interrupted: {0}")]
    Interrupted(String),
}

/// What is answered to a request of any kind.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// Asks how the group stands, and says who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StandingQuestion {
    pub(crate) broker: BrokerId,
    /// Where it listens.
    pub(crate) address: String,
    /// The voters that it was told of.
    pub(crate) voters: Vec<BrokerId>,
}

/// How the group stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Whether there has been a leader.
    pub(crate) formed: bool,
    /// The highest vote given.
    pub(crate) vote: Option<Vote>,
    /// The members, as far as the answering broker's log says.
    pub(crate) membership: StoredMembership,
    /// The voters that it was told of.
    pub(crate) voters: Vec<BrokerId>,
    /// Whether the one who asks has registered before.
    pub(crate) registered: bool,
}

/// A broker and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) broker: BrokerId,
    pub(crate) address: String,
}

/// How a join stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Joining {
    /// It is a voter.
    Done,
    /// It is being caught up; ask again.
    UnderWay,
}

/// How far a broker must have applied to know what its leader knew when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadPoint {
    /// The index in the log.
    pub(crate) index: u64,
}

/// A leader that shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resignation {
    pub(crate) broker: BrokerId,
    pub(crate) term: u64,
}

/// What a chunk of a snapshot is answered with.
pub(crate) type ChunkAnswer =
    Result<openraft::raft::InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>>;

/// `value` as a body.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Bytes, String> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| error.to_string())
}

/// The value that a body is.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// A chunk of a snapshot: the length of its JSON, the JSON without the data, the data.
pub(crate) fn encode_chunk(mut chunk: InstallSnapshotRequest<TypeConfig>) -> Result<Bytes, String> {
    let data = std::mem::take(&mut chunk.data);
    let head = encode(&chunk)?;
    let length = u32::try_from(head.len()).map_err(|_| "the head is too long".to_owned())?;
    let mut body = BytesMut::with_capacity(4 + head.len() + data.len());
    body.put_u32(length);
    body.extend_from_slice(&head);
    body.extend_from_slice(&data);
    Ok(body.freeze())
}

/// The chunk that a body is.
pub(crate) fn decode_chunk(body: &[u8]) -> Result<InstallSnapshotRequest<TypeConfig>, String> {
    let short = || "too short".to_owned();
    let (length, rest) = body.split_first_chunk::<4>().ok_or_else(short)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|error| error.to_string())?;
    let (head, data) = rest.split_at_checked(length).ok_or_else(short)?;
    let mut chunk: InstallSnapshotRequest<TypeConfig> = decode(head)?;
    chunk.data = data.to_vec();
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_carries_its_data_as_it_is() {
        let chunk = InstallSnapshotRequest::<TypeConfig> {
            vote: Vote::new_committed(3, 1),
            meta: Default::default(),
            offset: 5,
            data: vec![0, 255, 7],
            done: true,
        };
        let body = encode_chunk(chunk.clone()).unwrap();
        assert_eq!(decode_chunk(&body).unwrap(), chunk);
        for cut in 0..body.len() - 3 {
            decode_chunk(&body[..cut]).unwrap_err();
        }
    }
}
