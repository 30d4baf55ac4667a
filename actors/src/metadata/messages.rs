//! What the metadata actor is told.

use std::{collections::HashSet, time::Duration};

use actix::Message;
use pubg1_metrics::InMailbox;
use pubg1_model::{
    TopicId,
    cluster::{MetadataCommand, MetadataReply},
};
use pubg1_storage::{FlushError, Flushed};
use tokio::sync::oneshot;

use super::{
    ProposeError,
    log::{MetadataLog, OpenError},
};
use crate::admission::Permit;

/// Apply a command.
pub(super) struct Propose {
    pub(super) command: MetadataCommand,
    pub(super) reply: oneshot::Sender<Result<MetadataReply, ProposeError>>,
    pub(super) permit: Permit,
    pub(super) in_mailbox: InMailbox,
}

/// The log was opened and read, or not.
pub(super) struct Opened {
    pub(super) result: Result<(MetadataLog, HashSet<TopicId>), OpenError>,
}

/// A flush has ended.
pub(super) struct FlushCompleted {
    pub(super) result: Result<Flushed, FlushError>,
    pub(super) took: Duration,
}

/// Flush, close, end.
pub(super) struct Close {
    pub(super) closed: oneshot::Sender<()>,
}

macro_rules! messages {
    ($($message:ty),+) => {$(impl Message for $message { type Result = (); })+};
}

messages!(Propose, Opened, FlushCompleted, Close);

/// A fault, for tests.
#[cfg(any(test, feature = "testing"))]
pub(super) struct Panic;

#[cfg(any(test, feature = "testing"))]
impl Message for Panic {
    type Result = ();
}
