//! What processes use, as the system counts it.

use std::fs;

use crate::report::ProcessCost;

/// Processes whose cost is measured from a moment on.
#[derive(Clone, Debug)]
pub struct Processes(Vec<Process>);

#[derive(Clone, Debug)]
struct Process {
    name: String,
    pid: u32,
    cpu_s: f64,
}

impl Processes {
    /// Begins to measure; a process that is not there counts from nothing.
    #[must_use]
    pub fn begin(named: &[(String, u32)]) -> Self {
        let process = |(name, pid): &(String, u32)| Process {
            name: name.clone(),
            pid: *pid,
            cpu_s: cpu_seconds(*pid).unwrap_or(0.0),
        };
        Self(named.iter().map(process).collect())
    }

    /// What each has used since; those that are gone are left out.
    #[must_use]
    pub fn end(&self) -> Vec<ProcessCost> {
        let cost = |process: &Process| {
            Some(ProcessCost {
                name: process.name.clone(),
                cpu_s: cpu_seconds(process.pid)? - process.cpu_s,
                memory_bytes: peak_memory(process.pid)?,
            })
        };
        self.0.iter().filter_map(cost).collect()
    }
}

/// Processor time of a process since it began, its ended children's not counted.
#[allow(clippy::cast_precision_loss, reason = "ticks of a process's life")]
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in brackets and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The most memory that was ever resident.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something_and_one_that_is_not_there_nothing() {
        let named = [("this".to_owned(), std::process::id()), ("none".to_owned(), u32::MAX)];
        let processes = Processes::begin(&named);
        // Work until the system has noticed it.
        let cost = loop {
            let cost = processes.end();
            if cost[0].cpu_s > 0.0 {
                break cost;
            }
        };
        assert_eq!((cost.len(), cost[0].name.as_str()), (1, "this"));
        assert!(cost[0].memory_bytes > 100_000 && cost[0].cpu_s < 60.0, "{cost:?}");
    }
}
