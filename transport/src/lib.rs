//! How brokers talk to each other: frames, connections, requests and answers, and nothing about what they mean.
//!
//! Reading order: [`frame`] is the unit on the wire, [`message`] what a caller sees of it, [`handshake`] who may
//! speak at all. [`PeerClient`] keeps one connection to one peer and multiplexes requests over it, [`Peers`] holds
//! one such client for each peer, [`Server`] is the other end. [`Network`] is the seam to the operating system, or to
//! a simulated network. The byte tables stand in `docs/WIRE.md`.
//!
//! What holds everywhere in this crate:
//!
//! - A length that came from the network is checked before anything of that length is allocated.
//! - Every wait has a deadline; every queue is bounded by permits that ride with what is queued.
//! - Bytes that cannot be understood end the connection and are counted. Nothing panics on them.
//! - An answer is promised for a request, an order between two requests is not.

pub mod backoff;
pub mod config;
mod connection;
pub mod counters;
mod error;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod network;
mod peer_client;
mod peers;
mod server;
#[cfg(test)]
mod testing;
mod window;

pub use backoff::{Backoff, random_seed};
pub use config::{ConfigError, TransportConfig};
pub use counters::{Counters, CountersSnapshot};
pub use error::{RequestError, RequestRefusal};
pub use handshake::{HandshakeError, HandshakeRefusal, Identity};
pub use message::{ControlError, Payload, Request, Response};
pub use network::{Listener, Network, TokioListener, TokioNetwork};
pub use peer_client::{PeerClient, PeerState};
pub use peers::Peers;
pub use server::{Drained, Handler, Peer, Server};
