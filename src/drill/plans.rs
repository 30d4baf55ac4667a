//! The plans that have names.

use super::plan::{DrillPlan, InvalidPlan, Need};

/// A plan that has a name.
#[derive(Clone, Copy, Debug)]
pub struct NamedPlan {
    /// Its name.
    pub name: &'static str,
    /// What it is about, in a line.
    pub about: &'static str,
    /// The plan, as a file would have it.
    pub text: &'static str,
}

/// All of them, the usual one first.
pub const PLANS: [NamedPlan; 12] = [
    NamedPlan {
        name: "classic",
        about: "the leader of a partition dies, then a follower",
        text: "\
rate 100
duration 40s
at 5s: kill leader 0 for 5s
at 15s: kill follower 0 for 5s
",
    },
    NamedPlan { name: "leader", about: "the leader of a partition dies", text: "at 4s: kill leader 0 for 3s\n" },
    NamedPlan { name: "follower", about: "a follower dies", text: "at 4s: kill follower 0 for 3s\n" },
    NamedPlan {
        name: "controller",
        about: "the broker that decides about the cluster dies",
        text: "at 4s: kill controller for 3s\n",
    },
    NamedPlan {
        name: "pause",
        about: "the leader stands still and wakes up deposed",
        text: "\
# longer than a broker may be silent (1 s)
at 4s: pause leader 0 for 4s
",
    },
    NamedPlan {
        name: "rolling",
        about: "every broker is stopped and started, one after the other",
        text: "\
duration 40s
at 4s: rolling
",
    },
    NamedPlan {
        name: "cut",
        about: "the leader is cut off from all other brokers, not from clients",
        text: "at 4s: cut leader 0 for 5s\n",
    },
    NamedPlan {
        name: "one-way",
        about: "the leader hears the other brokers, and none hears it",
        text: "at 4s: one-way leader 0 for 5s\n",
    },
    NamedPlan {
        name: "bridge",
        about: "all brokers but one do not hear the leader, nor it them; that one hears all",
        text: "at 4s: bridge leader 0 for 5s\n",
    },
    NamedPlan {
        name: "slow-disk",
        about: "the leader's disk stands still for 100 ms, again and again",
        text: "at 4s: slow-disk leader 0 for 5s\n",
    },
    NamedPlan {
        name: "disk-full",
        about: "the leader's disk is full",
        text: "\
# enough to fill what a log has allocated ahead
rate 2000
bytes 2000
at 4s: fill-disk leader 0 for 8s
",
    },
    NamedPlan {
        name: "power-cut",
        about: "the power of all brokers goes at once, and comes back",
        text: "at 4s: power-cut all for 2s\n",
    },
];

impl NamedPlan {
    /// The plan with this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        PLANS.into_iter().find(|plan| plan.name == name)
    }

    /// The plan itself.
    ///
    /// # Errors
    /// Never: a test reads all of them.
    pub fn plan(&self) -> Result<DrillPlan, InvalidPlan> {
        self.text.parse()
    }

    /// What it takes, in words.
    #[must_use]
    pub fn needs(&self) -> String {
        let plan = self.plan().ok();
        let needs = |need| plan.as_ref().is_some_and(|plan| plan.needs(need));
        let of = |need: Need| needs(need).then(|| need.in_words());
        let words: Vec<String> = [Need::Network, Need::Disks].into_iter().filter_map(of).collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join("; ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_can_be_read_and_says_what_it_needs() {
        for plan in PLANS {
            let read = plan.plan().unwrap_or_else(|error| panic!("{}: {error}", plan.name));
            assert_eq!(read.to_string().parse::<DrillPlan>().unwrap(), read, "{}", plan.name);
            let needy = read.events.iter().any(|event| event.action.need().is_some());
            assert_eq!(plan.needs() != "nothing", needy, "{}", plan.name);
        }
        assert!(NamedPlan::find("classic").is_some() && NamedPlan::find("chaos").is_none());
    }
}
