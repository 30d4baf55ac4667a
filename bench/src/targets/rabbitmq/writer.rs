//! Publishes to one stream and keeps a connection to its leader, whoever that is.

use std::{sync::Arc, time::Duration};

use rabbitmq_stream_client::{
    Client,
    types::{Message as StreamMessage, MessageResult, ResponseKind},
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use super::{PAUSE, close, confirms::Confirms, connect_to_leader};
use crate::{
    target::{Message, SendError},
    targets::{
        address::{Address, send_error},
        under_way::{self, Acknowledgement},
    },
};

/// The number of the only publisher on a connection.
const PUBLISHER: u8 = 1;
/// A frame holds 1 MiB; this leaves room for its head.
const FRAME_BYTES: usize = 1_000_000;
/// What a record needs in a frame besides its payload, at most.
const RECORD_HEAD_BYTES: usize = 32;

/// A connection, and the number by which its confirms are known.
type Link = Option<(Client, u64)>;

/// Publishes to one stream.
pub(super) struct Writer {
    link: watch::Receiver<Link>,
    confirms: Arc<Confirms>,
    record_bytes: usize,
    timeout: Duration,
    keeper: AbortHandle,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.keeper.abort();
        if let Some((client, _)) = self.link.borrow().clone()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { close(&client).await });
        }
    }
}

impl Writer {
    /// Connects, and connects again whenever that is needed.
    pub(super) async fn open(address: Address, stream: String, record_bytes: usize) -> Result<Self, String> {
        let confirms = Arc::new(Confirms::default());
        let ended = Arc::new(Notify::new());
        let first = declare(&address, &stream, &confirms, &ended).await?;
        let (set_link, link) = watch::channel(Some((first, confirms.connection())));
        let timeout = address.timeout();
        let kept = keep(address, stream, Arc::clone(&confirms), ended, set_link);
        let keeper = tokio::spawn(kept).abort_handle();
        Ok(Self { link, confirms, record_bytes, timeout, keeper })
    }

    /// Puts a batch on its way.
    pub(super) fn send(&self, batch: &[Message], filling: &[u8]) -> Acknowledgement {
        let mut frames = Vec::new();
        let records = (FRAME_BYTES / (self.record_bytes + RECORD_HEAD_BYTES)).max(1);
        for part in batch.chunks(records) {
            let payloads = part.iter().map(|message| {
                let mut payload = vec![0; self.record_bytes];
                message.write(filling, &mut payload);
                (message.key, payload)
            });
            frames.push(payloads.collect());
        }
        let sent = publish(self.link.clone(), Arc::clone(&self.confirms), frames);
        let timeout = self.timeout;
        under_way::start(async move {
            let confirmed = tokio::time::timeout(timeout, sent).await;
            confirmed.unwrap_or_else(|_| Err(send_error("timed out", format!("no confirm within {timeout:?}"))))
        })
    }
}

/// Sends the frames, then waits for their confirms.
async fn publish(
    mut link: watch::Receiver<Link>,
    confirms: Arc<Confirms>,
    frames: Vec<Vec<(Option<u32>, Vec<u8>)>>,
) -> Result<(), SendError> {
    let mut outcomes = Vec::with_capacity(frames.len());
    for frame in frames {
        let (client, connection) = {
            let found = link.wait_for(Option::is_some).await.map_err(|error| send_error("connection", error))?;
            found.clone().ok_or_else(|| send_error("connection", "none"))?
        };
        let expected = confirms.expect(connection, frame.len() as u64);
        let (first, outcome) = expected.ok_or_else(|| send_error("connection", "ended before sending"))?;
        let messages: Vec<StreamMessage> =
            (first..).zip(frame).map(|(number, (key, payload))| message(number, key, payload)).collect();
        client.publish(PUBLISHER, messages).await.map_err(|error| send_error("connection", error))?;
        outcomes.push(outcome);
    }
    for outcome in outcomes {
        outcome.await.map_err(|error| send_error("connection", error))??;
    }
    Ok(())
}

fn message(number: u64, key: Option<u32>, payload: Vec<u8>) -> StreamMessage {
    let builder = StreamMessage::builder().publising_id(number).body(payload);
    match key {
        Some(key) => builder.properties().message_id(u64::from(key)).message_builder().build(),
        None => builder.build(),
    }
}

/// Replaces the connection whenever it has ended.
async fn keep(
    address: Address,
    stream: String,
    confirms: Arc<Confirms>,
    ended: Arc<Notify>,
    link: watch::Sender<Link>,
) {
    loop {
        ended.notified().await;
        let last = link.send_replace(None);
        confirms.end(&send_error("connection", "the connection to the leader ended"));
        if let Some((client, _)) = last {
            tokio::spawn(async move { close(&client).await });
        }
        let client = loop {
            match declare(&address, &stream, &confirms, &ended).await {
                Ok(client) => break client,
                Err(reason) => {
                    tracing::debug!(stream, reason, "no leader yet");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        link.send_replace(Some((client, confirms.connection())));
    }
}

/// A connection to the leader on which a publisher is declared.
async fn declare(
    address: &Address,
    stream: &str,
    confirms: &Arc<Confirms>,
    ended: &Arc<Notify>,
) -> Result<Client, String> {
    let client = connect_to_leader(address, stream).await?;
    let (confirms, ended) = (Arc::clone(confirms), Arc::clone(ended));
    let connection = confirms.connection();
    client
        .set_handler(move |item: MessageResult| async move {
            if confirms.connection() == connection {
                handle(item, &confirms, &ended);
            }
            Ok(())
        })
        .await;
    let declared = tokio::time::timeout(super::CONNECT, client.declare_publisher(PUBLISHER, None, stream)).await;
    match declared.map_err(|error| error.to_string())? {
        Ok(answer) if answer.is_ok() => Ok(client),
        Ok(answer) => {
            close(&client).await;
            Err(format!("{:?}", answer.code()))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// What the broker says without being asked.
fn handle(item: MessageResult, confirms: &Confirms, ended: &Notify) {
    let Some(Ok(response)) = item else {
        ended.notify_one();
        return;
    };
    match response.kind() {
        ResponseKind::PublishConfirm(confirm) => confirms.settle(confirm.publishing_ids, &Ok(())),
        ResponseKind::PublishError(refused) => {
            for error in refused.publishing_errors {
                let outcome = Err(send_error("refused", format!("{:?}", error.error_code)));
                confirms.settle([error.publishing_id], &outcome);
            }
        }
        // The stream has moved or lost its leader.
        ResponseKind::MetadataUpdate(_) => ended.notify_one(),
        _ => {}
    }
}
