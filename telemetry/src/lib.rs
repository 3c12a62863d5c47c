//! The logging of both programs: one format, to standard error, with the fields that
//! docs/logs.md lists.

mod rate_limit;
mod text;
mod units;

use std::fmt::{self, Debug};
use std::io::IsTerminal;

use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry};

use text::LineWriter;

pub use rate_limit::RateLimit;
pub use text::{chain, escaped, escaped_json};
pub use units::{ms, us};

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One flat JSON object per line.
    Json,
}

/// Why the logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is invalid.
    #[error("RUST_LOG is not accepted: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// It has been started before.
    #[error("logging has already been started: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging to standard error.
///
/// `repetitive` are targets of libraries that repeat what the program logs. They are logged
/// at level `debug`, or if the filter names them.
///
/// # Errors
///
/// If the filter is invalid, or logging has been started before.
pub fn start(format: Format, filter: &str, repetitive: &[&'static str]) -> Result<(), Error> {
    let wanted = targets(filter, repetitive)?;
    let colored = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = lines(format, colored, std::io::stderr);
    // Each line has all its fields, so spans are not logged.
    let events = filter_fn(|metadata| metadata.is_event());
    tracing_subscriber::registry()
        .with(lines.with_filter(wanted.and(events)))
        .try_init()?;
    Ok(())
}

/// Writes each event as one line.
fn lines<W>(
    format: Format,
    colored: bool,
    writer: impl Fn() -> W + Send + Sync + 'static,
) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: std::io::Write + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(colored)
        .with_writer(move || LineWriter {
            inner: writer(),
            format,
            colored,
        });
    match format {
        Format::Text => lines.fmt_fields(debug_fn(field).delimited(" ")).boxed(),
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    }
}

/// Writes a field like the default formatter, but escapes control characters in all values.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = escaped(&value);
    let name = field.name().trim_start_matches("r#");
    if name == "message" {
        write!(writer, "{value}")
    } else if writer.has_ansi_escapes() {
        write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}")
    } else {
        write!(writer, "{name}={value}")
    }
}

fn targets(filter: &str, repetitive: &[&'static str]) -> Result<Targets, Error> {
    let wanted: Targets = filter.parse()?;
    let debugging = wanted.default_level() > Some(LevelFilter::INFO);
    let hidden = repetitive
        .iter()
        .filter(|target| !debugging && !filter.contains(**target))
        .map(|target| (*target, LevelFilter::OFF));
    Ok(wanted.with_targets(hidden))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn repetitive_targets_are_logged_only_on_request() {
        let logged = |filter| {
            let targets = targets(filter, &["lib::loud"]).unwrap();
            targets.would_enable("lib::loud", &Level::ERROR)
        };
        assert!(!logged("info"));
        assert!(!logged("warn,ours=trace"));
        assert!(logged("debug"));
        assert!(logged("info,lib::loud=warn"));
        let others = targets("info", &["lib::loud"]).unwrap();
        assert!(others.would_enable("lib", &Level::INFO));
        assert!(!others.would_enable("lib", &Level::DEBUG));
    }
}
