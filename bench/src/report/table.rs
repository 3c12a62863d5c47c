//! The table of all figures, in Markdown that is also readable as text.

use crate::row::{Aim, Figure, Row, Unit, Values};
use crate::stats::Spread;

const HEADER: [&str; 6] = ["figure", "ours", "peer", "ratio", "aim", "result"];
const ABSENT: &str = "–";

/// Returns the table of these rows, with their values.
pub(crate) fn table(rows: &[(&Row, &[Values])]) -> String {
    let mut lines = vec![HEADER.map(str::to_owned)];
    for (row, values) in rows {
        lines.extend(
            row.figures
                .iter()
                .zip(*values)
                .map(|(figure, values)| cells(figure, values)),
        );
    }
    let mut widths = [0; HEADER.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    lines.insert(1, widths.map(|width| "-".repeat(width)));
    let mut table = String::new();
    for line in lines {
        for (cell, width) in line.iter().zip(widths) {
            table.push_str(&format!("| {cell:width$} "));
        }
        table.push_str("|\n");
    }
    table
}

fn cells(figure: &Figure, values: &Values) -> [String; HEADER.len()] {
    let (ours, peer) = (Spread::of(&values.ours), Spread::of(&values.peer));
    let median = |spread: Option<Spread>| spread.map(|spread| spread.median);
    let (ours_median, peer_median) = (median(ours), median(peer));
    let value = |spread: Option<Spread>| {
        spread.map_or(ABSENT.to_owned(), |spread| text(spread, figure.unit))
    };
    let ratio = match figure.unit {
        Unit::Exponent => ABSENT.to_owned(),
        _ => ratio(ours_median, peer_median),
    };
    let result = match figure.aim.is_reached(ours_median, peer_median) {
        Some(true) => "reached",
        Some(false) => "missed",
        None if ours.is_none() => "not measured",
        None => "",
    };
    [
        figure.name.to_owned(),
        value(ours),
        value(peer),
        ratio,
        aim(&figure.aim, figure.unit),
        result.to_owned(),
    ]
}

/// Returns the median, with the extremes if they differ.
fn text(spread: Spread, unit: Unit) -> String {
    let number = |value: f64| format!("{value:.*}", unit.decimals());
    let median = with_unit(&number(spread.median), unit);
    let (min, max) = (number(spread.min), number(spread.max));
    if min == max {
        return median;
    }
    // A negative number has a sign that looks like the dash of a range.
    format!("{median} ({min} to {max})")
}

fn with_unit(number: &str, unit: Unit) -> String {
    let text = format!("{number} {}", unit.as_str());
    text.trim_end().to_owned()
}

fn ratio(ours: Option<f64>, peer: Option<f64>) -> String {
    match (ours, peer) {
        (Some(ours), Some(peer)) if ours >= 0.0 && peer > 0.0 => {
            let ratio = ours / peer;
            // Enough decimals to see the digits of a small ratio.
            let decimals = if ratio < 0.1 { 4 } else { 2 };
            format!("{ratio:.decimals$}")
        }
        _ => ABSENT.to_owned(),
    }
}

fn aim(aim: &Aim, unit: Unit) -> String {
    let at_most = aim
        .at_most
        .map(|value| format!("≤ {}", with_unit(&value.to_string(), unit)));
    let of_peer = aim.of_peer.map(|ratio| {
        if ratio == 1.0 {
            "≤ the peer's".to_owned()
        } else {
            format!("≤ {ratio} of the peer's")
        }
    });
    let limits: Vec<_> = at_most.into_iter().chain(of_peer).collect();
    limits.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_medians_spread_ratio_aim_and_result() {
        let figure = Figure {
            name: "memory",
            unit: Unit::Kibibytes,
            aim: Aim {
                at_most: Some(3.0),
                of_peer: Some(1.0),
            },
        };
        let values = Values {
            ours: vec![2.5, 2.0, 4.0],
            peer: vec![10.0],
        };
        let expected = [
            "memory",
            "2.50 KiB (2.00 to 4.00)",
            "10.00 KiB",
            "0.25",
            "≤ 3 KiB and ≤ the peer's",
            "reached",
        ];
        assert_eq!(cells(&figure, &values), expected);
        let unmeasured = cells(&figure, &Values::default());
        assert_eq!(unmeasured[1..4], ["–", "–", "–"]);
        assert_eq!(unmeasured[5], "not measured");
    }

    #[test]
    fn all_lines_of_the_table_have_the_same_width() {
        let row = crate::rows::ROWS[0];
        let values = vec![Values::default(); row.figures.len()];
        let table = table(&[(row, &values[..])]);
        let mut widths: Vec<_> = table.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), row.figures.len() + 2);
        widths.dedup();
        assert_eq!(widths.len(), 1, "{table}");
    }
}
