//! What drives a task: reads what it knows, then lets it read, commits and publishes, until something goes wrong, and
//! begins anew. What it does in vain is tried again; what cannot get better pauses the stream.

use std::{convert::Infallible, sync::Arc, time::Duration};

use actix::Addr;
use pubg1_model::{
    cluster::{MetadataCommand, PauseReason, StreamState, StreamStateKind},
    streams::task::TaskError,
};
use tokio::time::sleep;

use super::{
    cell::{StreamPlan, TaskCell, Wanted},
    commit::commit,
    feed::feed,
    messages::{DriverEnded, Forget},
    restore::restore,
    task_actor::StreamWindowActor,
};
use crate::{handles::StreamTaskState, metadata::ProposeError, rpc::Services};

/// The pause before a task that could not go on is read again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long a task that cannot go on waits to be ended because its stream is paused.
const PAUSED_PATIENCE: Duration = Duration::from_secs(1);
/// The pause before the metadata log is told again.
const TELL_PAUSE: Duration = Duration::from_millis(250);
/// The longest text about a problem that is stored.
const PROBLEM_BYTES_MAX: usize = 500;

/// Why a task does not go on.
#[derive(Debug)]
pub(super) enum Halt {
    /// The actor is gone, or the broker is.
    Gone,
    /// Its memory may be ahead of its changelog: it is read again.
    Again(String),
    /// It will not get better by itself.
    Failed(PauseReason),
}

impl Halt {
    pub(super) fn again(reason: impl std::fmt::Display) -> Self {
        Self::Again(reason.to_string())
    }

    /// The task cannot go on.
    pub(super) fn failed(cell: &TaskCell, problem: impl std::fmt::Display) -> Self {
        Self::Failed(PauseReason::Failed { task: cell.partition(), problem: cut(problem.to_string()) })
    }

    /// The task says that something is wrong.
    pub(super) fn of(cell: &TaskCell, error: &TaskError) -> Self {
        match error {
            // Its memory was taken away just now.
            TaskError::NotBegun => Self::again(error),
            error => Self::failed(cell, error),
        }
    }
}

fn cut(mut problem: String) -> String {
    if problem.len() > PROBLEM_BYTES_MAX {
        let at = (0..=PROBLEM_BYTES_MAX).rev().find(|at| problem.is_char_boundary(*at)).unwrap_or(0);
        problem.truncate(at);
    }
    problem
}

/// Drives a task for as long as its actor lives.
pub(super) async fn drive(cell: Arc<TaskCell>, address: Addr<StreamWindowActor>) {
    let (stream, task) = (cell.plan.name.clone(), cell.partition());
    let _ended = Ended(address.clone());
    loop {
        let Err(halt) = attempt(&cell).await;
        let has_failed = matches!(halt, Halt::Failed(_));
        match halt {
            Halt::Gone => return,
            Halt::Again(reason) => {
                tracing::debug!(%stream, %task, reason, "a task of a stream is read again");
                cell.waits(reason);
            }
            Halt::Failed(reason) => {
                tracing::warn!(%stream, %task, ?reason, "a stream is paused");
                cell.waits("the stream is about to be paused");
                pause_stream(&cell.services, &cell.plan, reason).await;
                // The image says so before long, and ends this.
                sleep(PAUSED_PATIENCE).await;
            }
        }
        if address.send(Forget).await.is_err() {
            return;
        }
        // Or it does not: the stream was paused by somebody else already, or was told to go on meanwhile. Then it is
        // tried again as soon as the stream runs.
        if has_failed && cell.wanted.clone().wait_for(|wanted| *wanted == Wanted::Run).await.is_err() {
            return;
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Tells the actor that its driver has ended, by whatever: an actor without one would only look alive.
struct Ended(Addr<StreamWindowActor>);

impl Drop for Ended {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "sent once")]
        self.0.do_send(DriverEnded);
    }
}

async fn attempt(cell: &Arc<TaskCell>) -> Result<Infallible, Halt> {
    cell.set_state(StreamTaskState::Restoring);
    restore(cell).await?;
    cell.set_state(StreamTaskState::Running);
    // Reading goes on while a commit is on its way.
    let (never, _) = tokio::try_join!(feed(cell), commit(cell))?;
    Ok(never)
}

/// Has the metadata log say that a stream is paused, unless it does not run any more.
pub(super) async fn pause_stream(services: &Services, plan: &StreamPlan, reason: PauseReason) {
    loop {
        let command = MetadataCommand::SetStreamState {
            id: plan.id,
            generation: plan.generation,
            from: StreamStateKind::Running,
            to: StreamState::Paused { reason: reason.clone() },
        };
        match services.metadata.propose_own(command).await {
            Ok(_) | Err(ProposeError::Refused(_)) => return,
            Err(ProposeError::Unavailable(error)) => {
                tracing::debug!(stream = %plan.name, %error, "that a stream is paused could not be stored yet");
                sleep(TELL_PAUSE).await;
            }
        }
    }
}
