//! Assignors: the examples that explain them, and what holds for any members and topics.

use proptest::prelude::*;

use super::*;

fn topic(name: &str) -> TopicName {
    name.parse().unwrap()
}

fn partition(text: &str) -> TopicPartition {
    let (name, number) = text.rsplit_once('-').unwrap();
    TopicPartition { topic: topic(name), partition: PartitionId(number.parse().unwrap()) }
}

fn partitions(text: &str) -> BTreeSet<TopicPartition> {
    text.split_whitespace().map(partition).collect()
}

/// A client-driven member.
fn member(id: &str, topics: &str, owned: &str) -> AssignorMember {
    AssignorMember {
        member_id: MemberId::from(id),
        group_instance_id: None,
        topics: topics.split_whitespace().map(topic).collect(),
        owned: partitions(owned),
        owned_generation: None,
        moves_at_once: false,
    }
}

fn topics(sizes: &[(&str, u32)]) -> TopicPartitions {
    sizes.iter().map(|(name, partitions)| (topic(name), *partitions)).collect()
}

/// What each gets, by id.
fn shares(assignor: Assignor, members: &[AssignorMember], sizes: &[(&str, u32)]) -> Vec<String> {
    let plan = assignor.assign(members, &topics(sizes));
    let share = |partitions: &BTreeSet<TopicPartition>| {
        partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    plan.values().map(share).collect()
}

#[test]
fn range_gives_neighbours_and_the_same_numbers_of_every_topic() {
    let members = [member("a", "t u", ""), member("b", "t u", ""), member("c", "t", "")];
    let given = shares(Assignor::Range, &members, &[("t", 4), ("u", 3)]);
    assert_eq!(given, ["t-0 t-1 u-0 u-1", "t-2 u-2", "t-3"]);
    let given = shares(Assignor::Range, &members, &[("t", 2)]);
    assert_eq!(given, ["t-0", "t-1", ""]);
}

#[test]
fn roundrobin_goes_through_all_topics() {
    let members = [member("a", "t u", ""), member("b", "t u", ""), member("c", "u", "")];
    let given = shares(Assignor::RoundRobin, &members, &[("t", 3), ("u", 3), ("unwanted", 9)]);
    assert_eq!(given, ["t-0 t-2 u-2", "t-1 u-0", "u-1"]);
}

#[test]
fn static_members_are_ordered_by_name() {
    let named = |id: &str, name: &str| AssignorMember { group_instance_id: Some(name.into()), ..member(id, "t", "") };
    let before = shares(Assignor::Range, &[named("1", "x"), named("2", "y"), member("0", "t", "")], &[("t", 3)]);
    assert_eq!(before, ["t-2", "t-0", "t-1"], "by id: 0, 1, 2");
    let after = shares(Assignor::Range, &[named("9", "x"), named("2", "y"), member("0", "t", "")], &[("t", 3)]);
    assert_eq!(after, ["t-2", "t-1", "t-0"], "by id: 0, 2, 9");
}

#[test]
fn sticky_moves_as_little_as_it_can() {
    let members = [member("a", "t", "t-0 t-2"), member("b", "t", "t-1 t-5"), member("c", "t", "")];
    assert_eq!(shares(Assignor::CooperativeSticky, &members[..2], &[("t", 6)]), ["t-0 t-2 t-3", "t-1 t-4 t-5"]);
    assert_eq!(shares(Assignor::CooperativeSticky, &members, &[("t", 6)]), ["t-0 t-2", "t-1 t-5", "t-3 t-4"]);
}

#[test]
fn a_partition_that_a_client_reads_is_free_after_a_round() {
    let first = [member("a", "t", "t-0 t-1 t-2 t-3"), member("b", "t", "")];
    assert_eq!(shares(Assignor::CooperativeSticky, &first, &[("t", 4)]), ["t-0 t-1", ""]);
    let second = [member("a", "t", "t-0 t-1"), member("b", "t", "")];
    assert_eq!(shares(Assignor::CooperativeSticky, &second, &[("t", 4)]), ["t-0 t-1", "t-2 t-3"]);
}

#[test]
fn a_partition_that_the_server_reads_moves_at_once() {
    let ours = AssignorMember { moves_at_once: true, ..member("a", "t", "t-0 t-1 t-2 t-3") };
    let members = [ours, member("b", "t", "")];
    assert_eq!(shares(Assignor::CooperativeSticky, &members, &[("t", 4)]), ["t-0 t-1", "t-2 t-3"]);
}

#[test]
fn a_partition_of_an_unsubscribed_topic_is_free_after_a_round() {
    let members = [member("a", "u", "t-0 u-0"), member("b", "t", "")];
    assert_eq!(shares(Assignor::CooperativeSticky, &members, &[("t", 1), ("u", 1)]), ["u-0", ""]);
}

#[test]
fn an_older_claim_is_void_and_equal_ones_are_settled_in_another_round() {
    let claim = |id: &str, generation: u32| AssignorMember {
        owned_generation: Some(Generation::new(generation)),
        ..member(id, "t", "t-0 t-1")
    };
    let given = shares(Assignor::CooperativeSticky, &[claim("a", 3), claim("b", 4)], &[("t", 2)]);
    assert_eq!(given, ["", "t-0"], "b has both; a gets one of them in the next round");
    let given = shares(Assignor::CooperativeSticky, &[claim("a", 4), claim("b", 4)], &[("t", 2)]);
    assert_eq!(given, ["", ""]);
}

#[test]
fn a_plan_is_written_for_members_of_both_kinds() {
    let said = |owned: &str| {
        let said = Subscription { owned: partitions(owned), ..Subscription::to_topics([topic("t")]) };
        said.encode().unwrap()
    };
    let member = |id: &str, driver, metadata, assignment: &str| AssigningMember {
        member_id: MemberId::from(id),
        group_instance_id: None,
        driver,
        metadata,
        assignment: Assignment::of(partitions(assignment)).encode().unwrap(),
    };
    let members = [
        // What the group gave a client before counts for nothing: the client knows what it has stopped to read.
        member("a", Driver::Client, said("t-0"), "t-3"),
        member("b", Driver::Server, said(""), "t-1 t-2 t-3"),
        member("odd", Driver::Client, b"?".to_vec(), ""),
    ];
    let given = assign_members("cooperative-sticky", &members, &topics(&[("t", 4)])).unwrap();
    let given: Vec<_> = given.iter().map(|(_, bytes)| Assignment::decode(bytes).unwrap().partitions).collect();
    assert_eq!(given, [partitions("t-0 t-3"), partitions("t-1 t-2"), BTreeSet::new()]);
    assert_eq!(assign_members("sticky", &members, &topics(&[])), Err(UnknownAssignor("sticky".to_owned())));
}

#[test]
fn names_are_those_of_the_protocol() {
    for assignor in Assignor::ALL {
        assert_eq!(assignor.to_string().parse(), Ok(assignor));
        assert_eq!(serde_json::to_value(assignor).unwrap(), assignor.as_str());
    }
}

const TOPICS: [&str; 4] = ["t0", "t1", "t2", "t3"];

fn any_topics() -> impl Strategy<Value = TopicPartitions> {
    proptest::collection::vec(0..12_u32, TOPICS.len())
        .prop_map(|sizes| TOPICS.iter().zip(sizes).map(|(name, size)| (topic(name), size)).collect())
}

/// Members that want anything and claim anything.
fn any_members() -> impl Strategy<Value = Vec<AssignorMember>> {
    let topics = proptest::sample::subsequence(TOPICS.to_vec(), 0..=TOPICS.len());
    let claims = proptest::collection::btree_set((0..TOPICS.len(), 0..14_u32), 0..10);
    let generation = proptest::option::of(0..3_u32);
    let parts = (topics, claims, generation, any::<bool>(), proptest::option::of(0..100_u32));
    let members = parts.prop_map(|(topics, claims, generation, moves_at_once, name)| {
        let claims = claims.iter().map(|(index, number)| partition(&format!("{}-{number}", TOPICS[*index])));
        AssignorMember {
            owned: claims.collect(),
            owned_generation: generation.map(Generation::new),
            group_instance_id: name.map(|name| name.to_string().into()),
            moves_at_once,
            ..member("", &topics.join(" "), "")
        }
    });
    proptest::collection::vec(members, 1..8).prop_map(|mut members| {
        for (index, member) in members.iter_mut().enumerate() {
            member.member_id = MemberId::from(format!("m{index}"));
            // Names are unique in a group.
            member.group_instance_id = member.group_instance_id.take().map(|name| format!("{name}-{index}").into());
        }
        members
    })
}

/// All partitions that somebody wants.
fn wanted(members: &[AssignorMember], topics: &TopicPartitions) -> BTreeSet<TopicPartition> {
    let is_wanted = |topic: &TopicName| members.iter().any(|member| member.topics.contains(topic));
    let topics = topics.iter().filter(|(topic, _)| is_wanted(topic));
    let partitions = topics.flat_map(|(topic, count)| {
        (0..*count).map(|number| TopicPartition { topic: topic.clone(), partition: PartitionId(number) })
    });
    partitions.collect()
}

/// What each owns becomes what each claims, in the next generation.
fn settle(members: &mut [AssignorMember], plan: &Plan, generation: u32) {
    for member in members {
        member.owned.clone_from(&plan[&member.member_id]);
        member.owned_generation = Some(Generation::new(generation));
    }
}

fn spread(plan: &Plan) -> usize {
    let loads = plan.values().map(BTreeSet::len);
    loads.clone().max().unwrap_or(0) - loads.min().unwrap_or(0)
}

proptest! {
    #[test]
    fn every_partition_goes_to_one_member_that_wants_it(members in any_members(), topics in any_topics()) {
        for assignor in Assignor::ALL {
            let plan = assignor.assign(&members, &topics);
            prop_assert_eq!(plan.len(), members.len());
            let given: Vec<_> = plan.values().flatten().cloned().collect();
            let distinct: BTreeSet<_> = given.iter().cloned().collect();
            prop_assert_eq!(given.len(), distinct.len(), "one owner");
            for member in &members {
                prop_assert!(plan[&member.member_id].iter().all(|given| member.topics.contains(&given.topic)));
            }
            let missing: Vec<_> = wanted(&members, &topics).difference(&distinct).cloned().collect();
            let is_read = |partition| members.iter().any(|member| !member.moves_at_once && member.owned.contains(partition));
            prop_assert!(missing.iter().all(|partition| assignor == Assignor::CooperativeSticky && is_read(partition)));
            prop_assert!(distinct.is_subset(&wanted(&members, &topics)));

            let mut backwards = members.clone();
            backwards.reverse();
            prop_assert_eq!(assignor.assign(&backwards, &topics), plan, "the order of members means nothing");
        }
    }

    #[test]
    fn nobody_is_given_what_a_client_reads(members in any_members(), topics in any_topics()) {
        let plan = Assignor::CooperativeSticky.assign(&members, &topics);
        for reader in members.iter().filter(|member| !member.moves_at_once) {
            for partition in &reader.owned {
                let claims = members.iter().filter(|member| member.owned.contains(partition));
                if claims.map(|member| member.owned_generation).max() == Some(reader.owned_generation) {
                    let others = plan.iter().filter(|(id, _)| **id != reader.member_id);
                    prop_assert!(others.into_iter().all(|(_, given)| !given.contains(partition)));
                }
            }
        }
    }

    /// Each round gives what was withheld in the one before. What was balanced with it may not be without it, so that a
    /// round may withhold something else; but soon everything has an owner and nothing changes any more.
    #[test]
    fn rounds_end(mut members in any_members(), topics in any_topics()) {
        let assign = |members: &[AssignorMember]| Assignor::CooperativeSticky.assign(members, &topics);
        for round in 0..6 {
            let plan = assign(&members);
            settle(&mut members, &plan, 10 + round);
        }
        let plan = assign(&members);
        let given: BTreeSet<_> = plan.values().flatten().cloned().collect();
        prop_assert_eq!(given, wanted(&members, &topics));
        prop_assert!(members.iter().all(|member| member.owned == plan[&member.member_id]));
    }

    #[test]
    fn equal_members_get_equally_much(sizes in any_topics(), count in 1..9_usize) {
        let members: Vec<_> = (0..count).map(|index| member(&format!("m{index}"), "t0 t1 t2 t3", "")).collect();
        for assignor in [Assignor::RoundRobin, Assignor::CooperativeSticky] {
            prop_assert!(spread(&assignor.assign(&members, &sizes)) <= 1);
        }
        let one = TopicPartitions::from([(topic("t0"), sizes[&topic("t0")])]);
        prop_assert!(spread(&Assignor::Range.assign(&members, &one)) <= 1);
    }

    /// Among equals only what has to move does: who stays keeps what it has when one leaves, and one that comes
    /// takes its share and no more.
    #[test]
    fn few_partitions_move(sizes in any_topics(), count in 2..9_usize, gone in 0..9_usize) {
        let new = |index: usize| member(&format!("m{index}"), "t0 t1 t2 t3", "");
        let mut members: Vec<_> = (0..count).map(new).collect();
        let plan = Assignor::CooperativeSticky.assign(&members, &sizes);
        settle(&mut members, &plan, 1);

        let mut fewer = members.clone();
        fewer.remove(gone % count);
        let after = Assignor::CooperativeSticky.assign(&fewer, &sizes);
        prop_assert!(fewer.iter().all(|member| member.owned.is_subset(&after[&member.member_id])));
        prop_assert!(spread(&after) <= 1);

        members.push(new(count));
        members.iter_mut().for_each(|member| member.moves_at_once = true);
        let after = Assignor::CooperativeSticky.assign(&members, &sizes);
        let moved: usize = members.iter().map(|member| member.owned.difference(&after[&member.member_id]).count()).sum();
        prop_assert_eq!(moved, after[&MemberId::from(format!("m{count}"))].len());
        prop_assert!(spread(&after) <= 1);
    }
}
