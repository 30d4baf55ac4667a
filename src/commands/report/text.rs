//! A report on the terminal: what it comes down to, then its tables.

use std::io::{self, IsTerminal};

use pubg1_bench::report::{
    Report,
    summary::summary,
    tables::{self, Table, Tone},
};

use crate::terminal::Terminal;

/// All that a report says, apart from its plots.
#[must_use]
pub fn text(report: &Report, terminal: Terminal) -> String {
    let paint = Paint::of(terminal);
    let summary = summary(report);
    let (load, meaning) = tables::load(report.load);
    let mut parts = vec![
        format!("{}  {}", paint.strong(&report.title), paint.faint(&report.started_at)),
        paint.toned(summary.tone, &summary.headline),
    ];
    parts.extend(summary.remarks.iter().map(|remark| paint.toned(Tone::Warning, &format!("! {remark}"))));
    parts.push(format!("{}: {meaning}", paint.strong(load)));
    let mut text = parts.join("\n");
    for table in tables::tables(report) {
        text.push_str("\n\n");
        text.push_str(&one(&table, terminal));
    }
    if !report.command.is_empty() {
        text.push_str(&format!("\n\nthe same again: {}", report.command));
    }
    text
}

/// Several reports beside each other; empty for fewer than two.
#[must_use]
pub fn compared(reports: &[Report], terminal: Terminal) -> String {
    tables::compared(reports).iter().map(|table| one(table, terminal)).collect::<Vec<_>>().join("\n\n")
}

fn one(table: &Table, terminal: Terminal) -> String {
    let paint = Paint::of(terminal);
    let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let right: Vec<&str> =
        table.columns.iter().filter(|column| column.number).map(|column| column.name.as_str()).collect();
    let rows = table.rows.iter().map(|row| row.cells.iter().map(|cell| printable(cell)).collect());
    let rows = terminal.table(&columns, rows, &right);
    format!("{}\n{rows}", paint.strong(table.title))
}

/// A text of somebody else's, without what would steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Colour where it is welcome.
struct Paint(bool);

impl Paint {
    fn of(terminal: Terminal) -> Self {
        Self(terminal.color && io::stdout().is_terminal())
    }

    fn strong(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn faint(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn toned(&self, tone: Tone, text: &str) -> String {
        match tone {
            Tone::Plain => printable(text),
            Tone::Good => self.with("32", text),
            Tone::Warning => self.with("33", text),
            Tone::Bad => self.with("31;1", text),
        }
    }

    fn with(&self, code: &str, text: &str) -> String {
        let text = printable(text);
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text }
    }
}

#[cfg(test)]
mod tests {
    use pubg1_bench::report::{DrillOutcome, FaultOutcome, Load, ThresholdOutcome};

    use super::*;
    use crate::terminal::OutputFormat;

    const PLAIN: Terminal = Terminal { format: OutputFormat::Table, color: false };

    #[test]
    fn the_text_says_what_was_measured_and_how() {
        let mut report = Report {
            title: "bench of PubG1".to_owned(),
            command: "pubg1 bench --rate 100".to_owned(),
            load: Load::ClosedLoop,
            settings: vec![("rate".to_owned(), "100".to_owned())],
            ..Report::default()
        };
        report.totals.acknowledged = 1_234_567;
        report.response.count = 1_234_567;
        report.response.p99_ms = 4.218;
        report.thresholds.push(ThresholdOutcome {
            text: "p99>1ms".to_owned(),
            measured: "4.22 ms".to_owned(),
            failed: true,
        });
        let text = text(&report, PLAIN);
        for said in ["bench of PubG1", "closed loop", "1,234,567", "4.22", "p99>1ms", "rate", "pubg1 bench --rate 100"]
        {
            assert!(text.contains(said), "{said} is missing in\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_verdict_comes_first_and_nobody_steers_the_terminal() {
        let fault = FaultOutcome { kind: "kill leader\u{1b}[31m".to_owned(), ..FaultOutcome::default() };
        let mut drill = DrillOutcome { faults: vec![fault], ..DrillOutcome::default() };
        drill.verdict.lost = 3;
        let report = Report { title: "drill\u{7}".to_owned(), drill: Some(drill), ..Report::default() };
        let text = text(&report, PLAIN);
        assert!(text.lines().nth(1).is_some_and(|line| line.contains("3 lost")), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text}");
    }

    #[test]
    fn reports_are_compared_by_their_ratio_to_the_first() {
        let with_rate = |name: &str, rate: f64| {
            let mut report = Report::default();
            report.system.name = name.to_owned();
            report.totals.rate = rate;
            report
        };
        let text = compared(&[with_rate("one", 50.0), with_rate("other", 125.0)], PLAIN);
        assert!(text.contains("125 /s (2.50 ×)") && text.contains("other"), "{text}");
        assert!(compared(&[with_rate("one", 50.0)], PLAIN).is_empty());
    }
}
