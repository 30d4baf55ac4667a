//! How a broker makes itself known: the cluster's identity, and which life of it this is.

use std::{sync::Arc, time::Duration};

use pubg1_model::cluster::{MetadataCommand, MetadataError};

use crate::{
    fatal::FatalError,
    metadata::{MetadataHandle, ProposeError},
    node::NodeContext,
};

/// The pause between attempts while the metadata log cannot be written.
const PAUSE: Duration = Duration::from_millis(100);
/// Attempts to take the place of a former life: the image may lag behind who registered last.
const ATTEMPTS_MAX: u32 = 5;

/// Gives the cluster its identity when it has none, and says who and where this broker is. `false`: the
/// broker cannot go on.
pub(super) async fn register(node: &Arc<NodeContext>, metadata: &MetadataHandle) -> bool {
    if !metadata.image().is_formatted() {
        let format = || MetadataCommand::FormatCluster { cluster_id: node.cluster_id.clone() };
        // All founders say so; the first is heard.
        let formatted = |error: &MetadataError| matches!(error, MetadataError::AlreadyFormatted { .. });
        if !propose_until_done(node, metadata, format, formatted).await {
            return false;
        }
    }
    let image = metadata.image();
    if image.cluster_id != node.cluster_id {
        let found = format!("it belongs to cluster {}, the data directory to {}", image.cluster_id, node.cluster_id);
        node.fatal.report(FatalError::Metadata { reason: found });
        return false;
    }
    let (broker, incarnation) = (node.config.broker_id, node.incarnation);
    let mut registered = false;
    for _ in 0..ATTEMPTS_MAX {
        let register = || MetadataCommand::RegisterBroker {
            broker,
            http_url: node.config.advertised_http.clone(),
            rpc_address: node.config.rpc_advertised.clone(),
            incarnation,
            storage: node.storage,
            rack: node.config.rack.clone(),
            replaces: metadata.image().brokers.get(&broker).map(|known| known.incarnation),
        };
        let mut images = metadata.images();
        images.borrow_and_update();
        let outdated = |error: &MetadataError| matches!(error, MetadataError::StaleIncarnation { .. });
        if !propose_until_done(node, metadata, register, outdated).await {
            return false;
        }
        let image = metadata.image();
        if let Some(known) = image.brokers.get(&broker).filter(|known| known.incarnation == incarnation) {
            // Set once: there is one registration a life.
            node.registration.set(known.registration).unwrap_or_default();
            registered = true;
            break;
        }
        tokio::time::timeout(PAUSE * 10, images.changed()).await.map(drop).unwrap_or_default();
    }
    if !registered {
        let reason = "another process registers under its number again and again; broker ids must be unique";
        node.fatal.report(FatalError::NotRegistered { broker, reason: reason.to_owned() });
    }
    registered
}

/// Ends the process when the image shows another life of this broker, or none: two processes with one broker id have
/// different disks, logs and votes, and only one of them can be the one that the cluster counts on.
pub(super) async fn watch_registration(node: Arc<NodeContext>, metadata: MetadataHandle) {
    let (broker, mine) = (node.config.broker_id, node.incarnation);
    let mut images = metadata.images();
    loop {
        let registered = images.borrow_and_update().brokers.get(&broker).cloned();
        let reason = match registered {
            Some(known) if known.incarnation == mine => None,
            Some(known) => Some(format!(
                "another process has registered under its number, reached at {}; broker ids must be unique",
                known.rpc_address
            )),
            None => Some("it was removed from the cluster".to_owned()),
        };
        if let Some(reason) = reason {
            return node.fatal.report(FatalError::NotRegistered { broker, reason });
        }
        if images.changed().await.is_err() {
            return;
        }
    }
}

/// Proposes a command again and again until it is stored, or refused as `harmless` says; says meanwhile what is in
/// the way. `false`: it is refused otherwise, or the broker drains.
async fn propose_until_done(
    node: &Arc<NodeContext>,
    metadata: &MetadataHandle,
    command: impl Fn() -> MetadataCommand,
    harmless: impl Fn(&MetadataError) -> bool,
) -> bool {
    loop {
        match metadata.propose_own(command()).await {
            Ok(_) => {
                node.obstacle.send_replace(None);
                return true;
            }
            Err(ProposeError::Refused(error)) if harmless(&error) => return true,
            Err(ProposeError::Refused(error)) => {
                node.fatal.report(FatalError::Metadata { reason: error.to_string() });
                return false;
            }
            Err(ProposeError::Unavailable(error)) => {
                if node.is_draining() {
                    return false;
                }
                tracing::debug!(%error, "the start waits for the metadata log");
                node.obstacle.send_replace(Some(error.to_string()));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
