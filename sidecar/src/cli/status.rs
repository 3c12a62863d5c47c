//! `gateway-queue status`.

use gateway_queue_telemetry::{escaped, escaped_json};
use jiff::Timestamp;
use url::Url;

use super::color::Tone;
use super::command::Output;
use super::fetch::{Fetcher, Response};
use super::screen::{Screen, write};
use super::table::{Line, print, table};
use crate::http_client::Unusable;

const GRANTS: u8 = 0;
const DOES_NOT_GRANT: u8 = 1;
const UNREACHABLE: u8 = 3;

/// The maximum number of lines. A terminal scrolls, so its height does not matter.
const MAX_ROWS: usize = 60;

/// Prints the state of the queue whose `/state` is at `url`, and returns the exit code.
/// Must be called within a tokio runtime.
pub async fn run(url: &Url, output: Output) -> Result<u8, Unusable> {
    let fetcher = Fetcher::new()?;
    // Outside the cluster, the addresses of pods may belong to other machines.
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let fetched = if in_cluster {
        fetcher.fetch_with_leader(url).await
    } else {
        fetcher.fetch(url).await
    };
    let response = match fetched {
        Ok(response) => response,
        Err(cause) => {
            let error = format!("cannot read the state of a queue at {url}: {cause}");
            eprintln!("gateway-queue: {}", escaped(&error));
            return Ok(UNREACHABLE);
        }
    };
    let text = match output {
        Output::Json => escaped_json(response.json.trim_end()).into_owned() + "\n",
        Output::Text => {
            let screen = Screen::detect();
            print(&lines(&response), screen.columns, screen.paint)
        }
    };
    write(&text);
    Ok(match response.best().message {
        None => GRANTS,
        Some(_) => DOES_NOT_GRANT,
    })
}

fn lines(response: &Response) -> Vec<Line> {
    let mut lines = Vec::new();
    if response.leader.is_some() {
        let pod = response.state.pod.as_deref().unwrap_or("a pod");
        let queried = format!("{pod}, a follower; the state is that of the leader");
        lines.push(Line::field(Tone::Plain, "queried", &queried));
    }
    let rows = MAX_ROWS - lines.len();
    lines.extend(table(response.best(), Timestamp::now(), rows));
    lines
}
