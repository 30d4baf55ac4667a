//! Which module answers which kind.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use pubg1_transport::{Handler, Peer, Request, Response};
use tokio::runtime::Handle;

use super::{Services, kind, lanes::Lane, not_understood, respond, sealed, unknown};
use crate::{
    controller::{self, FenceBatch},
    forward, group_coordinator, partition,
    raft::wire::{KIND_APPEND, KIND_SNAPSHOT},
    replicator, streams,
};

/// How long a fence waits for the image that it is about.
const IMAGE_PATIENCE: Duration = Duration::from_secs(1);

/// Answers the requests of other brokers, and those of this one to itself.
pub(crate) struct Dispatcher {
    services: Services,
    /// Where partitions run.
    partitions: Vec<Handle>,
}

impl Dispatcher {
    pub(super) const fn new(services: Services, partitions: Vec<Handle>) -> Self {
        Self { services, partitions }
    }

    /// Answers this broker itself.
    pub(super) async fn answer_own(&self, request: Request) -> Response {
        let node = &self.services.node;
        let peer = Peer {
            broker_id: node.config.broker_id,
            incarnation: node.transport_incarnation(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        // Boxed: what answers may itself ask this broker something.
        Box::pin(self.answer(peer, request)).await
    }

    async fn answer(&self, peer: Peer, request: Request) -> Response {
        match request.kind {
            kind if kind::RAFT.contains(&kind) || kind == kind::PROPOSE => self.metadata(peer, request).await,
            kind::HEARTBEAT | kind::CLUSTER_STATUS | kind::MOVE_LEADER => {
                controller::answer(&self.services.controller, request).await
            }
            kind::FENCE => self.fence(&request).await,
            kind::TRANSFER => match request.decode() {
                Ok(requests) => respond(kind::TRANSFER, &partition::transfer(&self.services.node, requests).await),
                Err(error) => not_understood(&error),
            },
            kind if kind::REPLICATION.contains(&kind) => replicator::answer(&self.services, peer, request).await,
            kind if kind::CLIENT.contains(&kind) => forward::answer(&self.services, peer, request).await,
            kind if kind::GROUPS.contains(&kind) => group_coordinator::answer(&self.services, peer, request).await,
            kind if kind::STREAMS.contains(&kind) => streams::answer(&self.services, request).await,
            _ => unknown(),
        }
    }

    async fn metadata(&self, peer: Peer, request: Request) -> Response {
        let kind = request.kind;
        let Some(body) = sealed::open(request.payload.into_bytes()) else {
            tracing::warn!(broker = %peer.broker_id, kind, "a request was damaged on its way");
            return unknown();
        };
        if !matches!(kind, KIND_APPEND | KIND_SNAPSHOT) {
            // It may just be back: then it waits for what this one, if it leads, has to send it, and this one may have
            // found its port closed a moment ago. A leader says the other two, all the time, and waits for nothing.
            self.services.node.rpc.wake(peer.broker_id);
        }
        respond(kind, &()).with_payload(sealed::seal(self.services.metadata.answer(kind, body).await))
    }

    /// A fence is about partitions of an image that may not have come here yet.
    async fn fence(&self, request: &Request) -> Response {
        let batch: FenceBatch = match request.decode() {
            Ok(batch) => batch,
            Err(error) => return not_understood(&error),
        };
        let mut images = self.services.metadata.images();
        let known = images.wait_for(|image| image.version >= batch.version);
        // What is not known by then is not answered for, and asked for again.
        tokio::time::timeout(IMAGE_PATIENCE, known).await.map(drop).unwrap_or_default();
        respond(kind::FENCE, &partition::fence(&self.services.node, batch.partitions).await)
    }
}

impl Handler for Dispatcher {
    fn handle(&self, peer: Peer, request: Request) -> impl Future<Output = Response> + Send {
        self.answer(peer, request)
    }

    fn home(&self, _peer: Peer, lane: u8) -> Option<Handle> {
        Lane::numbered(lane)?.home(&self.partitions).cloned()
    }
}
