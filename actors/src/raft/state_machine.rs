//! The image as a state machine: applies what is committed, publishes, makes snapshots.
//!
//! The image lives in memory. On disk there are the newest snapshot and the log after it, and a start makes the image
//! from them.

use std::{io::Cursor, sync::Arc};

use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, storage::RaftStateMachine};
use pubg1_model::cluster::{ClusterImage, MetadataReply};
use uuid::Uuid;

use super::{
    store::{Store, StoreError, encode, key, put, put_bytes, read_error, unreadable, write_error},
    types::{Applied, Entry, LogId, RaftStorageError, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};

/// Where every new image goes.
pub(crate) type Publish = Arc<dyn Fn(Arc<ClusterImage>) + Send + Sync>;

/// The applied state.
pub(crate) struct StateMachine {
    store: Store,
    publish: Publish,
    state: State,
}

/// What a snapshot is made of.
#[derive(Clone, Default)]
struct State {
    image: ClusterImage,
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

impl StateMachine {
    /// The state of the newest snapshot, published. Reads from disk.
    pub(crate) fn open(store: Store, publish: Publish) -> Result<Self, StoreError> {
        let mut state = State::default();
        if let Some(meta) = store.read::<SnapshotMeta>(key::SNAPSHOT_META)? {
            let json = store.read_bytes(key::SNAPSHOT)?;
            let json = json.ok_or_else(|| StoreError::Damaged("the snapshot is missing".to_owned()))?;
            state = State::from_snapshot(&meta, &json)?;
        }
        let machine = Self { store, publish, state };
        machine.publish();
        Ok(machine)
    }

    fn publish(&self) {
        (self.publish)(Arc::new(self.state.image.clone()));
    }
}

impl State {
    fn from_snapshot(meta: &SnapshotMeta, json: &[u8]) -> Result<Self, StoreError> {
        let image = serde_json::from_slice(json).map_err(|error| unreadable(&error))?;
        Ok(Self { image, last_applied: meta.last_log_id, membership: meta.last_membership.clone() })
    }

    fn apply(&mut self, entry: Entry) -> Applied {
        self.last_applied = Some(entry.log_id);
        let result = match entry.payload {
            EntryPayload::Normal(command) => self.image.apply(&command),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Ok(MetadataReply::Done)
            }
            EntryPayload::Blank => Ok(MetadataReply::Done),
        };
        Applied { version: self.image.version, result }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), RaftStorageError> {
        Ok((self.state.last_applied, self.state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, RaftStorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let before = self.state.image.version;
        let replies = entries.into_iter().map(|entry| self.state.apply(entry)).collect();
        // Before the answers: who gets one finds what it changed.
        if self.state.image.version != before {
            self.publish();
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { store: self.store.clone(), state: self.state.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, RaftStorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), RaftStorageError> {
        let json = snapshot.into_inner();
        let state = State::from_snapshot(meta, &json).map_err(read_error)?;
        store_snapshot(&self.store, meta.clone(), json).await.map_err(write_error)?;
        self.state = state;
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, RaftStorageError> {
        let read = |store: &Store| {
            let Some(meta) = store.read::<SnapshotMeta>(key::SNAPSHOT_META)? else { return Ok(None) };
            let json = store.read_bytes(key::SNAPSHOT)?.unwrap_or_default();
            Ok(Some(Snapshot { meta, snapshot: Box::new(Cursor::new(json)) }))
        };
        self.store.read_there(read).await.map_err(read_error)
    }
}

/// Makes a snapshot of the state at one moment, beside whatever is applied after it.
pub(crate) struct SnapshotBuilder {
    store: Store,
    state: State,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, RaftStorageError> {
        let State { image, last_applied, membership } = self.state.clone();
        let meta = SnapshotMeta {
            last_log_id: last_applied,
            last_membership: membership,
            snapshot_id: Uuid::new_v4().simple().to_string(),
        };
        let json = self.store.read_there(move |_| encode(&image)).await.map_err(read_error)?;
        store_snapshot(&self.store, meta.clone(), json.clone()).await.map_err(write_error)?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(json)) })
    }
}

/// The snapshot and what it covers change in one transaction; the former one goes with it. One that was being made
/// while the leader sent a newer one does not replace that.
async fn store_snapshot(store: &Store, meta: SnapshotMeta, json: Vec<u8>) -> Result<(), StoreError> {
    let known = store.clone();
    let replace = move |transaction: &redb::WriteTransaction| {
        let stored: Option<SnapshotMeta> = known.read(key::SNAPSHOT_META)?;
        if stored.is_some_and(|stored| stored.last_log_id > meta.last_log_id) {
            return Ok(());
        }
        put(transaction, key::SNAPSHOT_META, &meta)?;
        put_bytes(transaction, key::SNAPSHOT, &json)
    };
    store.write(replace).await
}
