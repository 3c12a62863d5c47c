//! Where the token comes from, now and when it changes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gateway_queue_core::bot_token::BotToken;
use tokio::sync::watch;

use crate::config::TokenSource;
pub use gateway_queue_core::bot_token::Current;

/// How often the file is read. The kubelet swaps symbolic links to whole folders, and
/// some file systems tell nothing of changes; to read a few bytes works on all.
const EVERY: Duration = Duration::from_secs(1);

/// No token is longer.
const MOST: u64 = 4096;

/// The token as it is now, and as it will be. A file is read by a thread of
/// its own, since a file system may hang; it ends when nobody listens.
///
/// # Errors
///
/// When that thread cannot be started.
pub fn watch(source: &TokenSource) -> io::Result<watch::Receiver<Current>> {
    let path = match source {
        TokenSource::None => return Ok(watch::channel(Current::None).1),
        TokenSource::Given(token) => {
            return Ok(watch::channel(Current::Token(token.clone())).1);
        }
        TokenSource::File(path) => path.clone(),
    };
    let slow = format!("{} could not be read yet", shown(&path));
    let (sender, mut receiver) = watch::channel(Current::Missing(slow));
    let (first, first_read) = mpsc::channel();
    thread::Builder::new()
        .name("token-file".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || follow(&path, &sender, &first))?;
    // Usually that takes no time, and then the first thing said is the truth.
    let _ = first_read.recv_timeout(EVERY);
    receiver.mark_unchanged();
    Ok(receiver)
}

fn follow(path: &Path, sender: &watch::Sender<Current>, first: &mpsc::Sender<()>) {
    while !sender.is_closed() {
        let new = read(path);
        sender.send_if_modified(|current| {
            let modified = *current != new;
            *current = new;
            modified
        });
        let _ = first.send(());
        thread::sleep(EVERY);
    }
}

/// The path, for people; but not a token that was put in its place.
fn shown(path: &Path) -> String {
    match path.is_absolute() {
        true => path.display().to_string(),
        false => "the file that DISCORD_TOKEN_FILE names".to_owned(),
    }
}

fn read(path: &Path) -> Current {
    let mut text = String::new();
    let reading = File::open(path).and_then(|f| f.take(MOST + 1).read_to_string(&mut text));
    let why = match reading {
        Err(error) => format!("cannot read {}: {error}", shown(path)),
        Ok(size) if size as u64 > MOST => format!("{} is too long for a token", shown(path)),
        Ok(_) => match BotToken::parse(&text) {
            Ok(token) => return Current::Token(token),
            Err(why) => format!("{} holds no token: {why}", shown(path)),
        },
    };
    Current::Missing(why)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gateway_queue_core::lease_state::TokenState;

    use super::*;

    fn missing(path: &Path) -> String {
        match read(path) {
            Current::Missing(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_without_a_token_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert!(missing(&file).contains("No such file"));
        fs::write(&file, " \n").unwrap();
        assert!(missing(&file).contains("it is empty"));
        fs::write(&file, "a b").unwrap();
        assert!(missing(&file).contains("holds no token"));
        fs::write(&file, "x".repeat(5000)).unwrap();
        assert!(missing(&file).contains("too long"));
        fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(missing(&file).contains("cannot read"));
        fs::write(&file, "abc\n").unwrap();
        assert_eq!(read(&file), Current::Token(BotToken::parse("abc").unwrap()));
    }

    #[tokio::test]
    async fn a_token_that_appears_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let mut tokens = watch(&TokenSource::File(file.clone())).unwrap();
        assert_eq!(tokens.borrow().state(), TokenState::Missing);
        fs::write(&file, "abc").unwrap();
        tokens.changed().await.unwrap();
        assert_eq!(tokens.borrow().state(), TokenState::Unchecked);
    }
}
