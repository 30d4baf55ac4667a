//! Reports as one page that needs nothing else: no request leaves it, and it may be sent around as it is.

use super::{
    Load, Report,
    markup::escape,
    summary::{Summary, summary},
    svg::{self, Form, Plot},
    tables::{self, Row, Table, Tone, labels},
    words,
};

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// Nothing may be loaded from anywhere; style and script are the page's own.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
    base-uri 'none'; form-action 'none'";
/// A small curve. A page without an icon would be asked for one.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect \
    width='16' height='16' rx='3' fill='%232260d2'/%3E%3Cpath d='M3 12h5c3 0 4-3 5-8' fill='none' stroke='white' \
    stroke-width='2'/%3E%3C/svg%3E";
/// A longer run is not listed second by second to its end.
const SECONDS_LISTED: u32 = 3_600;
/// Tables of at most so many columns stand beside each other.
const FEW_COLUMNS: usize = 3;

/// The page of one report, or of several that are compared to the first.
#[must_use]
pub fn html(reports: &[Report]) -> String {
    let title = match reports {
        [only] => only.title.clone(),
        _ => format!("{} reports side by side", reports.len()),
    };
    let mut body = format!("<header><h1>{}</h1>", escape(&title));
    if let [only] = reports {
        body.push_str(&meta(only));
    }
    body.push_str("</header>");
    if reports.len() > 1 {
        body.push_str(&side_by_side(reports));
    }
    for (index, (report, label)) in reports.iter().zip(labels(reports)).enumerate() {
        let heading = if reports.len() > 1 {
            format!("<h2>{}: {}</h2>{}", escape(&label), escape(&report.title), meta(report))
        } else {
            String::new()
        };
        body.push_str(&format!(
            r#"<section class="report" id="report-{}">{heading}{}</section>"#,
            index + 1,
            one(report)
        ));
    }
    document(&title, &body)
}

fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="{ICON}">
<style>{STYLE}{plots}</style>
</head>
<body>
<div class="page">
{body}
<footer>This page is complete in itself and loads nothing. Point at a plot, or move along it with the arrow keys,
to read its values.</footer>
</div>
<script>{SCRIPT}</script>
</body>
</html>
"#,
        plots = svg::STYLE
    )
}

