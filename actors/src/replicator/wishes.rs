//! What this broker wants of the others: shared between the partitions that want it and the actors that ask.
//!
//! A wish that is withdrawn is out of the next request before this returns, whatever threads are involved: that is what
//! a leader's lease rests on.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use actix::Addr;
use pubg1_model::BrokerId;

use super::{
    actor::{ReplicatorActor, Wanted, start_replicator},
    wire::{SentWish, Wish},
};
use crate::{arbiters::Place, node::NodeContext, partition::PartitionSlot, replica_states::PartitionKey};

/// The brokers that partitions are followed from. Replicators are started by the first wish and ended when nothing is
/// followed from their broker any more.
#[derive(Default)]
pub(crate) struct Sources {
    by_broker: Mutex<BTreeMap<BrokerId, Arc<Source>>>,
    arbiters: OnceLock<Arbiters>,
}

/// Where replicators run: one a broker, on the arbiters of the partitions; their supervisors on `control`.
struct Arbiters {
    replicators: Vec<Place>,
    control: Place,
    node: std::sync::Weak<NodeContext>,
}

impl Sources {
    /// Says where replicators run. Until then wishes only wait.
    pub(crate) fn start(&self, node: &Arc<NodeContext>, replicators: Vec<Place>, control: Place) {
        let arbiters = Arbiters { replicators, control, node: Arc::downgrade(node) };
        // Started once.
        self.arbiters.set(arbiters).map_err(drop).unwrap_or_default();
    }

    /// Wants something of `broker` for a partition. The answer comes as a message with the token that this returns.
    pub(crate) fn want(&self, broker: BrokerId, wish: Wish, slot: &Arc<PartitionSlot>) -> u64 {
        // Under the lock: a source must not be ended between being found and being told.
        let mut sources = lock(&self.by_broker);
        sources.entry(broker).or_insert_with(|| self.begin(broker)).want(wish, slot)
    }

    fn begin(&self, broker: BrokerId) -> Arc<Source> {
        let source = Arc::new(Source::new(broker));
        if let Some(arbiters) = self.arbiters.get()
            && let Some(node) = arbiters.node.upgrade()
        {
            let at = usize::try_from(broker.0).unwrap_or(0) % arbiters.replicators.len().max(1);
            if let Some(place) = arbiters.replicators.get(at) {
                start_replicator(&node, &source, place.clone(), &arbiters.control);
            }
        }
        source
    }

    /// Wants nothing of `broker` for a partition any more: no later request counts as contact for it.
    pub(crate) fn withdraw(&self, broker: BrokerId, key: PartitionKey) {
        let source = lock(&self.by_broker).get(&broker).cloned();
        if let Some(source) = source {
            source.withdraw(key);
        }
    }

    /// Ends the replicators of the brokers that nothing is followed from.
    pub(crate) fn retain(&self, is_followed: impl Fn(BrokerId) -> bool) {
        let mut sources = lock(&self.by_broker);
        sources.retain(|broker, source| {
            let is_needed = is_followed(*broker) || !source.is_empty();
            if !is_needed {
                source.end();
            }
            is_needed
        });
    }

    /// Ends all of them: the broker shuts down.
    pub(crate) fn end(&self) {
        let sources = std::mem::take(&mut *lock(&self.by_broker));
        for source in sources.into_values() {
            source.end();
        }
    }
}

/// What is wanted of one broker.
pub(crate) struct Source {
    pub(super) broker: BrokerId,
    state: Mutex<SourceState>,
}

#[derive(Default)]
struct SourceState {
    wishes: HashMap<PartitionKey, (u64, Wish, Arc<PartitionSlot>)>,
    /// Wishes that the session does not know.
    unsent: BTreeSet<PartitionKey>,
    /// Partitions that the session knows to be followed.
    attached: BTreeSet<PartitionKey>,
    /// Of those, the ones that are followed no more, or not in the same epoch.
    forgotten: BTreeSet<PartitionKey>,
    last_token: u64,
    address: Option<Addr<ReplicatorActor>>,
    /// The actor knows that there is something to send.
    is_told: bool,
    is_over: bool,
}

