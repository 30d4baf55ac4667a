//! A proxy that keeps one answer with records to itself: the broker thinks that it was received.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// The proxy. Connections go on without it.
pub(crate) struct Proxy {
    pub(crate) url: String,
    is_lost: Arc<AtomicBool>,
    serving: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens for a broker at this address.
    pub(crate) async fn start(broker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let is_lost = Arc::new(AtomicBool::new(false));
        let lost = Arc::clone(&is_lost);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let broker = TcpStream::connect(&broker).await.expect("the broker listens");
                let (from_client, to_client) = client.into_split();
                let (from_broker, to_broker) = broker.into_split();
                let (asked, loses) = watch::channel(false);
                tokio::spawn(forward(from_client, to_broker, asked, Arc::clone(&lost)));
                tokio::spawn(answer(from_broker, to_client, loses));
            }
        });
        Self { url, is_lost, serving }
    }

    /// Whether an answer was lost.
    pub(crate) fn has_lost_one(&self) -> bool {
        self.is_lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn forward(
    mut client: OwnedReadHalf,
    mut broker: OwnedWriteHalf,
    asked: watch::Sender<bool>,
    lost: Arc<AtomicBool>,
) {
    let mut chunk = vec![0; 16 << 10];
    while let Ok(count @ 1..) = client.read(&mut chunk).await {
        let is_poll = chunk[..count].windows(9).any(|part| part == b"/records?");
        if is_poll && !lost.swap(true, Ordering::SeqCst) {
            asked.send_replace(true);
        }
        if broker.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}

async fn answer(mut broker: OwnedReadHalf, mut client: OwnedWriteHalf, mut loses: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        lost = loses.wait_for(|loses| *loses) => if lost.is_err() { return },
        _ended = copy(&mut broker, &mut client) => return,
    }
    let (mut answer, mut chunk) = (Vec::new(), vec![0; 16 << 10]);
    while !is_whole(&answer)
        && let Ok(count @ 1..) = broker.read(&mut chunk).await
    {
        answer.extend_from_slice(&chunk[..count]);
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.map_or(body.ends_with("0\r\n\r\n"), |length| length.parse() == Ok(body.len()))
}
