//! A member of a group, as a careful client is one: it checks what it is given, repeats what may have failed, and
//! commits only what it has.

use std::{collections::BTreeMap, time::Duration};

use pubg1_model::GroupId;
use tokio::{sync::watch, time::Instant};

use super::{
    Course, Sharing,
    seat::{Seat, Style},
};
use crate::{
    client::{Client, ClientError, group_reply::Polled},
    error::CommandError,
    verify::{
        brokers::Dice,
        history::{
            Entry, Micros, Run,
            groups::{Commit, CommitOutcome, Life, Look, Poll},
        },
    },
};

/// How long a broker may hold a request for records that are not there yet.
const WAIT: Duration = Duration::from_millis(300);
const POLL_BYTES: usize = 64 * 1024;
/// What a member does with what it was given takes up to so long.
const WORK_MS: u64 = 30;
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(150);
/// A broker is kept for up to so many requests; then, or when it fails, another one is asked.
const REQUESTS_PER_BROKER: u64 = 40;
/// Of so many answers with records one is the last before the member leaves.
const ANSWERS_PER_LIFE: u64 = 60;
/// Of so many answers with records one is followed by a long silence.
const ANSWERS_PER_FREEZE: u64 = 150;
/// How often something else than "not now" may be answered before the member gives up.
const REFUSALS_MAX: u32 = 200;
const LEAVE_PATIENCE: Duration = Duration::from_secs(8);

const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// How a life ends.
enum Over {
    /// It begins another one.
    Again,
    /// The run is over.
    Done,
}

/// How an attempt to read ended.
enum Answer {
    Records,
    Nothing,
    Failed,
    /// The broker knows nothing of this member any more.
    Gone,
}

pub(super) struct Member {
    sharing: Sharing,
    group: GroupId,
    who: Life,
    course: watch::Receiver<Course>,
    dice: Dice,
    broker: u32,
    requests_left: u64,
    seat: Seat,
    /// Behind what it was given last, in this life.
    next: BTreeMap<u32, u64>,
    /// The same as far as it is not committed.
    dirty: BTreeMap<u32, u64>,
    /// Whether the last request for records had no answer: the broker may think that it was received.
    failed: bool,
    refusals: u32,
    backoff: Duration,
    /// When it last heard of its group.
    heard: Instant,
}

impl Member {
    pub(super) fn new(
        sharing: Sharing,
        (group, name): (u32, &GroupId),
        member: u32,
        course: watch::Receiver<Course>,
        mut dice: Dice,
    ) -> Self {
        let who = Life { group, member, life: 0 };
        let broker = sharing.brokers.any(&mut dice);
        let seat = seat(&sharing, name, who);
        Self {
            sharing,
            group: name.clone(),
            who,
            course,
            dice,
            broker,
            requests_left: 0,
            seat,
            next: BTreeMap::new(),
            dirty: BTreeMap::new(),
            failed: false,
            refusals: 0,
            backoff: BACKOFF_FIRST,
            heard: Instant::now(),
        }
    }

    /// Lives until it is told to leave for good.
    ///
    /// # Errors
    /// It is refused again and again.
    pub(super) async fn run(mut self) -> Result<(), CommandError> {
        loop {
            if let Over::Done = self.live().await? {
                return Ok(());
            }
            self.who.life += 1;
            self.seat = seat(&self.sharing, &self.group, self.who);
            (self.failed, self.next, self.dirty) = (false, BTreeMap::new(), BTreeMap::new());
        }
    }

    fn course(&self) -> Course {
        *self.course.borrow()
    }

