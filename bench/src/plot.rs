//! Plots as SVG, readable in light and dark.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// The area of the lines.
const LEFT: f64 = 76.0;
const RIGHT: f64 = WIDTH - 24.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = HEIGHT - 56.0;

/// Lines differ by their color, and by their dashes for readers who do not see colors.
const STYLE: &str = "
  .paper { fill: #ffffff } text { fill: #1f2328; font: 13px system-ui, sans-serif }
  .title { font-size: 15px; font-weight: 600 } .grid { stroke: #d1d9e0; stroke-width: 1 }
  .line { fill: none; stroke-width: 2 } .line0 { stroke: #0969da }
  .line1 { stroke: #bc4c00; stroke-dasharray: 6 4 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } text { fill: #f0f6fc } .grid { stroke: #3d444d }
    .line0 { stroke: #58a6ff } .line1 { stroke: #ffa657 }
  }
";

/// A plot of a few lines.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// The name of its file, without the extension.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) scale: Scale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Values that are not positive are left out.
    Log,
}

/// A line through points in the order of their first number.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Plot {
    /// Returns the plot as a file.
    pub(crate) fn svg(&self) -> String {
        let is_shown = |(x, y): &&(f64, f64)| self.x.scale.shows(*x) && self.y.scale.shows(*y);
        let shown = || {
            self.lines
                .iter()
                .flat_map(|line| &line.points)
                .filter(is_shown)
        };
        let x = Ticks::new(self.x.scale, shown().map(|point| point.0));
        let y = Ticks::new(self.y.scale, shown().map(|point| point.1));
        let left = |value: f64| LEFT + x.share(value) * (RIGHT - LEFT);
        let top = |value: f64| BOTTOM - y.share(value) * (BOTTOM - TOP);
        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">
<title>{title}</title>
<style>{STYLE}</style>
<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>
<text class="title" x="{LEFT}" y="24">{title}</text>
"#,
            title = self.title
        );
        // Writing to a string does not fail.
        for value in &x.values {
            let (at, label) = (left(*value), label(*value));
            let _ = writeln!(
                svg,
                r#"<path class="grid" d="M{at:.1} {TOP}V{BOTTOM}"/>
<text x="{at:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#,
                BOTTOM + 18.0
            );
        }
        for value in &y.values {
            let (at, label) = (top(*value), label(*value));
            let _ = writeln!(
                svg,
                r#"<path class="grid" d="M{LEFT} {at:.1}H{RIGHT}"/>
<text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#,
                LEFT - 8.0,
                at + 4.0
            );
        }
        let (middle, down) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        let _ = writeln!(
            svg,
            r#"<text x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text>
<text transform="translate(18 {down:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
            HEIGHT - 12.0,
            self.x.label,
            self.y.label
        );
        for (number, line) in self.lines.iter().enumerate() {
            let points = line.points.iter().filter(is_shown);
            let points: Vec<_> = points
                .map(|(x, y)| format!("{:.1},{:.1}", left(*x), top(*y)))
                .collect();
            let at = LEFT + 150.0 * number as f64;
            let _ = writeln!(
                svg,
                r#"<polyline class="line line{number}" points="{}"/>
<path class="line line{number}" d="M{at:.1} 44h32"/><text x="{:.1}" y="48">{}</text>"#,
                points.join(" "),
                at + 40.0,
                line.name
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

impl Scale {
    fn shows(self, value: f64) -> bool {
        value.is_finite() && (self == Self::Linear || value > 0.0)
    }

    /// Returns the place of a value on an endless axis.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
        }
    }
}

/// The labels of an axis: the first and the last one are its ends.
#[derive(Debug)]
struct Ticks {
    scale: Scale,
    values: Vec<f64>,
}

impl Ticks {
    fn new(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let places = values.map(|value| scale.place(value));
        let low = places.clone().fold(f64::INFINITY, f64::min);
        let high = places.fold(f64::NEG_INFINITY, f64::max);
        // Without values, any axis.
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let step = match scale {
            Scale::Linear => step((high - low).max(1e-9)),
            Scale::Log => 1.0,
        };
        let first = (low / step).floor();
        let last = (high / step).ceil().max(first + 1.0);
        let count = (last - first) as usize;
        let values = (0..=count).map(|number| {
            let place = (first + number as f64) * step;
            match scale {
                Scale::Linear => place,
                Scale::Log => 10_f64.powf(place),
            }
        });
        let values = values.collect();
        Self { scale, values }
    }

    /// Returns where a value is between the ends: 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let place = |value: &f64| self.scale.place(*value);
        let first = self.values.first().map_or(0.0, place);
        let last = self.values.last().map_or(1.0, place);
        (self.scale.place(value) - first) / (last - first)
    }
}

/// Returns a round step, for four to ten steps in this length.
fn step(length: f64) -> f64 {
    let power = 10_f64.powf((length / 5.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let mut steps = steps.into_iter().filter(|step| length / step <= 8.0);
    steps.next().unwrap_or(10.0 * power)
}

fn label(value: f64) -> String {
    // Rounded, because steps such as 0.2 add up to 0.6000000000000001.
    let rounded = (value * 1e6).round() / 1e6;
    if rounded.abs() < 1000.0 || rounded.fract() != 0.0 {
        return rounded.to_string();
    }
    let digits = format!("{:.0}", rounded.abs());
    let mut label = String::from(if rounded < 0.0 { "-" } else { "" });
    for (number, digit) in digits.chars().enumerate() {
        if number > 0 && (digits.len() - number).is_multiple_of(3) {
            label.push(',');
        }
        label.push(digit);
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(scale: Scale, values: &[f64]) -> Vec<String> {
        let ticks = Ticks::new(scale, values.iter().copied());
        ticks.values.iter().map(|value| label(*value)).collect()
    }

    #[test]
    fn the_ticks_are_round_and_enclose_the_values() {
        assert_eq!(
            ticks(Scale::Linear, &[-0.1, 0.5]),
            ["-0.1", "0", "0.1", "0.2", "0.3", "0.4", "0.5"]
        );
        assert_eq!(
            ticks(Scale::Log, &[20.0, 9000.0]),
            ["10", "100", "1,000", "10,000"]
        );
        assert_eq!(ticks(Scale::Log, &[0.01]).len(), 2);
        assert!(ticks(Scale::Linear, &[]).len() > 1);
    }

    #[test]
    fn a_plot_has_its_labels_its_lines_and_both_color_schemes() {
        let plot = Plot {
            name: "growth".into(),
            title: "Memory".into(),
            x: Axis {
                label: "clients",
                scale: Scale::Log,
            },
            y: Axis {
                label: "KiB",
                scale: Scale::Linear,
            },
            lines: vec![Line {
                name: "ours",
                points: vec![(10.0, 0.0), (0.0, 7.0), (100.0, 5.0)],
            }],
        };
        let svg = plot.svg();
        // The value that is not positive has no place on a logarithmic axis.
        assert!(svg.contains(r#"points="76.0,344.0 696.0,64.0""#), "{svg}");
        for text in [
            "Memory",
            "clients",
            "KiB",
            "ours",
            "prefers-color-scheme: dark",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}
