//! What happened, as a line for people.

use std::time::Duration;

use crate::{client::reply::TopicReply, verify::history::Led};

/// A leadership after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewLeader {
    pub(super) partition: u32,
    pub(super) broker: u32,
    pub(super) epoch: u32,
    pub(super) after: Duration,
}

/// `partition 0 in epoch 5` or `partitions 0, 2 (epochs 5, 7)`.
fn partitions(of: &[(u32, u32)]) -> String {
    let join = |numbers: Vec<String>| numbers.join(", ");
    match of {
        [(partition, epoch)] => format!("partition {partition} in epoch {epoch}"),
        _ => format!(
            "partitions {} (epochs {})",
            join(of.iter().map(|(partition, _)| partition.to_string()).collect()),
            join(of.iter().map(|(_, epoch)| epoch.to_string()).collect())
        ),
    }
}

/// `killed broker 2 (the controller), which led partition 0 in epoch 5`.
pub(super) fn deed(verb: &str, brokers: &[u32], controller: bool, led: &[Led]) -> String {
    let names: Vec<String> = brokers.iter().map(ToString::to_string).collect();
    let plural = if brokers.len() == 1 { "" } else { "s" };
    let role = if controller { " (the controller)" } else { "" };
    let led: Vec<(u32, u32)> = led.iter().map(|led| (led.partition, led.epoch)).collect();
    let led = match (led.as_slice(), brokers.len()) {
        ([], _) => ", leading nothing here".to_owned(),
        (led, 1) => format!(", which led {}", partitions(led)),
        (led, _) => format!(", which led {} between them", partitions(led)),
    };
    format!("{verb} broker{plural} {}{role}{led}", names.join(", "))
}

/// `broker 3 leads partition 0 in epoch 6 after 84 ms`, for each new leader.
pub(super) fn succession(new: &[NewLeader], missing: &[u32]) -> String {
    let mut brokers: Vec<u32> = new.iter().map(|leader| leader.broker).collect();
    brokers.sort_unstable();
    brokers.dedup();
    let mut parts: Vec<String> = brokers
        .into_iter()
        .map(|broker| {
            let own: Vec<&NewLeader> = new.iter().filter(|leader| leader.broker == broker).collect();
            let slowest = own.iter().map(|leader| leader.after).max().unwrap_or_default();
            let own: Vec<(u32, u32)> = own.iter().map(|leader| (leader.partition, leader.epoch)).collect();
            format!("broker {broker} leads {} after {} ms", partitions(&own), slowest.as_millis())
        })
        .collect();
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        parts.push(format!("nobody leads {}", missing.join(", ")));
    }
    parts.join("; ")
}

/// What one of these brokers leads.
pub(crate) fn led_by(topic: &TopicReply, brokers: &[u32]) -> Vec<Led> {
    let leads = |leader: i64| u32::try_from(leader).is_ok_and(|leader| brokers.contains(&leader));
    let partitions = topic.partitions.iter().filter(|partition| leads(partition.leader));
    partitions.map(|partition| Led { partition: partition.partition.0, epoch: partition.leader_epoch }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_who_led_what_and_who_does_now() {
        let led = |partition, epoch| Led { partition, epoch };
        assert_eq!(deed("killed", &[2], false, &[led(0, 5)]), "killed broker 2, which led partition 0 in epoch 5");
        assert_eq!(
            deed("killed", &[2, 3], true, &[led(0, 5), led(3, 1)]),
            "killed brokers 2, 3 (the controller), which led partitions 0, 3 (epochs 5, 1) between them"
        );
        assert_eq!(deed("paused", &[1], false, &[]), "paused broker 1, leading nothing here");
        let new = |partition, broker, ms| NewLeader { partition, broker, epoch: 6, after: Duration::from_millis(ms) };
        assert_eq!(
            succession(&[new(0, 3, 84), new(2, 1, 90), new(1, 3, 99)], &[7]),
            "broker 1 leads partition 2 in epoch 6 after 90 ms; broker 3 leads partitions 0, 1 (epochs 6, 6) after \
             99 ms; nobody leads 7"
        );
    }
}
