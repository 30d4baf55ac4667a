//! The leading end of fetch sessions: requests in their order, wishes handed to their partitions, answers collected.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use pubg1_model::{BrokerId, cluster::ClusterImage};
use pubg1_transport::{Peer, Request, Response};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::wire::{DamageReport, Outcome, Poll, PollAnswer, Refusal, SentOutcome, SentWish, Wish, kind};
use crate::{
    node::NodeContext,
    partition::{Attachment, Contact, DamageSuspected, FetchRequested},
    replica_states::PartitionKey,
    rpc::{self, Services},
};

/// Bytes of batches in one answer, whatever is asked for.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a request may wait, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_millis(300);
/// How long a request waits for those before it.
const TURN_MAX: Duration = Duration::from_millis(500);
/// Answers whose times are remembered.
const TIMES_MAX: usize = 16;

/// The sessions of the brokers that follow partitions led here: one each.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<BrokerId, Arc<Session>>>);

impl Sessions {
    /// The session of a request. The first request of a session puts an end to the former one.
    fn of(&self, peer: Peer, poll: &Poll) -> Option<Arc<Session>> {
        let mut sessions = lock(&self.0);
        let known = sessions.get(&peer.broker_id);
        if let Some(known) = known.filter(|known| known.id == poll.session && known.incarnation == peer.incarnation) {
            return Some(Arc::clone(known));
        }
        if poll.number != 0 {
            return None;
        }
        let session = Arc::new(Session::new(peer, poll.session));
        if let Some(former) = sessions.insert(peer.broker_id, Arc::clone(&session)) {
            former.end();
        }
        Some(session)
    }

    /// Ends all of them: the broker shuts down.
    pub(crate) fn end(&self) {
        for session in std::mem::take(&mut *lock(&self.0)).into_values() {
            session.end();
        }
    }
}

/// A session as the leader sees it.
pub(super) struct Session {
    peer: BrokerId,
    incarnation: u64,
    id: u64,
    contact: Arc<Contact>,
    state: Mutex<SessionState>,
    changed: Notify,
}

#[derive(Default)]
struct SessionState {
    /// The number of the request whose turn it is.
    next: u64,
    entries: HashMap<PartitionKey, Entry>,
    ready: VecDeque<Ready>,
    /// When answers were sent, by the number of their request.
    sent: VecDeque<(u64, u64)>,
    is_over: bool,
}

/// A partition in the session.
struct Entry {
    /// The wish that counts.
    token: u64,
    attachment: Option<Arc<Attachment>>,
}

/// An answer to be sent.
struct Ready {
    key: PartitionKey,
    token: u64,
    outcome: Outcome,
    runs: Vec<Bytes>,
}

/// Where the answer to a wish goes. One that is dropped answers that there is none at present.
pub(crate) struct FetchSink {
    session: Arc<Session>,
    key: PartitionKey,
    token: u64,
    max_bytes: usize,
    is_done: bool,
}

impl FetchSink {
    /// Bytes of batches that were asked for, as far as one batch is not larger.
    pub(crate) const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Whether the wish still counts.
    pub(crate) fn is_wanted(&self) -> bool {
        self.session.lock().is_wanted(self.key, self.token)
    }

    /// Answers it. `runs` are the batches of a fetch.
    pub(crate) fn answer(mut self, outcome: Outcome, runs: Vec<Bytes>) {
        self.is_done = true;
        self.send(outcome, runs);
    }

    fn send(&self, outcome: Outcome, runs: Vec<Bytes>) {
        let mut state = self.session.lock();
        if state.is_wanted(self.key, self.token) {
            state.ready.push_back(Ready { key: self.key, token: self.token, outcome, runs });
            drop(state);
            self.session.changed.notify_waiters();
        }
    }
}

impl Drop for FetchSink {
    fn drop(&mut self) {
        if !self.is_done {
            self.send(Outcome::Refused(Refusal::Unavailable), Vec::new());
        }
    }
}

