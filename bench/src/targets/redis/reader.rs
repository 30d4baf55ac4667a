//! Reads streams by `XREAD`, or by `XREADGROUP` without acknowledgements where a group is named.

use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::{Cmd, FromRedisValue, RedisError, Value, aio::MultiplexedConnection};

use super::connect;
use crate::{
    target::{Subscriber, TargetError},
    targets::address::Address,
};

/// Records of a stream in an answer.
const COUNT: usize = 5_000;

/// Reads one or several streams.
pub(super) struct Reader {
    address: Address,
    connection: Option<MultiplexedConnection>,
    /// Streams and the last identifier that was read.
    streams: Vec<(String, String)>,
    /// The group's name and this consumer's.
    group: Option<(String, String)>,
}

impl Reader {
    /// Behind these identifiers; a group begins there if it is new.
    pub(super) async fn open(
        address: Address,
        mut connection: MultiplexedConnection,
        streams: Vec<(String, String)>,
        group: Option<(String, String)>,
    ) -> Result<Self, RedisError> {
        if let Some((group, _)) = &group {
            for (stream, last) in &streams {
                let mut command = redis::cmd("XGROUP");
                command.arg("CREATE").arg(stream).arg(group).arg(last).arg("MKSTREAM");
                match command.exec_async(&mut connection).await {
                    // It is there already.
                    Err(error) if error.code() == Some("BUSYGROUP") => {}
                    other => other?,
                }
            }
        }
        Ok(Self { address, connection: Some(connection), streams, group })
    }

    fn command(&self, wait: Duration) -> Cmd {
        let mut command = redis::cmd(if self.group.is_some() { "XREADGROUP" } else { "XREAD" });
        if let Some((group, consumer)) = &self.group {
            command.arg("GROUP").arg(group).arg(consumer).arg("NOACK");
        }
        command.arg("COUNT").arg(COUNT).arg("BLOCK").arg(wait.as_millis().max(1).to_string()).arg("STREAMS");
        for (stream, _) in &self.streams {
            command.arg(stream);
        }
        for (_, last) in &self.streams {
            command.arg(if self.group.is_some() { ">" } else { last });
        }
        command
    }

    async fn read(&mut self, wait: Duration) -> Result<Value, RedisError> {
        let mut connection = match &self.connection {
            Some(connection) => connection.clone(),
            None => self.connection.insert(connect(&self.address).await?).clone(),
        };
        // The server ends the wait itself.
        let answer = self.command(wait).query_async(&mut connection).await;
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    /// `[[stream, [[identifier, [field, value, …]], …]], …]`, or nothing.
    fn take(&mut self, answer: Value, each: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), RedisError> {
        for stream in array(answer) {
            let [name, entries] = array(stream).try_into().unwrap_or([Value::Nil, Value::Nil]);
            let name = String::from_redis_value_ref(&name)?;
            let mut last = None;
            for entry in array(entries) {
                let [identifier, fields] = array(entry).try_into().unwrap_or([Value::Nil, Value::Nil]);
                if let Some(Value::BulkString(payload)) = array(fields).get(1) {
                    each(payload);
                }
                last = Some(identifier);
            }
            let known = self.streams.iter_mut().find(|(known, _)| *known == name);
            if let (Some(last), Some((_, known))) = (last, known) {
                *known = String::from_redis_value_ref(&last)?;
            }
        }
        Ok(())
    }
}

fn array(value: Value) -> Vec<Value> {
    if let Value::Array(values) = value { values } else { Vec::new() }
}

impl Subscriber for Reader {
    fn receive<'a>(
        &'a mut self,
        wait: Duration,
        each: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            if self.streams.is_empty() {
                tokio::time::sleep(wait).await;
                return Ok(());
            }
            let answer = self.read(wait).await.map_err(|error| self.address.unreachable(error))?;
            self.take(answer, each).map_err(|error| self.address.refused("read", error))
        })
    }
}
