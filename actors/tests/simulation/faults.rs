//! What goes wrong in a run, all of it from the seed: machines and processes end, links are cut, held up or slow.

use std::time::Duration;

use pubg1_model::PartitionId;
use pubg1_transport::backoff::SplitMix64;

use crate::cluster::{BROKERS, Cluster, PARTITIONS};

/// How long faults go on, in virtual milliseconds, and how long all must be well again afterwards.
const STORM_MS: u64 = 5_000;
const HEALING: Duration = Duration::from_secs(25);
/// The latency of a link that is not slow; the builder's longest.
const LATENCY: Duration = Duration::from_millis(6);

/// Something that is wrong, until it is mended.
enum Fault {
    /// Processes were killed: what they had written is there.
    Killed(Vec<usize>),
    /// Machines lost their power, and what was not flushed.
    Crashed(Vec<usize>),
    /// Nothing passes between these, in either direction.
    Cut(Vec<(usize, usize)>),
    /// Nothing passes from the first to the second.
    CutOneWay(Vec<(usize, usize)>),
    /// What passes between these is held back, and comes all at once.
    Held(Vec<(usize, usize)>),
    /// Everything takes long.
    Slow(Vec<(usize, usize)>),
}

fn name(at: usize) -> String {
    format!("b{at}")
}

/// The links of one host.
fn links_of(at: usize) -> Vec<(usize, usize)> {
    (0..BROKERS as usize).filter(|other| *other != at).map(|other| (at, other)).collect()
}

impl Fault {
    fn begin(cluster: &mut Cluster<'_>, random: &mut SplitMix64, down: &[usize]) -> Option<Self> {
        let victim = victim(cluster, random);
        let links = match random.below(3) {
            0 => vec![links_of(victim)[usize::try_from(random.below(u64::from(BROKERS) - 1)).unwrap_or(0)]],
            _ => links_of(victim),
        };
        let up = |victims: Vec<usize>| victims.into_iter().filter(|at| !down.contains(at)).collect::<Vec<_>>();
        let fault = match random.below(10) {
            0 | 1 => Self::Killed(up(vec![victim])),
            2 | 3 => Self::Crashed(up(vec![victim])),
            4 => Self::Cut(links),
            5 => Self::CutOneWay(match random.below(2) {
                0 => links,
                _ => links.into_iter().map(|(one, other)| (other, one)).collect(),
            }),
            6 | 7 => Self::Held(links),
            8 => Self::Slow(links),
            _ => match random.below(4) {
                0 => Self::Crashed(up((0..BROKERS as usize).collect())),
                1 => Self::Killed(up((0..BROKERS as usize).collect())),
                2 => Self::Crashed(up(vec![victim, (victim + 1) % BROKERS as usize])),
                _ => Self::Killed(up(vec![victim, (victim + 1) % BROKERS as usize])),
            },
        };
        match &fault {
            Self::Killed(victims) if victims.is_empty() => return None,
            Self::Crashed(victims) if victims.is_empty() => return None,
            Self::Killed(victims) => {
                cluster.tell(&format!("kill {victims:?}"));
                victims.iter().for_each(|at| cluster.kill(*at));
            }
            Self::Crashed(victims) => {
                cluster.tell(&format!("power off {victims:?}"));
                victims.iter().for_each(|at| cluster.crash(*at, random));
            }
            Self::Cut(links) => {
                cluster.tell(&format!("cut {links:?}"));
                links.iter().for_each(|(one, other)| cluster.sim.partition(name(*one), name(*other)));
            }
            Self::CutOneWay(links) => {
                cluster.tell(&format!("cut one way {links:?}"));
                links.iter().for_each(|(from, to)| cluster.sim.partition_oneway(name(*from), name(*to)));
            }
            Self::Held(links) => {
                cluster.tell(&format!("hold {links:?}"));
                links.iter().for_each(|(one, other)| cluster.sim.hold(name(*one), name(*other)));
            }
            Self::Slow(links) => {
                cluster.tell(&format!("slow {links:?}"));
                let latency = Duration::from_millis(20 + random.below(280));
                for (one, other) in links {
                    cluster.sim.set_link_max_message_latency(name(*one), name(*other), latency);
                }
            }
        }
        cluster.history.borrow_mut().count(fault.kind(), 1);
        Some(fault)
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Killed(_) => "kills",
            Self::Crashed(_) => "power cuts",
            Self::Cut(_) => "cut links",
            Self::CutOneWay(_) => "links cut one way",
            Self::Held(_) => "held links",
            Self::Slow(_) => "slow links",
        }
    }

    /// The hosts that are down by it.
    fn down(&self) -> &[usize] {
        match self {
            Self::Killed(victims) | Self::Crashed(victims) => victims,
            _ => &[],
        }
    }

    fn mend(self, cluster: &mut Cluster<'_>) {
        cluster.tell(&format!("mend {}", self.kind()));
        match self {
            Self::Killed(victims) => victims.iter().for_each(|at| cluster.start(*at)),
            Self::Crashed(victims) => victims.iter().for_each(|at| cluster.boot(*at)),
            Self::Cut(links) => links.iter().for_each(|(one, other)| cluster.sim.repair(name(*one), name(*other))),
            Self::CutOneWay(links) => {
                links.iter().for_each(|(from, to)| cluster.sim.repair_oneway(name(*from), name(*to)));
            }
            Self::Held(links) => links.iter().for_each(|(one, other)| cluster.sim.release(name(*one), name(*other))),
            Self::Slow(links) => {
                for (one, other) in links {
                    cluster.sim.set_link_max_message_latency(name(one), name(other), LATENCY);
                }
            }
        }
    }
}

