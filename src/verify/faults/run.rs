//! Carrying a plan out, and watching what the cluster does next.

use std::{collections::BTreeMap, time::Duration};

use pubg1_model::TopicName;
use tokio::time::Instant;

use super::{
    FaultPlan, GroupTargets, Step, Target,
    describe::{NewLeader, deed, led_by, succession},
};
use crate::{
    client::reply::TopicReply,
    cluster_process::{ClusterProcess, flip_bit, wipe},
    error::CommandError,
    verify::{
        brokers::{Brokers, Dice},
        clock::Recorder,
        health::wait_healthy,
        history::{Entry, Fault},
    },
};

const POLL: Duration = Duration::from_millis(5);
/// A broker that is paused takes connections and answers nothing: another one is asked soon.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// How long new leaders are waited for.
const SUCCESSION_DEADLINE: Duration = Duration::from_secs(10);
/// How long the cluster may take to say who leads what, and to be healthy.
const STATE_DEADLINE: Duration = Duration::from_secs(60);

/// Something to tell people.
#[derive(Clone, Debug)]
pub struct Happening {
    /// What, in a line.
    pub what: String,
    /// How long the cluster took to have new leaders, where it lost some.
    pub succession: Option<Duration>,
    /// How long the brokers that were started took until they were ready.
    pub restart: Option<Duration>,
}

impl Happening {
    const fn told(what: String) -> Self {
        Self { what, succession: None, restart: None }
    }
}

/// Does things to a cluster.
pub struct FaultRunner<'a> {
    cluster: &'a mut ClusterProcess,
    topic: TopicName,
    groups: GroupTargets,
    recorder: Recorder,
    dice: Dice,
    tell: Box<dyn FnMut(Happening) + Send + 'a>,
}

impl<'a> FaultRunner<'a> {
    /// Faults that count for this topic. `tell` hears of each.
    pub fn new(
        cluster: &'a mut ClusterProcess,
        topic: TopicName,
        recorder: Recorder,
        dice: Dice,
        tell: impl FnMut(Happening) + Send + 'a,
    ) -> Self {
        Self { cluster, topic, groups: GroupTargets::default(), recorder, dice, tell: Box::new(tell) }
    }

    /// Groups that faults may hit, too.
    #[must_use]
    pub fn with_groups(self, groups: GroupTargets) -> Self {
        Self { groups, ..self }
    }

    /// Whom the faults hit.
    pub(crate) fn cluster(&mut self) -> &mut ClusterProcess {
        self.cluster
    }

    /// Carries the plan out.
    ///
    /// # Errors
    /// A step that cannot be done.
    pub async fn run(&mut self, plan: &FaultPlan) -> Result<(), CommandError> {
        for _ in 0..plan.repeat {
            for step in &plan.steps {
                self.step(step.clone()).await?;
            }
        }
        Ok(())
    }

    /// Carries one step out.
    ///
    /// # Errors
    /// It cannot be done.
    pub async fn step(&mut self, step: Step) -> Result<(), CommandError> {
        match step {
            Step::Wait(time) => tokio::time::sleep(time).await,
            Step::Kill(target) => drop(self.kill("killed", target).await?),
            Step::Pause(target, time) => self.pause(target, time).await?,
            Step::Stop(target) => self.stop(target).await?,
            Step::Wipe(target) => {
                for broker in self.kill("killed and wiped", target).await? {
                    wipe(self.cluster.node(broker)?.data_dir())?;
                }
            }
            Step::Flip(target) => {
                for broker in self.kill("killed and damaged", target).await? {
                    let damage = flip_bit(self.cluster.node(broker)?.data_dir())?;
                    let what = format!("turned a bit over at byte {} of {}", damage.position, damage.file.display());
                    (self.tell)(Happening::told(what));
                }
            }
            Step::Run(command) => self.shell(&command).await?,
            Step::Restart => self.restart().await?,
            Step::Healthy => self.healthy().await?,
            Step::Freeze => self.freeze().await?,
            Step::Rolling => {
                for broker in 0..u32::try_from(self.cluster.nodes().len()).unwrap_or(0) {
                    self.stop(Target::Broker(broker)).await?;
                    self.restart().await?;
                    self.healthy().await?;
                }
            }
        }
        Ok(())
    }

