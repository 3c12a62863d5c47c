//! `gateway-queue status`.

use gateway_queue_telemetry::{escaped, escaped_json};
use jiff::Timestamp;

use super::arguments::{Output, Status};
use super::color::Tone;
use super::fetch::{Answer, Fetcher};
use super::screen::Screen;
use super::table::{Line, print, table};
use crate::http_client::Unusable;

const GRANTS: u8 = 0;
const GRANTS_NOT: u8 = 1;
const UNREACHABLE: u8 = 3;

/// Says how a queue is, and returns the exit code. Must be called within a tokio
/// runtime.
///
/// # Errors
///
/// When nobody can be asked at all.
pub async fn run(status: &Status) -> Result<u8, Unusable> {
    let asker = Fetcher::new()?;
    let mut screen = Screen::new();
    let answer = match ask(status, &asker).await {
        Ok(answer) => answer,
        Err(why) => {
            eprintln!("gateway-queue: {}", escaped(&unreachable(status, &why)));
            return Ok(UNREACHABLE);
        }
    };
    // A closed pipe is the reader's wish.
    let _ = match status.output {
        Output::Json => screen.write(&line(&answer.json)),
        Output::Text => {
            let lines = lines(&answer, screen.room.rows);
            screen.write(&print(&lines, screen.room, screen.paint))
        }
    };
    match answer.best().why_not() {
        None => Ok(GRANTS),
        Some(_) => Ok(GRANTS_NOT),
    }
}

async fn ask(status: &Status, asker: &Fetcher) -> Result<Answer, String> {
    match std::env::var_os("KUBERNETES_SERVICE_HOST") {
        Some(_) => asker.ask_the_leader_too(&status.url).await,
        None => asker.ask(&status.url).await,
    }
}

/// The table of the leader, if that is another pod that could be asked.
fn lines(answer: &Answer, rows: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    if answer.leader.is_some() {
        let pod = answer.seen.pod.as_deref().unwrap_or("a pod");
        let asked = format!("{pod}, which follows; this is what the leader says");
        lines.push(Line::field(Tone::Plain, "asked", &asked));
    }
    let rows = rows.saturating_sub(lines.len());
    lines.extend(table(answer.best(), Timestamp::now(), rows));
    lines
}

fn unreachable(status: &Status, why: &str) -> String {
    format!("no queue can be asked at {}: {why}", status.url)
}

/// The document in one line, with nothing in it that drives a terminal.
fn line(json: &str) -> String {
    escaped_json(json.trim_end()).into_owned() + "\n"
}
