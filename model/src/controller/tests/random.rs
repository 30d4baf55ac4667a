//! Any events in any order: what the controller proposes is applied or refused for a reason, no
//! epoch has two leaders, no committed record is missing from a leader, and once things calm down
//! every partition that can have a leader gets one.

use proptest::{prelude::*, sample::Index as Pick};

use world::World;

mod world;

/// Something that happens.
#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Kill { broker: u32, is_noticed: bool },
    Start { broker: u32 },
    Beat { broker: u32 },
    Learn { broker: u32 },
    Deliver(Pick),
    Lose(Pick),
    Produce { partition: u32 },
    Copy { partition: u32, to: u32 },
    Move { partition: u32, to: Vec<u32> },
    CancelMove { partition: u32 },
    Drain { broker: u32, draining: bool },
    Request { partition: u32, to: u32 },
    ChangeController,
}

const BROKERS: u32 = 5;
const PARTITIONS: u32 = 4;

fn any_event() -> impl Strategy<Value = Event> {
    let broker = || 0..BROKERS;
    let partition = || 0..PARTITIONS;
    let to = proptest::sample::subsequence((0..BROKERS).collect::<Vec<_>>(), 1..=3).prop_shuffle();
    prop_oneof![
        4 => (1_u64..60).prop_map(Event::Pass),
        1 => (200_u64..1500).prop_map(Event::Pass),
        2 => (broker(), any::<bool>()).prop_map(|(broker, is_noticed)| Event::Kill { broker, is_noticed }),
        3 => broker().prop_map(|broker| Event::Start { broker }),
        6 => broker().prop_map(|broker| Event::Beat { broker }),
        5 => broker().prop_map(|broker| Event::Learn { broker }),
        20 => any::<Pick>().prop_map(Event::Deliver),
        1 => any::<Pick>().prop_map(Event::Lose),
        4 => partition().prop_map(|partition| Event::Produce { partition }),
        8 => (partition(), broker()).prop_map(|(partition, to)| Event::Copy { partition, to }),
        1 => (partition(), to).prop_map(|(partition, to)| Event::Move { partition, to }),
        1 => partition().prop_map(|partition| Event::CancelMove { partition }),
        1 => (broker(), any::<bool>()).prop_map(|(broker, draining)| Event::Drain { broker, draining }),
        1 => (partition(), broker()).prop_map(|(partition, to)| Event::Request { partition, to }),
        1 => Just(Event::ChangeController),
    ]
}

fn happen(world: &mut World, event: &Event) {
    match event {
        Event::Pass(ms) => world.now_ms += ms,
        Event::Kill { broker, is_noticed } => world.kill(*broker, *is_noticed),
        Event::Start { broker } => world.start(*broker),
        Event::Beat { broker } => world.beat(*broker),
        Event::Learn { broker } => world.learn(*broker),
        Event::Deliver(pick) => {
            if !world.under_way.is_empty() {
                let message = world.under_way.remove(pick.index(world.under_way.len()));
                world.deliver(message);
            }
        }
        Event::Lose(pick) => {
            if !world.under_way.is_empty() {
                let message = world.under_way.remove(pick.index(world.under_way.len()));
                world.lose(&message);
            }
        }
        Event::Produce { partition } => world.produce(*partition),
        Event::Copy { partition, to } => world.copy(*partition, *to),
        Event::Move { partition, to } => world.begin_move(*partition, to),
        Event::CancelMove { partition } => world.cancel_move(*partition),
        Event::Drain { broker, draining } => world.drain(*broker, *draining),
        Event::Request { partition, to } => world.request(*partition, *to),
        Event::ChangeController => world.change_controller(),
    }
    world.poll();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_happens_partitions_are_led_again(
        events in proptest::collection::vec(any_event(), 0..250),
        stays_dead in proptest::option::of(0..BROKERS),
    ) {
        let mut world = World::new(BROKERS, &[&[0, 1, 2], &[1, 2, 3], &[2, 3, 4], &[4, 0, 1]]);
        for event in &events {
            happen(&mut world, event);
        }
        // Things calm down. One broker may stay away.
        for broker in 0..BROKERS {
            if Some(broker) == stays_dead {
                world.kill(broker, true);
            } else {
                world.start(broker);
                world.drain(broker, false);
            }
        }
        world.calm(6_000);
        // A leadership that goes back to the preferred leader just now has its time too.
        for _ in 0..20 {
            if (0..PARTITIONS).all(|partition| world.is_led(partition) || !world.can_be_led(partition)) {
                break;
            }
            world.calm(20);
        }
        for partition in 0..PARTITIONS {
            let (leads, reason) = (world.is_led(partition), world.offline_reason(partition));
            if world.can_be_led(partition) {
                prop_assert!(leads, "partition {} is not led: {:?}", partition, reason);
            }
            prop_assert_eq!(leads, reason.is_none());
        }
    }
}
