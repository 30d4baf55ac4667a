//! Reads as a member of a group: a consumer instance, whichever broker serves it, made anew when it is gone.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use pubg1_model::{GroupId, Offset, PartitionId, TopicName};
use serde_json::json;

use crate::client::{
    Client, ClientError,
    consumers::CommitKey,
    group_reply::{GroupRecord, PlacedOffset},
};

const POLL_BYTES: usize = 1024 * 1024;
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// The next offset of each partition.
pub type Offsets = BTreeMap<(TopicName, PartitionId), Offset>;

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is stored.
    Stored,
    /// What it was about is another member's now.
    Lost,
}

/// A member of a group.
#[derive(Debug)]
pub struct GroupReader {
    client: Client,
    group: GroupId,
    topics: Vec<TopicName>,
    reset: &'static str,
    session: Duration,
    instance: Option<String>,
    /// Behind what it was given last.
    next: Offsets,
    /// Whether the last request for records had no answer: the broker may think that it was received.
    failed: bool,
}

impl GroupReader {
    /// One that has not joined. `reset` is where it begins where the group has committed nothing: `earliest` or
    /// `latest`.
    #[must_use]
    pub fn new(client: Client, group: GroupId, topics: Vec<TopicName>, reset: &'static str, session: Duration) -> Self {
        Self { client, group, topics, reset, session, instance: None, next: Offsets::new(), failed: false }
    }

    /// Its instance, made if there is none.
    async fn instance(&mut self) -> Result<String, ClientError> {
        if let Some(instance) = &self.instance {
            return Ok(instance.clone());
        }
        let name = format!("pubg1-{:016x}", RandomState::new().hash_one(&self.topics));
        let options = json!({
            "name": name,
            "format": "binary",
            "auto.offset.reset": self.reset,
            "auto.commit.enable": "false",
            "session.timeout.ms": self.session.as_millis().to_string(),
        });
        let created = self.client.create_consumer(&self.group, &options).await?;
        let subscribed = self.client.subscribe(&self.group, &created.instance_id, &self.topics).await;
        if let Err(error) = subscribed {
            // The next attempt makes another one: nobody shall wait for this one meanwhile.
            drop(self.client.delete_consumer(&self.group, &created.instance_id).await);
            return Err(error);
        }
        self.instance = Some(created.instance_id.clone());
        Ok(created.instance_id)
    }

    /// What comes next; waits for it. `None`: it had to begin anew, and what was not committed comes again.
    ///
    /// # Errors
    /// The broker's.
    pub async fn poll(&mut self, wait: Duration) -> Result<Option<Vec<GroupRecord>>, ClientError> {
        let instance = self.instance().await?;
        let polled = async {
            // Until there is an answer this one counts as lost, too.
            if std::mem::replace(&mut self.failed, true) {
                self.look_back(&instance).await?;
            }
            self.client.poll(&self.group, &instance, wait, POLL_BYTES).await
        };
        let records = match polled.await {
            Ok(polled) => polled.records,
            // It was silent for too long: suspended, or without a broker that answered.
            Err(error) if error.status() == Some(NOT_FOUND) => {
                (self.instance, self.failed) = (None, false);
                self.next.clear();
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.failed = false;
        for record in &records {
            self.next.insert(place(record), Offset::new(record.offset.get() + 1));
        }
        Ok(Some(records))
    }

    /// Goes back in all of its partitions to what it has; a request that is still under way is refused them by that.
    async fn look_back(&self, instance: &str) -> Result<(), ClientError> {
        let committed = self.client.committed(&self.group, instance).await?;
        let entries = placed(&read_on(&self.next, &committed, self.reset));
        if entries.is_empty() {
            return Ok(());
        }
        match self.client.seek(&self.group, instance, &entries).await {
            Err(error) if error.status() == Some(CONFLICT) => {}
            sought => return sought,
        }
        // One is another member's since a moment ago, which begins where the group has committed. The others are left
        // as they were.
        for entry in &entries {
            match self.client.seek(&self.group, instance, std::slice::from_ref(entry)).await {
                Err(error) if error.status() == Some(CONFLICT) => {}
                sought => sought?,
            }
        }
        Ok(())
    }

    /// Stores what the group reads next.
    ///
    /// # Errors
    /// The broker's.
    pub async fn commit(&self, next: &Offsets) -> Result<Committed, ClientError> {
        let Some(instance) = self.instance.as_deref().filter(|_| !next.is_empty()) else {
            return Ok(Committed::Stored);
        };
        match self.client.commit_offsets(&self.group, instance, CommitKey::Next, &placed(next)).await {
            Ok(()) => Ok(Committed::Stored),
            Err(error) if matches!(error.status(), Some(CONFLICT | NOT_FOUND)) => Ok(Committed::Lost),
            Err(error) => Err(error),
        }
    }

    /// Where it reads on in the partitions that are its own.
    ///
    /// # Errors
    /// The broker's.
    pub async fn positions(&self) -> Result<Vec<PlacedOffset>, ClientError> {
        let Some(instance) = self.instance.as_deref() else { return Ok(Vec::new()) };
        let mut positions = self.client.positions(&self.group, instance).await?;
        if positions.iter().any(|position| position.offset.is_none()) {
            // Where nothing was given to it yet it begins where the group is.
            let committed = self.client.committed(&self.group, instance).await?;
            for position in positions.iter_mut().filter(|position| position.offset.is_none()) {
                let same = |at: &&PlacedOffset| at.topic == position.topic && at.partition == position.partition;
                position.offset = committed.iter().find(same).and_then(|at| at.offset);
            }
        }
        Ok(positions)
    }

    /// Leaves, so that nobody waits for it.
    ///
    /// # Errors
    /// The broker's; the group does without it after its session then.
    pub async fn leave(&mut self) -> Result<(), ClientError> {
        match self.instance.take() {
            Some(instance) => self.client.delete_consumer(&self.group, &instance).await,
            None => Ok(()),
        }
    }
}

fn place(record: &GroupRecord) -> (TopicName, PartitionId) {
    (record.topic.clone(), record.partition)
}

fn placed(offsets: &Offsets) -> Vec<PlacedOffset> {
    offsets.iter().map(|((topic, partition), offset)| PlacedOffset::next(topic, *partition, offset.get())).collect()
}

/// Where to read on in the partitions that are its own: behind what came last, or where the group has committed if
/// somebody else has read further. A partition without either begins at the beginning; if the group begins with the
/// latest record, it begins with the first answer that arrives, and is left as it is.
fn read_on(next: &Offsets, committed: &[PlacedOffset], reset: &str) -> Offsets {
    // An offset that is not in the log any more is as good as the first one.
    let first = (reset == "earliest").then_some(Offset::ZERO);
    let target = |at: &PlacedOffset| {
        let place = (at.topic.clone(), at.partition);
        let offset = next.get(&place).copied().max(at.offset().map(Offset::new)).or(first)?;
        Some((place, offset))
    };
    committed.iter().filter_map(target).collect()
}

#[cfg(test)]
mod tests;
