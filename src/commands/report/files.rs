//! A report's page, and its plots in files beside it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pubg1_bench::report::{
    Report,
    html::html,
    svg::{self, Plot},
};

use crate::error::CommandError;

/// Writes the page of the reports to `page`, and their plots beside it: `NAME-throughput.svg` beside
/// `NAME.html`; of several reports `NAME-2-throughput.svg`, and `NAME-compared-rates.svg` of all. Returns
/// what was written.
///
/// # Errors
/// [`CommandError::File`].
pub fn write_files(reports: &[Report], page: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let directory = page.parent().filter(|directory| !directory.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    create_directory(directory)?;
    write(page, &html(reports))?;
    let mut written = vec![page.to_owned()];
    let name = page.file_stem().map_or_else(|| "report".into(), |name| name.to_string_lossy());
    written.extend(write_plots(reports, directory, &name)?);
    Ok(written)
}

/// Writes the plots of the reports into a directory, each file's name beginning with `name`. Returns what was
/// written.
///
/// # Errors
/// [`CommandError::File`].
pub fn write_plots(reports: &[Report], directory: &Path, name: &str) -> Result<Vec<PathBuf>, CommandError> {
    create_directory(directory)?;
    let mut written = Vec::new();
    let mut add = |name: &str, plots: Vec<Plot>| -> Result<(), CommandError> {
        for plot in plots {
            let path = directory.join(format!("{name}-{}.svg", plot.name()));
            write(&path, &plot.document())?;
            written.push(path);
        }
        Ok(())
    };
    for (index, report) in reports.iter().enumerate() {
        let name = if reports.len() > 1 { format!("{name}-{}", index + 1) } else { name.to_owned() };
        add(&name, svg::plots(report))?;
    }
    add(name, svg::compared(reports))?;
    Ok(written)
}

fn create_directory(path: &Path) -> Result<(), CommandError> {
    fs::create_dir_all(path).map_err(|source| CommandError::File { action: "create", path: path.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    fs::write(path, text).map_err(|source| CommandError::File { action: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use pubg1_bench::report::Interval;

    use super::*;

    #[test]
    fn the_page_has_its_plots_beside_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let report = Report { intervals: vec![Interval::default(); 2], ..Report::default() };
        let names = |reports: &[Report], page: &str| {
            let written = write_files(reports, &directory.path().join(page)).expect("written");
            let name = |path: &PathBuf| {
                assert!(fs::metadata(path).expect("it is there").len() > 500, "{}", path.display());
                path.strip_prefix(directory.path()).expect("it is within").display().to_string()
            };
            written.iter().map(name).collect::<Vec<_>>()
        };
        let one = names(std::slice::from_ref(&report), "deep/down.html");
        assert_eq!(one, ["deep/down.html", "deep/down-throughput.svg"]);
        let several = names(&[report.clone(), report], "both.html");
        assert!(several.contains(&"both-2-throughput.svg".to_owned()), "{several:?}");
        assert!(several.contains(&"both-compared-rates.svg".to_owned()), "{several:?}");
    }
}