    async fn kill(&mut self, verb: &str, target: Target) -> Result<Vec<u32>, CommandError> {
        let (brokers, before) = self.choose(target).await?;
        let verb = said_of(verb, target);
        let fault = self.begin(&verb, &brokers, &before, Instant::now());
        self.cluster.kill(&brokers).await?;
        self.watch(fault, &brokers, &before).await;
        Ok(brokers)
    }

    async fn stop(&mut self, target: Target) -> Result<(), CommandError> {
        let (brokers, before) = self.choose(target).await?;
        let fault = self.begin(&said_of("stopped", target), &brokers, &before, Instant::now());
        for broker in &brokers {
            self.cluster.node(*broker)?.end().await?;
        }
        self.watch(fault, &brokers, &before).await;
        Ok(())
    }

    async fn pause(&mut self, target: Target, time: Duration) -> Result<(), CommandError> {
        let (brokers, before) = self.choose(target).await?;
        let until = Instant::now() + time;
        let fault = self.begin(&said_of("paused", target), &brokers, &before, Instant::now());
        for broker in &brokers {
            self.cluster.node(*broker)?.pause()?;
        }
        // The cluster may take longer than the pause; the pause is not prolonged for it.
        if tokio::time::timeout_at(until, self.watch(fault, &brokers, &before)).await.is_err() {
            (self.tell)(Happening::told(format!("paused {brokers:?}, woken before others led")));
        }
        tokio::time::sleep_until(until).await;
        for broker in &brokers {
            self.cluster.node(*broker)?.resume()?;
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), CommandError> {
        let missing: Vec<u32> = self.cluster.nodes().iter().filter(|node| !node.runs()).map(|node| node.id).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let took = self.cluster.start_missing().await?;
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let plural = if missing.len() == 1 { "" } else { "s" };
        let what = format!("restarted broker{plural} {}, ready after {} ms", names.join(", "), took.as_millis());
        (self.tell)(Happening { restart: Some(took), ..Happening::told(what) });
        Ok(())
    }

    async fn shell(&mut self, command: &str) -> Result<(), CommandError> {
        let failed = |what: &dyn std::fmt::Display| CommandError::Failed(format!("`{command}`: {what}"));
        let output = tokio::process::Command::new("sh").args(["-c", command]).kill_on_drop(true).output().await;
        let output = output.map_err(|error| failed(&error))?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr).trim()));
        }
        (self.tell)(Happening::told(format!("did `{command}`")));
        Ok(())
    }

    async fn freeze(&mut self) -> Result<(), CommandError> {
        if self.groups.names.is_empty() {
            return Err(CommandError::Usage("there is no group whose member could freeze".to_owned()));
        }
        let frozen = self.groups.freezer.freeze(STATE_DEADLINE).await;
        let frozen = frozen.ok_or_else(|| CommandError::Failed("no member froze in time".to_owned()))?;
        (self.tell)(Happening::told(frozen.what));
        Ok(())
    }

    async fn healthy(&self) -> Result<(), CommandError> {
        let brokers = Brokers::at(&self.cluster.urls())?;
        let waited = wait_healthy(&brokers, &self.topic, STATE_DEADLINE).await;
        waited.map_err(|problem| CommandError::Failed(format!("the cluster does not get well: {problem}")))
    }

    /// Puts a fault down that begins at this moment, and returns what it is.
    pub(crate) fn begin(&self, verb: &str, brokers: &[u32], before: &State, at: Instant) -> Begun {
        let led = led_by(&before.topic, brokers);
        let controller = before.controller.is_some_and(|controller| brokers.contains(&controller));
        let what = deed(verb, brokers, controller, &led);
        let broker = brokers.first().copied().unwrap_or(0);
        let at_us = self.recorder.us_at(at.into_std());
        self.recorder.record(Entry::Fault(Fault { at_us, what: what.clone(), broker, controller, led }));
        Begun { what, at }
    }

    /// Waits until what lost its leader has another one, where one can be had.
    async fn watch(&mut self, begun: Begun, brokers: &[u32], before: &State) {
        let mut led = led_by(&before.topic, brokers);
        // Without a quorum there is nothing to wait for, neither of those who decide nor of those who have the records.
        let decide = self.cluster.awake().count() > self.cluster.nodes().len() / 2;
        led.retain(|led| {
            let replicas = replicas(&before.topic, led.partition);
            let left =
                replicas.iter().filter(|broker| !brokers.contains(broker) && self.can_be_asked(**broker)).count();
            decide && left > replicas.len() / 2
        });
        let mut new: Vec<NewLeader> = Vec::new();
        let until = Instant::now() + SUCCESSION_DEADLINE;
        while new.len() < led.len() && Instant::now() < until {
            if let Some(topic) = self.topic_now().await {
                for partition in &topic.partitions {
                    let number = partition.partition.0;
                    let waits = led.iter().any(|led| led.partition == number && partition.leader_epoch > led.epoch)
                        && new.iter().all(|leader| leader.partition != number);
                    if let (true, Ok(broker)) = (waits, u32::try_from(partition.leader)) {
                        let (epoch, after) = (partition.leader_epoch, begun.at.elapsed());
                        new.push(NewLeader { partition: number, broker, epoch, after });
                    }
                }
            }
            tokio::time::sleep(POLL).await;
        }
        let missing: Vec<u32> = led_by(&before.topic, brokers)
            .iter()
            .map(|led| led.partition)
            .filter(|partition| new.iter().all(|leader| leader.partition != *partition))
            .collect();
        let succession = succession(&new, &missing);
        let what = if succession.is_empty() { begun.what } else { format!("{}; {succession}", begun.what) };
        let slowest = new.iter().map(|leader| leader.after).max();
        (self.tell)(Happening { succession: slowest, ..Happening::told(what) });
    }

    fn can_be_asked(&self, broker: u32) -> bool {
        self.cluster.awake().any(|node| node.id == broker)
    }

    /// Whom a target names now, and how the cluster stands before anything is done.
    pub(crate) async fn choose(&mut self, target: Target) -> Result<(Vec<u32>, State), CommandError> {
        let target = match target {
            Target::Any => {
                let targets = [Target::Leader(None), Target::Follower(None), Target::Controller, Target::Two];
                targets[usize::try_from(self.dice.below(targets.len() as u64)).unwrap_or(0)]
            }
            target => target,
        };
        let until = Instant::now() + STATE_DEADLINE;
        // Where everybody is meant nobody need be able to say how the cluster stands.
        let needs_state = !matches!(target, Target::All | Target::Broker(_));
        loop {
            let mut state = self.state_now().await;
            if let (Target::Coordinator, Some(state)) = (target, &mut state) {
                state.coordinator = self.coordinator_now().await?;
            }
            if let Some(state) = state.or_else(|| (!needs_state).then(|| State::unknown(&self.topic)))
                && let Some(brokers) = self.brokers(target, &state)
            {
                return Ok((brokers, state));
            }
            if Instant::now() > until {
                return Err(CommandError::Failed(format!("there is no {target} to be found")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn brokers(&mut self, target: Target, state: &State) -> Option<Vec<u32>> {
        match target {
            Target::Broker(number) => return self.can_be_asked(number).then(|| vec![number]),
            Target::All => return Some(self.cluster.awake().map(|node| node.id).collect()),
            _ => {}
        }
        let partitions = &state.topic.partitions;
        let number = match target {
            Target::Leader(Some(number)) | Target::Follower(Some(number)) => u64::from(number),
            _ => self.dice.below(partitions.len() as u64),
        };
        let partition = partitions.get(usize::try_from(number).ok()?)?;
        let leader = u32::try_from(partition.leader).ok().filter(|leader| self.can_be_asked(*leader));
        let followers: Vec<u32> = replicas(&state.topic, partition.partition.0)
            .into_iter()
            .filter(|broker| Some(*broker) != leader && self.can_be_asked(*broker))
            .collect();
        let follower = || followers.first().copied();
        match target {
            Target::Leader(_) => Some(vec![leader?]),
            Target::DataLeader => {
                let leaders = partitions.iter().filter_map(|partition| u32::try_from(partition.leader).ok());
                let plain = |broker: &u32| Some(*broker) != state.controller && self.can_be_asked(*broker);
                let leaders: Vec<u32> = leaders.filter(plain).collect();
                let chosen = self.dice.below(leaders.len() as u64);
                Some(vec![*leaders.get(usize::try_from(chosen).ok()?)?])
            }
            Target::Follower(_) => {
                let chosen = self.dice.below(followers.len() as u64);
                Some(vec![*followers.get(usize::try_from(chosen).ok()?)?])
            }
            Target::Controller => state.controller.filter(|it| self.can_be_asked(*it)).map(|it| vec![it]),
            Target::Coordinator => state.coordinator.filter(|it| self.can_be_asked(*it)).map(|it| vec![it]),
            Target::Two => Some(vec![leader?, follower()?]),
            Target::Broker(_) | Target::All | Target::Any => None,
        }
    }

    async fn state_now(&self) -> Option<State> {
        let topic = self.topic_now().await?;
        for node in self.cluster.awake() {
            if let Ok(Ok(cluster)) = tokio::time::timeout(ASK_TIMEOUT, node.client.cluster()).await {
                return Some(State { topic, coordinator: None, controller: cluster.controller.map(|broker| broker.0) });
            }
        }
        None
    }

    /// Who keeps one of the groups, as the first broker that answers sees it.
    async fn coordinator_now(&mut self) -> Result<Option<u32>, CommandError> {
        let chosen = self.dice.below(self.groups.names.len() as u64);
        let group = usize::try_from(chosen).ok().and_then(|chosen| self.groups.names.get(chosen));
        let Some(group) = group else {
            return Err(CommandError::Usage("there is no group that a broker could coordinate".to_owned()));
        };
        for node in self.cluster.awake() {
            if let Ok(Ok(described)) = tokio::time::timeout(ASK_TIMEOUT, node.client.group(group)).await {
                return Ok(described.coordinator.map(|broker| broker.0));
            }
        }
        Ok(None)
    }

    /// The topic as the first broker that answers sees it.
    async fn topic_now(&self) -> Option<TopicReply> {
        for node in self.cluster.awake() {
            if let Ok(Ok(topic)) = tokio::time::timeout(ASK_TIMEOUT, node.client.topic(&self.topic)).await {
                return Some(topic);
            }
        }
        None
    }
}

/// `killed the coordinator,` for what the broker is not known by otherwise.
fn said_of(verb: &str, target: Target) -> String {
    if target == Target::Coordinator { format!("{verb} a coordinator,") } else { verb.to_owned() }
}

/// How a cluster stands before something is done to it.
pub(crate) struct State {
    pub(crate) topic: TopicReply,
    pub(crate) controller: Option<u32>,
    coordinator: Option<u32>,
}

impl State {
    fn unknown(topic: &TopicName) -> Self {
        let topic = TopicReply { name: topic.clone(), configs: BTreeMap::new(), partitions: Vec::new() };
        Self { topic, controller: None, coordinator: None }
    }
}

/// A fault that was put down.
pub(crate) struct Begun {
    pub(crate) what: String,
    pub(crate) at: Instant,
}

fn replicas(topic: &TopicReply, partition: u32) -> Vec<u32> {
    let partition = topic.partitions.iter().find(|entry| entry.partition.0 == partition);
    partition.into_iter().flat_map(|partition| &partition.replicas).map(|replica| replica.broker.0).collect()
}
