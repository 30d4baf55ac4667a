//! The replicas of a new topic.

use super::{
    fleet::{Fleet, Service},
    leaders::even,
};
use crate::BrokerId;

/// Loads of racks are compared as averages, in this many parts.
const PARTS: usize = 1_000_000;

/// What the sites have got of the new topic so far.
struct Topic {
    replicas: Vec<usize>,
    rack_replicas: Vec<usize>,
    /// How often two sites, as row and column, keep the same partition.
    together: Vec<usize>,
}

pub(super) fn assign(fleet: &Fleet, partitions: usize, replicas: usize) -> Vec<Vec<BrokerId>> {
    let sites = fleet.sites.len();
    let mut topic = Topic {
        replicas: vec![0; sites],
        rack_replicas: vec![0; fleet.rack_sizes.len()],
        together: vec![0; sites * sites],
    };
    let sets: Vec<_> = (0..partitions).map(|partition| choose(fleet, &mut topic, partition, replicas)).collect();
    let leaders = choose_leaders(fleet, &sets);
    order(fleet, sets, &leaders)
}

/// The sites of one partition: in each turn the rack that the partition uses least, and that has
/// the least of the topic; in it the site that has the least. So racks of equal size never differ by
/// more than one replica of the topic, nor do the sites of a rack.
///
/// Of equal sites the one is taken that shares the fewest partitions with those chosen before, so
/// that many help to replace one that fails.
fn choose(fleet: &Fleet, topic: &mut Topic, partition: usize, replicas: usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::with_capacity(replicas);
    let mut uses = vec![0_usize; fleet.rack_sizes.len()];
    let sites = fleet.sites.len();
    for _ in 0..replicas {
        let free = (0..sites).filter(|site| !chosen.contains(site));
        let next = free.min_by_key(|number| {
            let site = &fleet.sites[*number];
            let rack_average = topic.rack_replicas[site.rack] * PARTS / fleet.rack_sizes[site.rack].max(1);
            let of_topic = topic.replicas[*number];
            // Otherwise the same ones would be left over to go together at the end of each round.
            let turn = (site.turn + partition) % sites;
            let shared: usize = chosen.iter().map(|other| topic.together[number * sites + other]).sum();
            (site.service, uses[site.rack], rack_average, of_topic, shared, site.replicas + of_topic, turn)
        });
        let Some(next) = next else { break };
        let rack = fleet.sites[next].rack;
        uses[rack] += 1;
        topic.replicas[next] += 1;
        topic.rack_replicas[rack] += 1;
        for other in &chosen {
            topic.together[next * sites + other] += 1;
            topic.together[other * sites + next] += 1;
        }
        chosen.push(next);
    }
    chosen
}

/// Who leads least; of several, the one that has led least together with the others of the set, so
/// that what it leads is not always kept by the same ones.
fn choose_leaders(fleet: &Fleet, sets: &[Vec<usize>]) -> Vec<usize> {
    let sites = fleet.sites.len();
    let mut counts = vec![0; sites];
    let mut together = vec![0_usize; sites * sites];
    let mut leaders = Vec::with_capacity(sets.len());
    for set in sets {
        let leader = set.iter().copied().min_by_key(|number| {
            let site = &fleet.sites[*number];
            let others = set.iter().filter(|other| *other != number);
            let others: usize = others.map(|other| together[number * sites + other]).sum();
            (site.service, counts[*number], site.leaders + counts[*number], others, site.turn)
        });
        let leader = leader.unwrap_or_default();
        counts[leader] += 1;
        for other in set {
            together[leader * sites + other] += 1;
        }
        leaders.push(leader);
    }
    let fit: Vec<_> = fleet.sites.iter().map(|site| site.service == Service::In).collect();
    even(sets, &mut leaders, &mut counts, &fit);
    leaders
}

/// Puts the leader of each partition first, and second one that is not yet second to it often.
fn order(fleet: &Fleet, sets: Vec<Vec<usize>>, leaders: &[usize]) -> Vec<Vec<BrokerId>> {
    let sites = fleet.sites.len();
    let mut seconds = vec![0_usize; sites * sites];
    let ordered = sets.into_iter().zip(leaders).map(|(mut set, leader)| {
        set.sort_by_key(|number| {
            let site = &fleet.sites[*number];
            (number != leader, site.service, seconds[leader * sites + number], site.turn)
        });
        if let Some(second) = set.get(1) {
            seconds[leader * sites + second] += 1;
        }
        fleet.brokers(&set)
    });
    ordered.collect()
}
