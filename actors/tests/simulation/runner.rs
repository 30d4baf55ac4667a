//! Runs seeds, each in a process of its own: one that hangs or dies says which it was, and none disturbs another.

use std::{
    collections::BTreeMap,
    ops::Range,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

/// The seeds of a test run.
const SEEDS: u64 = 200;
/// A seed takes less than this of real time, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a run tells of itself, in case it fails, and how many lines of that are shown.
const LOG: &str = "simulation=info,pubg1_actors=warn";
const LINES: usize = 80;
/// What a report's lines begin with.
const REPORT: &str = "counted ";

/// The seeds to run: those of `PUBG1_SIM_SEED` or `PUBG1_SIM_SEEDS` (`500` or `200..1000`), or the usual ones.
pub(crate) fn seeds() -> Range<u64> {
    if let Some(seed) = seed() {
        return seed..seed + 1;
    }
    let Some(text) = variable("PUBG1_SIM_SEEDS") else { return 0..SEEDS };
    let number = |text: &str| text.parse::<u64>().expect("PUBG1_SIM_SEEDS is a number, or two with .. in between");
    text.split_once("..").map_or_else(|| 0..number(&text), |(from, to)| number(from)..number(to))
}

/// The one seed to run in this process.
pub(crate) fn seed() -> Option<u64> {
    variable("PUBG1_SIM_SEED")?.parse().ok()
}

/// What a run is told.
#[expect(clippy::disallowed_methods, reason = "the size of a test is told by its caller")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Writes what happens to standard output when `PUBG1_SIM_LOG` says what of it. Says whether.
pub(crate) fn log() -> bool {
    let Some(filter) = variable("PUBG1_SIM_LOG") else { return false };
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).without_time().init();
    true
}

/// Tells the runner what a run was made of.
pub(crate) fn report(counts: &BTreeMap<String, u64>) {
    for (what, times) in counts {
        println!("\n{REPORT}{times} {what}");
    }
}

/// Runs every seed, as many at once as there are cores; the sums of what they counted.
pub(crate) fn run_each(seeds: Range<u64>) -> BTreeMap<String, u64> {
    let (next, totals, failures) = (AtomicU64::new(seeds.start), Mutex::default(), Mutex::<Vec<String>>::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let began = Instant::now();
            let result = run_one(seed);
            let (how, took) = (if result.is_ok() { "ok" } else { "FAILED" }, began.elapsed().as_millis());
            println!("seed {seed}: {how} after {took} ms");
            match result {
                Ok(counts) => {
                    let mut totals: std::sync::MutexGuard<'_, BTreeMap<String, u64>> =
                        totals.lock().unwrap_or_else(PoisonError::into_inner);
                    for (what, times) in counts {
                        *totals.entry(what).or_default() += times;
                    }
                }
                Err(text) => failures.lock().unwrap_or_else(PoisonError::into_inner).push(text),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failures.is_empty(), "{} of {seeds:?} failed:\n{}", failures.len(), failures.join("\n"));
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run_one(seed: u64) -> Result<BTreeMap<String, u64>, String> {
    let own = std::env::current_exe().expect("a test has a file");
    let mut child = Command::new(own)
        .args(["--exact", "every_invariant_holds_whatever_goes_wrong", "--nocapture"])
        .env("PUBG1_SIM_SEED", seed.to_string())
        .env("PUBG1_SIM_LOG", variable("PUBG1_SIM_LOG").unwrap_or_else(|| LOG.to_owned()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a test can be started");
    let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let err = thread::spawn(move || std::io::read_to_string(err).unwrap_or_default());
    let (ended, end) = mpsc::channel();
    // Its output ends with it.
    let out = thread::spawn(move || {
        let out = std::io::read_to_string(out).unwrap_or_default();
        ended.send(()).unwrap_or_default();
        out
    });
    let in_time = end.recv_timeout(PATIENCE).is_ok();
    if !in_time {
        child.kill().expect("it can be killed");
    }
    let status = Some(child.wait().expect("it can be waited for")).filter(|_| in_time);
    let (out, err) = (out.join().expect("read"), err.join().expect("read"));
    if status.is_some_and(|status| status.success()) {
        let counted = out.lines().filter_map(|line| line.strip_prefix(REPORT)?.split_once(' '));
        return Ok(counted.map(|(times, what)| (what.to_owned(), times.parse().unwrap_or(0))).collect());
    }
    let how = if status.is_some() { "failed" } else { "did not end" };
    let told: Vec<&str> = out.lines().filter(|line| !line.is_empty()).collect();
    let told = told[told.len().saturating_sub(LINES)..].join("\n");
    let why: Vec<&str> = err.lines().take(LINES).collect();
    Err(format!("seed {seed} {how} (again: PUBG1_SIM_SEED={seed}):\n{told}\n{}", why.join("\n")))
}