    async fn live(&mut self) -> Result<Over, CommandError> {
        loop {
            if self.course() == Course::Leave {
                return Ok(Over::Done);
            }
            let client = self.client();
            match self.in_time(Duration::ZERO, self.seat.join(&client)).await {
                Ok(()) => break,
                Err(error) => self.stumble(error.as_ref()).await?,
            }
        }
        loop {
            if self.course() == Course::Leave {
                self.leave(true).await;
                return Ok(Over::Done);
            }
            if self.failed && !self.look_back().await? {
                continue;
            }
            match self.poll().await? {
                Answer::Gone => return Ok(Over::Again),
                Answer::Failed => continue,
                Answer::Nothing | Answer::Records if self.course() == Course::Steady => {
                    self.maybe_freeze().await?;
                    self.commit(0).await?;
                }
                Answer::Nothing => {}
                Answer::Records => {
                    self.maybe_freeze().await?;
                    if self.dice.below(2) == 0 {
                        self.commit(0).await?;
                    }
                    if self.dice.below(ANSWERS_PER_LIFE) == 0 {
                        let commits = self.dice.below(2) == 0;
                        self.leave(commits).await;
                        tokio::time::sleep(Duration::from_millis(self.dice.below(300))).await;
                        return Ok(Over::Again);
                    }
                }
            }
            if self.seat.is_instance() && self.dice.below(20) == 0 {
                self.ask_for_committed().await;
            }
            tokio::time::sleep(Duration::from_millis(self.dice.below(WORK_MS))).await;
        }
    }

    /// Keeps a broker for a while, then takes any other.
    fn client(&mut self) -> Client {
        if self.requests_left == 0 {
            let others = self.sharing.brokers.clients().len() as u64 - 1;
            let step = u32::try_from(self.dice.below(others)).unwrap_or(0) + 1;
            self.broker = (self.broker + step) % (u32::try_from(others).unwrap_or(0) + 1);
            self.requests_left = 1 + self.dice.below(REQUESTS_PER_BROKER);
        }
        self.requests_left -= 1;
        self.sharing.brokers.client(self.broker).clone()
    }

