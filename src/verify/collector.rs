//! Keeps what happens: in memory for the judge, and in a file for later.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use indicatif::ProgressBar;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::history::{Entry, History, Outcome};
use crate::error::CommandError;

/// The task that keeps everything. It ends when nobody can record any more.
pub(crate) struct Collector {
    task: JoinHandle<io::Result<History>>,
    acknowledged: watch::Receiver<u64>,
    path: PathBuf,
}

impl Collector {
    /// Begins.
    pub(crate) fn start(
        mut entries: mpsc::UnboundedReceiver<Entry>,
        path: Option<&Path>,
        bar: ProgressBar,
    ) -> Result<Self, CommandError> {
        let owned = path.map(Path::to_owned).unwrap_or_default();
        let file_error = |source| CommandError::File { action: "write", path: owned.clone(), source };
        let mut file = path.map(|path| File::create(path).map(BufWriter::new)).transpose().map_err(file_error)?;
        let (count, acknowledged) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut history = History::default();
            let mut total = 0;
            while let Some(entry) = entries.recv().await {
                if let Entry::Write(write) = &entry
                    && matches!(write.outcome, Outcome::Acknowledged { .. })
                {
                    total += write.count;
                    count.send_replace(total);
                    bar.set_position(total);
                }
                if let Some(file) = &mut file {
                    serde_json::to_writer(&mut *file, &entry)?;
                    file.write_all(b"\n")?;
                }
                history.push(entry);
            }
            file.map_or(Ok(()), |mut file| file.flush())?;
            Ok(history)
        });
        Ok(Self { task, acknowledged, path: owned })
    }

    /// How many records are acknowledged.
    pub(crate) fn acknowledged(&self) -> watch::Receiver<u64> {
        self.acknowledged.clone()
    }

    /// Everything, when nobody records any more.
    pub(crate) async fn finish(self) -> Result<History, CommandError> {
        match self.task.await {
            Ok(Ok(history)) => Ok(history),
            Ok(Err(source)) => Err(CommandError::File { action: "write", path: self.path, source }),
            Err(error) => Err(CommandError::Failed(format!("the history is lost: {error}"))),
        }
    }
}
