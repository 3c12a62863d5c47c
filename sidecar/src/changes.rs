//! Channels that report changes of a value.

use tokio::sync::watch;

/// Sends the value if it differs from the current one.
pub(crate) fn send_if_new<T: PartialEq>(sender: &watch::Sender<T>, new: T) {
    sender.send_if_modified(|current| {
        let is_new = *current != new;
        *current = new;
        is_new
    });
}
