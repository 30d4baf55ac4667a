//! A filesystem of its own for each broker, so that a disk can be slow, full, or lose what was not
//! synced, and no other's is.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::Duration,
};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

use super::network::done;
use crate::error::CommandError;

/// The program that makes, cuts and restores them, as it is in the sources.
const POWER_CUT: &str = include_str!("../../scripts/power-cut");
/// What fills a disk.
const FILLING: &str = "filling";
const BLOCK: u64 = 4096;
/// A slow disk stands still for so long, and goes for so long.
pub(super) const STILL: Duration = Duration::from_millis(100);
pub(super) const GOES: Duration = Duration::from_millis(25);

/// The filesystems. Dropping it unmounts and removes them.
#[derive(Debug)]
pub struct Disks {
    directories: Vec<PathBuf>,
}

impl Disks {
    /// Makes one for each broker of a cluster in this directory.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn make(directory: &Path, brokers: u32) -> Result<Self, CommandError> {
        // What is made by half is removed, too.
        let disks =
            Self { directories: (0..brokers).map(|broker| directory.join(format!("broker-{broker}"))).collect() };
        disks.run("make", &disks.directories)?;
        Ok(disks)
    }

    /// From now on nothing reaches the disks of these brokers, and what was not synced is gone.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn cut(&self, brokers: &[u32]) -> Result<(), CommandError> {
        self.run("cut", &self.of(brokers))
    }

    /// The disks are there again. The brokers must have ended.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn restore(&self, brokers: &[u32]) -> Result<(), CommandError> {
        self.run("restore", &self.of(brokers))
    }

    /// Fills the disks of these brokers to the last block.
    ///
    /// # Errors
    /// Anything but a full disk.
    pub fn fill(&self, brokers: &[u32]) -> Result<(), CommandError> {
        self.of(brokers).iter().try_for_each(|directory| {
            let path = directory.join(FILLING);
            fill(&path).map_err(|source| CommandError::File { action: "fill the disk with", path, source })
        })
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// What the system says.
    pub fn empty(&self, brokers: &[u32]) -> Result<(), CommandError> {
        self.of(brokers).iter().try_for_each(|directory| {
            let path = directory.join(FILLING);
            fs::remove_file(&path).map_err(|source| CommandError::File { action: "remove", path, source })
        })
    }

    /// Makes the disks of these brokers slow until the answer is dropped.
    #[must_use]
    pub fn slow(&self, brokers: &[u32]) -> Vec<SlowDisk> {
        self.of(brokers).into_iter().map(SlowDisk::begin).collect()
    }

    fn of(&self, brokers: &[u32]) -> Vec<PathBuf> {
        let directory = |broker: &u32| self.directories.get(usize::try_from(*broker).ok()?).cloned();
        brokers.iter().filter_map(directory).collect()
    }

    #[allow(clippy::unused_self, reason = "only who has made them may run it")]
    fn run(&self, verb: &str, directories: &[PathBuf]) -> Result<(), CommandError> {
        let mut command = Command::new("bash");
        command.args(["-c", POWER_CUT, "power-cut", verb]).args(directories).stdin(Stdio::null());
        done(&format!("power-cut {verb}"), command.output())
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        // What was not made cannot be removed.
        drop(self.run("remove", &self.directories));
    }
}

fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let free = fstatvfs(file.as_fd())?;
    let (mut at, mut piece) = (0, free.f_bfree * free.f_frsize);
    // The filesystem needs some of it to say where the rest is.
    while piece >= BLOCK {
        match fallocate(file.as_fd(), FallocateFlags::empty(), at, piece) {
            Ok(()) => at += piece,
            Err(rustix::io::Errno::NOSPC) => piece /= 2,
            Err(error) => return Err(error.into()),
        }
    }
    // Blocks that others gave back meanwhile.
    file = OpenOptions::new().append(true).open(path)?;
    let zeros = vec![0; usize::try_from(BLOCK).unwrap_or(0)];
    loop {
        match file.write_all(&zeros) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A disk that stands still again and again. Dropping it lets it go.
#[derive(Debug)]
pub struct SlowDisk {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SlowDisk {
    fn begin(directory: PathBuf) -> Self {
        let (stop, stopped) = mpsc::channel();
        let stalling = move || stall(&directory, &stopped);
        let thread = std::thread::Builder::new().name("slow-disk".to_owned()).spawn(stalling);
        Self { stop: Some(stop), thread: thread.ok() }
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        self.stop = None;
        // It thaws before it ends: a process on a frozen disk cannot even be killed.
        self.thread.take().map(JoinHandle::join).and_then(Result::ok).unwrap_or_default();
    }
}

fn stall(directory: &Path, stopped: &Receiver<()>) {
    let freeze = |how: &str| {
        // A disk that was not frozen need not be thawed.
        drop(Command::new("fsfreeze").arg(how).arg(directory).stdin(Stdio::null()).stderr(Stdio::null()).status());
    };
    let mut goes_on = true;
    while goes_on {
        freeze("--freeze");
        goes_on = stopped.recv_timeout(STILL) == Err(RecvTimeoutError::Timeout);
        freeze("--unfreeze");
        goes_on = goes_on && stopped.recv_timeout(GOES) == Err(RecvTimeoutError::Timeout);
    }
}
