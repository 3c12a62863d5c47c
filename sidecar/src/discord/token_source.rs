//! Reads the token from its source, and watches it for changes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gateway_queue_core::bot_token::BotToken;
use tokio::sync::watch;

use crate::changes::send_if_new;
use crate::config::TokenSource;
pub use gateway_queue_core::bot_token::Current;

/// How often the file is read. The kubelet replaces symbolic links to folders, and some
/// file systems report no changes; reading a few bytes works everywhere.
const INTERVAL: Duration = Duration::from_secs(1);

/// No token is longer.
const MAX_BYTES: u64 = 4096;

/// Returns the token and its future values. A thread of its own reads a file, because a
/// file system may hang; it exits when the receivers are dropped.
///
/// # Errors
///
/// If the thread cannot be started.
pub fn watch(source: &TokenSource) -> io::Result<watch::Receiver<Current>> {
    let path = match source {
        TokenSource::None => return Ok(watch::channel(Current::None).1),
        TokenSource::Given(token) => {
            return Ok(watch::channel(Current::Token(token.clone())).1);
        }
        TokenSource::File(path) => path.clone(),
    };
    let unread = format!("{} could not be read yet", shown(&path));
    let (sender, mut receiver) = watch::channel(Current::Missing(unread));
    let (first, first_read) = mpsc::channel();
    thread::Builder::new()
        .name("token-file".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || follow(&path, &sender, &first))?;
    // Usually the first read takes no time, and no wrong value is reported.
    let _ = first_read.recv_timeout(INTERVAL);
    receiver.mark_unchanged();
    Ok(receiver)
}

fn follow(path: &Path, sender: &watch::Sender<Current>, first: &mpsc::Sender<()>) {
    while !sender.is_closed() {
        send_if_new(sender, read(path));
        let _ = first.send(());
        thread::sleep(INTERVAL);
    }
}

/// The path for messages, unless it may be a token that was set by mistake.
fn shown(path: &Path) -> String {
    if path.is_absolute() {
        path.display().to_string()
    } else {
        "the file that DISCORD_TOKEN_FILE names".to_owned()
    }
}

fn read(path: &Path) -> Current {
    let mut text = String::new();
    let reading = File::open(path).and_then(|f| f.take(MAX_BYTES + 1).read_to_string(&mut text));
    let error = match reading {
        Err(error) => format!("cannot read {}: {error}", shown(path)),
        Ok(size) if size as u64 > MAX_BYTES => format!("{} is too long for a token", shown(path)),
        Ok(_) => match BotToken::parse(&text) {
            Ok(token) => return Current::Token(token),
            Err(error) => format!("{} contains no token: {error}", shown(path)),
        },
    };
    Current::Missing(error)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn missing(path: &Path) -> String {
        match read(path) {
            Current::Missing(error) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_message_states_why_a_file_has_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert!(missing(&file).contains("No such file"));
        fs::write(&file, " \n").unwrap();
        assert!(missing(&file).contains("it is empty"));
        fs::write(&file, "a b").unwrap();
        assert!(missing(&file).contains("contains no token"));
        fs::write(&file, "x".repeat(5000)).unwrap();
        assert!(missing(&file).contains("too long"));
        fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(missing(&file).contains("cannot read"));
        fs::write(&file, "abc\n").unwrap();
        assert_eq!(read(&file), Current::Token(BotToken::parse("abc").unwrap()));
    }
}
