//! turmoil's simulated TCP as a network of the transport, as the transport's own simulation has it.

#[path = "../../../transport/tests/simulation/network.rs"]
mod transport;

pub(crate) use transport::SimulatedNetwork;
