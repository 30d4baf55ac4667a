//! One connection that pipelines are sent on.

use std::sync::{Arc, Mutex, PoisonError};

use redis::{Pipeline, RedisError, aio::MultiplexedConnection};

use super::connect;
use crate::{
    target::SendError,
    targets::{
        address::{Address, send_error},
        under_way::{self, Acknowledgement},
    },
};

/// A connection that is made anew when it broke.
pub(super) struct Connection {
    address: Address,
    current: Arc<Mutex<Option<MultiplexedConnection>>>,
    /// Replicas that an acknowledgement waits for.
    waits_for: u32,
}

impl Connection {
    /// On this connection, as long as it holds.
    pub(super) fn new(address: Address, connection: MultiplexedConnection, waits_for: u32) -> Self {
        Self { address, current: Arc::new(Mutex::new(Some(connection))), waits_for }
    }

    /// Sends the pipeline, and `WAIT` behind it.
    pub(super) fn send(&self, mut pipeline: Pipeline) -> Acknowledgement {
        let waits_for = self.waits_for;
        if waits_for > 0 {
            pipeline.cmd("WAIT").arg(waits_for).arg(self.address.timeout().as_millis().to_string());
        }
        under_way::start(run(self.address.clone(), Arc::clone(&self.current), pipeline, waits_for))
    }
}

async fn run(
    address: Address,
    current: Arc<Mutex<Option<MultiplexedConnection>>>,
    pipeline: Pipeline,
    waits_for: u32,
) -> Result<(), SendError> {
    let known = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut connection = match known {
        Some(connection) => connection,
        None => {
            let made = connect(&address).await.map_err(|error| send_error("connection", error))?;
            *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(made.clone());
            made
        }
    };
    let answer: Result<Vec<u32>, RedisError> = pipeline.query_async(&mut connection).await;
    match answer {
        Ok(reached) if reached.first().copied().unwrap_or_default() >= waits_for => Ok(()),
        Ok(reached) => Err(send_error("too few replicas", format!("{reached:?} of {waits_for}"))),
        Err(error) => {
            let kind = if error.is_timeout() { "timed out" } else { "refused" };
            if !error.is_io_error() && !error.is_unrecoverable_error() {
                return Err(send_error(kind, error));
            }
            *current.lock().unwrap_or_else(PoisonError::into_inner) = None;
            Err(send_error(if error.is_timeout() { kind } else { "connection" }, error))
        }
    }
}
