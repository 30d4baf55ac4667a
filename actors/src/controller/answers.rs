//! What other brokers ask of the controller here.

use pubg1_transport::{Request, Response};
use serde::Serialize;
use tokio::sync::oneshot;

use super::{
    ControllerHandle,
    messages::{HeartbeatReceived, LeaderNamed, StatusAsked},
};
use crate::rpc::{self, kind};

/// Answers kinds 11, 14 and 15. Each answer is an `Option`: `None` when this broker is not the controller.
pub(crate) async fn answer(handle: &ControllerHandle, request: Request) -> Response {
    match request.kind {
        kind::HEARTBEAT => match request.decode() {
            Ok(heartbeat) => asked(handle, kind::HEARTBEAT, |reply| HeartbeatReceived { heartbeat, reply }).await,
            Err(error) => rpc::not_understood(&error),
        },
        kind::CLUSTER_STATUS => asked(handle, kind::CLUSTER_STATUS, |reply| StatusAsked { reply }).await,
        kind::MOVE_LEADER => match request.decode() {
            Ok(request) => asked(handle, kind::MOVE_LEADER, |reply| LeaderNamed { request, reply }).await,
            Err(error) => rpc::not_understood(&error),
        },
        _ => rpc::unknown(),
    }
}

/// Asks the actor, and makes its answer a response.
async fn asked<M, A>(
    handle: &ControllerHandle,
    kind: u16,
    message: impl FnOnce(oneshot::Sender<Option<A>>) -> M,
) -> Response
where
    A: Serialize,
    M: actix::Message<Result = ()> + Send + 'static,
    super::ControllerActor: actix::Handler<M>,
{
    let (reply, answer) = oneshot::channel();
    let posted = handle.post(message(reply));
    // An actor that died, or is not there, is no controller either.
    let answer = if posted { answer.await.ok().flatten() } else { None };
    rpc::respond(kind, &answer)
}
