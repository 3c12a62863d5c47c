//! `gateway-queue status`.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::arguments::{Output, Status};
use super::ask::{Answer, Asker};
use super::duration::words;
use super::paint::Tone;
use super::screen::Screen;
use super::seen::Seen;
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
    let Answer { json, seen } = match asker.ask(&status.url).await {
        Ok(answer) => answer,
        Err(why) => {
            eprintln!("gateway-queue: {}", unreachable(status, &why));
            return UNREACHABLE;
        }
    };
    // A closed pipe is the reader's wish.
    let _ = match status.output {
        Output::Json => screen.write(&line(json)),
        Output::Text => {
            let mut room = screen.room();
            // It scrolls.
            room.rows = room.rows.max(60);
            let lines = table(&seen, Timestamp::now(), room.rows);
            screen.write(&print(&lines, room, screen.paint, "\n"))
        }
    };
    match seen.why_not() {
        None => GRANTS,
        Some(_) => GRANTS_NOT,
    }
}

async fn watch(status: &Status, asker: &Asker, screen: &mut Screen) -> io::Result<()> {
    let mut last: Option<Seen> = None;
    let mut lost: Option<Instant> = None;
    loop {
        let asked = Instant::now();
        match (asker.ask(&status.url).await, status.output) {
            (Ok(Answer { json, .. }), Output::Json) => {
                lost = None;
                screen.write(&line(json))?;
            }
            (Ok(Answer { seen, .. }), Output::Text) => {
                let news = last.as_ref().is_none_or(|last| seen.differs(last));
                if screen.redraws() || news || lost.is_some() {
                    frame(screen, &seen, None)?;
                }
                lost = None;
                last = Some(seen);
            }
            (Err(why), Output::Json) => {
                if lost.is_none() {
                    eprintln!("gateway-queue: {}; trying again", unreachable(status, &why));
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
fn frame(screen: &mut Screen, seen: &Seen, first: Option<String>) -> io::Result<()> {
    let room = screen.room();
    let mut lines: Vec<_> = first
        .map(|text| Line::new(Tone::Bad, text))
        .into_iter()
        .collect();
    lines.extend(table(
        seen,
        Timestamp::now(),
        room.rows.saturating_sub(lines.len()),
    ));
    if !screen.redraws() {
        lines.push(Line::new(Tone::Plain, ""));
    }
    let text = print(&lines, room, screen.paint, screen.end_of_line());
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

/// The document in one line.
fn line(json: String) -> String {
    match json.trim_end() {
        one if !one.contains('\n') => format!("{one}\n"),
        // No queue writes it like that; but one document is one line.
        many => many.lines().map(str::trim).collect::<String>() + "\n",
    }
}
