//! What is logged and traced of a reconcile.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context as Around;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

use super::*;

/// Its name, and that of its parent.
type Span = (String, Option<String>);

/// What this thread has told.
#[derive(Default)]
struct Told {
    lines: Vec<u8>,
    spans: Vec<Span>,
}

thread_local! {
    static TOLD: RefCell<Told> = RefCell::default();
}

/// Listens for the whole program, as all tests are in it: what is not listened to where
/// it is told first is not told to a listener of another thread either.
fn listen() {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(|| Lines)
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false);
        tracing_subscriber::registry()
            .with(lines)
            .with(Spans)
            .init();
    });
    TOLD.take();
}

/// The lines of this thread that are ours.
fn lines() -> Vec<Value> {
    let text = String::from_utf8(TOLD.take().lines).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let is_ours = |line: &Value| {
        line["target"]
            .as_str()
            .unwrap()
            .starts_with("gateway_queue")
    };
    lines.filter(is_ours).collect()
}

struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TOLD.with_borrow_mut(|told| told.lines.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Spans;

impl<S: tracing::Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Spans {
    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, around: Around<'_, S>) {
        if !span.metadata().target().starts_with("gateway_queue") {
            return;
        }
        let parent = around
            .span(id)
            .and_then(|span| Some(span.parent()?.name().to_owned()));
        let name = span.metadata().name().to_owned();
        TOLD.with_borrow_mut(|told| told.spans.push((name, parent)));
    }
}

#[tokio::test]
async fn a_reconcile_is_one_span_and_its_calls_are_in_it() {
    listen();
    let server = Server::default();
    let (context, _writers) = context(&server);
    reconcile(Arc::new(queue(json!({}))), context)
        .await
        .unwrap();
    let spans = TOLD.take().spans;
    assert_eq!(spans[0], ("reconcile".to_owned(), None));
    let call = ("call".to_owned(), Some("reconcile".to_owned()));
    assert!(spans[1..].iter().all(|span| *span == call), "{spans:?}");
    assert_eq!(spans.len() - 1, server.take_calls().len());
}

#[tokio::test]
async fn each_line_says_which_queue_it_is_about() {
    listen();
    let server = Server::default();
    let (context, _writers) = context(&server);
    let new = queue(json!({}));
    *server.refuse.lock().unwrap() = Some(("/services/", 500, 1));
    let failed = reconcile(Arc::new(new.clone()), Arc::clone(&context)).await;
    retry_later(stored(&new), &failed.unwrap_err(), Arc::clone(&context));
    reconcile(Arc::new(new), context).await.unwrap();
    let lines = lines();
    for line in &lines {
        assert_eq!(
            (&line["namespace"], &line["queue"]),
            (&json!("shop"), &json!("my-bot")),
            "{line}"
        );
    }
    let saying = |message: &str| {
        lines
            .iter()
            .find(|line| line["message"] == message)
            .unwrap()
    };
    assert_eq!(saying("applied")["level"], "INFO");
    let ready = saying("the condition Ready changed");
    assert!(
        ready["reason"].is_string() && ready["why"].is_string(),
        "{ready}"
    );
    let failed = saying("reconcile failed; trying again");
    assert_eq!(failed["level"], "WARN");
    assert!(
        failed["next_try_ms"].is_u64() && failed["error"].is_string(),
        "{failed}"
    );
}
