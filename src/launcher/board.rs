//! What a running cluster shows: a table that is drawn again on a terminal, a line for each change
//! elsewhere, one JSON document a line when that was asked for.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pubg1_model::BrokerId;
use serde_json::{Value, json};

use super::{plan::Plan, slot::Slot, watcher::Sight};
use crate::{
    commands::cluster::wait::now_ms,
    error::CommandError,
    terminal::{Terminal, grouped, print_text},
    view::{
        View,
        changes::{Seen, or_none},
    },
};

/// How often the table is drawn on a terminal at most.
const REDRAW: Duration = Duration::from_millis(100);
/// With more partitions than this, a topic's leaders are counted instead of listed.
const LEADERS_LISTED: usize = 12;
/// The display.
pub struct Board {
    terminal: Terminal,
    begun: Instant,
    head: String,
    /// On a terminal: what is drawn again and again.
    live: Option<ProgressBar>,
    drawn: Option<Instant>,
    sight: Option<Sight>,
    last: Seen,
    document: Value,
}

impl Board {
    /// A display of this cluster.
    #[must_use]
    pub fn new(terminal: Terminal, plan: &Plan) -> Self {
        let live = (!terminal.json() && io::stdout().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_draw_target(ProgressDrawTarget::stdout_with_hz(20));
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        let head = format!("{} brokers, {}; Ctrl-C ends them", plan.brokers.len(), plan.state_path().display());
        let begun = Instant::now();
        Self { terminal, begun, head, live, drawn: None, sight: None, last: Seen::default(), document: Value::Null }
    }

    /// All brokers are ready.
    pub fn ready(&self, slots: &[Slot]) {
        let urls: Vec<&str> = slots.iter().map(Slot::url).collect();
        let ms = self.begun.elapsed().as_millis();
        self.terminal.note(&format!("ready after {ms} ms: PUBG1_BROKER={}", urls.join(",")));
    }

    /// Something that happened to a process.
    ///
    /// # Errors
    /// [`CommandError::Stdout`].
    pub fn event(&self, text: &str) -> Result<(), CommandError> {
        if self.terminal.json() {
            return print_text(&json!({ "time_ms": now_ms(), "event": text }).to_string());
        }
        let line = format!("[{:8.3} s] {text}", self.begun.elapsed().as_secs_f64());
        match &self.live {
            Some(live) => live.println(line),
            None => print_text(&line)?,
        }
        Ok(())
    }

    /// Shows the cluster as it is.
    ///
    /// # Errors
    /// [`CommandError::Stdout`].
    pub(super) fn draw(&mut self, slots: &[Slot], sight: Option<Sight>) -> Result<(), CommandError> {
        let fresh = sight.is_some();
        if let Some(sight) = sight {
            if let Ok(view) = &sight.view {
                let (seen, changes) = self.last.changes(view);
                self.last = seen;
                if !self.terminal.json() {
                    for change in changes {
                        self.event(&change)?;
                    }
                }
            }
            self.sight = Some(sight);
        }
        if self.terminal.json() {
            let document = document(slots, self.sight.as_ref());
            if fresh && document != self.document {
                let mut line = document.clone();
                line["time_ms"] = now_ms().into();
                print_text(&line.to_string())?;
                self.document = document;
            }
            return Ok(());
        }
        if let Some(live) = &self.live
            && (fresh || self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW))
        {
            live.set_message(self.text(slots));
            live.tick();
            self.drawn = Some(Instant::now());
        }
        Ok(())
    }

    fn text(&self, slots: &[Slot]) -> String {
        let view = self.sight.as_ref().and_then(|sight| sight.view.as_ref().ok());
        let mut parts = vec![self.head.clone(), brokers(self.terminal, slots, view)];
        match &self.sight {
            Some(Sight { view: Ok(view), records }) => {
                parts.push(summary(view));
                if !view.topics.is_empty() {
                    parts.push(topics(self.terminal, view, records));
                }
            }
            Some(Sight { view: Err(reason), .. }) => parts.push(format!("no broker answers: {reason}")),
            None => {}
        }
        parts.join("\n")
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            // The last state stays on the screen.
            live.abandon();
        }
    }
}

