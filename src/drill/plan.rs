//! What is done to a cluster during a drill, and when: a small text that people write.

use std::{fmt, str::FromStr, time::Duration};

use crate::verify::faults::{Target, read_target};

/// Records per second where a plan says nothing.
const RATE: f64 = 100.0;
/// Size of a record where a plan says nothing.
const BYTES: usize = 200;
/// What a rolling restart of a small cluster takes, generously.
const ROLLING: Duration = Duration::from_secs(20);
/// The load goes on so long after the last fault where a plan does not say how long it lasts.
const AFTER: Duration = Duration::from_secs(10);

/// How a plan is written.
pub const SYNTAX: &str = "\
a plan has lines such as `at 5s: kill leader 0 for 5s`, and may have `rate 100`, `bytes 200` and `duration 40s`; the faults are \
kill, stop, pause, cut, one-way, bridge, slow-disk, fill-disk and power-cut, each with a target and `for TIME`, and \
`rolling`, which takes neither; a target is leader, data-leader, follower, controller, broker N or all, and leader \
and follower may name a partition; what follows a # is a comment";

const NETWORK_PROGRAMS: &[&str] = &["ip", "nft"];
const DISK_PROGRAMS: &[&str] = &["bash", "python3", "mkfs.ext4", "mount", "fsfreeze"];

/// What is done to brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// `kill -9`, and a start when the time is over.
    Kill,
    /// SIGTERM: it hands over and ends; and a start.
    Stop,
    /// SIGSTOP, and SIGCONT.
    Pause,
    /// No other broker hears it, and it hears none.
    Cut,
    /// No other broker hears it; it hears all of them.
    OneWay,
    /// All brokers but one do not hear it, nor it them; that one hears both sides.
    Bridge,
    /// Its disk stands still again and again.
    SlowDisk,
    /// Its disk is full.
    FillDisk,
    /// Its disk loses what was not synced, and it is killed; and a start.
    PowerCut,
    /// One broker after the other is stopped and started, each when the cluster is well.
    Rolling,
}

impl Action {
    /// All, as they are written.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Kill, "kill"),
        (Self::Stop, "stop"),
        (Self::Pause, "pause"),
        (Self::Cut, "cut"),
        (Self::OneWay, "one-way"),
        (Self::Bridge, "bridge"),
        (Self::SlowDisk, "slow-disk"),
        (Self::FillDisk, "fill-disk"),
        (Self::PowerCut, "power-cut"),
        (Self::Rolling, "rolling"),
    ];

    /// What it takes to carry it out.
    #[must_use]
    pub const fn need(self) -> Option<Need> {
        match self {
            Self::Cut | Self::OneWay | Self::Bridge => Some(Need::Network),
            Self::SlowDisk | Self::FillDisk | Self::PowerCut => Some(Need::Disks),
            Self::Kill | Self::Stop | Self::Pause | Self::Rolling => None,
        }
    }
}

/// What not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A network namespace for each broker.
    Network,
    /// A filesystem for each broker.
    Disks,
}

impl Need {
    /// What it is, for people.
    #[must_use]
    pub fn in_words(self) -> String {
        let (what, programs) = match self {
            Self::Network => ("network namespaces", NETWORK_PROGRAMS),
            Self::Disks => ("a filesystem for each broker on a loop device", DISK_PROGRAMS),
        };
        format!("root, {}; it makes {what}", programs.join(", "))
    }

    /// The programs that it takes.
    #[must_use]
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Network => NETWORK_PROGRAMS,
            Self::Disks => DISK_PROGRAMS,
        }
    }
}

/// A fault and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, since the load began.
    pub at: Duration,
    /// What.
    pub action: Action,
    /// To whom; all of them for [`Action::Rolling`].
    pub target: Target,
    /// How long; nothing for [`Action::Rolling`], which lasts as long as it takes.
    pub lasts: Duration,
}

