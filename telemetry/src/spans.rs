//! Spans that are over already when they are told.
//!
//! Somebody who waits for hours has no span meanwhile, and so needs no memory for
//! one: what the span says is known when the wait ends.

use std::time::Duration;

/// What a span says.
#[derive(Debug)]
pub struct Fields {
    #[cfg(feature = "otel")]
    pub(crate) all: Vec<opentelemetry::KeyValue>,
}

impl Fields {
    #[cfg(feature = "otel")]
    pub(crate) fn new() -> Self {
        Self { all: Vec::new() }
    }

    /// A number.
    #[cfg_attr(not(feature = "otel"), allow(unused_variables))]
    pub fn number(&mut self, name: &'static str, value: impl TryInto<i64>) {
        #[cfg(feature = "otel")]
        if let Ok(value) = value.try_into() {
            self.all.push(opentelemetry::KeyValue::new(name, value));
        }
    }

    /// A word.
    #[cfg_attr(not(feature = "otel"), allow(unused_variables))]
    pub fn word(&mut self, name: &'static str, value: &'static str) {
        #[cfg(feature = "otel")]
        self.all.push(opentelemetry::KeyValue::new(name, value));
    }
}

/// Tells a span that took so long and ends now. Without an exporter it does nothing,
/// and `fields` is not called.
#[cfg_attr(not(feature = "otel"), allow(unused_variables))]
pub fn ended(name: &'static str, took: Duration, fields: impl FnOnce(&mut Fields)) {
    #[cfg(feature = "otel")]
    crate::otlp::ended(name, took, fields);
}
