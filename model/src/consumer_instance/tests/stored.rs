//! Instances come back from their records.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::GroupId;

fn key(partition: Option<TopicPartition>) -> InstanceKey {
    InstanceKey { group: "g1".parse().unwrap(), instance: "i".parse().unwrap(), partition }
}

#[test]
fn the_bytes_are_as_documented() {
    assert_eq!(key(None).encode().unwrap(), b"\x03\xe8\0\x02g1\0\x01i");
    assert_eq!(key(Some(partition(258))).encode().unwrap(), b"\x03\xe9\0\x02g1\0\x01i\0\x01t\0\0\x01\x02");
    let delivered = Some((PollId(3), edge(2), offset(9)));
    let (confirmed, by, begun) = (Some(offset(5)), Some(PollId(1)), Some(offset(4)));
    let position = StoredPosition { confirmed, by, is_sought: true, begun, delivered };
    let bytes = b"\0\x01\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01\x01\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x09\
        \0\0\0\0\0\0\0\x03\0\0\0\x02\0\0\0\0\0\0\0\x07";
    assert_eq!(position.encode(), bytes);
    let none = StoredPosition::default();
    assert_eq!(none.encode(), [&[0, 1], &[0xff; 8][..], &[0; 9], &[0xff; 16]].concat());
    assert_eq!((StoredPosition::decode(bytes), StoredPosition::decode(&none.encode())), (Ok(position), Ok(none)));
    let before = [&[0, 0], &bytes[2..19], &bytes[27..]].concat();
    assert_eq!(StoredPosition::decode(&before), Ok(StoredPosition { begun: None, ..position }), "version 0");
    let version = InstanceRecordError::Version { part: "value", version: 2 };
    assert_eq!(StoredPosition::decode(b"\0\x02"), Err(version));
}

#[test]
fn other_records_and_damaged_ones_are_told_apart() {
    let version = |bytes: &[u8]| InstanceKey::decode(bytes).unwrap_err();
    assert_eq!(version(b"\0\x02\0\x02g1"), InstanceRecordError::Version { part: "key", version: 2 });
    let bytes = key(Some(partition(1))).encode().unwrap();
    for end in 0..bytes.len() {
        assert!(matches!(InstanceKey::decode(&bytes[..end]), Err(InstanceRecordError::Malformed(_))), "{end}");
    }
    assert_eq!(version(&[bytes.as_slice(), b"x"].concat()), InstanceRecordError::Malformed("key"));
    let stored = stored(&mut instance(Confirmation::Token, &[0])).0.unwrap();
    let bytes = stored.encode().unwrap();
    assert_eq!(StoredInstance::decode(&bytes), Ok(stored));
    assert_eq!(StoredInstance::decode(&bytes[..9]), Err(InstanceRecordError::Malformed("definition")));
}

/// What the records of an instance say in the end.
fn stored(instance: &mut ConsumerInstance) -> (Option<StoredInstance>, BTreeMap<TopicPartition, StoredPosition>) {
    let (mut definition, mut positions) = (None, BTreeMap::new());
    for change in instance.take_changes() {
        match change {
            InstanceChange::Definition(stored) => definition = Some(stored),
            InstanceChange::Position(partition, Some(stored)) => drop(positions.insert(partition, stored)),
            InstanceChange::Position(partition, None) => drop(positions.remove(&partition)),
        }
    }
    (definition, positions)
}

#[test]
fn a_delivery_that_is_not_confirmed_waits_for_its_edge_after_a_restart() {
    for confirmation in [Confirmation::Edge, Confirmation::Token] {
        let mut instance = instance(confirmation, &[0, 1]);
        instance.begin_poll(new_poll(1, 1), |_| None, 0).unwrap();
        instance.deliver(PollId(1), &[range(0, 0, 4), range(1, 2, 2)], 0).unwrap();
        let (definition, positions) = stored(&mut instance);
        assert_eq!(instance.take_changes(), []);
        let restored = || {
            let mut restored = ConsumerInstance::restore(definition.clone().unwrap(), 5_000);
            for (partition, position) in &positions {
                restored.restore_position(partition.clone(), *position, 5_000);
            }
            restored.set_assignment([partition(0), partition(1)].into(), 9);
            restored
        };
        let mut late = restored();
        assert_eq!(late.deliver(PollId(1), &[range(0, 0, 4), range(1, 2, 2)], 5_001), Ok(vec![]), "said twice");
        match confirmation {
            Confirmation::Edge => {
                assert_eq!(late.under_way(5_001).map(|it| (it.poll, it.edge)), Some((PollId(1), edge(0))));
                late.confirm(PollId(1), true, 5_001).unwrap();
            }
            Confirmation::Token => {
                assert_eq!(late.under_way(5_001), None);
                late.acknowledge(PollId(1), 5_001).unwrap();
            }
        }
        assert_eq!(late.confirmed_positions(), [(partition(0), offset(4)), (partition(1), offset(2))]);
        // Nobody says anything: the same again.
        let mut silent = restored();
        let begun = silent.begin_poll(new_poll(2, 2), |_| None, 60_000).unwrap();
        let starts = [(partition(0), PollStart::At(offset(0))), (partition(1), PollStart::At(offset(2)))];
        assert_eq!(begun.partitions, starts);
    }
}

proptest! {
    #[test]
    fn keys_come_back(
        group in "[a-zA-Z0-9_-]{1,200}",
        instance in "[a-zA-Z0-9_-]{1,200}",
        partition in proptest::option::of(0..=i32::MAX as u32),
    ) {
        let partition = partition.map(partition_of);
        let group: GroupId = group.parse().unwrap();
        let key = InstanceKey { group, instance: instance.parse().unwrap(), partition };
        prop_assert_eq!(InstanceKey::decode(&key.encode().unwrap()), Ok(key));
    }

    #[test]
    fn arbitrary_bytes_are_no_reason_to_panic(mut bytes: Vec<u8>, version in 0xe7_u8..0xeb) {
        drop((InstanceKey::decode(&bytes), StoredInstance::decode(&bytes), StoredPosition::decode(&bytes)));
        bytes.splice(0..0, [3, version]);
        drop(InstanceKey::decode(&bytes));
        for version in [0, 1] {
            bytes.splice(0..2, [0, version]);
            drop((StoredInstance::decode(&bytes), StoredPosition::decode(&bytes)));
        }
    }
}

fn partition_of(number: u32) -> TopicPartition {
    partition(number)
}