    /// An answer, or what came instead; `None` when nothing came in time.
    async fn in_time<T>(
        &self,
        wait: Duration,
        request: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Option<ClientError>> {
        match tokio::time::timeout(self.sharing.attempt_timeout + wait, request).await {
            Ok(answer) => answer.map_err(Some),
            Err(_) => Err(None),
        }
    }

    /// After an answer that is none it goes on with another broker, a little later.
    async fn stumble(&mut self, error: Option<&ClientError>) -> Result<(), CommandError> {
        if let Some(error) = error.filter(|error| !error.is_retriable()) {
            self.refusals += 1;
            if self.refusals > REFUSALS_MAX {
                return Err(CommandError::Failed(format!("{:?} of {}: {error}", self.who, self.group)));
            }
        }
        self.requests_left = 0;
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        Ok(())
    }

    fn stands(&mut self) {
        (self.refusals, self.backoff, self.heard) = (0, BACKOFF_FIRST, Instant::now());
    }

    async fn poll(&mut self) -> Result<Answer, CommandError> {
        let client = self.client();
        let start_us = self.sharing.recorder.now_us();
        let timeout = self.sharing.attempt_timeout + WAIT;
        let answer = tokio::time::timeout(timeout, self.seat.poll(&client, WAIT, POLL_BYTES)).await;
        let end_us = self.sharing.recorder.now_us();
        let auto = self.seat.style == Style::Auto;
        let commits = self.seat.style == Style::TokenAuto;
        let mut poll = Poll { who: self.who, broker: self.broker, start_us, end_us, auto, commits, ..Poll::default() };
        let error = match answer {
            Ok(Ok(polled)) => {
                poll.generation = polled.generation;
                poll.runs = self.runs(&polled);
                self.stands();
                let got = self.take(&poll.runs);
                self.sharing.recorder.record(Entry::Poll(poll));
                return Ok(got);
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        poll.failed = true;
        self.sharing.recorder.record(Entry::Poll(poll));
        self.failed = true;
        let status = error.as_ref().and_then(ClientError::status);
        let gone = status == Some(NOT_FOUND) || (status == Some(CONFLICT) && !self.seat.is_instance());
        self.stumble(error.as_ref()).await?;
        Ok(if gone { Answer::Gone } else { Answer::Failed })
    }

    fn runs(&self, polled: &Polled) -> Vec<(u32, Run)> {
        let mut partitions: BTreeMap<u32, Vec<Run>> = BTreeMap::new();
        for record in &polled.records {
            let partition = record.partition.0;
            let id = self.sharing.payload.decode(partition, record.value.as_deref());
            Run::push(partitions.entry(partition).or_default(), record.offset.get(), id);
        }
        let runs = partitions.into_iter();
        runs.flat_map(|(partition, runs)| runs.into_iter().map(move |run| (partition, run))).collect()
    }

    /// Notes what it was given.
    fn take(&mut self, runs: &[(u32, Run)]) -> Answer {
        self.failed = false;
        for (partition, run) in runs {
            let next = run.offset + run.count;
            self.next.insert(*partition, next);
            self.dirty.insert(*partition, next);
        }
        if runs.is_empty() { Answer::Nothing } else { Answer::Records }
    }

    /// Goes back in all of its partitions to what it has, before it asks again; says whether it did, or has to leave.
    async fn look_back(&mut self) -> Result<bool, CommandError> {
        // A token says which answer was received: such a member misses nothing, and the judge would hold it against us.
        while self.seat.is_instance() {
            if self.course() == Course::Leave {
                return Ok(false);
            }
            let client = self.client();
            match self.in_time(Duration::ZERO, self.go_back(&client)).await {
                Ok(()) => break,
                // The next request for records says so, too.
                Err(Some(error)) if error.status() == Some(NOT_FOUND) => break,
                // One of the partitions may be another member's since a moment ago: it looks again.
                Err(error) => self.stumble(error.as_ref()).await?,
            }
        }
        Ok(true)
    }

    async fn go_back(&self, client: &Client) -> Result<(), ClientError> {
        let own = self.seat.committed(client).await?;
        let to = read_on(&self.next, &own);
        if to.is_empty() { Ok(()) } else { self.seat.seek(client, &to).await }
    }

    /// Commits what it has, if there is anything.
    async fn commit(&mut self, frozen_us: Micros) -> Result<Option<CommitOutcome>, CommandError> {
        if self.dirty.is_empty() || self.seat.style.commits_by_itself() {
            self.dirty.clear();
            return Ok(None);
        }
        let dirty = self.dirty.clone();
        let outcome = self.commit_some(&dirty, frozen_us).await?;
        let named = matches!(self.seat.style, Style::Named(_));
        match &outcome {
            CommitOutcome::Acknowledged => self.dirty.clear(),
            // One partition that was lost keeps the others from being committed.
            CommitOutcome::Refused { code } if named && *code > 0 && lost_something(*code) => {
                for (partition, offset) in dirty.iter().filter(|_| dirty.len() > 1) {
                    self.commit_some(&BTreeMap::from([(*partition, *offset)]), frozen_us).await?;
                }
                self.dirty.clear();
            }
            CommitOutcome::Refused { .. } | CommitOutcome::Unknown { .. } => {}
        }
        Ok(Some(outcome))
    }

    async fn commit_some(
        &mut self,
        offsets: &BTreeMap<u32, u64>,
        frozen_us: Micros,
    ) -> Result<CommitOutcome, CommandError> {
        let client = self.client();
        let start_us = self.sharing.recorder.now_us();
        let answer = self.in_time(Duration::ZERO, self.seat.commit(&client, offsets)).await;
        let outcome = match &answer {
            Ok(()) => CommitOutcome::Acknowledged,
            Err(Some(error)) if error.changed_nothing() => {
                let code = if let ClientError::Refused { error_code, .. } = error { *error_code } else { 0 };
                CommitOutcome::Refused { code }
            }
            Err(Some(error)) => CommitOutcome::Unknown { reason: error.to_string() },
            Err(None) => CommitOutcome::Unknown { reason: "no answer in time".to_owned() },
        };
        self.sharing.recorder.record(Entry::Commit(Commit {
            who: self.who,
            broker: self.broker,
            start_us,
            end_us: self.sharing.recorder.now_us(),
            offsets: offsets.iter().map(|(partition, offset)| (*partition, *offset)).collect(),
            named: matches!(self.seat.style, Style::Named(_)),
            frozen_us,
            outcome: outcome.clone(),
        }));
        match answer {
            Ok(()) => self.stands(),
            Err(Some(error)) if error.status() == Some(CONFLICT) => self.stands(),
            Err(error) => self.stumble(error.as_ref()).await?,
        }
        Ok(outcome)
    }

    /// Is silent for longer than its session if it is its turn, and commits then.
    async fn maybe_freeze(&mut self) -> Result<(), CommandError> {
        let wished =
            !self.dirty.is_empty() && !self.seat.style.commits_by_itself() && self.sharing.freezer.takes().await;
        let by_chance = self.course() == Course::Restless && self.dice.below(ANSWERS_PER_FREEZE) == 0;
        if !wished && !by_chance {
            return Ok(());
        }
        let session_ms = u64::try_from(self.sharing.session.as_millis()).unwrap_or(u64::MAX);
        let until = self.heard + self.sharing.session * 2 + Duration::from_millis(self.dice.below(session_ms));
        tokio::time::sleep_until(until).await;
        let frozen_us = u64::try_from(self.heard.elapsed().as_micros()).unwrap_or(u64::MAX);
        let outcome = self.commit(frozen_us).await?;
        if wished {
            let Life { group, member, .. } = self.who;
            let how = match outcome {
                Some(CommitOutcome::Refused { .. }) => "was refused",
                Some(CommitOutcome::Acknowledged) => "was accepted: it still had its partitions",
                Some(CommitOutcome::Unknown { .. }) | None => "had no answer",
            };
            let silent_ms = frozen_us / 1_000;
            let what = format!("member {member} of group {group} was silent for {silent_ms} ms, and its commit {how}");
            self.sharing.freezer.thawed(what);
        }
        Ok(())
    }

    /// Asks what its group has committed; the judge compares.
    async fn ask_for_committed(&mut self) {
        let client = self.client();
        let start_us = self.sharing.recorder.now_us();
        match self.in_time(Duration::ZERO, self.seat.committed(&client)).await {
            Ok(committed) => {
                self.heard = Instant::now();
                let end_us = self.sharing.recorder.now_us();
                let (group, broker) = (self.who.group, self.broker);
                let look = Look { group, broker, start_us, end_us, membership: None, committed };
                self.sharing.recorder.record(Entry::Look(look));
            }
            Err(_) => self.requests_left = 0,
        }
    }

    /// Leaves, through whichever broker.
    async fn leave(&mut self, commits: bool) {
        let until = Instant::now() + LEAVE_PATIENCE;
        // After an answer that was lost it does not have all that such a commit is about.
        let commits = commits && !(self.failed && self.seat.style == Style::Positions);
        if commits && self.commit(0).await.is_err() {
            return;
        }
        while Instant::now() < until {
            let client = self.client();
            match self.in_time(Duration::ZERO, self.seat.leave(&client)).await {
                Ok(()) => return,
                Err(Some(error)) if error.status() == Some(NOT_FOUND) => return,
                Err(error) if self.stumble(error.as_ref()).await.is_err() => return,
                Err(_) => {}
            }
        }
    }
}

/// Where to read on in the partitions that are its own: behind what came last, or where the group has committed if
/// somebody else has read further, or at the beginning.
fn read_on(next: &BTreeMap<u32, u64>, own: &[(u32, Option<u64>)]) -> BTreeMap<u32, u64> {
    let target = |committed: Option<u64>, partition| next.get(&partition).copied().max(committed).unwrap_or(0);
    own.iter().map(|(partition, committed)| (*partition, target(*committed, *partition))).collect()
}

/// Whether a commit was refused because of what the member is or has, and not for the moment.
const fn lost_something(code: i64) -> bool {
    code == 409 || (code >= 40_900 && code < 41_000)
}

fn seat(sharing: &Sharing, group: &GroupId, who: Life) -> Seat {
    let style = Style::of(who.group, who.member, who.life);
    let name = format!("m{}-{}", who.member, who.life);
    Seat::new(style, group, &sharing.topic, sharing.session, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_lost_answer_every_own_partition_has_a_place_to_read_on() {
        let next = BTreeMap::from([(0, 5), (1, 7), (9, 1)]);
        let own = [(0, None), (1, Some(8)), (2, Some(3)), (3, None)];
        assert_eq!(read_on(&next, &own), BTreeMap::from([(0, 5), (1, 8), (2, 3), (3, 0)]));
    }
}
