//! A queue as a compact table. Pure.

use std::time::Duration;

use gateway_queue_telemetry::escaped;
use jiff::Timestamp;

use super::color::{Paint, Tone};
use super::duration::words;
use super::remote_state::{Bucket, RemoteState, SessionStarts};

/// So many shards of a bucket are named,
const SHARDS: usize = 8;

/// and so many of the last grants.
const GRANTS: usize = 3;

/// How much there is room for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Lines.
    pub rows: usize,
    /// Characters in a line.
    pub columns: usize,
}

impl Room {
    /// Where there is no terminal: enough for what somebody may read.
    pub const PAPER: Self = Self {
        rows: 60,
        columns: usize::MAX,
    };
}

/// One line. It is painted as a whole, after it was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(Tone, String);

impl Line {
    /// A line about something.
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self(tone, text.into())
    }

    /// A line that names what it is about.
    pub fn field(tone: Tone, name: &str, value: &str) -> Self {
        Self(tone, format!("{name:<15} {value}"))
    }
}

/// Prints lines into the room that there is.
pub fn print(lines: &[Line], room: Room, paint: Paint) -> String {
    let mut text = String::new();
    for Line(tone, line) in lines.iter().take(room.rows) {
        // What a server says must not drive the terminal.
        let line = escaped(line);
        let fits: String = match line.chars().count() > room.columns {
            true => line
                .chars()
                .take(room.columns.saturating_sub(1))
                .chain(['…'])
                .collect(),
            false => line.into_owned(),
        };
        text.push_str(&paint.apply(*tone, &fits));
        text.push('\n');
    }
    text
}

/// How the queue is, in at most `rows` lines.
pub fn table(seen: &RemoteState, now: Timestamp, rows: usize) -> Vec<Line> {
    let mut lines = vec![
        Line::field(Tone::Plain, "leader", &leader(seen)),
        Line::field(Tone::Plain, "token", &token(seen)),
        Line::field(Tone::Plain, "session starts", &session_starts(seen, now)),
        match seen.why_not() {
            Some(why) => Line::field(Tone::Bad, "granting", &format!("NO: {why}")),
            None if seen.role == "follower" => Line::field(
                Tone::Plain,
                "granting",
                "the leader does; ask it for its buckets",
            ),
            None => Line::field(Tone::Good, "granting", "yes"),
        },
        Line::field(Tone::Plain, "waiting", &waiting(seen)),
    ];
    // What is known is granted, also when Discord cannot be asked for more.
    if let (None, Some(last_error)) = (seen.why_not(), &seen.last_error) {
        lines.push(Line::field(Tone::Bad, "trouble", last_error));
    }
    if !seen.last_grants.is_empty() {
        lines.push(Line::field(Tone::Plain, "last grants", &last_grants(seen)));
    }
    let crowded = seen
        .buckets
        .iter()
        .filter(|bucket| !bucket.shards.is_empty());
    let crowded: Vec<_> = crowded.collect();
    if crowded.is_empty() {
        return lines;
    }
    lines.push(Line::new(Tone::Plain, ""));
    lines.push(Line::new(Tone::Head, "BUCKET     NEXT IN   WAIT  SHARDS"));
    let left = rows.saturating_sub(lines.len()).max(1);
    let shown = match crowded.len() > left {
        true => left - 1,
        false => crowded.len(),
    };
    lines.extend(crowded.iter().take(shown).map(|bucket| row(bucket)));
    let rest = &crowded[shown..];
    if !rest.is_empty() {
        let waiting: usize = rest.iter().map(|bucket| bucket.shards.len()).sum();
        let more = format!("… and {} more buckets, in which {waiting} wait", rest.len());
        lines.push(Line::new(Tone::Faint, more));
    }
    lines
}

fn row(bucket: &Bucket) -> Line {
    let next = match bucket.next_in() {
        None => "-".to_owned(),
        Some(Duration::ZERO) => "now".to_owned(),
        Some(next) => words(next),
    };
    let shards: Vec<_> = bucket
        .shards
        .iter()
        .take(SHARDS)
        .map(u32::to_string)
        .collect();
    let more = match bucket.shards.len() > SHARDS {
        true => " …",
        false => "",
    };
    let (number, waiting) = (bucket.bucket, bucket.shards.len());
    let shards = shards.join(" ");
    Line::new(
        Tone::Plain,
        format!("{number:>6} {next:>11} {waiting:>6}  {shards}{more}"),
    )
}

fn leader(seen: &RemoteState) -> String {
    let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let this = match (named(&seen.pod), named(&seen.version)) {
        (Some(pod), Some(version)) => format!("{pod} ({version})"),
        (Some(pod), None) => pod,
        (None, Some(version)) => format!("this queue ({version})"),
        (None, None) => "this queue".to_owned(),
    };
    match (seen.role.as_str(), &seen.leader) {
        ("leader", _) => this,
        ("expired", _) => format!("{this}, whose right to grant has run out"),
        ("follower", Some(address)) => match named(&seen.leader_pod) {
            Some(pod) => format!("{pod}, at {address}; asked was {this}"),
            None => format!("the pod at {address}; asked was {this}"),
        },
        ("follower", None) => format!("another pod; asked was {this}"),
        _ => format!("not known; asked was {this}"),
    }
}

fn token(seen: &RemoteState) -> String {
    match seen.token.as_deref() {
        None => "not known".to_owned(),
        Some("none") => "none is configured: session starts are not counted".to_owned(),
        Some("unchecked") => "not checked yet".to_owned(),
        Some(word) => word.to_owned(),
    }
}

fn session_starts(seen: &RemoteState, now: Timestamp) -> String {
    let Some(SessionStarts {
        total,
        remaining,
        reset_time,
    }) = &seen.session_starts
    else {
        return match seen.token.as_deref() {
            Some("none") => "not counted".to_owned(),
            _ => "not known".to_owned(),
        };
    };
    let left = format!("{remaining} of {total} left");
    let at: Option<Timestamp> = reset_time.as_ref().and_then(|at| at.parse().ok());
    match at.map(|at| (at, Duration::try_from(at.duration_since(now)))) {
        None => left,
        Some((at, Ok(after))) => format!("{left}, reset in {} ({at})", words(after)),
        Some((at, Err(_))) => format!("{left}, reset was due at {at}"),
    }
}

fn waiting(seen: &RemoteState) -> String {
    let known = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
    let buckets = match seen.max_concurrency {
        Some(1) => " (1 bucket)".to_owned(),
        Some(buckets) => format!(" ({buckets} buckets)"),
        None => String::new(),
    };
    format!(
        "{} in the buckets{buckets}, {} clients held here",
        known(seen.waiting),
        known(seen.held_requests)
    )
}

fn last_grants(seen: &RemoteState) -> String {
    let mut grants: Vec<_> = seen.last_grants.iter().collect();
    grants.sort_by_key(|grant| grant.granted_ms_ago);
    let said = grants.iter().take(GRANTS).map(|grant| {
        let ago = words(Duration::from_millis(grant.granted_ms_ago));
        format!("shard {} {ago} ago", grant.shard)
    });
    said.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
