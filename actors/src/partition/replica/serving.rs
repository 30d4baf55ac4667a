//! A leading replica and its followers: fetches are counted at once, and answered when there is something to tell.
//!
//! A fetch that finds nothing is parked, at most one a follower, until something is appended; news of the high
//! watermark alone may wait a little, because the next records carry it. One that comes before this replica has taken
//! its leadership up is kept until then: a follower may hear of an election first.

use std::{hint::black_box, sync::Arc};

use pubg1_model::{
    BrokerId, LeaderEpoch, Offset,
    replication::{
        FetchRefused, LeaderProgress, Role as ReplicaRole,
        message::{EpochEndQuery, ReplicaFetch},
    },
};
use pubg1_storage::{LogReader, LogSlice, ReadError};

use super::ReplicaState;
use crate::{
    partition::lease::{Attachment, Lease},
    replicator::{FetchSink, Outcome, Refusal},
};

/// Bytes of one answer: at least one batch, then up to this, or less if less was asked for.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// The smallest page that a machine has.
const PAGE_BYTES: usize = 4096;
/// A follower that has not had everything for this long is not in sync, in milliseconds.
const LAG_MS_MAX: u64 = 2_000;

/// What a follower asks.
pub(in crate::partition) enum Asked {
    /// Records.
    Fetch { fetch: ReplicaFetch, attachment: Arc<Attachment> },
    /// Where an epoch ends.
    EpochEnd(EpochEndQuery),
}

impl Asked {
    const fn epoch(&self) -> LeaderEpoch {
        match self {
            Self::Fetch { fetch, .. } => fetch.epoch,
            Self::EpochEnd(query) => query.epoch,
        }
    }
}

/// A read that is done elsewhere, because it may wait for the disk.
pub(in crate::partition) struct Served {
    pub(in crate::partition) from: BrokerId,
    pub(in crate::partition) epoch: LeaderEpoch,
    pub(in crate::partition) offset: Offset,
    pub(in crate::partition) reader: LogReader,
    max_bytes: usize,
}

impl Served {
    /// Blocks.
    pub(in crate::partition) fn read(&self) -> Result<LogSlice, ReadError> {
        self.reader.read(self.offset, Offset::MAX, self.max_bytes)
    }

    /// As [`Self::read`], and what was read is in memory: whoever sends it does not wait for the disk.
    pub(in crate::partition) fn read_into_memory(&self) -> Result<LogSlice, ReadError> {
        let slice = self.read()?;
        for run in &slice.runs {
            for byte in run.iter().step_by(PAGE_BYTES).chain(run.last()) {
                black_box(*byte);
            }
        }
        Ok(slice)
    }
}

/// A follower, besides what the protocol knows of it.
struct Follower {
    broker: BrokerId,
    attachment: Arc<Attachment>,
    parked: Option<(ReplicaFetch, FetchSink)>,
    /// What it is waiting for is being read elsewhere.
    is_reading: bool,
    /// The high watermark and the log start that it was told last.
    told: Option<(Offset, Offset)>,
    /// When its last fetch came, and where the log ended then.
    last_fetch: (u64, Offset),
    /// When it had everything the last time.
    caught_up_ms: Option<u64>,
}

impl Follower {
    fn is_in_sync(&self, progress: &LeaderProgress, log_end: Offset, now_ms: u64) -> bool {
        let recent = |ms: u64| now_ms.saturating_sub(ms) <= LAG_MS_MAX;
        let contact = self.attachment.last_ms().max(Some(self.last_fetch.0).filter(|_| self.attachment.is_attached()));
        let acknowledged = progress.acknowledged(self.broker);
        acknowledged.is_some()
            && contact.is_some_and(recent)
            && (acknowledged >= Some(log_end) || self.caught_up_ms.is_some_and(recent))
    }
}

/// The followers of this leadership.
#[derive(Default)]
pub(super) struct Followers {
    list: Vec<Follower>,
    /// What was asked before this replica could answer.
    early: Vec<(BrokerId, Asked, FetchSink)>,
    in_sync: Arc<[BrokerId]>,
    /// The lease that is published is not the one that counts any more.
    is_lease_outdated: bool,
}

impl Followers {
    pub(super) fn begin(&mut self, _now_ms: u64) {
        self.is_lease_outdated = true;
    }

