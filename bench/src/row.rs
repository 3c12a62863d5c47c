//! A row of the table: what is measured, how, and the aim.

use anyhow::Result;
use serde::Deserialize;

use crate::bench::Bench;
use crate::plot::Plot;

/// Figures that are measured together.
#[derive(Debug)]
pub struct Row {
    /// The name on the command line.
    pub name: &'static str,
    /// The title of its section in the document.
    pub title: &'static str,
    /// How it is measured, as a paragraph.
    pub method: &'static str,
    /// How often it is measured.
    pub rounds: usize,
    /// Whether it is measured on a node of Kubernetes.
    pub on_node: bool,
    /// What is measured.
    pub figures: &'static [Figure],
    /// Measures all figures, in the given number of rounds.
    pub measure: fn(&Bench, usize) -> Result<Measured>,
}

/// One line of the table.
#[derive(Debug)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// The unit of its values.
    pub unit: Unit,
    /// What it should be.
    pub aim: Aim,
}

/// The unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 1024 bytes.
    Kibibytes,
    /// 1,048,576 bytes.
    Mebibytes,
    /// 1,000,000 bytes.
    Megabytes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Hundredths.
    Percent,
    /// A number.
    Count,
    /// A number with decimals.
    Exponent,
}

impl Unit {
    /// Returns the unit as in the table; empty for a plain number.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kibibytes => "KiB",
            Self::Mebibytes => "MiB",
            Self::Megabytes => "MB",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::Percent => "%",
            Self::Count | Self::Exponent => "",
        }
    }

    /// Returns the number of decimals of a value.
    pub(crate) fn decimals(self) -> usize {
        match self {
            Self::Count => 0,
            Self::Seconds | Self::Milliseconds | Self::Microseconds => 3,
            Self::Kibibytes
            | Self::Mebibytes
            | Self::Megabytes
            | Self::Percent
            | Self::Exponent => 2,
        }
    }
}

/// What the median of our values should be. No limit at all is no aim.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// The maximum.
    pub at_most: Option<f64>,
    /// The maximum as a share of the peer's median.
    pub of_peer: Option<f64>,
}

impl Aim {
    /// No aim.
    pub(crate) const NONE: Self = Self {
        at_most: None,
        of_peer: None,
    };

    pub(crate) const fn at_most(value: f64) -> Self {
        Self {
            at_most: Some(value),
            ..Self::NONE
        }
    }

    pub(crate) const fn of_peer(ratio: f64) -> Self {
        Self {
            of_peer: Some(ratio),
            ..Self::NONE
        }
    }

    /// Returns whether the aim is reached; none if there is none, or if it was not measured.
    pub(crate) fn is_reached(&self, ours: Option<f64>, peer: Option<f64>) -> Option<bool> {
        let ours = ours?;
        let limits = [
            self.at_most.map(|value| ours <= value),
            self.of_peer
                .map(|ratio| peer.is_some_and(|peer| ours <= ratio * peer)),
        ];
        limits
            .into_iter()
            .flatten()
            .reduce(|one, other| one && other)
    }
}

/// The values of one figure, one per round.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Values {
    /// Ours.
    pub ours: Vec<f64>,
    /// The peer's; empty if it has no such value.
    pub peer: Vec<f64>,
}

/// The result of a row.
#[derive(Debug, Default)]
pub struct Measured {
    /// The values of the row's figures, in their order.
    pub values: Vec<Values>,
    /// Plots for the row's section.
    pub(crate) plots: Vec<Plot>,
}

impl Measured {
    /// Returns a result that needs no plot.
    pub(crate) fn without_plots(values: Vec<Values>) -> Self {
        Self {
            values,
            plots: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_reached_if_each_of_its_limits_holds() {
        let both = Aim {
            at_most: Some(3.0),
            of_peer: Some(0.5),
        };
        assert_eq!(both.is_reached(Some(3.0), Some(6.0)), Some(true));
        assert_eq!(both.is_reached(Some(3.1), Some(9.0)), Some(false));
        assert_eq!(both.is_reached(Some(3.0), Some(5.0)), Some(false));
        assert_eq!(both.is_reached(Some(3.0), None), Some(false));
        assert_eq!(both.is_reached(None, Some(5.0)), None);
        assert_eq!(Aim::NONE.is_reached(Some(1.0), Some(1.0)), None);
    }
}