/// What goes into the next request.
#[derive(Default)]
pub(super) struct NextRequest {
    pub(super) forgotten: Vec<PartitionKey>,
    pub(super) wishes: Vec<SentWish>,
}

impl Source {
    fn new(broker: BrokerId) -> Self {
        Self { broker, state: Mutex::default() }
    }

    fn want(&self, wish: Wish, slot: &Arc<PartitionSlot>) -> u64 {
        let key = slot.identity.key();
        let mut state = lock(&self.state);
        state.last_token += 1;
        let token = state.last_token;
        state.wishes.insert(key, (token, wish, Arc::clone(slot)));
        state.unsent.insert(key);
        tell(&mut state);
        token
    }

    fn withdraw(&self, key: PartitionKey) {
        let mut state = lock(&self.state);
        state.wishes.remove(&key);
        state.unsent.remove(&key);
        if state.attached.remove(&key) {
            state.forgotten.insert(key);
            tell(&mut state);
        }
    }

    fn is_empty(&self) -> bool {
        let state = lock(&self.state);
        state.wishes.is_empty() && state.attached.is_empty() && state.forgotten.is_empty()
    }

    fn end(&self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        state.wishes.clear();
        state.is_told = false;
        tell(&mut state);
    }

    pub(super) fn set_address(&self, address: Option<Addr<ReplicatorActor>>) {
        let mut state = lock(&self.state);
        state.address = address;
        state.is_told = false;
        tell(&mut state);
    }

    /// Whether nothing is wanted of this broker any more, for good.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.state).is_over
    }

    /// Whether a request has to be outstanding: something waits for an answer, or the session has to be kept alive.
    pub(super) fn is_followed(&self) -> bool {
        let state = lock(&self.state);
        !state.wishes.is_empty() || !state.attached.is_empty()
    }

    /// Whether there is something to send.
    pub(super) fn has_unsent(&self) -> bool {
        let mut state = lock(&self.state);
        state.is_told = false;
        !state.unsent.is_empty() || !state.forgotten.is_empty()
    }

    /// A session begins that knows nothing yet.
    pub(super) fn begin_session(&self) {
        let mut state = lock(&self.state);
        state.unsent = state.wishes.keys().copied().collect();
        state.attached.clear();
        state.forgotten.clear();
    }

    /// What the session does not know yet; from here on it does.
    pub(super) fn take_request(&self) -> NextRequest {
        let mut state = lock(&self.state);
        let SourceState { wishes, unsent, attached, forgotten, .. } = &mut *state;
        let sent =
            |key: PartitionKey| wishes.get(&key).map(|(token, wish, _)| SentWish { key, token: *token, wish: *wish });
        let request = NextRequest {
            forgotten: std::mem::take(forgotten).into_iter().collect(),
            wishes: std::mem::take(unsent).into_iter().filter_map(sent).collect(),
        };
        let fetches = request.wishes.iter().filter(|sent| matches!(sent.wish, Wish::Fetch(_)));
        attached.extend(fetches.map(|sent| sent.key));
        request
    }

    /// The partition whose wish is answered; `None` when it wants something else by now.
    pub(super) fn take_answered(&self, key: PartitionKey, token: u64) -> Option<(Wish, Arc<PartitionSlot>)> {
        let mut state = lock(&self.state);
        state.wishes.get(&key).filter(|(known, ..)| *known == token)?;
        state.wishes.remove(&key).map(|(_, wish, slot)| (wish, slot))
    }
}

/// Tells the actor once that there is something to send.
fn tell(state: &mut SourceState) {
    if state.is_told {
        return;
    }
    if let Some(address) = &state.address {
        #[expect(clippy::disallowed_methods, reason = "one is outstanding until the actor has looked")]
        address.do_send(Wanted);
        state.is_told = true;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is a few assignments: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