    /// The leadership is over.
    pub(super) fn dismiss(&mut self) {
        for (_, sink) in self.list.drain(..).filter_map(|follower| follower.parked) {
            sink.answer(Outcome::Refused(Refusal::NotLeader), Vec::new());
        }
        if !self.in_sync.is_empty() {
            self.in_sync = Arc::new([]);
        }
        self.is_lease_outdated = true;
    }

    pub(super) fn in_sync(&self) -> Arc<[BrokerId]> {
        Arc::clone(&self.in_sync)
    }

    fn get(&mut self, broker: BrokerId) -> Option<&mut Follower> {
        self.list.iter_mut().find(|follower| follower.broker == broker)
    }
}

impl ReplicaState {
    /// A follower asks. What it has is counted at once; the answer may come later. Returns a read to be done elsewhere.
    pub(in crate::partition) fn on_asked(
        &mut self,
        from: BrokerId,
        asked: Asked,
        sink: FetchSink,
        now_ms: u64,
    ) -> Option<Served> {
        let epoch = asked.epoch();
        if epoch > self.replica.promised_epoch() {
            let effects = self.replica.observe_epoch(epoch);
            self.note(effects);
        }
        let undecided = matches!(self.replica.role(), ReplicaRole::Waiting | ReplicaRole::Elected { .. })
            && epoch == self.replica.promised_epoch();
        if undecided || !self.is_idle() {
            self.followers.early.retain(|(broker, ..)| *broker != from);
            self.followers.early.push((from, asked, sink));
            return None;
        }
        match asked {
            Asked::EpochEnd(query) => {
                let outcome = match self.replica.epoch_end(&query) {
                    Ok(answer) => Outcome::EpochEnd(answer),
                    Err(_) => Outcome::Refused(Refusal::NotLeader),
                };
                sink.answer(outcome, Vec::new());
                None
            }
            Asked::Fetch { fetch, attachment } => self.on_fetch(from, fetch, attachment, sink, now_ms),
        }
    }

    /// What was asked too early and can be answered now.
    pub(in crate::partition) fn take_early(&mut self) -> Vec<(BrokerId, Asked, FetchSink)> {
        let promised = self.replica.promised_epoch();
        let undecided = matches!(self.replica.role(), ReplicaRole::Waiting | ReplicaRole::Elected { .. });
        if !self.is_idle() || self.followers.early.is_empty() {
            return Vec::new();
        }
        self.followers.early.extract_if(.., |(_, asked, _)| !(undecided && asked.epoch() == promised)).collect()
    }

    fn on_fetch(
        &mut self,
        from: BrokerId,
        fetch: ReplicaFetch,
        attachment: Arc<Attachment>,
        sink: FetchSink,
        now_ms: u64,
    ) -> Option<Served> {
        let offset = fetch.fetch_offset;
        // Counted; what there is to read is found out afterwards.
        match self.replica.on_fetch(from, &fetch, self.log_start, offset, now_ms) {
            Ok((_, effects)) => self.note(effects),
            Err(refused) => {
                sink.answer(Outcome::Refused(refusal(refused, fetch.epoch)), Vec::new());
                return None;
            }
        }
        let (log_end, adopted) = (self.replica.log_end(), fetch.adopted_epoch == Some(fetch.epoch));
        let follower = self.attach(from, attachment);
        follower.parked = Some((fetch, sink));
        if adopted && offset >= log_end {
            follower.caught_up_ms = Some(now_ms);
        } else if adopted && offset >= follower.last_fetch.1 && follower.last_fetch.0 > 0 {
            follower.caught_up_ms = follower.caught_up_ms.max(Some(follower.last_fetch.0));
        }
        follower.last_fetch = (now_ms, log_end);
        self.advance_handover();
        if !self.followers.in_sync.contains(&from) {
            self.update_in_sync(now_ms);
        }
        if offset < log_end {
            return self.serve(from, now_ms);
        }
        if !adopted {
            // It has to hear what it takes to count.
            self.answer(from, &LogSlice { next_offset: offset, ..LogSlice::default() }, now_ms);
        }
        None
    }

    fn attach(&mut self, broker: BrokerId, attachment: Arc<Attachment>) -> &mut Follower {
        let list = &mut self.followers.list;
        let at = list.iter().position(|follower| follower.broker == broker).unwrap_or_else(|| {
            list.push(Follower {
                broker,
                attachment: Arc::clone(&attachment),
                parked: None,
                is_reading: false,
                told: None,
                last_fetch: (0, Offset::ZERO),
                caught_up_ms: None,
            });
            self.followers.is_lease_outdated = true;
            list.len() - 1
        });
        let follower = &mut list[at];
        if !Arc::ptr_eq(&follower.attachment, &attachment) {
            follower.attachment = attachment;
            // Another session, perhaps of another life, which knows nothing of what the former was told.
            follower.told = None;
            self.followers.is_lease_outdated = true;
        }
        follower
    }

