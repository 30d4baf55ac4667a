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

    /// Makes the disks of these brokers slow until the answer is dropped. Each stands still for the first time then.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn slow(&self, brokers: &[u32]) -> Result<Vec<SlowDisk>, CommandError> {
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
    thread: Option<JoinHandle<Result<(), CommandError>>>,
}

impl SlowDisk {
    fn begin(directory: PathBuf) -> Result<Self, CommandError> {
        let (stop, stopped) = mpsc::channel();
        let (still, stands_still) = mpsc::channel();
        let stalling = move || stall(&directory, &still, &stopped);
        let thread = std::thread::Builder::new().name("slow-disk".to_owned()).spawn(stalling);
        let thread = thread.map_err(|error| CommandError::Failed(format!("cannot start a thread: {error}")))?;
        let mut disk = Self { stop: Some(stop), thread: Some(thread) };
        if stands_still.recv().is_err() {
            // The thread has ended, and says why.
            disk.end()?;
        }
        Ok(disk)
    }

    /// Lets it go.
    ///
    /// # Errors
    /// What the system refused meanwhile: it was not slow all the time.
    pub fn release(mut self) -> Result<(), CommandError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), CommandError> {
        self.stop = None;
        // It thaws before it ends: a process on a frozen disk cannot even be killed.
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(CommandError::Failed("what slows a disk has panicked".to_owned())),
        }
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // Whoever wants to know has released it.
        drop(self.end());
    }
}

/// Says when the disk stands still for the first time.
fn stall(directory: &Path, still: &Sender<()>, stopped: &Receiver<()>) -> Result<(), CommandError> {
    let freeze = |how: &str| {
        let output = Command::new("fsfreeze").arg(how).arg(directory).stdin(Stdio::null()).output();
        done(&format!("fsfreeze {how} {}", directory.display()), output)
    };
    loop {
        freeze("--freeze")?;
        // Nobody waits for the second time.
        let _first = still.send(());
        let stays = stopped.recv_timeout(STILL) == Err(RecvTimeoutError::Timeout);
        // A disk that stays frozen is worse than anything that the second try may cost.
        freeze("--unfreeze").or_else(|_| freeze("--unfreeze"))?;
        if !stays || stopped.recv_timeout(GOES) != Err(RecvTimeoutError::Timeout) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_cannot_be_slowed_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        // No place of a filesystem's own, whoever asks.
        let nowhere = directory.path().join("nowhere");
        let error = SlowDisk::begin(nowhere).unwrap_err().to_string();
        assert!(error.contains("fsfreeze --freeze"), "{error}");
    }
}
