//! The systems that a load can be put on, by the scheme of their address.

#[cfg(any(feature = "kafka", feature = "nats", feature = "rabbitmq", feature = "redis"))]
mod address;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "nats")]
pub mod nats;
pub mod pubg1;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "redis")]
pub mod redis;
pub mod sink;
#[cfg(any(feature = "kafka", feature = "nats", feature = "rabbitmq", feature = "redis"))]
mod under_way;

use std::time::Duration;

use crate::target::{Target, TargetError};
use pubg1::Surface;

/// What a client of a system is told, beside the topic.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which of PubG1's routes is used.
    pub surface: Surface,
    /// Requests of one publisher that may be under way.
    pub in_flight: u32,
    /// How long a request is repeated before its records have failed.
    pub delivery_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { surface: Surface::Batches, in_flight: 16, delivery_timeout: Duration::from_secs(30) }
    }
}

/// The system at this address.
///
/// # Errors
/// [`TargetError::Unsupported`] for an address that is none, or one whose client is not built in.
pub fn open(url: &str, options: &Options) -> Result<Box<dyn Target>, TargetError> {
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    match scheme {
        "sink" => Ok(Box::new(sink::Sink::default())),
        "http" => Ok(Box::new(pubg1::PubG1::new(url, options)?)),
        #[cfg(feature = "kafka")]
        "kafka" => Ok(Box::new(kafka::Kafka::new(url)?)),
        #[cfg(not(feature = "kafka"))]
        "kafka" => Err(not_built_in(url, "kafka")),
        #[cfg(feature = "nats")]
        "nats" => Ok(Box::new(nats::Nats::new(url)?)),
        #[cfg(not(feature = "nats"))]
        "nats" => Err(not_built_in(url, "nats")),
        #[cfg(feature = "rabbitmq")]
        "rabbitmq-stream" => Ok(Box::new(rabbitmq::RabbitMq::new(url)?)),
        #[cfg(not(feature = "rabbitmq"))]
        "rabbitmq-stream" => Err(not_built_in(url, "rabbitmq")),
        #[cfg(feature = "redis")]
        "redis" => Ok(Box::new(redis::Redis::new(url)?)),
        #[cfg(not(feature = "redis"))]
        "redis" => Err(not_built_in(url, "redis")),
        _ => Err(TargetError::Unsupported(format!(
            "{url:?} is no address of a system; there are http://, kafka://, nats://, rabbitmq-stream://, redis:// and sink:"
        ))),
    }
}

/// The client of this system is a feature that this program was built without.
#[cfg(not(all(feature = "kafka", feature = "nats", feature = "rabbitmq", feature = "redis")))]
fn not_built_in(url: &str, feature: &str) -> TargetError {
    TargetError::Unsupported(format!(
        "{url}: this program was built without that client; build it with `cargo build --release --features {feature}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_used_says_why() {
        let reason = |url: &str| open(url, &Options::default()).err().map(|error| error.to_string()).unwrap();
        assert!(reason("ftp://x").contains("sink:"));
        assert!(reason("").contains("no address"));
        for (url, feature, built_in) in [
            ("kafka://a:9092", "kafka", cfg!(feature = "kafka")),
            ("nats://a:4222", "nats", cfg!(feature = "nats")),
            ("rabbitmq-stream://a:5552", "rabbitmq", cfg!(feature = "rabbitmq")),
            ("redis://a:6379", "redis", cfg!(feature = "redis")),
        ] {
            match built_in {
                true => assert!(open(url, &Options::default()).is_ok(), "{url}"),
                false => assert!(reason(url).contains(&format!("--features {feature}")), "{url}"),
            }
        }
        assert!(open("sink:", &Options::default()).is_ok());
    }
}
