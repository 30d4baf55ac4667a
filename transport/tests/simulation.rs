//! The transport on a simulated network: links that are cut, hosts that crash, and the same run for the same seed.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends by panicking, and so do its functions")]

#[path = "simulation/network.rs"]
mod network;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use network::SimulatedNetwork;
use pubg1_model::BrokerId;
use pubg1_transport::{
    Counters, Handler, Identity, Network, Peer, PeerClient, PeerState, Request, RequestError, Response, Server,
    TransportConfig, backoff::SplitMix64,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use turmoil::{Builder, Sim};

const ADDRESS: &str = "server:9000";
const SERVER: BrokerId = BrokerId(2);
const DEADLINE: Duration = Duration::from_millis(1500);

/// The simulation's clock has steps of a millisecond.
const STEP: Duration = Duration::from_millis(2);

/// Storms of each run, and faults in each storm.
const SEEDS: u64 = 10;
const FAULTS: usize = 12;

/// Silence, a connect in vain, the longest wait before the next one, and a little.
const HEALING: Duration = Duration::from_millis(3500);

const ECHO: u16 = 1;
const NEVER: u16 = 2;

struct Echo;

impl Handler for Echo {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        if request.kind == NEVER {
            std::future::pending::<()>().await;
        }
        Response { kind: request.kind, control: request.control, payload: request.payload }
    }
}

fn identity(broker_id: BrokerId, incarnation: u64) -> Identity {
    Identity { cluster_id: "simulated".to_owned(), broker_id, incarnation }
}

fn builder(seed: u64) -> Builder {
    let mut builder = Builder::new();
    builder
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(300))
        .min_message_latency(Duration::from_millis(2))
        .max_message_latency(Duration::from_millis(20))
        .tcp_capacity(1024);
    builder
}

/// What runs on the host `server`: each start of the process is another incarnation, from 1.
struct Process {
    running: watch::Sender<bool>,
    starts: Cell<u64>,
}

/// Adds the host `server` with a running process. Its death leaves the machine up, so that connections are refused;
/// turmoil's own `crash` takes the machine down, so that there is silence.
fn add_server(sim: &mut Sim<'_>) -> Rc<Process> {
    let process = Rc::new(Process { running: watch::Sender::new(true), starts: Cell::new(0) });
    let on_host = Rc::clone(&process);
    sim.host("server", move || {
        let process = Rc::clone(&on_host);
        async move {
            let mut running = process.running.subscribe();
            loop {
                running.wait_for(|running| *running).await?;
                process.starts.set(process.starts.get() + 1);
                let listener = SimulatedNetwork.bind("0.0.0.0:9000").await?;
                let (own, config) = (identity(SERVER, process.starts.get()), TransportConfig::default());
                let server = Server::start(listener, Echo, own, config, Arc::default())?;
                running.wait_for(|running| !*running).await?;
                drop(server);
            }
        }
    });
    process
}

fn client(counters: &Arc<Counters>, seed: u64) -> PeerClient {
    let (own, config) = (identity(BrokerId(1), 1), TransportConfig::default());
    PeerClient::new(SimulatedNetwork, SERVER, ADDRESS, own, config, Arc::clone(counters), seed)
}

async fn ask(client: &PeerClient, kind: u16, text: &str) -> Result<Response, RequestError> {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    client.request(Request { kind, control: Bytes::new(), payload: payload.into() }, Instant::now() + DEADLINE).await
}

async fn reach(client: &PeerClient, wanted: impl Fn(&PeerState) -> bool) -> PeerState {
    let (start, mut states) = (Instant::now(), client.state());
    let state = timeout_at(start + Duration::from_secs(30), states.wait_for(|state| wanted(state))).await;
    state.expect("the state is reached").expect("the client lives").clone()
}

const fn is_connected(state: &PeerState) -> bool {
    matches!(state, PeerState::Connected { .. })
}

const fn is_unreachable(state: &PeerState) -> bool {
    matches!(state, PeerState::Unreachable { .. })
}

const fn is_refused(state: &PeerState) -> bool {
    matches!(state, PeerState::Refused { .. })
}

/// Lets virtual time pass.
async fn pass(time: Duration) {
    timeout_at(Instant::now() + time, std::future::pending::<()>()).await.expect_err("it never ends by itself");
}

/// Lets the simulation run until `condition` holds.
fn run_until(sim: &mut Sim<'_>, condition: impl Fn() -> bool) {
    while !condition() {
        sim.step().expect("the simulation goes on");
    }
}

