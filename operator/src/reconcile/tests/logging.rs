//! The log lines of a reconcile.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use tracing_subscriber::prelude::*;

use super::*;

thread_local! {
    /// The log of this thread.
    static LOGGED: RefCell<Vec<u8>> = RefCell::default();
}

/// Installs a global subscriber, because tracing caches for all threads whether an event is
/// enabled.
fn listen() {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(|| Lines)
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false);
        tracing_subscriber::registry().with(lines).init();
    });
    LOGGED.take();
}

/// The lines of our crates in this thread.
fn lines() -> Vec<Value> {
    let text = String::from_utf8(LOGGED.take()).unwrap();
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
        LOGGED.with_borrow_mut(|logged| logged.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_line_names_its_queue() {
    listen();
    let mut operator = Operator::new(json!({}));
    operator.api().refuse = Some(("/services/", 500, 1));
    let error = operator.reconcile().await.unwrap_err();
    retry_later(
        stored(&operator.queue),
        &error,
        Arc::clone(&operator.context),
    );
    operator.reconcile().await.unwrap();
    let lines = lines();
    for line in &lines {
        assert_eq!(
            (&line["namespace"], &line["queue"]),
            (&json!("shop"), &json!("my-bot")),
            "{line}"
        );
    }
    let line = |message: &str| {
        lines
            .iter()
            .find(|line| line["message"] == message)
            .unwrap()
    };
    assert_eq!(line("applied")["level"], "INFO");
    let ready = line("condition changed");
    assert!(
        ready["reason"].is_string() && ready["detail"].is_string(),
        "{ready}"
    );
    let failed = line("reconcile failed");
    assert_eq!(failed["level"], "WARN");
    assert!(
        failed["retry_in_ms"].is_u64() && failed["error"].is_string(),
        "{failed}"
    );
}
