//! What is done to a cluster while it is written to: a plan, as a text that people write.

mod describe;
mod run;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use pubg1_model::GroupId;

use super::groups::Freezer;

pub(crate) use describe::led_by;
pub use run::{FaultRunner, Happening};

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The leader of a partition; of any when none is named.
    Leader(Option<u32>),
    /// The leader of any partition that is not the controller as well.
    DataLeader,
    /// A replica of a partition that does not lead it.
    Follower(Option<u32>),
    /// The broker that decides about the cluster.
    Controller,
    /// The broker that keeps one of the groups that read.
    Coordinator,
    /// The broker with this number.
    Broker(u32),
    /// The leader of a partition and one of its followers, at once.
    Two,
    /// All brokers at once.
    All,
    /// A leader, a follower, the controller or two brokers, as chance has it.
    Any,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, for so long.
    Wait(Duration),
    /// `kill -9`.
    Kill(Target),
    /// SIGSTOP, and SIGCONT after so long.
    Pause(Target, Duration),
    /// SIGTERM: the broker hands over and ends.
    Stop(Target),
    /// Kills the broker and removes all of its data.
    Wipe(Target),
    /// Kills the broker and turns over one bit of a sealed segment.
    Flip(Target),
    /// Starts every broker that does not run, and waits until it is ready.
    Restart,
    /// Waits until the cluster says that it is healthy.
    Healthy,
    /// Stops and starts one broker after the other, each when the cluster is healthy.
    Rolling,
    /// Makes a member of a group be silent for longer than its session, and waits until it has committed then.
    Freeze,
    /// Runs a command of the shell.
    Run(String),
}

/// The groups that faults may hit.
#[derive(Clone, Debug, Default)]
pub struct GroupTargets {
    /// Their names.
    pub names: Vec<GroupId>,
    /// What makes one of their members freeze.
    pub freezer: Arc<Freezer>,
}

/// What is done, one after the other, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// The steps.
    pub steps: Vec<Step>,
    /// How often all of them are done.
    pub repeat: u32,
}

/// How a plan is written.
pub const SYNTAX: &str = "\
steps separated by semicolons: `kill TARGET`, `pause TARGET 3s`, `stop TARGET`, `wipe TARGET`, `flip TARGET`, \
`restart`, `healthy`, `rolling`, `freeze member`, `wait 500ms`, `run COMMAND`; a TARGET is leader, data-leader, \
follower, controller, coordinator, two, all, any or broker N, and leader and follower may name a partition; `repeat 20:` before the steps does all of them so often";

/// A plan that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step:?} is no step of a fault plan; a plan has {SYNTAX}")]
pub struct InvalidPlan {
    /// What cannot be read.
    step: String,
}

impl FromStr for FaultPlan {
    type Err = InvalidPlan;

    fn from_str(text: &str) -> Result<Self, InvalidPlan> {
        let refuse = |step: &str| InvalidPlan { step: step.trim().to_owned() };
        let (repeat, steps) = match text.split_once(':') {
            Some((head, steps)) => {
                let count = head.trim().strip_prefix("repeat ").and_then(|count| count.trim().parse().ok());
                (count.ok_or_else(|| refuse(head))?, steps)
            }
            None => (1, text),
        };
        let steps = steps.split([';', '\n']).map(str::trim).filter(|step| !step.is_empty());
        let steps: Vec<Step> =
            steps.map(|step| read_step(step).ok_or_else(|| refuse(step))).collect::<Result<_, _>>()?;
        if steps.is_empty() { Err(refuse(text)) } else { Ok(Self { steps, repeat }) }
    }
}

fn read_step(step: &str) -> Option<Step> {
    let words: Vec<&str> = step.split_whitespace().collect();
    match words.as_slice() {
        ["restart"] => Some(Step::Restart),
        ["healthy"] => Some(Step::Healthy),
        ["rolling"] => Some(Step::Rolling),
        ["freeze", "member"] => Some(Step::Freeze),
        ["wait", time] => humantime::parse_duration(time).ok().map(Step::Wait),
        ["run", ..] => step.strip_prefix("run ").map(|command| Step::Run(command.trim().to_owned())),
        ["kill", target @ ..] => read_target(target).map(Step::Kill),
        ["stop", target @ ..] => read_target(target).map(Step::Stop),
        ["wipe", target @ ..] => read_target(target).map(Step::Wipe),
        ["flip", target @ ..] => read_target(target).map(Step::Flip),
        ["pause", target @ .., time] => Some(Step::Pause(read_target(target)?, humantime::parse_duration(time).ok()?)),
        _ => None,
    }
}

pub(crate) fn read_target(words: &[&str]) -> Option<Target> {
    match words {
        ["leader"] => Some(Target::Leader(None)),
        ["leader", partition] => partition.parse().ok().map(|partition| Target::Leader(Some(partition))),
        ["data-leader"] => Some(Target::DataLeader),
        ["follower"] => Some(Target::Follower(None)),
        ["follower", partition] => partition.parse().ok().map(|partition| Target::Follower(Some(partition))),
        ["controller"] => Some(Target::Controller),
        ["coordinator"] => Some(Target::Coordinator),
        ["broker", number] => number.parse().ok().map(Target::Broker),
        ["two"] => Some(Target::Two),
        ["all"] => Some(Target::All),
        ["any"] => Some(Target::Any),
        _ => None,
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader(None) => f.write_str("leader"),
            Self::Leader(Some(partition)) => write!(f, "leader {partition}"),
            Self::DataLeader => f.write_str("data-leader"),
            Self::Follower(None) => f.write_str("follower"),
            Self::Follower(Some(partition)) => write!(f, "follower {partition}"),
            Self::Controller => f.write_str("controller"),
            Self::Coordinator => f.write_str("coordinator"),
            Self::Broker(number) => write!(f, "broker {number}"),
            Self::Two => f.write_str("two"),
            Self::All => f.write_str("all"),
            Self::Any => f.write_str("any"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_as_they_are_written() {
        let plan: FaultPlan =
            "repeat 3: kill leader 0; wait 500ms;\n pause controller 3s; restart; healthy".parse().unwrap();
        assert_eq!(plan.repeat, 3);
        assert_eq!(
            plan.steps,
            [
                Step::Kill(Target::Leader(Some(0))),
                Step::Wait(Duration::from_millis(500)),
                Step::Pause(Target::Controller, Duration::from_secs(3)),
                Step::Restart,
                Step::Healthy,
            ]
        );
        for target in [
            "leader",
            "follower",
            "leader 2",
            "follower 7",
            "controller",
            "coordinator",
            "broker 3",
            "data-leader",
            "two",
            "all",
            "any",
        ] {
            let plan: FaultPlan = format!("wipe {target}").parse().unwrap();
            let [Step::Wipe(read)] = plan.steps[..] else { panic!("{plan:?}") };
            assert_eq!((read.to_string(), plan.repeat), (target.to_owned(), 1));
        }
        let plan: FaultPlan =
            "flip follower 1; stop broker 2; rolling; freeze member; run scripts/x  a b".parse().unwrap();
        assert_eq!((plan.steps.len(), &plan.steps[3]), (5, &Step::Freeze));
        assert_eq!(plan.steps[4], Step::Run("scripts/x  a b".to_owned()));
    }

    #[test]
    fn what_is_no_plan_is_refused_with_the_syntax() {
        for bad in ["", ";", "kill", "kill nobody", "pause leader", "wait long", "repeat x: restart", "kill broker"] {
            let error = bad.parse::<FaultPlan>().unwrap_err().to_string();
            assert!(error.contains("kill TARGET"), "{bad}: {error}");
        }
    }
}