impl Event {
    /// When it is taken back; a rolling restart at a guess.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.at + if self.action == Action::Rolling { ROLLING } else { self.lasts }
    }

    /// Before this it is not taken back.
    #[must_use]
    pub fn end_at_least(&self) -> Duration {
        self.at + self.lasts
    }

    /// Whether brokers end by it, and are started again.
    #[must_use]
    pub const fn is_deadly(&self) -> bool {
        matches!(self.action, Action::Kill | Action::Stop | Action::PowerCut | Action::Rolling)
    }

    /// What a report counts it with: `kill leader`.
    #[must_use]
    pub fn kind(&self) -> String {
        match (self.action, self.target) {
            (Action::Rolling, _) => "rolling restart".to_owned(),
            (action, Target::Leader(_)) => format!("{action} leader"),
            (action, Target::Follower(_)) => format!("{action} follower"),
            (action, Target::Broker(_)) => format!("{action} broker"),
            (action, target) => format!("{action} {target}"),
        }
    }
}

/// A plan: a load, and faults one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct DrillPlan {
    /// Records per second.
    pub rate: f64,
    /// Size of a record's value.
    pub bytes: usize,
    /// How long the load lasts.
    pub duration: Duration,
    /// What is done, in the order of time.
    pub events: Vec<Event>,
}

impl DrillPlan {
    /// What it takes to carry it out.
    #[must_use]
    pub fn needs(&self, need: Need) -> bool {
        self.events.iter().any(|event| event.action.need() == Some(need))
    }

    /// The same faults so often, each time as long after the time before as the last one is taken back, or the load
    /// before the first one lasted.
    #[must_use]
    pub fn repeated(&self, times: u32) -> Self {
        let end = self.events.iter().map(Event::end).max().unwrap_or_default();
        let turns = (0..times.max(1))
            .flat_map(|turn| self.events.iter().map(move |event| Event { at: event.at + end * turn, ..*event }));
        let duration = self.duration + end * times.saturating_sub(1);
        Self { events: turns.collect(), duration, ..*self }
    }
}

/// A plan that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the plan: {reason}; {SYNTAX}")]
pub struct InvalidPlan {
    line: usize,
    reason: String,
}

impl FromStr for DrillPlan {
    type Err = InvalidPlan;

    fn from_str(text: &str) -> Result<Self, InvalidPlan> {
        let (mut rate, mut bytes, mut duration) = (RATE, BYTES, None);
        let mut events: Vec<Event> = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.split('#').next().unwrap_or_default().trim();
            let refuse = |reason: String| InvalidPlan { line, reason };
            let words: Vec<&str> = text.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                ["rate", value] => rate = read_rate(value).map_err(refuse)?,
                ["bytes", value] => bytes = value.parse().map_err(|_| refuse(format!("{value:?} is no size")))?,
                ["duration", value] => duration = Some(read_time(value).map_err(refuse)?),
                ["at", ..] => {
                    let event = read_event(text).map_err(refuse)?;
                    if let Some(last) = events.last()
                        && (event.at < last.end() || event.at <= last.at)
                    {
                        return Err(refuse("it begins before the fault before it is taken back".to_owned()));
                    }
                    events.push(event);
                }
                [word, ..] => return Err(refuse(format!("{word:?} is unknown"))),
            }
        }
        let end = events.iter().map(Event::end).max().unwrap_or_default();
        let duration = duration.unwrap_or(end + AFTER);
        let end_at_least = events.iter().map(Event::end_at_least).max().unwrap_or_default();
        if events.is_empty() || duration < end_at_least {
            let reason = if events.is_empty() { "there is no fault" } else { "the load ends before the last fault" };
            return Err(InvalidPlan { line: text.lines().count().max(1), reason: reason.to_owned() });
        }
        Ok(Self { rate, bytes, duration, events })
    }
}

fn read_event(text: &str) -> Result<Event, String> {
    let (at, what) = text.split_once(':').ok_or("a colon is missing behind the time")?;
    let at = read_time(at.trim_start_matches("at").trim())?;
    let words: Vec<&str> = what.split_whitespace().collect();
    let [action, rest @ ..] = words.as_slice() else { return Err("nothing is done".to_owned()) };
    let known = Action::ALL.iter().find(|(_, name)| name == action);
    let action = known.map(|(action, _)| *action).ok_or_else(|| format!("{action:?} is unknown"))?;
    if action == Action::Rolling {
        return match rest {
            [] => Ok(Event { at, action, target: Target::All, lasts: Duration::ZERO }),
            [word, ..] => Err(format!("{word:?}: rolling takes neither target nor time")),
        };
    }
    let [target @ .., "for", lasts] = rest else { return Err(format!("{action} needs a target and `for TIME`")) };
    let lasts = read_time(lasts)?;
    let target =
        read_target(target).filter(|target| !matches!(target, Target::Coordinator | Target::Two | Target::Any));
    let target = target.ok_or_else(|| format!("{:?} is no target", rest[..rest.len() - 2].join(" ")))?;
    if action.need() == Some(Need::Network) && target == Target::All {
        return Err(format!("{action} takes one broker"));
    }
    Ok(Event { at, action, target, lasts })
}

