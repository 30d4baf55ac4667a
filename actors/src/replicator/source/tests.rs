//! Sessions as the leader sees them.

use std::net::{Ipv4Addr, SocketAddr};

use pubg1_model::{
    LeaderEpoch, Offset, PartitionId, TopicId,
    cluster::{Incarnation, MetadataCommand},
    replication::{StorageId, message::ReplicaFetch},
};
use tempfile::TempDir;

use super::*;
use crate::{
    BrokerConfig,
    fixture::{bare_node, until, within},
    flusher::BlockingThreads,
};

struct Leader {
    node: Arc<NodeContext>,
    threads: Vec<BlockingThreads>,
    _home: TempDir,
}

impl Leader {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (node, threads) = bare_node(BrokerConfig::new(BrokerId(0), home.path(), "http://127.0.0.1:8000"));
        Self { node, threads, _home: home }
    }

    async fn ask(&self, incarnation: u64, poll: &Poll) -> PollAnswer {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let peer = Peer { broker_id: BrokerId(1), incarnation, address };
        within(answer_poll(&self.node, peer, poll)).await.decode().unwrap()
    }

    fn contact(&self) -> Option<u64> {
        let sessions = lock(&self.node.sessions.0);
        Attachment::new(Arc::clone(&sessions[&BrokerId(1)].contact)).last_ms()
    }

    fn end(self) {
        self.threads.into_iter().for_each(BlockingThreads::finish);
    }
}

const KEY: PartitionKey = (TopicId::from_bytes([1; 16]), PartitionId(0));

fn poll(session: u64, number: u64) -> Poll {
    let heard = number.checked_sub(1);
    Poll {
        registration: 1,
        session,
        number,
        heard,
        wait_ms: 0,
        max_bytes: 1 << 20,
        forgotten: Vec::new(),
        wishes: Vec::new(),
    }
}

fn wish(token: u64) -> SentWish {
    let fetch = ReplicaFetch {
        epoch: LeaderEpoch::new(1),
        registration: 1,
        storage: StorageId::from_bytes([1; 16]),
        adopted_epoch: None,
        fetch_offset: Offset::ZERO,
    };
    SentWish { key: KEY, token, wish: Wish::Fetch(fetch) }
}

fn nothing(answer: &PollAnswer) -> bool {
    *answer == PollAnswer::Answers(Vec::new())
}

#[test]
fn a_former_life_of_the_follower_is_told_by_its_registration() {
    let mut image = ClusterImage::default();
    image.apply(&MetadataCommand::FormatCluster { cluster_id: "c".to_owned() }).unwrap();
    let follower = BrokerId(1);
    assert!(!is_former_life(&image, follower, &poll(7, 0)), "it is not known here yet");
    for (version, is_former) in [(2, false), (3, true)] {
        let register = MetadataCommand::RegisterBroker {
            broker: follower,
            http_url: "http://127.0.0.1:8001".to_owned(),
            rpc_address: "127.0.0.1:9001".to_owned(),
            incarnation: Incarnation::from_bytes([version; 16]),
            storage: StorageId::from_bytes([1; 16]),
            rack: None,
            replaces: image.brokers.get(&follower).map(|known| known.incarnation),
        };
        image.apply(&register).unwrap();
        assert_eq!(image.brokers[&follower].registration, u64::from(version));
        let poll = Poll { registration: 2, ..poll(7, 0) };
        assert_eq!(is_former_life(&image, follower, &poll), is_former);
    }
}

