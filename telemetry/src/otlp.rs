//! The export of traces: OTLP over HTTP, as the OTEL_ variables say.

use std::env;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{SpanBuilder, Tracer as _, TracerProvider as _};
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData};
use rustls::{ClientConfig, RootCertStore};
use tracing::{Subscriber, warn};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

use crate::spans::Fields;
use crate::{Error, Seldom, Service};

/// Without one of them nothing is exported.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
];

/// How long the end of the process waits for the last spans.
const PATIENCE: Duration = Duration::from_secs(3);

/// For spans that are told when they are over.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Exports until it is dropped.
#[derive(Debug)]
pub(crate) struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Exporter {
    /// None when the environment does not say to where.
    pub(crate) fn new(service: Service) -> Result<Option<Self>, Error> {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let disabled = env::var("OTEL_SDK_DISABLED").is_ok_and(|v| v.eq_ignore_ascii_case("true"));
        if disabled || !ENDPOINTS.iter().any(|name| set(name)) {
            return Ok(None);
        }
        for name in PROTOCOLS.into_iter().filter(|name| set(name)) {
            if env::var(name).ok().as_deref() != Some("http/protobuf") {
                let why = format!("{name} is not accepted: it must be http/protobuf");
                return Err(Error::Traces(why));
            }
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client()?)
            .build()
            // Its message may quote a header.
            .map_err(|_| {
                Error::Traces("an OTEL_EXPORTER_OTLP_ variable is not accepted".to_owned())
            })?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Loud(exporter))
            .with_resource(resource(service))
            .build();
        let tracer = provider.tracer(service.name);
        let _ = TRACER.set(tracer.clone());
        Ok(Some(Self { provider, tracer }))
    }

    /// The layer that exports the spans of `tracing`.
    pub(crate) fn layer<S>(&self) -> OpenTelemetryLayer<S, SdkTracer>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // If that fails it was said.
        let _ = self.provider.shutdown_with_timeout(PATIENCE);
    }
}

/// The clients of both programs trust the same, by the same crypto provider.
fn client() -> Result<reqwest::blocking::Client, Error> {
    let failed = |why: String| Error::Traces(why);
    let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::blocking::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(10))
        .build()
        .map_err(|error| failed(error.to_string()))
}

/// Who exports; the OTEL_ variables have the last word.
fn resource(service: Service) -> Resource {
    let given = Resource::builder().build();
    let name = given.get(&Key::from_static_str("service.name"));
    let mut ours = Resource::builder();
    if name.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
        ours = ours.with_service_name(service.name);
    }
    ours = ours.with_attribute(KeyValue::new("service.version", service.version));
    if let Ok(pod) = env::var("POD_NAME") {
        ours = ours.with_attribute(KeyValue::new("k8s.pod.name", pod));
    }
    ours.build()
}

/// An exporter that says when it fails, once a minute.
#[derive(Debug)]
struct Loud(SpanExporter);

static FAILED: Seldom = Seldom::minutely();

impl opentelemetry_sdk::trace::SpanExporter for Loud {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let lost = batch.len();
        let exported = self.0.export(batch).await;
        if exported.is_err()
            && let Some(unsaid) = FAILED.says(Instant::now())
        {
            // Not the error itself: it may quote what was sent.
            let why = "the collector at OTEL_EXPORTER_OTLP_ENDPOINT does not take them";
            warn!(lost, unsaid, why, "spans are lost");
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

pub(crate) fn ended(name: &'static str, took: Duration, fields: impl FnOnce(&mut Fields)) {
    let Some(tracer) = TRACER.get() else {
        return;
    };
    let mut all = Fields::new();
    fields(&mut all);
    let now = SystemTime::now();
    // The sampler decides here; a span that it does not take is gone at once.
    let span = SpanBuilder::from_name(name)
        .with_start_time(now.checked_sub(took).unwrap_or(now))
        .with_attributes(all.all);
    drop(tracer.build(span));
}