    /// Reads for a follower that is parked: at once what was written a short while ago, elsewhere what is older.
    fn serve(&mut self, broker: BrokerId, now_ms: u64) -> Option<Served> {
        let epoch = self.replica.promised_epoch();
        let recent_from = self.open.as_ref()?.log.recent_from();
        let reader = self.reader.clone();
        let follower = self.followers.get(broker)?;
        let (fetch, sink) = follower.parked.as_ref()?;
        if follower.is_reading {
            return None;
        }
        if !sink.is_wanted() {
            follower.parked = None;
            return None;
        }
        let max_bytes = sink.max_bytes().min(ANSWER_BYTES_MAX);
        let read = Served { from: broker, epoch, offset: fetch.fetch_offset, reader, max_bytes };
        if read.offset < recent_from {
            follower.is_reading = true;
            return Some(read);
        }
        match read.read() {
            Ok(slice) => self.answer(broker, &slice, now_ms),
            // What was written a short while ago is not read again from the disk.
            Err(error) => tracing::warn!(%broker, %error, "the end of the log could not be read for a follower"),
        }
        None
    }

    /// A read that was done elsewhere.
    pub(in crate::partition) fn on_read(&mut self, broker: BrokerId, offset: Offset, slice: &LogSlice, now_ms: u64) {
        let Some(follower) = self.followers.get(broker) else { return };
        follower.is_reading = false;
        if follower.parked.as_ref().is_some_and(|(fetch, _)| fetch.fetch_offset == offset) {
            self.answer(broker, slice, now_ms);
        }
    }

    /// A read elsewhere failed: the follower asks again.
    pub(in crate::partition) fn on_read_failed(&mut self, broker: BrokerId) {
        let Some(follower) = self.followers.get(broker) else { return };
        follower.is_reading = false;
        if let Some((_, sink)) = follower.parked.take() {
            sink.answer(Outcome::Refused(Refusal::Unavailable), Vec::new());
        }
    }

    /// Answers the fetch that is parked with what was read.
    fn answer(&mut self, broker: BrokerId, slice: &LogSlice, now_ms: u64) {
        let log_start = self.log_start;
        let Some(follower) = self.followers.get(broker) else { return };
        let Some((fetch, sink)) = follower.parked.take() else { return };
        match self.replica.on_fetch(broker, &fetch, log_start, slice.next_offset, now_ms) {
            Ok((answer, effects)) => {
                if let Some(follower) = self.followers.get(broker) {
                    follower.told = Some((answer.high_watermark, log_start));
                }
                sink.answer(Outcome::Fetched { answer, log_start }, slice.runs.clone());
                self.note(effects);
            }
            Err(refused) => sink.answer(Outcome::Refused(refusal(refused, fetch.epoch)), Vec::new()),
        }
    }

    /// Answers every parked fetch for which something was appended. Returns the reads to be done elsewhere.
    pub(in crate::partition) fn serve_parked(&mut self, now_ms: u64) -> Vec<Served> {
        let log_end = self.replica.log_end();
        let waits = |follower: &Follower| {
            let parked = follower.parked.as_ref();
            parked.is_some_and(|(fetch, _)| fetch.fetch_offset < log_end).then_some(follower.broker)
        };
        if self.followers.list.iter().all(|follower| waits(follower).is_none()) {
            return Vec::new();
        }
        let waiting: Vec<BrokerId> = self.followers.list.iter().filter_map(waits).collect();
        waiting.into_iter().filter_map(|broker| self.serve(broker, now_ms)).collect()
    }

    /// Whether a parked follower does not know the high watermark, or where the log starts.
    pub(in crate::partition) fn has_news(&self) -> bool {
        let news = Some((self.replica.high_watermark(), self.log_start));
        self.followers.list.iter().any(|follower| follower.parked.is_some() && follower.told != news)
    }

