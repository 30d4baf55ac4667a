//! For the tests of this crate: a network of pipes in memory, and a peer that does what the test says.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use pubg1_model::BrokerId;
use tokio::{
    io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex},
    sync::{Mutex, mpsc},
    time::{Instant, timeout},
};

use crate::{
    Counters, Identity, Listener, Network, Payload, PeerClient, TransportConfig,
    connection::{Activity, FrameReader},
    frame::{Frame, FrameKind},
    handshake::{Agreed, greet, receive},
};

/// Connections are pipes of so many bytes, handed to the one listener.
#[derive(Clone)]
pub(crate) struct PipeNetwork {
    connecting: mpsc::UnboundedSender<DuplexStream>,
    pipe_bytes: usize,
}

pub(crate) struct PipeListener(Mutex<mpsc::UnboundedReceiver<DuplexStream>>);

pub(crate) fn pipes(pipe_bytes: usize) -> (PipeNetwork, PipeListener) {
    let (connecting, connected) = mpsc::unbounded_channel();
    (PipeNetwork { connecting, pipe_bytes }, PipeListener(Mutex::new(connected)))
}

impl Network for PipeNetwork {
    type Stream = DuplexStream;
    type Listener = PipeListener;

    async fn connect(&self, _address: &str) -> io::Result<DuplexStream> {
        let (ours, theirs) = duplex(self.pipe_bytes);
        self.connecting.send(theirs).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }

    async fn bind(&self, _address: &str) -> io::Result<PipeListener> {
        Err(io::ErrorKind::AddrInUse.into())
    }
}

impl Listener for PipeListener {
    type Stream = DuplexStream;

    async fn accept(&self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.lock().await.recv().await {
            Some(stream) => Ok((stream, self.local_address()?)),
            None => std::future::pending().await,
        }
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
    }
}

pub(crate) fn identity(broker_id: u32) -> Identity {
    Identity { cluster_id: "c".to_owned(), broker_id: BrokerId(broker_id), incarnation: 100 + u64::from(broker_id) }
}

/// Broker 1's client of broker 2.
pub(crate) fn client(network: PipeNetwork, config: &TransportConfig, counters: &Arc<Counters>) -> PeerClient {
    PeerClient::new(network, BrokerId(2), "pipe", identity(1), config.clone(), Arc::clone(counters), 1)
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// One end of a connection, frame by frame.
pub(crate) struct Scripted {
    pub(crate) reader: FrameReader<'static, ReadHalf<DuplexStream>>,
    pub(crate) writer: WriteHalf<DuplexStream>,
}

impl Scripted {
    pub(crate) fn new(stream: DuplexStream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        // A test's process is short.
        let (activity, counters): (&Activity, &Counters) = (Box::leak(Box::default()), Box::leak(Box::default()));
        Self { reader: FrameReader::new(reader, activity, counters), writer }
    }

    /// Broker 2, welcoming the next connection.
    pub(crate) async fn welcome(listener: &PipeListener, config: &TransportConfig) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Self::new(stream);
        receive(&mut peer.reader, &mut peer.writer, &identity(2), false, config).await.unwrap();
        peer
    }

    /// Broker 1, greeting broker 2.
    pub(crate) async fn greet(network: &PipeNetwork, config: &TransportConfig) -> (Self, Agreed) {
        let mut peer = Self::new(network.connect("pipe").await.unwrap());
        let agreed = greet(&mut peer.reader, &mut peer.writer, &identity(1), BrokerId(2), config).await.unwrap();
        (peer, agreed)
    }

    pub(crate) async fn send(&mut self, frame: Frame) {
        let mut bytes = frame.header(u32::MAX).unwrap().encode().to_vec();
        bytes.extend_from_slice(&frame.control);
        bytes.extend_from_slice(&frame.payload.into_bytes());
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    /// The next frame that is no keepalive.
    pub(crate) async fn next(&mut self) -> Frame {
        loop {
            let frame = self.reader.next().await.unwrap();
            if frame.kind != FrameKind::KeepAlive {
                return frame;
            }
        }
    }

    /// Reads on until the other end closes.
    pub(crate) async fn closed(&mut self) {
        let closed = async { while self.reader.next().await.is_ok() {} };
        timeout(Duration::from_secs(60), closed).await.expect("the other end closes");
    }
}

pub(crate) fn frame(kind: FrameKind, correlation_id: u64, payload: &'static [u8]) -> Frame {
    let payload = Payload::from(bytes::Bytes::from_static(payload));
    Frame { body_kind: 7, payload, ..Frame::bare(kind, correlation_id) }
}

/// Lets virtual time pass, a millisecond at a time, until `condition` holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let held = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(60), held).await.expect("the condition comes to hold");
}
