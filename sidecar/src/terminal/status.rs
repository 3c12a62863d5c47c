//! `gateway-queue status`.

use std::io;
use std::time::Duration;

use gateway_queue_telemetry::{escaped, escaped_json};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::arguments::{Output, Status};
use super::ask::{Answer, Asker};
use super::duration::words;
use super::paint::Tone;
use super::screen::Screen;
use super::table::{Line, print, table};
use crate::client::Unusable;

/// How often a watched queue is asked.
const EVERY: Duration = Duration::from_secs(1);

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
    let asker = Asker::new()?;
    let mut screen = Screen::new();
    if !status.watch {
        return Ok(once(status, &asker, &mut screen).await);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        // It only ends when nobody reads any more.
        _ = watch(status, &asker, &mut screen) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(GRANTS)
}

async fn once(status: &Status, asker: &Asker, screen: &mut Screen) -> u8 {
    let answer = match ask(status, asker).await {
        Ok(answer) => answer,
        Err(why) => {
            eprintln!("gateway-queue: {}", escaped(&unreachable(status, &why)));
            return UNREACHABLE;
        }
    };
    // A closed pipe is the reader's wish.
    let _ = match status.output {
        Output::Json => screen.write(&line(&answer.json)),
        Output::Text => {
            let mut room = screen.room();
            // It scrolls.
            room.rows = room.rows.max(60);
            let lines = lines(&answer, room.rows);
            screen.write(&print(&lines, room, screen.paint, "\n"))
        }
    };
    match answer.best().why_not() {
        None => GRANTS,
        Some(_) => GRANTS_NOT,
    }
}

async fn ask(status: &Status, asker: &Asker) -> Result<Answer, String> {
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

async fn watch(status: &Status, asker: &Asker, screen: &mut Screen) -> io::Result<()> {
    let mut last: Option<Answer> = None;
    let mut lost: Option<Instant> = None;
    loop {
        let asked = Instant::now();
        match (ask(status, asker).await, status.output) {
            (Ok(answer), Output::Json) => {
                lost = None;
                screen.write(&line(&answer.json))?;
            }
            (Ok(answer), Output::Text) => {
                let news = |last: &Answer| answer.best().differs(last.best());
                if screen.redraws() || lost.is_some() || last.as_ref().is_none_or(news) {
                    frame(screen, &answer, None)?;
                }
                lost = None;
                last = Some(answer);
            }
            (Err(why), Output::Json) => {
                if lost.is_none() {
                    let why = unreachable(status, &why);
                    eprintln!("gateway-queue: {}; trying again", escaped(&why));
                }
                lost.get_or_insert(asked);
            }
            (Err(why), Output::Text) => {
                let why = unreachable(status, &why);
                match (lost, &last) {
                    (Some(since), Some(last)) if screen.redraws() => {
                        let gone = words(since.elapsed());
                        let why = format!("{why}; trying again for {gone}. As it was:");
                        frame(screen, last, Some(why))?;
                    }
                    (Some(_), _) if !screen.redraws() => {}
                    _ => says(screen, format!("{why}; trying again"))?,
                }
                lost.get_or_insert(asked);
            }
        }
        while asked.elapsed() < EVERY {
            if screen.is_closed() {
                return Ok(());
            }
            sleep((EVERY / 4).min(EVERY.saturating_sub(asked.elapsed()))).await;
        }
    }
}

/// The whole table, below something that must be said first.
fn frame(screen: &mut Screen, answer: &Answer, first: Option<String>) -> io::Result<()> {
    let room = screen.room();
    let first = first.map(|text| Line::new(Tone::Bad, text));
    let mut all: Vec<_> = first.into_iter().collect();
    all.extend(lines(answer, room.rows.saturating_sub(all.len())));
    if !screen.redraws() {
        all.push(Line::new(Tone::Plain, ""));
    }
    let text = print(&all, room, screen.paint, screen.end_of_line());
    screen.show(&text)
}

fn says(screen: &mut Screen, text: String) -> io::Result<()> {
    let lines = [Line::new(Tone::Bad, text)];
    let text = print(&lines, screen.room(), screen.paint, screen.end_of_line());
    screen.show(&text)
}

fn unreachable(status: &Status, why: &str) -> String {
    format!("no queue can be asked at {}: {why}", status.url)
}

/// The document in one line, with nothing in it that drives a terminal.
fn line(json: &str) -> String {
    escaped_json(json.trim_end()).into_owned() + "\n"
}
