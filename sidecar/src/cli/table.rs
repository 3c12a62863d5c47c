//! The state of a queue as a table. Pure.

use std::time::Duration;

use gateway_queue_telemetry::escaped;
use jiff::Timestamp;

use super::color::{Paint, Tone};
use super::duration::human;
use super::remote_state::{Bucket, RemoteState, SessionStarts};

/// How many shards of each bucket are shown.
const MAX_SHARDS: usize = 8;

/// How many of the last grants are shown.
const MAX_GRANTS: usize = 3;

/// How many crash-looping shards, and how many that are not ready, are shown.
const MAX_LISTED: usize = 4;

/// A line, which is colored after it has been cut to the width of the terminal.
pub(crate) struct Line(Tone, String);

impl Line {
    fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self(tone, text.into())
    }

    /// Returns a line with a name and a value.
    pub(crate) fn field(tone: Tone, name: &str, value: &str) -> Self {
        Self(tone, format!("{name:<15} {value}"))
    }
}

/// Returns the lines as text, each with at most `columns` characters.
pub(crate) fn print(lines: &[Line], columns: usize, paint: Paint) -> String {
    let mut text = String::new();
    for Line(tone, line) in lines {
        // Text from a server must not control the terminal.
        let line = escaped(line);
        let fits = if line.chars().count() > columns {
            let start = line.chars().take(columns.saturating_sub(1));
            start.chain(['…']).collect()
        } else {
            line.into_owned()
        };
        text.push_str(&paint.apply(*tone, &fits));
        text.push('\n');
    }
    text
}

/// Returns the state as at most `rows` lines, with at least one bucket.
pub(crate) fn table(state: &RemoteState, now: Timestamp, rows: usize) -> Vec<Line> {
    let mut lines = match &state.upstream {
        Some(upstream) => {
            let text = format!("{upstream}; this is its agent ({})", state.version);
            vec![Line::field(Tone::Plain, "upstream", &text)]
        }
        None => vec![
            Line::field(Tone::Plain, "leader", &leader(state)),
            Line::field(Tone::Plain, "token", token(&state.token)),
            Line::field(Tone::Plain, "session starts", &session_starts(state, now)),
        ],
    };
    lines.extend([
        granting(state),
        Line::field(Tone::Plain, "waiting", &waiting(state)),
    ]);
    // Session starts that are known are granted, even if Discord is unreachable.
    if let (None, Some(last_error)) = (&state.message, &state.last_error) {
        lines.push(Line::field(Tone::Bad, "last error", last_error));
    }
    if !state.last_grants.is_empty() {
        lines.push(Line::field(Tone::Plain, "last grants", &last_grants(state)));
    }
    let crash_looping = state.crash_looping.iter().map(|looping| {
        let when = match looping.released_in_ms {
            0 => "now".to_owned(),
            ms => format!("in {}", human(Duration::from_millis(ms))),
        };
        format!("shard {}, next grant {when}", looping.shard)
    });
    lines.extend(listed(Tone::Bad, "crash loop", "; ", crash_looping));
    let not_ready = state.not_ready().into_iter().map(|(shard, what, ago)| {
        let ago = human(ago);
        format!("shard {shard} {what} {ago} ago")
    });
    lines.extend(listed(Tone::Plain, "not ready", ", ", not_ready));
    let is_busy = |bucket: &&Bucket| !bucket.shards.is_empty();
    let busy: Vec<_> = state.buckets.iter().filter(is_busy).collect();
    if busy.is_empty() {
        return lines;
    }
    lines.push(Line::new(Tone::Plain, ""));
    lines.push(Line::new(Tone::Head, "BUCKET     NEXT IN   WAIT  SHARDS"));
    let left = rows.saturating_sub(lines.len()).max(1);
    let shown = if busy.len() > left {
        left - 1
    } else {
        busy.len()
    };
    lines.extend(busy.iter().take(shown).map(|bucket| row(bucket)));
    let rest = &busy[shown..];
    if !rest.is_empty() {
        let waiting: usize = rest.iter().map(|bucket| bucket.shards.len()).sum();
        let more = format!(
            "… and {} more buckets with {waiting} waiting requests",
            rest.len()
        );
        lines.push(Line::new(Tone::Faint, more));
    }
    lines
}