#[actix_rt::test]
async fn a_session_is_what_its_requests_in_order_make_it() {
    let leader = Leader::new();
    assert_eq!(leader.ask(1, &poll(7, 1)).await, PollAnswer::UnknownSession, "it has no beginning");
    assert!(nothing(&leader.ask(1, &poll(7, 0)).await));
    assert!(nothing(&leader.ask(1, &poll(7, 1)).await));
    assert_eq!(leader.ask(2, &poll(7, 2)).await, PollAnswer::UnknownSession, "another life of the follower");
    assert_eq!(leader.ask(1, &poll(7, 1)).await, PollAnswer::UnknownSession, "it came before");
    assert_eq!(leader.ask(1, &poll(7, 2)).await, PollAnswer::UnknownSession, "that put an end to it");
    assert!(nothing(&leader.ask(1, &poll(8, 0)).await));
    assert_eq!(leader.ask(1, &poll(8, 2)).await, PollAnswer::UnknownSession, "one is missing");
    // One that overtook the one before it waits for its turn.
    assert!(nothing(&leader.ask(1, &poll(9, 0)).await));
    let (second, first) = (poll(9, 2), poll(9, 1));
    let (second, first) = tokio::join!(leader.ask(1, &second), leader.ask(1, &first));
    assert!(nothing(&second) && nothing(&first));
    leader.end();
}

#[actix_rt::test]
async fn a_later_request_ends_the_one_that_waits_and_takes_what_is_ready() {
    let leader = Leader::new();
    assert!(nothing(&leader.ask(1, &poll(7, 0)).await));
    let waiting = Poll { wait_ms: 60_000, ..poll(7, 1) };
    let asking = Poll { wishes: vec![wish(5)], wait_ms: 60_000, ..poll(7, 2) };
    let (waited, answered) = tokio::join!(leader.ask(1, &waiting), leader.ask(1, &asking));
    assert!(nothing(&waited));
    let PollAnswer::Answers(outcomes) = answered else { panic!("{answered:?}") };
    let refused = SentOutcome { key: KEY, token: 5, outcome: Outcome::Refused(Refusal::NotKept), bytes: 0 };
    assert_eq!(outcomes, [refused]);
    leader.end();
}

#[actix_rt::test]
async fn contact_is_when_an_answer_was_sent_that_was_received() {
    let leader = Leader::new();
    leader.ask(1, &poll(7, 0)).await;
    assert_eq!(leader.contact(), None, "a request alone proves nothing");
    let sent = leader.node.monotonic_ms();
    until(|| leader.node.monotonic_ms() >= sent + 20).await;
    leader.ask(1, &poll(7, 1)).await;
    let contact = leader.contact().unwrap();
    assert!(contact <= sent + 5, "{contact} is the answer to the first, not the arrival of the second");
    leader.ask(1, &Poll { heard: None, ..poll(7, 2) }).await;
    assert_eq!(leader.contact(), Some(contact), "no answer was received since");
    leader.end();
}

#[actix_rt::test]
async fn who_turns_away_is_detached_before_the_contact_counts() {
    let leader = Leader::new();
    leader.ask(1, &Poll { wishes: vec![wish(1)], ..poll(7, 0) }).await;
    let session = Arc::clone(&lock(&leader.node.sessions.0)[&BrokerId(1)]);
    let attached = || session.lock().entries.get(&KEY).and_then(|entry| entry.attachment.clone());
    let first = attached().unwrap();
    leader.ask(1, &poll(7, 1)).await;
    assert!(first.last_ms().is_some());
    // It turns away and follows in a later epoch, in one request.
    leader.ask(1, &Poll { forgotten: vec![KEY], wishes: vec![wish(2)], ..poll(7, 2) }).await;
    let second = attached().unwrap();
    assert!(first.last_ms().is_none() && second.last_ms().is_some());
    leader.ask(1, &Poll { forgotten: vec![KEY], ..poll(7, 3) }).await;
    assert!(second.last_ms().is_none() && attached().is_none());
    // A new session counts for nobody who was attached in the former one.
    leader.ask(1, &Poll { wishes: vec![wish(3)], ..poll(7, 4) }).await;
    let third = attached().unwrap();
    leader.ask(1, &poll(8, 0)).await;
    assert!(third.last_ms().is_none());
    leader.end();
}
