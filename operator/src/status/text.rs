//! The wording that messages of conditions share.

use gateway_queue_core::lease_state::Entry;

use crate::api::TokenSecretRef;
use crate::desired::Owner;

/// The length of a message, in characters: it is read in a terminal.
const MAX_MESSAGE_CHARS: usize = 1024;

/// The kubectl command that shows more about the queue's pods.
pub(super) fn kubectl(command: &str, owner: &Owner) -> String {
    format!(
        "`kubectl -n {} {command} -l app.kubernetes.io/instance={}`",
        owner.namespace, owner.name
    )
}

/// Where a token is stored.
pub(super) fn place(token: Option<&TokenSecretRef>) -> String {
    match token {
        Some(token) => format!("Secret {}, key {}", token.name, token.key),
        None => "no Secret".to_owned(),
    }
}

/// The names of shards: `Shard 3`, or `Shards 3, 5 and 7`.
pub(super) fn shards(shards: &[u32]) -> String {
    let ids: Vec<String> = shards.iter().map(u32::to_string).collect();
    match ids.split_last() {
        Some((last, [])) => format!("Shard {last}"),
        Some((last, others)) => format!("Shards {} and {last}", others.join(", ")),
        None => "No shard".to_owned(),
    }
}

/// A quoted text with a period at its end.
pub(super) fn period(text: &str) -> String {
    format!("{}.", text.trim_end().trim_end_matches('.'))
}

/// The same with a capital first.
pub(super) fn sentence(text: &str) -> String {
    let text = period(text);
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}

/// The text, cut if it is longer than [`MAX_MESSAGE_CHARS`].
pub(super) fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What to add about a last error: the leader grants the session starts that it knows of,
/// even while it cannot ask Discord for more.
pub(super) fn last_error(entry: &Entry) -> String {
    let error = entry.last_error.as_ref();
    error.map_or_else(String::new, |error| {
        format!(" The last request to Discord failed: {}", period(error))
    })
}

/// When there are session starts again.
pub(super) fn reset(entry: &Entry) -> String {
    let reset = entry.session_starts.and_then(|starts| starts.reset_time);
    match reset {
        Some(reset) => format!("The limit resets at {reset}."),
        None => "The limit resets when Discord opens the next window.".to_owned(),
    }
}
