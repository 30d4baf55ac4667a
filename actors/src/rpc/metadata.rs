//! The metadata group's messages over the way to other brokers.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pubg1_model::BrokerId;
use pubg1_transport::{Payload, PeerState};

use super::{Rpc, RpcError};
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
            match Self::call::<(), ()>(&rpc, to, kind, &(), Payload::from(body), timeout).await {
                Ok(((), answer)) => Ok(answer),
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

    fn gone(&self, broker: BrokerId) -> BoxFuture<'static, ()> {
        let rpc = self.clone();
        Box::pin(async move {
            let Some(client) = rpc.client(broker) else { return std::future::pending().await };
            client.connect();
            let mut states = client.state();
            if states.wait_for(|state| matches!(state, PeerState::Refused { .. })).await.is_err() {
                // The client was replaced, as the broker has moved.
                std::future::pending::<()>().await;
            }
        })
    }
}