impl SessionState {
    fn is_wanted(&self, key: PartitionKey, token: u64) -> bool {
        !self.is_over && self.entries.get(&key).is_some_and(|entry| entry.token == token)
    }

    /// Takes what is ready, as much as fits one answer of `max_bytes`.
    fn take_ready(&mut self, max_bytes: usize) -> (Vec<SentOutcome>, Vec<Bytes>) {
        let (mut outcomes, mut parts, mut total) = (Vec::new(), Vec::new(), 0);
        while let Some(Ready { key, token, outcome, runs }) = self.ready.pop_front() {
            // A later wish for the partition has taken its place.
            if !self.is_wanted(key, token) {
                continue;
            }
            let bytes: usize = runs.iter().map(Bytes::len).sum();
            if total + bytes > max_bytes && total > 0 {
                self.ready.push_front(Ready { key, token, outcome, runs });
                break;
            }
            total += bytes;
            outcomes.push(SentOutcome { key, token, outcome, bytes: u64::try_from(bytes).unwrap_or(u64::MAX) });
            parts.extend(runs);
        }
        (outcomes, parts)
    }
}

impl Session {
    fn new(peer: Peer, id: u64) -> Self {
        Self {
            peer: peer.broker_id,
            incarnation: peer.incarnation,
            id,
            contact: Arc::default(),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SessionState> {
        lock(&self.state)
    }

    /// Nothing of it counts any more.
    fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        state.ready.clear();
        for entry in std::mem::take(&mut state.entries).into_values() {
            if let Some(attachment) = entry.attachment {
                attachment.detach();
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until `look` finds something, or the deadline.
    async fn wait<T>(&self, deadline: Instant, look: impl Fn(&mut SessionState) -> Option<T>) -> Option<T> {
        let found = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Some(found) = look(&mut self.lock()) {
                    return found;
                }
                changed.await;
            }
        };
        timeout_at(deadline, found).await.ok()
    }

    /// Waits until every request before `number` was taken in. `false`: one is missing, or this one came before.
    async fn take_turn(&self, number: u64) -> bool {
        let look = |state: &mut SessionState| match state.next.cmp(&number) {
            _ if state.is_over => Some(false),
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(true),
            std::cmp::Ordering::Greater => Some(false),
        };
        self.wait(Instant::now() + TURN_MAX, look).await.unwrap_or(false)
    }

    /// Takes a request in: first who has turned away, then the contact, then what is wanted. `false`: it came twice.
    fn take_in(self: &Arc<Self>, node: &NodeContext, poll: &Poll) -> bool {
        let mut state = self.lock();
        if state.is_over || state.next != poll.number {
            return false;
        }
        state.next += 1;
        for key in &poll.forgotten {
            if let Some(Entry { attachment: Some(attachment), .. }) = state.entries.remove(key) {
                attachment.detach();
            }
        }
        let sent_at = poll.heard.and_then(|heard| state.sent.iter().find(|(number, _)| *number == heard)).copied();
        if let Some((_, at)) = sent_at {
            self.contact.note(at);
        }
        let mut requested = Vec::with_capacity(poll.wishes.len());
        for SentWish { key, token, wish } in &poll.wishes {
            let entry = state.entries.entry(*key).or_insert(Entry { token: 0, attachment: None });
            entry.token = *token;
            let attachment = matches!(wish, Wish::Fetch(_)).then(|| {
                let attachment = entry.attachment.get_or_insert_with(|| Attachment::new(Arc::clone(&self.contact)));
                Arc::clone(attachment)
            });
            let max_bytes = bytes_max(poll);
            let sink = FetchSink { session: Arc::clone(self), key: *key, token: *token, max_bytes, is_done: false };
            requested.push((*key, FetchRequested { from: self.peer, wish: *wish, attachment, sink }));
        }
        drop(state);
        self.changed.notify_waiters();
        for (key, request) in requested {
            hand_over(node, key, request);
        }
        true
    }

    /// Waits for something to tell, a later request, or the deadline; and takes what is ready.
    async fn collect(&self, number: u64, deadline: Instant, max_bytes: usize) -> (Vec<SentOutcome>, Vec<Bytes>) {
        let look = |state: &mut SessionState| {
            // What is ready goes with the latest request: it is answered at once.
            let is_latest = state.next == number + 1;
            (!is_latest || state.is_over || !state.ready.is_empty()).then_some(is_latest)
        };
        match self.wait(deadline, look).await {
            Some(false) => (Vec::new(), Vec::new()),
            Some(true) | None => self.lock().take_ready(max_bytes),
        }
    }

    fn note_sent(&self, number: u64, now_ms: u64) {
        let mut state = self.lock();
        state.sent.push_back((number, now_ms));
        if state.sent.len() > TIMES_MAX {
            state.sent.pop_front();
        }
    }
}

fn bytes_max(poll: &Poll) -> usize {
    usize::try_from(poll.max_bytes).unwrap_or(usize::MAX).min(ANSWER_BYTES_MAX)
}

/// Gives a wish to its partition.
fn hand_over(node: &NodeContext, key: PartitionKey, request: FetchRequested) {
    let Some(slot) = node.table.find(key) else {
        return request.sink.answer(Outcome::Refused(Refusal::NotKept), Vec::new());
    };
    // Dropped when there is nobody to take it, and answered by that.
    slot.post(request).map_err(drop).unwrap_or_default();
}

/// Answers kinds 20 to 29.
pub(crate) async fn answer(services: &Services, peer: Peer, request: Request) -> Response {
    let node = &services.node;
    match request.kind {
        kind::POLL => match request.decode::<Poll>() {
            // It must not put an end to the session of the life that took its place.
            Ok(poll) if is_former_life(&services.metadata.image(), peer.broker_id, &poll) => {
                tracing::debug!(broker = %peer.broker_id, "a former life of a broker follows on");
                rpc::respond(kind::POLL, &PollAnswer::UnknownSession)
            }
            Ok(poll) => answer_poll(node, peer, &poll).await,
            Err(error) => rpc::not_understood(&error),
        },
        kind::DAMAGE => match request.decode::<DamageReport>() {
            Ok(DamageReport { key, offset }) => {
                if let Some(slot) = node.table.find(key) {
                    // One that does not run looks at its log when it is opened.
                    slot.post(DamageSuspected { offset }).map_err(drop).unwrap_or_default();
                }
                rpc::respond(kind::DAMAGE, &())
            }
            Err(error) => rpc::not_understood(&error),
        },
        _ => rpc::unknown(),
    }
}

/// Whether another life of the follower has registered since.
fn is_former_life(image: &ClusterImage, follower: BrokerId, poll: &Poll) -> bool {
    image.brokers.get(&follower).is_some_and(|known| known.registration > poll.registration)
}

async fn answer_poll(node: &NodeContext, peer: Peer, poll: &Poll) -> Response {
    let unknown = || rpc::respond(kind::POLL, &PollAnswer::UnknownSession);
    let Some(session) = node.sessions.of(peer, poll) else { return unknown() };
    if !session.take_turn(poll.number).await || !session.take_in(node, poll) {
        // What was asked of it meanwhile cannot be put in order any more.
        session.end();
        return unknown();
    }
    let deadline = Instant::now() + Duration::from_millis(poll.wait_ms).min(WAIT_MAX);
    let (outcomes, parts) = session.collect(poll.number, deadline, bytes_max(poll)).await;
    let metrics = node.metrics.replication();
    metrics.fetches.inc();
    metrics.bytes_out.inc_by(parts.iter().map(|part| u64::try_from(part.len()).unwrap_or(u64::MAX)).sum());
    // Nothing is awaited between taking the answers and returning them: they cannot be lost here.
    session.note_sent(poll.number, node.monotonic_ms());
    rpc::respond(kind::POLL, &PollAnswer::Answers(outcomes)).with_payload(parts)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is a few assignments: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