#[test]
fn a_cut_link_is_silence_ends_requests_by_their_deadline_and_heals() {
    for (name, cut, mend) in links() {
        let mut sim = builder(1).build();
        add_server(&mut sim);
        sim.client("client", async move {
            let counters = Arc::default();
            let client = client(&counters, 1);
            ask(&client, ECHO, "before").await?;
            cut.inside();
            let start = Instant::now();
            let error = ask(&client, ECHO, "during").await.expect_err("the link is cut");
            assert!(start.elapsed() <= DEADLINE + STEP, "{name}: {:?}", start.elapsed());
            let lost = matches!(error, RequestError::Disconnected { sent: true, .. } | RequestError::Timeout { .. });
            assert!(lost, "{name}: {error}");
            reach(&client, is_unreachable).await;
            // Nobody waits for a peer that is known to be out of reach.
            let start = Instant::now();
            let error = ask(&client, ECHO, "later").await.expect_err("the link is cut");
            assert_eq!(
                (error, start.elapsed()),
                (RequestError::Unreachable { peer: SERVER }, Duration::ZERO),
                "{name}"
            );
            mend.inside();
            let state = reach(&client, is_connected).await;
            assert!(matches!(state, PeerState::Connected { incarnation: 1, .. }), "{name}: {state:?}");
            ask(&client, ECHO, "after").await?;
            assert!(counters.snapshot().reconnects >= 1);
            Ok(())
        });
        sim.run().unwrap();
    }
}

/// Something done to the link between client and server, from inside a simulation or from outside.
#[derive(Clone, Copy)]
enum Link {
    Cut,
    Mend,
    CutFrom(&'static str, &'static str),
    MendFrom(&'static str, &'static str),
    Hold,
    Release,
}

impl Link {
    fn on(self, sim: &Sim<'_>) {
        match self {
            Self::Cut => sim.partition("client", "server"),
            Self::Mend => sim.repair("client", "server"),
            Self::CutFrom(from, to) => sim.partition_oneway(from, to),
            Self::MendFrom(from, to) => sim.repair_oneway(from, to),
            Self::Hold => sim.hold("client", "server"),
            Self::Release => sim.release("client", "server"),
        }
    }

    fn inside(self) {
        match self {
            Self::Cut => turmoil::partition("client", "server"),
            Self::Mend => turmoil::repair("client", "server"),
            Self::CutFrom(from, to) => turmoil::partition_oneway(from, to),
            Self::MendFrom(from, to) => turmoil::repair_oneway(from, to),
            Self::Hold => turmoil::hold("client", "server"),
            Self::Release => turmoil::release("client", "server"),
        }
    }
}

