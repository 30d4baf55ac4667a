//! What tells a broker to stop: SIGTERM, SIGINT, and the end of standard input when asked for.

use std::{
    fmt,
    io::{self, Read},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// What told a broker to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A signal by its name.
    Signal(&'static str),
    /// Whoever started it has gone, or wants it gone.
    EndOfStdin,
}

impl Source {
    /// Whether the cluster goes on without this broker. A program that holds standard input of a
    /// broker holds the whole cluster: nobody is left to take its leaderships then.
    pub(super) fn leaves_others(self) -> bool {
        matches!(self, Self::Signal(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) => f.write_str(name),
            Self::EndOfStdin => f.write_str("the end of standard input"),
        }
    }
}

/// Requests to stop, one after the other: the first begins the drain, the second ends the process.
pub(super) struct Stop(mpsc::UnboundedReceiver<Source>);

impl Stop {
    /// Waits for the next request, and says where it comes from.
    pub(super) async fn requested(&mut self) -> Source {
        match self.0.recv().await {
            Some(source) => source,
            // Every sender lives in a task that never ends.
            None => std::future::pending().await,
        }
    }
}

/// Begins to listen.
pub(super) fn listen(stdin: bool) -> io::Result<Stop> {
    let (sender, receiver) = mpsc::unbounded_channel();
    for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")] {
        let mut signals = signal(kind)?;
        let sender = sender.clone();
        actix_rt::spawn(
            async move { while signals.recv().await.is_some() && sender.send(Source::Signal(name)).is_ok() {} },
        );
    }
    if stdin {
        watch_stdin(sender)?;
    }
    Ok(Stop(receiver))
}

/// A thread, because standard input cannot be awaited without one.
fn watch_stdin(sender: mpsc::UnboundedSender<Source>) -> io::Result<()> {
    let watch = move || {
        let mut buffer = [0; 64];
        while matches!(io::stdin().read(&mut buffer), Ok(read) if read > 0) {}
        // A broker that is gone needs no request.
        let _gone = sender.send(Source::EndOfStdin);
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(watch).map(drop)
}
