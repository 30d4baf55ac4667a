//! The systems that a load can be put on, by the scheme of their address.

pub mod pubg1;
pub mod sink;

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
    /// The flush policy that the system was started with, where whoever started it knows.
    pub flush: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { surface: Surface::Batches, in_flight: 16, delivery_timeout: Duration::from_secs(30), flush: None }
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
        "kafka" => Err(not_built_in(url, "kafka")),
        "nats" => Err(not_built_in(url, "nats")),
        "rabbitmq-stream" => Err(not_built_in(url, "rabbitmq")),
        "redis" => Err(not_built_in(url, "redis")),
        _ => Err(TargetError::Unsupported(format!(
            "{url:?} is no address of a system; there are http://, kafka://, nats://, rabbitmq-stream://, redis:// and sink:"
        ))),
    }
}

/// The client of this system is a feature that this program was built without.
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
        for (url, feature) in [
            ("kafka://a:9092", "kafka"),
            ("nats://a", "nats"),
            ("rabbitmq-stream://a", "rabbitmq"),
            ("redis://a", "redis"),
        ] {
            assert!(reason(url).contains(&format!("--features {feature}")), "{url}");
        }
        assert!(open("sink:", &Options::default()).is_ok());
    }
}
