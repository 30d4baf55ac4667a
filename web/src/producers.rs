//! Identities of idempotent producers.

use crate::{
    call::Call,
    dto::{ErrorBody, Producer},
    edge::ApiResult,
    reply,
};

/// Hands out the identity of a new idempotent producer. Send it with each produce request in
/// `Producer-Id` and `Producer-Epoch`, together with `Producer-Seq`: the number of records the
/// producer sent to that partition before. A request that is sent again then changes nothing.
#[utoipa::path(
    post, path = "/producers", tag = "records",
    responses(
        (status = 200, description = "The identity; nobody else gets it", body = Producer),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn create(call: Call) -> ApiResult {
    let id = call.state.broker.allocate_producer_id().await?;
    // An id is handed out once, so its first epoch is its only one.
    reply::json(&Producer { producer_id: id.0, producer_epoch: 0 })
}
