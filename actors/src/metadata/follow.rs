//! What goes on beside the running group: who leads is published, a leader that is gone is replaced at once, and the
//! broker arrives: it catches up, ends its probation, becomes a member.

mod arrive;
mod replace;

use super::{Leadership, MetadataHandle, group::Group, membership::end_changes};
use crate::raft::types::{RaftMetrics, broker_id};

pub(super) use replace::resign;

/// A leader that has not heard of a majority for this long is not told to be one.
const QUORUM_SILENCE_MS: u64 = 1_000;

/// Goes on until openraft ends by itself, and says why.
pub(super) async fn follow(handle: &MetadataHandle, group: &Group) -> String {
    let beside = async {
        tokio::join!(
            replace::replace_gone_leaders(handle, group),
            arrive::arrive(handle, group),
            end_changes(handle, group)
        );
        std::future::pending::<()>().await;
    };
    tokio::select! {
        reason = publish_leaders(handle, group) => reason,
        () = beside => "nothing goes on beside it".to_owned(),
    }
}

async fn publish_leaders(handle: &MetadataHandle, group: &Group) -> String {
    let mut metrics = group.raft.metrics();
    let mut members = None;
    loop {
        let now = metrics.borrow_and_update().clone();
        if let Err(fatal) = &now.running_state {
            return fatal.to_string();
        }
        if members.as_ref() != Some(&now.membership_config) {
            for (node, known) in now.membership_config.nodes() {
                handle.0.group.transport.learn(broker_id(*node), &known.addr);
            }
            members = Some(now.membership_config.clone());
        }
        let leadership = leadership(&now);
        handle.0.controller.send_if_modified(|current| {
            let changed = *current != leadership;
            if let Some(Leadership { broker, term }) = leadership.filter(|_| changed) {
                tracing::info!(leader = %broker, term, "the metadata is led");
            }
            *current = leadership;
            changed
        });
        if metrics.changed().await.is_err() {
            return "openraft has ended".to_owned();
        }
    }
}

/// Who leads. This broker does only while a majority answers it: it may not have heard of the next leader.
fn leadership(metrics: &RaftMetrics) -> Option<Leadership> {
    let leader = metrics.current_leader?;
    let alone = metrics.membership_config.voter_ids().count() == 1;
    let heard = metrics.millis_since_quorum_ack.is_some_and(|silence| silence <= QUORUM_SILENCE_MS);
    let leads = leader != metrics.id || alone || heard;
    leads.then(|| Leadership { broker: broker_id(leader), term: metrics.current_term })
}
