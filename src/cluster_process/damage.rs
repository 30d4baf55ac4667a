//! What disks do to brokers that do not run: everything gone, or one bit of it wrong.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::error::CommandError;

/// A bit that was turned over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which file.
    pub file: PathBuf,
    /// At which byte.
    pub position: u64,
}

/// Removes everything that a broker has stored.
///
/// # Errors
/// What the system says.
pub fn wipe(data_dir: &Path) -> Result<(), CommandError> {
    fs::remove_dir_all(data_dir).map_err(|source| file_error("wipe", data_dir, source))
}

/// Turns over one bit in the middle of the largest sealed segment: a file of records that another
/// one follows.
///
/// # Errors
/// There is no sealed segment, or what the system says.
pub fn flip_bit(data_dir: &Path) -> Result<Damage, CommandError> {
    let partitions = data_dir.join("partitions");
    let mut sealed = Vec::new();
    let entries = fs::read_dir(&partitions).map_err(|source| file_error("read", &partitions, source))?;
    for entry in entries.flatten() {
        sealed.extend(sealed_segments(&entry.path()));
    }
    let Some((bytes, file)) = sealed.into_iter().max() else {
        return Err(CommandError::Failed(format!("{} holds no sealed segment", partitions.display())));
    };
    let position = bytes / 2;
    let flipped = OpenOptions::new().read(true).write(true).open(&file).and_then(|open| {
        let mut byte = [0];
        open.read_exact_at(&mut byte, position)?;
        open.write_all_at(&[byte[0] ^ 0x10], position)?;
        open.sync_all()
    });
    flipped.map_err(|source| file_error("damage", &file, source))?;
    Ok(Damage { file, position })
}

/// The segments of a partition but the last, with their sizes.
fn sealed_segments(partition: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(partition).into_iter().flatten().flatten();
    let mut logs: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "log"))
        .collect();
    logs.sort_unstable();
    logs.pop();
    logs.into_iter().filter_map(|path| Some((fs::metadata(&path).ok()?.len(), path))).collect()
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> CommandError {
    CommandError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_a_sealed_segment_is_turned_over() {
        let directory = tempfile::tempdir().unwrap();
        assert!(flip_bit(directory.path()).is_err());
        let partition = directory.path().join("partitions/one");
        fs::create_dir_all(&partition).unwrap();
        fs::write(partition.join("00000000000000000009.log"), [0; 500]).unwrap();
        assert!(flip_bit(directory.path()).is_err(), "the only one is not sealed");
        let sealed = partition.join("00000000000000000000.log");
        fs::write(&sealed, [0; 100]).unwrap();
        fs::write(partition.join("00000000000000000000.index"), [0; 900]).unwrap();
        let damage = flip_bit(directory.path()).unwrap();
        assert_eq!(damage, Damage { file: sealed.clone(), position: 50 });
        let bytes = fs::read(&sealed).unwrap();
        assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        wipe(directory.path()).unwrap();
        assert!(!directory.path().try_exists().unwrap());
    }
}