fn read_time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("{text:?} is no time such as 5s or 500ms"))
}

fn read_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| format!("{text:?} is no number of records per second"))
}

/// A time as a plan has it: in one word.
fn written(time: Duration) -> String {
    humantime::format_duration(time).to_string().replace(' ', "")
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(action, _)| action == self).map_or("", |(_, name)| name))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: {}", written(self.at), self.action)?;
        match self.action {
            Action::Rolling => Ok(()),
            _ => write!(f, " {} for {}", self.target, written(self.lasts)),
        }
    }
}

impl fmt::Display for DrillPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events: Vec<String> = self.events.iter().map(Event::to_string).collect();
        let duration = written(self.duration);
        write!(f, "rate {}\nbytes {}\nduration {duration}\n{}", self.rate, self.bytes, events.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_plan_is_read_as_it_is_written() {
        let text = "# two faults\nrate 250\n\nat 5s: kill leader 0 for 5s # the first\nat 15s: rolling\n";
        let plan: DrillPlan = text.parse().unwrap();
        assert_eq!((plan.rate, plan.duration), (250.0, 45 * SECOND));
        let first = Event { at: 5 * SECOND, action: Action::Kill, target: Target::Leader(Some(0)), lasts: 5 * SECOND };
        assert_eq!(plan.events[0], first);
        assert_eq!(
            (plan.events[0].kind().as_str(), plan.events[1].kind().as_str()),
            ("kill leader", "rolling restart")
        );
        assert_eq!(plan.to_string().parse::<DrillPlan>().unwrap(), plan);
        for (action, name) in Action::ALL.into_iter().filter(|(action, _)| *action != Action::Rolling) {
            let plan: DrillPlan = format!("at 1s: {name} broker 2 for 1500ms").parse().unwrap();
            assert_eq!(plan.events[0].action, action);
            assert_eq!(plan.to_string().parse::<DrillPlan>().unwrap(), plan);
        }
    }

    #[test]
    fn what_is_no_plan_is_refused_with_its_line() {
        for (text, line, reason) in [
            ("at 5s: kill leader 0 for 5s\nat 3s: kill leader for 1s", 2, "before the fault before it"),
            ("at 5s: kill leader 0 for 5s\nat 9s: pause leader for 1s", 2, "before the fault before it"),
            ("\n\nat 5s: tickle leader 0 for 5s", 3, "\"tickle\" is unknown"),
            ("load 7", 1, "\"load\" is unknown"),
            ("at 5s: kill leader", 1, "`for TIME`"),
            ("at 5s: kill nobody for 1s", 1, "\"nobody\" is no target"),
            ("at 5s: kill any for 1s", 1, "\"any\" is no target"),
            ("at soon: kill leader for 1s", 1, "\"soon\" is no time"),
            ("at 5s kill leader for 1s", 1, "colon"),
            ("at 5s: rolling leader", 1, "neither"),
            ("at 5s: cut all for 1s", 1, "one broker"),
            ("rate 0", 1, "no number"),
            ("rate 100", 1, "no fault"),
            ("duration 3s\nat 2s: kill leader for 2s", 2, "ends before"),
        ] {
            let error = text.parse::<DrillPlan>().unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_repeated_plan_leaves_as_much_time_between_its_turns_as_before_them() {
        let plan: DrillPlan = "duration 40s\nat 5s: kill leader for 5s\nat 15s: kill follower for 5s".parse().unwrap();
        let twice = plan.repeated(2);
        let starts: Vec<u64> = twice.events.iter().map(|event| event.at.as_secs()).collect();
        assert_eq!((starts, twice.duration), (vec![5, 15, 25, 35], 60 * SECOND));
        assert_eq!(plan.repeated(1), plan);
    }
}
