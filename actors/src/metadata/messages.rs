//! What the metadata actor is told.

use actix::Message;
use pubg1_metrics::InMailbox;
use pubg1_model::cluster::{MetadataCommand, MetadataReply};
use tokio::sync::oneshot;

use super::{ProposeError, actor::OpenError, group::Group};
use crate::admission::Permit;

/// Apply a command.
pub(super) struct Propose {
    pub(super) command: MetadataCommand,
    pub(super) reply: oneshot::Sender<Result<MetadataReply, ProposeError>>,
    /// `None` for what the broker itself proposes: it is bounded by construction.
    pub(super) permit: Option<Permit>,
    pub(super) in_mailbox: InMailbox,
}

/// The group runs here, or cannot.
pub(super) struct Opened {
    pub(super) result: Result<Group, OpenError>,
}

/// openraft has ended by itself: a failed write, or a panic.
pub(super) struct Stopped {
    pub(super) reason: String,
}

/// End in order.
pub(super) struct Close {
    pub(super) closed: oneshot::Sender<()>,
}

macro_rules! messages {
    ($($message:ty),+) => {$(impl Message for $message { type Result = (); })+};
}

messages!(Propose, Opened, Stopped, Close);

/// A fault, for tests.
#[cfg(any(test, feature = "testing"))]
pub(super) struct Panic;

#[cfg(any(test, feature = "testing"))]
impl Message for Panic {
    type Result = ();
}