fn brokers(terminal: Terminal, slots: &[Slot], view: Option<&View>) -> String {
    let loads = view.map(View::loads).unwrap_or_default();
    let rows = slots.iter().map(|slot| {
        let id = BrokerId(slot.id());
        let load = loads.get(&id).copied().unwrap_or_default();
        let controls = view.is_some_and(|view| view.cluster.controller == Some(id));
        vec![
            slot.id().to_string(),
            slot.word().to_owned(),
            slot.pid().map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            slot.url().to_owned(),
            load.leads.to_string(),
            load.follows.to_string(),
            load.lags.to_string(),
            if controls { "controller".to_owned() } else { slot.note() },
        ]
    });
    let columns = ["broker", "state", "pid", "http", "leads", "follows", "lags", ""];
    terminal.table(&columns, rows, &["broker", "pid", "leads", "follows", "lags"])
}

fn summary(view: &View) -> String {
    let controller = or_none(view.cluster.controller);
    let term = view.cluster.metadata.as_ref().map_or_else(String::new, |metadata| format!(" (term {})", metadata.term));
    let health = view.health.as_ref().map_or_else(String::new, |health| {
        format!(
            "{}; {} partitions, {} offline, {} under-replicated; ",
            health.status, health.partitions, health.offline_partitions, health.under_replicated_partitions
        )
    });
    format!("{health}controller {controller}{term}")
}

fn topics(terminal: Terminal, view: &View, records: &BTreeMap<pubg1_model::TopicName, u64>) -> String {
    let public = view.topics.iter().filter(|topic| !topic.name.is_internal());
    let rows = public.map(|topic| {
        let led = topic.partitions.iter().filter(|partition| partition.leader().is_some());
        let leaders = if topic.partitions.len() > LEADERS_LISTED {
            format!("{} led", led.count())
        } else {
            let entry = |partition: &crate::client::reply::PartitionReply| {
                format!("{}:{}@{}", partition.partition, or_none(partition.leader()), partition.leader_epoch)
            };
            topic.partitions.iter().map(entry).collect::<Vec<_>>().join(" ")
        };
        let records = records.get(&topic.name).map_or_else(|| "-".to_owned(), |records| grouped(*records));
        vec![topic.name.to_string(), topic.partitions.len().to_string(), records, leaders]
    });
    terminal.table(
        &["topic", "partitions", "end offsets", "partition:leader@epoch"],
        rows,
        &["partitions", "end offsets"],
    )
}

/// The same for programs.
fn document(slots: &[Slot], sight: Option<&Sight>) -> Value {
    let view = sight.and_then(|sight| sight.view.as_ref().ok());
    let loads = view.map(View::loads).unwrap_or_default();
    let brokers = slots.iter().map(|slot| {
        let load = loads.get(&BrokerId(slot.id())).copied().unwrap_or_default();
        json!({
            "id": slot.id(), "state": slot.word(), "pid": slot.pid(), "http": slot.url(),
            "leads": load.leads, "follows": load.follows, "lags": load.lags, "note": slot.note(),
        })
    });
    let topics = view.into_iter().flat_map(|view| &view.topics).filter(|topic| !topic.name.is_internal()).map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            json!({
                "partition": partition.partition, "leader": partition.leader(), "leader_epoch": partition.leader_epoch,
                "in_sync": partition.replicas.iter().filter(|replica| replica.in_sync).map(|replica| replica.broker).collect::<Vec<_>>(),
            })
        });
        json!({
            "name": topic.name,
            "end_offsets": sight.and_then(|sight| sight.records.get(&topic.name)),
            "partitions": partitions.collect::<Vec<_>>(),
        })
    });
    json!({
        "brokers": brokers.collect::<Vec<_>>(),
        "controller": view.and_then(|view| view.cluster.controller),
        "term": view.and_then(|view| view.cluster.metadata.as_ref()).map(|metadata| metadata.term),
        "health": view.and_then(|view| view.health.as_ref()),
        "topics": topics.collect::<Vec<_>>(),
        "problem": sight.and_then(|sight| sight.view.as_ref().err()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{terminal::OutputFormat, view::tests::a_view};

    #[test]
    fn topics_show_who_leads_in_which_epoch() {
        let terminal = Terminal { format: OutputFormat::Table, color: false };
        let view = a_view();
        let records = BTreeMap::from([(view.topics[0].name.clone(), 12_345)]);
        let table = topics(terminal, &view, &records);
        assert!(table.contains("0:0@5 1:none@3") && table.contains("12,345"), "{table}");
        assert!(summary(&view).starts_with("unavailable; 2 partitions, 1 offline"), "{}", summary(&view));
    }
}