fn meta(report: &Report) -> String {
    let place = &report.environment;
    let system = &report.system;
    let parts = [
        report.started_at.clone(),
        format!("{} {}", system.name, system.version),
        match system.replicas {
            0 => String::new(),
            1 => "1 replica".to_owned(),
            replicas => format!("{replicas} replicas"),
        },
        format!("{} × {}", place.cores, place.processor),
    ];
    let said: Vec<String> =
        parts.iter().filter(|part| !part.trim().is_empty()).map(|part| escape(part.trim())).collect();
    format!(r#"<p class="meta">{}</p>"#, said.join(" · "))
}

fn side_by_side(reports: &[Report]) -> String {
    let mut page = String::from("<nav>");
    for (index, label) in labels(reports).iter().enumerate() {
        page.push_str(&format!(r##"<a href="#report-{}">{}</a>"##, index + 1, escape(label)));
    }
    page.push_str(r#"</nav><section class="compared">"#);
    if reports.windows(2).any(|pair| pair[0].load != pair[1].load) {
        let warning = "Open loop and closed loop are compared here: their latencies mean different things.";
        page.push_str(&format!(r#"<div class="verdict warning"><p>{warning}</p></div>"#));
    }
    let tables = tables::compared(reports);
    let (results, differences) = tables.split_at(tables.len().min(1));
    page.extend(results.iter().map(table));
    page.push_str(&figures(&svg::compared(reports)));
    page.extend(differences.iter().map(table));
    page.push_str("</section>");
    page
}

fn one(report: &Report) -> String {
    let mut page = load(report.load);
    page.push_str(&verdict(&summary(report)));
    page.push_str(&figures(&svg::plots(report)));
    page.push_str(&all_tables(&tables::tables(report)));
    page.push_str(&seconds(report));
    if !report.command.is_empty() {
        let command = escape(&report.command);
        page.push_str(&format!(r#"<div class="card"><h3>The same again</h3><pre>{command}</pre></div>"#));
    }
    page
}

fn load(load: Load) -> String {
    let (name, meaning) = tables::load(load);
    let class = match load {
        Load::OpenLoop => "load open",
        Load::ClosedLoop => "load closed",
    };
    format!(r#"<p class="{class}"><b>{name}</b>{meaning}</p>"#)
}

const fn tone(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Warning => "warning",
        Tone::Bad => "bad",
    }
}

fn verdict(summary: &Summary) -> String {
    let remarks: String = summary.remarks.iter().map(|remark| format!("<li>{}</li>", escape(remark))).collect();
    let remarks = if remarks.is_empty() { remarks } else { format!("<ul>{remarks}</ul>") };
    let tiles = summary.tiles.iter().map(|tile| {
        format!(
            r#"<div class="tile {}"><div class="name">{}</div><div class="value">{}</div><div class="beside">{}</div></div>"#,
            tone(tile.tone),
            tile.name,
            escape(&tile.value),
            tile.beside.split(", ").map(unbroken).collect::<Vec<_>>().join(", ")
        )
    });
    format!(
        r#"<div class="verdict {}"><p>{}</p>{remarks}</div><div class="tiles">{}</div>"#,
        tone(summary.tone),
        escape(&summary.headline),
        tiles.collect::<String>()
    )
}

/// A number shall not stand on another line than its unit.
fn unbroken(part: &str) -> String {
    let class = if part.len() <= 16 { "unbroken" } else { "long" };
    format!(r#"<span class="{class}">{}</span>"#, escape(part))
}

fn figures(plots: &[Plot]) -> String {
    let figure = |plot: &Plot| format!("<figure>{}{}</figure>\n", plot.element(Form::Wide), plot.element(Form::Narrow));
    plots.iter().map(figure).collect()
}

/// Wide tables one below the other, then narrow ones beside each other.
fn all_tables(tables: &[Table]) -> String {
    let (few, many): (Vec<&Table>, Vec<&Table>) = tables.iter().partition(|table| table.columns.len() <= FEW_COLUMNS);
    let mut page: String = many.into_iter().map(table).collect();
    page.push_str(r#"<div class="cards">"#);
    page.extend(few.into_iter().map(table));
    page.push_str("</div>");
    page
}

fn table(table: &Table) -> String {
    let note = table.note.map(|note| format!(r#"<p class="note">{note}</p>"#)).unwrap_or_default();
    format!(r#"<div class="card"><h3>{}</h3>{note}{}</div>"#, table.title, grid(table))
}

fn grid(table: &Table) -> String {
    let class = |number: bool| if number { "number" } else { "words" };
    let heads = table
        .columns
        .iter()
        .map(|column| format!(r#"<th scope="col" class="{}">{}</th>"#, class(column.number), escape(&column.name)));
    let row = |row: &Row| {
        let cells = row.cells.iter().zip(&table.columns);
        let cells =
            cells.map(|(cell, column)| format!(r#"<td class="{}">{}</td>"#, class(column.number), escape(cell)));
        format!(r#"<tr class="{}">{}</tr>"#, tone(row.tone), cells.collect::<String>())
    };
    let many = if table.columns.len() > FEW_COLUMNS { "many" } else { "few" };
    format!(
        r#"<div class="scroll"><table class="{many}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"#,
        heads.collect::<String>(),
        table.rows.iter().map(row).collect::<String>()
    )
}

fn seconds(report: &Report) -> String {
    let mut table = tables::intervals(report);
    let all = table.rows.len() as u64;
    if all == 0 {
        return String::new();
    }
    table.rows.truncate(SECONDS_LISTED as usize);
    let left_out = if all > u64::from(SECONDS_LISTED) {
        let listed = words::count(u64::from(SECONDS_LISTED));
        format!(r#"<p class="note">The first {listed} of {}.</p>"#, words::count(all))
    } else {
        String::new()
    };
    let note = table.note.map(|note| format!(r#"<p class="note">{note}</p>"#)).unwrap_or_default();
    format!("<details><summary>{}</summary>{note}{left_out}{}</details>", table.title, grid(&table))
}

#[cfg(test)]
mod tests;