/// Returns a line with the first entries of a list; none if it is empty.
fn listed(
    tone: Tone,
    name: &str,
    separator: &str,
    mut entries: impl ExactSizeIterator<Item = String>,
) -> Option<Line> {
    let shown: Vec<_> = entries.by_ref().take(MAX_LISTED).collect();
    let more = match entries.len() {
        0 => String::new(),
        more => format!("{separator}and {more} more"),
    };
    let list = shown.join(separator) + &more;
    (!shown.is_empty()).then(|| Line::field(tone, name, &list))
}

fn row(bucket: &Bucket) -> Line {
    let next = match bucket.next_grant_in_ms {
        None => "-".to_owned(),
        Some(0) => "now".to_owned(),
        Some(ms) => human(Duration::from_millis(ms)),
    };
    let shards = bucket.shards.iter().take(MAX_SHARDS);
    let shards: Vec<_> = shards.map(u32::to_string).collect();
    let more = if bucket.shards.len() > MAX_SHARDS {
        " …"
    } else {
        ""
    };
    let (number, waiting) = (bucket.bucket, bucket.shards.len());
    let shards = shards.join(" ");
    Line::new(
        Tone::Plain,
        format!("{number:>6} {next:>11} {waiting:>6}  {shards}{more}"),
    )
}

fn granting(state: &RemoteState) -> Line {
    let (tone, text) = match &state.message {
        Some(message) => (Tone::Bad, format!("NO: {message}")),
        None if state.role == "agent" => (
            Tone::Plain,
            "by the upstream, which has the buckets".to_owned(),
        ),
        None if state.role == "follower" => (
            Tone::Plain,
            "by the leader, which has the buckets".to_owned(),
        ),
        None => match state.first_grant_in() {
            Some(first) => {
                let text = format!("yes, the first grant is due in {}", human(first));
                (Tone::Good, text)
            }
            None => (Tone::Good, "yes".to_owned()),
        },
    };
    Line::field(tone, "granting", &text)
}

fn leader(state: &RemoteState) -> String {
    let name = state.pod.as_deref().unwrap_or("this queue");
    let queried = format!("{name} ({})", state.version);
    match (state.role.as_str(), state.leader) {
        ("leader", _) => queried,
        ("follower", Some(address)) => {
            let pod = state.leader_pod.as_deref().unwrap_or("a pod");
            format!("{pod} at {address}; this is {queried}")
        }
        ("expired", _) => format!("unknown: {queried} could not renew the Lease"),
        _ => format!("unknown; this is {queried}"),
    }
}

fn token(token: &str) -> &str {
    match token {
        "none" => "none is configured: session starts are not counted",
        "unchecked" => "not checked yet",
        token => token,
    }
}

fn session_starts(state: &RemoteState, now: Timestamp) -> String {
    let Some(SessionStarts {
        total,
        remaining,
        reset_time,
    }) = &state.session_starts
    else {
        let counted = state.token != "none";
        return if counted { "unknown" } else { "not counted" }.to_owned();
    };
    let left = format!("{remaining} of {total} left");
    let at: Option<Timestamp> = reset_time.as_ref().and_then(|at| at.parse().ok());
    match at.map(|at| (at, Duration::try_from(at.duration_since(now)))) {
        None => left,
        Some((at, Ok(after))) => format!("{left}, reset in {} ({at})", human(after)),
        Some((at, Err(_))) => format!("{left}, reset was due at {at}"),
    }
}

fn waiting(state: &RemoteState) -> String {
    let (waiting, held) = (state.waiting, state.held_requests);
    match (state.role.as_str(), state.bucket_count) {
        ("leader", 1) => format!("{waiting} in 1 bucket; this pod holds {held}"),
        ("leader", buckets) => format!("{waiting} in {buckets} buckets; this pod holds {held}"),
        ("agent", _) => format!("this agent holds {held}"),
        _ => format!("this pod holds {held}"),
    }
}

fn last_grants(state: &RemoteState) -> String {
    let grants = state.last_grants.iter().take(MAX_GRANTS).map(|grant| {
        let ago = human(Duration::from_millis(grant.granted_ms_ago));
        format!("shard {} {ago} ago", grant.shard)
    });
    grants.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
