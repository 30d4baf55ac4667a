//! The controller: it finds out which brokers live, and drives elections, moves and hand-overs.
//!
//! The rules are [`pubg1_model::controller`]; the [`ControllerActor`] feeds them and carries out what they ask for. Every
//! broker runs one. It has work only while this broker leads the metadata group, and forgets everything when that ends:
//! what a controller must not forget is in the metadata log.
//!
//! ```text
//! every broker ── Heartbeat (kind 11) ──────────► ControllerActor ── Fence (12), Transfer (13) ──► every broker
//! transport: a port that refuses ── BrokerGone ──►      │
//! metadata: images, who leads ───────────────────►      └── propose ──► metadata log
//! ```

mod actor;
mod answers;
mod carry_out;
mod failovers;
mod heartbeat;
mod messages;
mod peers;

use std::sync::{Arc, PoisonError, RwLock};

use actix::{Addr, Context, Handler, Message, dev::ToEnvelope};

use crate::{metadata::MetadataHandle, node::NodeContext};
use actor::ControllerActor;

pub(crate) use actor::start_controller;
pub(crate) use answers::answer;
pub(crate) use heartbeat::{beat, resign_leaderships};
pub(crate) use messages::{ClusterStatus, FenceBatch, MoveLeader};

/// The way to this broker's controller. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ControllerHandle(Arc<ControllerSlot>);

struct ControllerSlot {
    node: Arc<NodeContext>,
    metadata: MetadataHandle,
    address: RwLock<Option<Addr<ControllerActor>>>,
    lives: peers::Lives,
}

impl ControllerHandle {
    pub(crate) fn new(node: Arc<NodeContext>, metadata: MetadataHandle) -> Self {
        Self(Arc::new(ControllerSlot { node, metadata, address: RwLock::new(None), lives: peers::Lives::default() }))
    }

    fn set_address(&self, address: Option<Addr<ControllerActor>>) {
        *self.0.address.write().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Queues a message. `false`: there is no actor at present.
    #[expect(
        clippy::disallowed_methods,
        reason = "bounded by the window of each peer's connection, or one outstanding"
    )]
    fn post<M>(&self, message: M) -> bool
    where
        M: Message<Result = ()> + Send + 'static,
        ControllerActor: Handler<M>,
        Context<ControllerActor>: ToEnvelope<ControllerActor, M>,
    {
        let address = self.0.address.read().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = address.as_ref().filter(|address| address.connected()) else { return false };
        address.do_send(message);
        true
    }
}
