//! docs/benchmarks.md and its plots.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::machine::Machine;
use super::table::table;
use crate::row::{Measured, Row};

/// One row with its result.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) row: &'static Row,
    pub(crate) rounds: usize,
    pub(crate) measured: Measured,
}

const INTRODUCTION: &str = "\
Absolute figures depend on the machine: compare them with those of the *peer*, which took turns with ours in the same
run. The peer has the design of [twilight's gateway-queue](https://github.com/twilight-rs/gateway-queue), on the same
versions of the same crates as ours: hyper's HTTP/1 server with one thread, on `InMemoryQueue` of
`twilight-gateway-queue` (`bench/src/bin/peer.rs`, without the code that asks Discord).";

const METHOD: &str = "\
Both servers are static binaries with the release profile of the images, each a new process on loopback for each
measurement. They have the same settings: 5 s between two grants of a bucket, as the peer's spacing is fixed; no
margin; no start guard; no token. All clients are one thread of another process on the same machine. In each round,
ours and the peer are measured one after the other, and in the next round in the other order. The table has the median
of the rounds, and the lowest and the highest value. What is measured on a node of Kubernetes has another peer, which its
section describes.";

/// Writes the document and its plots below the folder of documentation.
pub(crate) fn write(docs: &Path, machine: &Machine, results: &[Finished]) -> Result<()> {
    let images = docs.join("images");
    fs::create_dir_all(&images).context("creating the folder of the plots")?;
    for plot in results.iter().flat_map(|result| &result.measured.plots) {
        let file = images.join(file_name(&plot.name));
        let written = fs::write(&file, plot.svg());
        written.with_context(|| format!("writing {}", file.display()))?;
    }
    let file = docs.join("benchmarks.md");
    let written = fs::write(&file, document(machine, results));
    written.with_context(|| format!("writing {}", file.display()))
}

/// Returns the table of these results.
pub(crate) fn table_of(results: &[Finished]) -> String {
    let rows = results
        .iter()
        .map(|result| (result.row, &result.measured.values[..]));
    table(&rows.collect::<Vec<_>>())
}

fn document(machine: &Machine, results: &[Finished]) -> String {
    let Machine {
        commit,
        date,
        facts,
    } = machine;
    let mut text = format!(
        "# Benchmarks\n\n`cargo xtask bench` measured these figures on {date}, at commit {commit}, and wrote this \
         page.\n{INTRODUCTION}\n\n## Results\n\n{table}\n## Method\n\n{METHOD}\n",
        table = table_of(results)
    );
    // Writing to a string does not fail.
    for result in results {
        let Row {
            name,
            title,
            method,
            ..
        } = result.row;
        let rounds = match result.rounds {
            1 => "one round".to_owned(),
            rounds => format!("{rounds} rounds"),
        };
        let _ = write!(
            text,
            "\n### {title}\n\n{}\n\nTo repeat it ({rounds}): `cargo xtask bench --only {name}`\n",
            wrapped(method)
        );
        for plot in &result.measured.plots {
            let _ = write!(
                text,
                "\n![{}](images/{})\n",
                plot.title,
                file_name(&plot.name)
            );
        }
    }
    text.push_str("\n## Machine and versions\n\n| what | value |\n| --- | --- |\n");
    for (name, value) in facts {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text
}

fn file_name(plot: &str) -> String {
    format!("benchmark-{plot}.svg")
}

/// Returns a paragraph in lines of at most 120 characters.
fn wrapped(paragraph: &str) -> String {
    let mut text = String::new();
    let mut length = 0;
    for word in paragraph.split_whitespace() {
        let word_length = word.chars().count();
        if length > 0 && length + 1 + word_length > 120 {
            text.push('\n');
            length = 0;
        } else if length > 0 {
            text.push(' ');
            length += 1;
        }
        text.push_str(word);
        length += word_length;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Axis, Plot, Scale};
    use crate::row::Values;
    use crate::rows::ROWS;

    #[test]
    fn the_document_has_the_table_the_method_of_each_row_and_the_machine() {
        let machine = Machine {
            commit: "0123abc".into(),
            date: "2000-01-01".into(),
            facts: vec![("kernel".into(), "1.0".into())],
        };
        let results = ROWS.map(|row| Finished {
            row,
            rounds: 1,
            measured: Measured {
                values: vec![Values::default(); row.figures.len()],
                plots: Vec::new(),
            },
        });
        let document = document(&machine, &results);
        for row in ROWS {
            assert!(
                document.contains(&format!("### {}\n", row.title)),
                "{document}"
            );
            assert!(
                document.contains(&format!("--only {}`", row.name)),
                "{document}"
            );
            assert!(
                row.figures
                    .iter()
                    .all(|figure| document.contains(figure.name))
            );
        }
        assert!(document.contains("on 2000-01-01, at commit 0123abc"));
        assert!(document.contains("| kernel | 1.0 |"));
    }

    #[test]
    fn the_document_names_the_plots_that_are_written_beside_it() {
        let axis = Axis {
            label: "axis",
            scale: Scale::Linear,
        };
        let plot = Plot {
            name: "lateness".into(),
            title: "Lateness".into(),
            x: axis,
            y: axis,
            lines: Vec::new(),
        };
        let row = ROWS[0];
        let results = [Finished {
            row,
            rounds: 3,
            measured: Measured {
                values: vec![Values::default(); row.figures.len()],
                plots: vec![plot],
            },
        }];
        let machine = Machine {
            commit: String::new(),
            date: String::new(),
            facts: Vec::new(),
        };
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &machine, &results).unwrap();
        let document = fs::read_to_string(folder.path().join("benchmarks.md")).unwrap();
        let plot = "images/benchmark-lateness.svg";
        assert!(
            document.contains(&format!("![Lateness]({plot})")),
            "{document}"
        );
        assert!(
            fs::read_to_string(folder.path().join(plot))
                .unwrap()
                .starts_with("<svg")
        );
    }

    #[test]
    fn a_paragraph_is_wrapped_between_words() {
        let text = wrapped(&"word ".repeat(50));
        assert!(
            text.lines()
                .all(|line| line.len() <= 120 && line.ends_with("word"))
        );
        assert_eq!(text.split_whitespace().count(), 50);
    }
}
