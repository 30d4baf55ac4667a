//! The only public way in: a broker and its partitions, without any address of an actor.

mod broker;
mod partition;
mod readiness;

pub use broker::{Broker, BrokerHandle, DrainReport, NewTopic};
pub use partition::PartitionHandle;
pub use readiness::{BrokerState, Check, Readiness};