    /// Tells the news to every parked follower that does not know.
    pub(in crate::partition) fn tell_news(&mut self, now_ms: u64) {
        let news = Some((self.replica.high_watermark(), self.log_start));
        let unaware = |follower: &&Follower| follower.parked.is_some() && follower.told != news;
        let unaware: Vec<BrokerId> = self.followers.list.iter().filter(unaware).map(|it| it.broker).collect();
        for broker in unaware {
            let offset = self.followers.get(broker).and_then(|it| Some(it.parked.as_ref()?.0.fetch_offset));
            let Some(next_offset) = offset else { continue };
            self.answer(broker, &LogSlice { next_offset, ..LogSlice::default() }, now_ms);
        }
    }

    /// Finds out which replicas are in sync. Whether that has changed.
    pub(in crate::partition) fn update_in_sync(&mut self, now_ms: u64) -> bool {
        let Some(progress) = self.replica.leading() else { return false };
        let log_end = self.replica.log_end();
        let (followers, me) = (&self.followers.list, self.broker);
        let is_in_sync = |broker: &BrokerId| {
            *broker == me
                || followers
                    .iter()
                    .any(|follower| follower.broker == *broker && follower.is_in_sync(progress, log_end, now_ms))
        };
        let in_sync: Arc<[BrokerId]> = progress.replica_set().members().filter(is_in_sync).collect();
        let changed = in_sync != self.followers.in_sync;
        if changed {
            self.followers.in_sync = in_sync;
            self.is_changed = true;
        }
        changed
    }

    /// The replica set has changed: leases are counted by it, and who is no longer in it is let go.
    pub(in crate::partition) fn on_followers_changed(&mut self) {
        self.followers.is_lease_outdated = true;
        let Some(progress) = self.replica.leading() else { return };
        let set = progress.replica_set();
        for gone in self.followers.list.extract_if(.., |follower| !set.contains(follower.broker)) {
            if let Some((_, sink)) = gone.parked {
                sink.answer(Outcome::Refused(Refusal::UnknownReplica), Vec::new());
            }
        }
    }

    /// The lease to be published, if the one that is published does not count any more: `None` in it when this replica
    /// does not lead.
    pub(in crate::partition) fn new_lease(&mut self) -> Option<Option<Arc<Lease>>> {
        if !std::mem::take(&mut self.followers.is_lease_outdated) {
            return None;
        }
        let leading = self.replica.leading().filter(|_| self.leading_since_ms > 0);
        Some(leading.map(|progress| Arc::new(self.lease(progress))))
    }

    fn lease(&self, progress: &LeaderProgress) -> Lease {
        let attached = self.followers.list.iter();
        let attached = attached.map(|follower| (follower.broker, Arc::clone(&follower.attachment))).collect();
        Lease::new(self.broker, progress.replica_set().clone(), attached)
    }

    /// Since when no quorum was in contact; `None` when it is alone, or does not lead.
    pub(in crate::partition) fn silent_since_ms(&self) -> Option<u64> {
        let progress = self.replica.leading().filter(|_| self.leading_since_ms > 0)?;
        match self.lease(progress).contact_ms() {
            Some(u64::MAX) => None,
            contact => Some(contact.unwrap_or(0).max(self.leading_since_ms)),
        }
    }

    /// How many records the slowest follower lacks that was heard from.
    pub(in crate::partition) fn lag(&self) -> u64 {
        let Some(progress) = self.replica.leading() else { return 0 };
        let members = progress.replica_set().members().filter(|broker| *broker != self.broker);
        let acknowledged = members.filter_map(|broker| progress.acknowledged(broker));
        acknowledged.map(|offset| self.replica.log_end().since(offset)).max().unwrap_or(0)
    }

    /// Whether a replica is not in sync.
    pub(in crate::partition) fn is_under_replicated(&self) -> bool {
        let progress = self.replica.leading().filter(|_| self.leading_since_ms > 0);
        progress.is_some_and(|progress| progress.replica_set().members().count() > self.followers.in_sync.len())
    }
}

/// Why a fetch is refused, as the follower is told.
fn refusal(refused: FetchRefused, epoch: LeaderEpoch) -> Refusal {
    match refused {
        FetchRefused::NotLeader(_) => Refusal::NotLeader,
        FetchRefused::StaleEpoch(_) | FetchRefused::NewerEpoch { .. } => Refusal::OtherEpoch,
        FetchRefused::UnknownReplica { .. } => Refusal::UnknownReplica,
        FetchRefused::FormerLife { .. } => Refusal::FormerLife,
        FetchRefused::BeyondLogEnd { .. } => Refusal::BeyondLogEnd,
        FetchRefused::BelowLogStart { log_start, .. } => Refusal::BelowLogStart { epoch, log_start },
    }
}
