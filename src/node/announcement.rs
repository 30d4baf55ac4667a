//! How a running broker says where it is: a line on standard output, and two files in its data
//! directory. Scripts read the line; people and tools find the files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{error::CommandError, terminal::print_text};

/// The files. Dropping it removes them: the broker is not there any more.
pub(super) struct Announcement(Vec<PathBuf>);

impl Announcement {
    /// Writes `DATA/broker.pid` and `DATA/http.addr`, then prints `http=URL`.
    pub(super) fn make(data_dir: &Path, url: &str) -> Result<Self, CommandError> {
        // Whoever finds the process id finds the address too.
        let files = [
            (data_dir.join("http.addr"), url.to_owned()),
            (data_dir.join("broker.pid"), std::process::id().to_string()),
        ];
        let mut announcement = Self(Vec::new());
        for (path, text) in files {
            match replace(&path, &text) {
                Ok(()) => announcement.0.push(path),
                // A full disk must not keep a broker from starting: it can be emptied then.
                Err(error) => tracing::warn!(path = %path.display(), %error, "cannot announce the broker in a file"),
            }
        }
        match print_text(&format!("http={url}")) {
            // Whoever started the broker may not want to read the line.
            Err(error) if error.is_broken_pipe() => Ok(announcement),
            printed => printed.map(|()| announcement),
        }
    }
}

/// Readers see the old text or the new one, never a part.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, format!("{text}\n")).inspect_err(|_| drop(fs::remove_file(&new)))?;
    fs::rename(&new, path)
}

impl Drop for Announcement {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove the file");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_there_as_long_as_the_announcement() {
        let directory = tempfile::tempdir().unwrap();
        let announcement = Announcement::make(directory.path(), "http://127.0.0.1:1").unwrap();
        let read = |name| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("http.addr"), "http://127.0.0.1:1\n");
        assert_eq!(read("broker.pid"), format!("{}\n", std::process::id()));
        drop(announcement);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_takes_no_files_is_no_reason_to_fail() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Announcement::make(&directory.path().join("absent"), "http://127.0.0.1:1").is_ok());
    }
}
