//! turmoil's simulated TCP as a network of the transport.

use std::{io, net::SocketAddr};

use pubg1_transport::{Listener, Network};
use tokio::time::Instant;
use turmoil::net::{TcpListener, TcpStream};

/// The network of the simulation that the calling task is part of. Addresses are `host:port` with simulated names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimulatedNetwork;

/// A simulated listening socket.
pub(crate) struct SimulatedListener(TcpListener);

impl Network for SimulatedNetwork {
    type Stream = TcpStream;
    type Listener = SimulatedListener;

    /// A link that is cut drops the first packet, which turmoil reports at once as refused. A real machine sends that
    /// packet again and hears nothing, so that is what happens here: only a refusal that took a round trip is one.
    async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let start = Instant::now();
        let connected = TcpStream::connect(address).await;
        match &connected {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && start.elapsed().is_zero() => {
                std::future::pending().await
            }
            _ => connected,
        }
    }

    async fn bind(&self, address: &str) -> io::Result<SimulatedListener> {
        TcpListener::bind(address).await.map(SimulatedListener)
    }
}

impl Listener for SimulatedListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
