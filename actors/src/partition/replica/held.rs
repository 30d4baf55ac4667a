//! Handing a leadership over: what is appended is held back until the follower that shall lead has everything, so that
//! the change of leaders costs no client more than a short wait.

use pubg1_model::BrokerId;
use tokio::sync::oneshot;

use super::ReplicaState;
use crate::{errors::AppendError, partition::messages::Append};

/// A leadership that is being handed over.
pub(super) struct Handover {
    to: BrokerId,
    /// Answered once, when `to` has everything.
    reply: Option<oneshot::Sender<()>>,
    held: Vec<Append>,
}

impl ReplicaState {
    /// Holds appends back from now on, and answers when `to` has acknowledged all there is. A second request takes the
    /// place of the first.
    pub(in crate::partition) fn begin_handover(&mut self, to: BrokerId, reply: oneshot::Sender<()>) {
        let held = self.handover.take().map_or_else(Vec::new, |former| former.held);
        self.handover = Some(Handover { to, reply: Some(reply), held });
    }

    /// Answers who asked for the handover once `to` has everything.
    pub(in crate::partition) fn advance_handover(&mut self) {
        let Some(Handover { to, reply, .. }) = &mut self.handover else { return };
        let Some(progress) = self.replica.leading() else { return };
        if progress.acknowledged(*to) == Some(self.replica.log_end())
            && let Some(reply) = reply.take()
        {
            reply.send(()).unwrap_or_default();
        }
    }

    /// Keeps an append for later while a leadership is handed over; gives it back otherwise.
    pub(in crate::partition) fn hold(&mut self, append: Append) -> Result<(), Append> {
        match &mut self.handover {
            Some(handover) => {
                handover.held.push(append);
                Ok(())
            }
            None => Err(append),
        }
    }

    /// Gives the handover up: what was held is to be appended after all.
    pub(in crate::partition) fn end_handover(&mut self) -> Vec<Append> {
        self.handover.take().map_or_else(Vec::new, |handover| handover.held)
    }

    /// The leadership is over: of what was held nothing was appended.
    pub(in crate::partition) fn refuse_held(&mut self, error: &AppendError) {
        for Append { reply, permit, in_mailbox, .. } in self.end_handover() {
            drop((permit, in_mailbox));
            if let Some(reply) = reply {
                reply.send(Err(error.clone())).map_err(drop).unwrap_or_default();
            }
        }
    }
}
