//! The power goes, for all brokers at once: what was acknowledged is on their disks. Only where `PUBG1_TEST_POWER_CUTS`
//! says how often, because it mounts filesystems: `scripts/power-cut` says what it needs.

use std::{path::PathBuf, process::Command};

use crate::harness::{TestCluster, plan, size};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/power-cut");

/// One filesystem for each broker. Dropping it unmounts them.
struct Filesystems(Vec<PathBuf>);

impl Filesystems {
    fn make(directories: Vec<PathBuf>) -> Self {
        // Before they are made: what is made by half is removed, too.
        let filesystems = Self(directories);
        filesystems.run("make");
        filesystems
    }

    fn run(&self, verb: &str) {
        let status = Command::new(SCRIPT).arg(verb).args(&self.0).status().expect("the script runs");
        assert!(status.success(), "{SCRIPT} {verb}: {status}");
    }

    /// The script's command line, for a plan of faults.
    fn words(&self, verb: &str) -> String {
        let directories: Vec<String> = self.0.iter().map(|path| path.display().to_string()).collect();
        format!("run {SCRIPT} {verb} {}", directories.join(" "))
    }
}

impl Drop for Filesystems {
    fn drop(&mut self) {
        // A test that failed has its own message.
        drop(Command::new(SCRIPT).arg("remove").args(&self.0).status());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_of_all_brokers_loses_nothing() {
    let cuts = size("PUBG1_TEST_POWER_CUTS", 0);
    if cuts == 0 {
        return;
    }
    // Dropped in reverse: processes, filesystems, directory.
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let brokers = (0..4).map(|broker| directory.path().join(format!("broker-{broker}")));
    let filesystems = Filesystems::make(brokers.collect());
    let mut cluster = TestCluster::start_in(directory.path()).await;
    let (cut, restore) = (filesystems.words("cut"), filesystems.words("restore"));
    let faults = format!("repeat {cuts}: wait 500ms; {cut}; kill all; {restore}; restart; healthy");
    cluster.survive(&plan("powercut"), &faults).await;
    cluster.end().await;
}
