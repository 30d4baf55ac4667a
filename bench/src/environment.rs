//! Where a run takes place.

use std::{fs, num::NonZero, thread::available_parallelism};

use crate::report::Environment;

impl Environment {
    /// This machine and this program.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let kernel = read("/proc/sys/kernel/osrelease");
        let processor = after_colon(&read("/proc/cpuinfo"), "model name");
        let memory = after_colon(&read("/proc/meminfo"), "MemTotal");
        let kilobytes: u64 = memory.trim_end_matches("kB").trim().parse().unwrap_or(0);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            system: format!("{} {}", std::env::consts::OS, kernel.trim()).trim_end().to_owned(),
            processor: if processor.is_empty() { std::env::consts::ARCH.to_owned() } else { processor },
            cores: available_parallelism().map_or(1, NonZero::get),
            memory_bytes: kilobytes * 1024,
        }
    }
}

/// What stands behind a name and a colon, in the first line that has it.
fn after_colon(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_it_is() {
        let here = Environment::here();
        assert!(here.cores > 0 && !here.version.is_empty() && !here.processor.is_empty(), "{here:?}");
        assert_eq!(after_colon("a : b\nmodel name\t: x y: z\n", "model name"), "x y: z");
    }
}
