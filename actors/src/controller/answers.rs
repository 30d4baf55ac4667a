//! What other brokers ask of the controller here.

use pubg1_model::{
    cluster::ClusterImage,
    controller::{Heartbeat, HeartbeatAnswer},
};
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
            // Who is no more can be told by any broker, and may find no controller.
            Ok(heartbeat) if is_over(&handle.0.metadata.image(), &heartbeat) => {
                rpc::respond(kind::HEARTBEAT, &Some(HeartbeatAnswer { known: false, send_full: false, is_over: true }))
            }
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

/// Whether this life of a broker was registered and is no more.
fn is_over(image: &ClusterImage, heartbeat: &Heartbeat) -> bool {
    let registered = image.brokers.get(&heartbeat.broker).map(|known| known.incarnation);
    image.version >= heartbeat.version && registered != Some(heartbeat.incarnation)
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
