//! How both programs log and trace: in one form, to one place, with the fields
//! that docs/observability.md lists.

mod seldom;
mod spans;
mod text;
mod units;

#[cfg(feature = "otel")]
mod otlp;

use std::fmt::{self, Debug};
use std::io::IsTerminal;

use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry};

use text::{LineWriter, Lines};

pub use seldom::Seldom;
pub use spans::{Fields, ended};
pub use text::{chain, escaped, escaped_json};
pub use units::{ms, us};

/// Who logs.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// The name of the program.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The names of its crates: what they trace is exported, what libraries do is not.
    pub crates: &'static [&'static str],
    /// Targets of libraries that say once more what these programs say better. They
    /// are heard from `debug` on, or by name.
    pub quiet: &'static [&'static str],
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One flat JSON object a line.
    Json,
}

/// Why there can be no log, or no traces.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("RUST_LOG cannot be read: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// There is a log already.
    #[error("there is a log already: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
    /// The traces cannot be exported as it is asked for.
    #[error("traces cannot be exported: {0}")]
    Traces(String),
}

/// Keeps the log and the traces going; what was not exported yet is exported when it
/// is dropped. Not within an async runtime.
#[derive(Debug)]
#[must_use = "traces end with it"]
pub struct Telemetry {
    #[cfg(feature = "otel")]
    _exporter: Option<otlp::Exporter>,
}

/// Logs to standard error from now on and, in a build with traces, exports them if
/// the environment says to where. Must be called before there is an async runtime.
///
/// # Errors
///
/// When the filter, or an OTEL_ variable, is not accepted.
pub fn start(service: Service, format: Format, filter: &str) -> Result<Telemetry, Error> {
    let wanted = targets(filter, service.quiet)?;
    let painted = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = lines(format, painted, std::io::stderr);
    // A line says itself what it is about; spans are for traces alone.
    let events = filter_fn(|metadata| metadata.is_event());
    let log = tracing_subscriber::registry().with(lines.with_filter(wanted.and(events)));
    #[cfg(feature = "otel")]
    {
        let exporter = otlp::Exporter::new(service)?;
        let layer = exporter.as_ref().map(|exporter| {
            let ours = filter_fn(move |metadata| {
                let root = metadata.target().split("::").next();
                metadata.is_span() && root.is_some_and(|root| service.crates.contains(&root))
            });
            exporter.layer().with_filter(ours)
        });
        log.with(layer).try_init()?;
        Ok(Telemetry {
            _exporter: exporter,
        })
    }
    #[cfg(not(feature = "otel"))]
    {
        let Service { .. } = service;
        log.try_init()?;
        Ok(Telemetry {})
    }
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
