//! What processes use, as the system counts it.

use std::fs;

use crate::report::ProcessCost;

/// Processes whose cost is measured from a moment on.
#[derive(Clone, Debug, Default)]
pub struct Processes(Vec<Process>);

#[derive(Clone, Debug)]
struct Process {
    name: String,
    pid: u32,
    /// What it had used when it began to count.
    from_s: f64,
    /// What others used that were in its place before.
    earlier_s: f64,
    /// The most that any of them had.
    memory: Memory,
    /// What it had used when it was looked at.
    seen_s: f64,
}

/// What of a process lies in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    /// The most that ever did, with pages of files that it has mapped.
    resident: u64,
    /// Its own, which no file stands behind: what it holds whenever it is looked at.
    anonymous: u64,
}

impl Processes {
    /// Begins to measure; a process that is not there counts from nothing.
    #[must_use]
    pub fn begin(named: &[(String, u32)]) -> Self {
        let process = |(name, pid): &(String, u32)| {
            let from_s = cpu_seconds(*pid).unwrap_or(0.0);
            Process { name: name.clone(), pid: *pid, from_s, earlier_s: 0.0, memory: Memory::default(), seen_s: from_s }
        };
        let mut processes = Self(named.iter().map(process).collect());
        processes.look();
        processes
    }

    /// Looks at all of them: so much is known of those that are about to end, and of memory that is given back.
    pub fn look(&mut self) {
        for process in &mut self.0 {
            process.look();
        }
    }

    /// Goes on with these in the places of those with their names, where they are others.
    pub fn follow(&mut self, named: &[(String, u32)]) {
        for process in &mut self.0 {
            let next = named.iter().find(|(name, pid)| *name == process.name && *pid != process.pid);
            if let Some((_, pid)) = next {
                process.earlier_s += process.seen_s - process.from_s;
                (process.pid, process.from_s, process.seen_s) = (*pid, 0.0, 0.0);
            }
        }
    }

    /// What each has used since.
    #[must_use]
    pub fn end(&self) -> Vec<ProcessCost> {
        let cost = |mut process: Process| {
            let ended = !process.look();
            ProcessCost {
                name: process.name,
                cpu_s: process.earlier_s + process.seen_s - process.from_s,
                memory_bytes: process.memory.resident,
                anonymous_bytes: process.memory.anonymous,
                ended,
            }
        };
        self.0.iter().cloned().map(cost).collect()
    }
}

impl Process {
    /// Whether it still runs.
    fn look(&mut self) -> bool {
        // Of what has ended and is not yet buried the system knows no memory.
        let used = cpu_seconds(self.pid).zip(memory(self.pid));
        if let Some((seen_s, memory)) = used {
            self.seen_s = seen_s;
            self.memory.resident = self.memory.resident.max(memory.resident);
            self.memory.anonymous = self.memory.anonymous.max(memory.anonymous);
        }
        used.is_some()
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

fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Memory { resident: in_bytes(&status, "VmHWM:")?, anonymous: in_bytes(&status, "RssAnon:")? })
}

/// A line of `/proc/PID/status`, which counts in kilobytes.
fn in_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the first of them has used once the system has noticed that it works.
    fn used(processes: &Processes) -> Vec<ProcessCost> {
        loop {
            let cost = processes.end();
            if cost[0].cpu_s > 0.0 {
                return cost;
            }
        }
    }

    #[test]
    fn this_process_uses_something_and_one_that_is_not_there_has_ended() {
        let named = [("this".to_owned(), std::process::id()), ("none".to_owned(), u32::MAX)];
        let cost = used(&Processes::begin(&named));
        assert_eq!((cost[0].name.as_str(), cost[0].ended), ("this", false));
        assert!(cost[0].memory_bytes > 100_000 && cost[0].cpu_s < 60.0, "{cost:?}");
        assert!((1..cost[0].memory_bytes).contains(&cost[0].anonymous_bytes), "a program is mapped, too: {cost:?}");
        let gone = ProcessCost { name: "none".to_owned(), ended: true, ..ProcessCost::default() };
        assert_eq!(cost[1..], [gone]);
    }

    #[test]
    fn memory_of_its_own_counts_although_it_was_given_back() {
        const BYTES: usize = 64 << 20;
        let named = [("this".to_owned(), std::process::id())];
        let mut processes = Processes::begin(&named);
        let before = processes.end()[0].anonymous_bytes;
        // A mapping of its own, which goes back to the system when it is dropped.
        let held = vec![1_u8; BYTES];
        processes.look();
        assert!(held.iter().all(|byte| *byte == 1));
        drop(held);
        let cost = &processes.end()[0];
        // Other tests of this process come and go beside it.
        assert!(cost.anonymous_bytes > before + (BYTES as u64) / 2, "{before} {cost:?}");
    }

    #[test]
    fn a_status_is_read_line_by_line() {
        let status =
            "Name:\tbroker\nVmHWM:\t  190012 kB\nVmRSS:\t  180000 kB\nRssAnon:\t   22548 kB\nRssFile:\t 160000 kB\n";
        assert_eq!(in_bytes(status, "VmHWM:"), Some(190_012 * 1024));
        assert_eq!(in_bytes(status, "RssAnon:"), Some(22_548 * 1024));
        assert_eq!(in_bytes(status, "RssShmem:"), None);
    }

    #[test]
    fn what_a_process_used_before_it_was_replaced_counts() {
        let named = |pid| [("this".to_owned(), pid)];
        let mut processes = Processes::begin(&named(std::process::id()));
        let used = used(&processes)[0].cpu_s;
        processes.look();
        processes.follow(&named(u32::MAX));
        let ended = processes.end();
        assert!(ended[0].ended && ended[0].cpu_s >= used && ended[0].memory_bytes > 100_000, "{ended:?}");
        processes.follow(&named(std::process::id()));
        let again = processes.end();
        assert!(!again[0].ended && again[0].cpu_s > ended[0].cpu_s, "another life of its own: {again:?}");
    }
}
