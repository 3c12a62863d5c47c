//! How both programs log: in one form, to one place, with the fields that
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

use text::{LineWriter, Lines};

pub use rate_limit::RateLimit;
pub use text::{chain, escaped, escaped_json};
pub use units::{ms, us};

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One flat JSON object a line.
    Json,
}

/// Why the log cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("RUST_LOG cannot be read: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// There is a log already.
    #[error("there is a log already: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Logs to standard error from now on.
///
/// `repetitive` are targets of libraries that repeat what these programs log better; they
/// are logged from `debug` on, or by name.
///
/// # Errors
///
/// When the filter is not accepted, or a log has been started before.
pub fn start(format: Format, filter: &str, repetitive: &[&'static str]) -> Result<(), Error> {
    let wanted = targets(filter, repetitive)?;
    let painted = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = lines(format, painted, std::io::stderr);
    // A line says itself what it is about, so spans are not logged.
    let events = filter_fn(|metadata| metadata.is_event());
    tracing_subscriber::registry()
        .with(lines.with_filter(wanted.and(events)))
        .try_init()?;
    Ok(())
}

/// Writes each event as one line.
fn lines<W>(
    format: Format,
    painted: bool,
    writer: impl Fn() -> W + Send + Sync + 'static,
) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: std::io::Write + 'static,
{
    let escaping = match format {
        Format::Text => Lines::Text { painted },
        Format::Json => Lines::Json,
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(painted)
        .with_writer(move || LineWriter::new(writer(), escaping));
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

/// As the formatter of its own writes it, which lets the escape characters of some
/// values pass.
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

fn targets(filter: &str, quiet: &[&'static str]) -> Result<Targets, Error> {
    let wanted: Targets = filter.parse()?;
    let curious = wanted.default_level() > Some(LevelFilter::INFO);
    let unwanted = quiet
        .iter()
        .filter(|target| !curious && !filter.contains(**target))
        .map(|target| (*target, LevelFilter::OFF));
    Ok(wanted.with_targets(unwanted))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_libraries_repeat_is_heard_when_it_is_asked_for() {
        let heard = |filter| {
            let targets = targets(filter, &["lib::loud"]).unwrap();
            targets.would_enable("lib::loud", &Level::ERROR)
        };
        assert!(!heard("info"));
        assert!(!heard("warn,ours=trace"));
        assert!(heard("debug"));
        assert!(heard("info,lib::loud=warn"));
        let others = targets("info", &["lib::loud"]).unwrap();
        assert!(others.would_enable("lib", &Level::INFO));
        assert!(!others.would_enable("lib", &Level::DEBUG));
    }
}
