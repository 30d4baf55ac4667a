//! What tells a broker to stop: SIGTERM, SIGINT, and the end of standard input when asked for.

use std::io::{self, Read};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// Requests to stop, one after the other: the first begins the drain, the second ends the process.
pub(super) struct Stop(mpsc::UnboundedReceiver<&'static str>);

impl Stop {
    /// Waits for the next request, and says where it comes from.
    pub(super) async fn requested(&mut self) -> &'static str {
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
        actix_rt::spawn(async move { while signals.recv().await.is_some() && sender.send(name).is_ok() {} });
    }
    if stdin {
        watch_stdin(sender)?;
    }
    Ok(Stop(receiver))
}

/// A thread, because standard input cannot be awaited without one.
fn watch_stdin(sender: mpsc::UnboundedSender<&'static str>) -> io::Result<()> {
    let watch = move || {
        let mut buffer = [0; 64];
        while matches!(io::stdin().read(&mut buffer), Ok(read) if read > 0) {}
        // A broker that is gone needs no request.
        let _gone = sender.send("the end of standard input");
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(watch).map(drop)
}