/// Whom it hits: more often than not somebody that matters.
fn victim(cluster: &Cluster<'_>, random: &mut SplitMix64) -> usize {
    let anyone = usize::try_from(random.below(u64::from(BROKERS))).unwrap_or(0);
    let partition = PartitionId(u32::try_from(random.below(u64::from(PARTITIONS))).unwrap_or(0));
    match random.below(4) {
        0 | 1 => cluster.leader(partition).unwrap_or(anyone),
        2 => cluster.controller().unwrap_or(anyone),
        _ => anyone,
    }
}

/// Faults for a while, up to three at a time; then everything is mended and must be well again.
pub(crate) fn storm(cluster: &mut Cluster<'_>, seed: u64) {
    let mut random = SplitMix64::new(seed ^ 0x5eed);
    let end = cluster.sim.elapsed() + Duration::from_millis(STORM_MS);
    let mut faults: Vec<(Duration, Fault)> = Vec::new();
    while cluster.sim.elapsed() < end {
        cluster.run(20 + random.below(600));
        let now = cluster.sim.elapsed();
        while let Some(over) = faults.iter().position(|(until, _)| *until <= now) {
            faults.swap_remove(over).1.mend(cluster);
        }
        if faults.len() < 3 {
            let down: Vec<usize> = faults.iter().flat_map(|(_, fault)| fault.down().to_vec()).collect();
            let until = now + Duration::from_millis(random.below(2_500));
            faults.extend(Fault::begin(cluster, &mut random, &down).map(|fault| (until, fault)));
        }
    }
    for (_, fault) in faults {
        fault.mend(cluster);
    }
    heal(cluster);
}

/// Nothing is wrong any more: all must be well soon, on every host.
pub(crate) fn heal(cluster: &mut Cluster<'_>) {
    cluster.tell("calm");
    cluster.calm.set(true);
    let began = cluster.sim.elapsed();
    let healed =
        cluster.run_until(HEALING, |it| it.is_whole() && it.machines.iter().all(|machine| machine.clients.is_well()));
    let report = || {
        let partitions = (0..PARTITIONS).map(PartitionId);
        let views = partitions.flat_map(|partition| cluster.machines.iter().map(move |it| (it, partition)));
        let views = views.map(|(it, partition)| {
            let view = it.replica(partition).map(|(view, _)| view);
            format!("{} {partition}: {view:?}, clients well {:?}", it.name, it.clients.well)
        });
        views.collect::<Vec<_>>().join("\n")
    };
    assert!(healed, "all was mended {HEALING:?} ago, and is not well:\n{}", report());
    let took = cluster.sim.elapsed().saturating_sub(began);
    cluster.history.borrow_mut().count("ms to heal", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
}
