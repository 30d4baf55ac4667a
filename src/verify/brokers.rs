//! The brokers that a run talks to, and the chance that chooses among them.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use pubg1_model::{PartitionId, TopicName};

use super::payload::mixed;
use crate::{
    client::{Client, reply::TopicReply},
    error::CommandError,
};

const POLL: Duration = Duration::from_millis(20);
/// A broker that is paused takes connections and answers nothing: the next one is asked soon.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Numbers that look like chance; the same seed gives the same ones.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A sequence of its own for every seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(mixed(seed))
    }

    /// A seed that nobody can foresee.
    #[must_use]
    pub fn any_seed() -> u64 {
        RandomState::new().hash_one(0_u8)
    }

    /// A number below `sides`; 0 when there is none.
    pub const fn below(&mut self, sides: u64) -> u64 {
        self.0 = mixed(self.0);
        match sides {
            0 => 0,
            sides => self.0 % sides,
        }
    }
}

/// The brokers, each with its client.
#[derive(Clone, Debug)]
pub struct Brokers {
    clients: Vec<Client>,
}

impl Brokers {
    /// The brokers at these URLs.
    ///
    /// # Errors
    /// What is no URL, and an empty list.
    pub fn at(urls: &[String]) -> Result<Self, CommandError> {
        let clients: Vec<Client> = urls.iter().map(|url| Client::new(url)).collect::<Result<_, _>>()?;
        if clients.is_empty() {
            return Err(CommandError::Usage("there is no broker to talk to".to_owned()));
        }
        Ok(Self { clients })
    }

    /// Every broker of the cluster that one of these belongs to.
    ///
    /// # Errors
    /// None of them answers.
    pub async fn discover(known: &Client) -> Result<Self, CommandError> {
        let cluster = known.cluster().await?;
        let urls: Vec<String> = cluster.brokers.into_iter().map(|broker| broker.http_url).collect();
        if urls.is_empty() { Self::at(known.urls()) } else { Self::at(&urls) }
    }

    /// Their URLs.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.clients.iter().map(|client| client.base().to_owned()).collect()
    }

    /// The clients, in the order of the URLs.
    #[must_use]
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Any of them.
    pub fn any(&self, dice: &mut Dice) -> u32 {
        u32::try_from(dice.below(self.clients.len() as u64)).unwrap_or(0)
    }

    /// The client of the broker with this place in the list, counted on behind its end.
    #[must_use]
    pub fn client(&self, broker: u32) -> &Client {
        let index = usize::try_from(broker).unwrap_or(0) % self.clients.len();
        &self.clients[index]
    }

    /// One client of all of them, which changes the broker when one fails.
    ///
    /// # Errors
    /// Never: the URLs were read before.
    pub fn together(&self) -> Result<Client, CommandError> {
        Ok(Client::new(&self.urls().join(","))?)
    }

    /// The topic, from the first broker that answers.
    pub async fn topic(&self, topic: &TopicName) -> Option<TopicReply> {
        for client in &self.clients {
            if let Ok(Ok(reply)) = tokio::time::timeout(ASK_TIMEOUT, client.topic(topic)).await {
                return Some(reply);
            }
        }
        None
    }

    /// Waits until every broker knows the topic and a leader for each of its partitions.
    ///
    /// # Errors
    /// They do not in time.
    pub async fn wait_led(&self, topic: &TopicName, deadline: Duration) -> Result<(), CommandError> {
        let mut last = String::new();
        let waiting = async {
            for client in &self.clients {
                loop {
                    match client.topic(topic).await {
                        Ok(topic) if topic.partitions.iter().all(|partition| partition.leader >= 0) => break,
                        Ok(_) => last = format!("{}: partitions have no leader", client.base()),
                        Err(error) => last = error.to_string(),
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
        };
        let in_time = tokio::time::timeout(deadline, waiting).await.is_ok();
        if in_time { Ok(()) } else { Err(CommandError::Failed(format!("topic {topic} is not ready: {last}"))) }
    }

    /// Where each partition ends.
    ///
    /// # Errors
    /// Nobody says, in time.
    pub async fn end_offsets(
        &self,
        topic: &TopicName,
        partitions: u32,
        deadline: Duration,
    ) -> Result<Vec<u64>, CommandError> {
        let client = self.together()?;
        let mut ends = Vec::new();
        let until = tokio::time::Instant::now() + deadline;
        for partition in (0..partitions).map(PartitionId) {
            loop {
                match client.offsets(topic, partition).await {
                    Ok(offsets) => break ends.push(offsets.end_offset.get()),
                    Err(error) if error.is_retriable() && tokio::time::Instant::now() < until => {
                        tokio::time::sleep(POLL).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_are_fair_enough_and_repeat_themselves() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            (0..6_000).map(|_| dice.below(6)).collect::<Vec<_>>()
        };
        let mut counts = [0; 6];
        rolls(1).into_iter().for_each(|side| counts[usize::try_from(side).unwrap()] += 1);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
        assert_eq!(Dice::new(1).below(0), 0);
    }
}
