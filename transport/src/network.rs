//! The seam between the transport and what carries its bytes: sockets of the operating system, or simulated ones.

use std::{future::Future, io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// Opens connections and listens for them.
///
/// An error of kind [`io::ErrorKind::ConnectionRefused`] must mean that the other *machine* answered and has no
/// listener there; a network that does not answer must not answer with it, because failure detection relies on it.
pub trait Network: Clone + Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Where connections come in.
    type Listener: Listener<Stream = Self::Stream>;

    /// Opens a connection to `address`, a `host:port`. The caller sets the deadline.
    fn connect(&self, address: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Listens at `address`; port 0 takes a free one.
    fn bind(&self, address: &str) -> impl Future<Output = io::Result<Self::Listener>> + Send;
}

/// Where connections come in.
pub trait Listener: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and where it comes from. Dropping the future loses none.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Where it listens.
    ///
    /// # Errors
    /// What the operating system says.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// A connection that was accepted on another tokio runtime becomes one of the runtime this is called on: it is that
    /// one's thread that is woken when bytes come. By default nothing has to be done for it.
    ///
    /// # Errors
    /// What the operating system says.
    fn settle(stream: Self::Stream) -> io::Result<Self::Stream> {
        Ok(stream)
    }
}

/// TCP of the operating system, without Nagle's delay: frames are already gathered before they are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioNetwork;

/// A listening TCP socket.
#[derive(Debug)]
pub struct TokioListener(TcpListener);

impl Network for TokioNetwork {
    type Stream = TcpStream;
    type Listener = TokioListener;

    async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn bind(&self, address: &str) -> io::Result<TokioListener> {
        TcpListener::bind(address).await.map(TokioListener)
    }
}

impl Listener for TokioListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, from) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, from))
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn settle(stream: TcpStream) -> io::Result<TcpStream> {
        TcpStream::from_std(stream.into_std()?)
    }
}
