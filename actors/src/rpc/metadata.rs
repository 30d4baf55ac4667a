//! The metadata group's messages over the way to other brokers.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pubg1_model::BrokerId;
use pubg1_transport::PeerState;
use tokio::time::Instant;

use super::{Rpc, RpcError, sealed};
use crate::raft::{CallError, RaftTransport};

impl RaftTransport for Rpc {
    fn call(
        &self,
        to: BrokerId,
        kind: u16,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let rpc = self.clone();
        Box::pin(async move {
            match Self::call::<(), ()>(&rpc, to, kind, &(), sealed::seal(body), timeout).await {
                Ok(((), answer)) => sealed::open(answer).ok_or_else(|| {
                    CallError::OutcomeUnknown(format!("the answer of broker {to} was damaged on its way"))
                }),
                Err(RpcError::NotSent(reason)) => Err(CallError::NotSent(reason)),
                Err(RpcError::OutcomeUnknown(reason) | RpcError::Misunderstood(reason)) => {
                    Err(CallError::OutcomeUnknown(reason))
                }
            }
        })
    }

    fn learn(&self, broker: BrokerId, address: &str) {
        self.set_address(broker, address);
    }

    fn gone(&self, broker: BrokerId, since: Instant) -> BoxFuture<'static, ()> {
        let rpc = self.clone();
        Box::pin(async move {
            let Some(client) = rpc.client(broker) else { return std::future::pending().await };
            client.connect();
            let mut states = client.state();
            let is_gone =
                |state: &PeerState| matches!(state, PeerState::Refused { attempted, .. } if *attempted >= since);
            if states.wait_for(is_gone).await.is_err() {
                // The client was replaced, as the broker has moved.
                std::future::pending::<()>().await;
            }
        })
    }
}