/// Ways to cut the link, and to mend it.
const fn links() -> [(&'static str, Link, Link); 4] {
    let (client, server) = ("client", "server");
    [
        ("both ways, packets lost", Link::Cut, Link::Mend),
        ("towards the server", Link::CutFrom(client, server), Link::MendFrom(client, server)),
        ("towards the client", Link::CutFrom(server, client), Link::MendFrom(server, client)),
        ("both ways, packets held back", Link::Hold, Link::Release),
    ]
}

#[test]
fn a_slow_handler_is_no_silence() {
    let mut sim = builder(2).build();
    add_server(&mut sim);
    sim.client("client", async {
        let counters = Arc::default();
        let client = client(&counters, 1);
        ask(&client, ECHO, "x").await?;
        let start = Instant::now();
        let error = ask(&client, NEVER, "x").await.expect_err("it is never answered");
        assert_eq!(error, RequestError::Timeout { peer: SERVER, sent: true });
        assert!(start.elapsed() >= DEADLINE && start.elapsed() <= DEADLINE + STEP);
        assert!(is_connected(&client.state().borrow()));
        assert_eq!(counters.snapshot().connects, 1);
        Ok(())
    });
    sim.run().unwrap();
}

#[test]
fn a_killed_process_is_refused_at_once_and_the_next_incarnation_is_found() {
    let mut sim = builder(3).build();
    let process = add_server(&mut sim);
    let (trusted, gone) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (saw_trusted, saw_gone) = (Rc::clone(&trusted), Rc::clone(&gone));
    sim.client("client", async move {
        let client = client(&Arc::default(), 1);
        ask(&client, ECHO, "before").await?;
        pass(Duration::from_secs(2)).await;
        saw_trusted.set(true);
        let start = Instant::now();
        let error = ask(&client, NEVER, "during").await.expect_err("the process is killed");
        assert_eq!(error, RequestError::Disconnected { peer: SERVER, sent: true });
        reach(&client, is_refused).await;
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
        let error = ask(&client, ECHO, "gone").await.expect_err("nobody listens");
        assert_eq!(error, RequestError::Refused { peer: SERVER });
        saw_gone.set(true);
        let state = reach(&client, is_connected).await;
        assert!(matches!(state, PeerState::Connected { incarnation: 2, .. }), "{state:?}");
        ask(&client, ECHO, "after").await?;
        Ok(())
    });
    run_until(&mut sim, || trusted.get());
    // Long enough for the request to be on its way.
    for _ in 0..5 {
        sim.step().unwrap();
    }
    process.running.send_replace(false);
    run_until(&mut sim, || gone.get());
    process.running.send_replace(true);
    sim.run().unwrap();
}

#[test]
fn a_crashed_machine_is_unreachable_until_it_is_back() {
    let mut sim = builder(4).build();
    add_server(&mut sim);
    let (connected, lost) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (saw_connected, saw_lost) = (Rc::clone(&connected), Rc::clone(&lost));
    sim.client("client", async move {
        let client = client(&Arc::default(), 1);
        ask(&client, ECHO, "before").await?;
        saw_connected.set(true);
        reach(&client, is_unreachable).await;
        saw_lost.set(true);
        let state = reach(&client, is_connected).await;
        assert!(matches!(state, PeerState::Connected { incarnation: 2, .. }), "{state:?}");
        ask(&client, ECHO, "after").await?;
        Ok(())
    });
    run_until(&mut sim, || connected.get());
    sim.crash("server");
    run_until(&mut sim, || lost.get());
    sim.bounce("server");
    sim.run().unwrap();
}

/// One run of callers against a server whose links are cut and which crashes, all of it from the seed. What happened,
/// with the virtual times at which it did.
fn storm(seed: u64) -> Vec<String> {
    let mut sim = builder(seed).build();
    let process = add_server(&mut sim);
    let trace = Rc::new(RefCell::new(Vec::new()));
    let calm = Rc::new(Cell::new(false));
    let (seen, over) = (Rc::clone(&trace), Rc::clone(&calm));
    sim.client("client", async move {
        let begin = Instant::now();
        let counters = Arc::default();
        let client = client(&counters, seed);
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let (client, seen, over) = (client.clone(), Rc::clone(&seen), Rc::clone(&over));
                tokio::task::spawn_local(async move {
                    let mut number = 0;
                    while !over.get() {
                        number += 1;
                        let (text, start) = (format!("{caller}-{number}"), Instant::now());
                        let kind = if number % 10 == 0 { NEVER } else { ECHO };
                        let result = ask(&client, kind, &text).await;
                        assert!(start.elapsed() <= DEADLINE + STEP, "{text} took {:?}", start.elapsed());
                        let failed = result.is_err();
                        let said = match result {
                            Ok(answer) => String::from_utf8(answer.payload.into_bytes().to_vec()).unwrap(),
                            Err(error) => error.to_string(),
                        };
                        assert!(failed || said == text, "the answer to {text} is {said}");
                        seen.borrow_mut().push(format!("{:?} {text}: {said}", begin.elapsed()));
                        // Thinks about it for a while.
                        pass(Duration::from_millis(if failed { 100 } else { 10 })).await;
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await?;
        }
        // A connection that lost packets is found out by its silence, and the next attempt waits its turn.
        let healed = timeout_at(Instant::now() + HEALING, async {
            while ask(&client, ECHO, "calm").await.is_err() {
                pass(Duration::from_millis(100)).await;
            }
        });
        healed.await.expect("after the last fault all is well");
        seen.borrow_mut().push(format!("{:?}", counters.snapshot()));
        Ok(())
    });
    disturb(&mut sim, &process, seed);
    calm.set(true);
    sim.run().unwrap();
    trace.take()
}

/// Faults of all kinds, each mended after a while.
fn disturb(sim: &mut Sim<'_>, process: &Process, seed: u64) {
    let mut random = SplitMix64::new(seed ^ 0x5eed);
    let run = |sim: &mut Sim<'_>, ms: u64| {
        let until = sim.elapsed() + Duration::from_millis(ms);
        while sim.elapsed() < until {
            sim.step().unwrap();
        }
    };
    let links = links();
    for _ in 0..FAULTS {
        run(sim, 200 + random.below(1500));
        let lasting_ms = random.below(3000);
        match usize::try_from(random.below(6)).unwrap() {
            0 => {
                sim.crash("server");
                run(sim, lasting_ms);
                sim.bounce("server");
            }
            1 => {
                process.running.send_replace(false);
                run(sim, lasting_ms);
                process.running.send_replace(true);
            }
            link => {
                let (_, cut, mend) = links[link - 2];
                cut.on(sim);
                run(sim, lasting_ms);
                mend.on(sim);
            }
        }
    }
}

#[test]
fn in_a_storm_every_request_ends_by_its_deadline_and_afterwards_all_is_well() {
    let mut outcomes = BTreeMap::<String, usize>::new();
    for seed in 0..SEEDS {
        for line in storm(seed) {
            let outcome = line.split_once(": ").map_or("", |(_, said)| said);
            let outcome = if outcome.starts_with("broker") { outcome } else { "answered" };
            *outcomes.entry(outcome.to_owned()).or_default() += 1;
        }
    }
    // The storm was one: requests were answered, lost, refused, and found nobody.
    for expected in ["answered", "connection lost", "not running", "cannot be reached", "did not answer in time"] {
        assert!(outcomes.keys().any(|outcome| outcome.contains(expected)), "no `{expected}` in {outcomes:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (first, again, other) = (storm(7), storm(7), storm(8));
    assert!(first.len() > 100, "only {} events", first.len());
    let parted = first.iter().zip(&again).find(|(one, two)| one != two);
    assert!(parted.is_none() && first.len() == again.len(), "{parted:?}");
    assert_ne!(first.last(), other.last());
}
