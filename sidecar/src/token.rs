//! Where the token comes from, now and when it changes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::Duration;

use gateway_queue_logbook::Token;
use tokio::sync::watch;

use crate::secret::BotToken;
use crate::settings::TokenSource;

/// How often the file is read. The kubelet swaps symbolic links to whole folders, and
/// some file systems tell nothing of changes; to read a few bytes works on all.
const EVERY: Duration = Duration::from_secs(1);

/// No token is longer.
const MOST: u64 = 4096;

/// What is known of the token at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Current {
    /// None is configured.
    None,
    /// There should be one, and this is why there is none.
    Missing(String),
    /// Here it is.
    Token(BotToken),
}

impl Current {
    /// Its state before Discord has said anything about it.
    pub fn state(&self) -> Token {
        match self {
            Self::None => Token::None,
            Self::Missing(_) => Token::Missing,
            Self::Token(_) => Token::Unchecked,
        }
    }
}

/// The token as it is now, and as it will be. A file is read by a thread of
/// its own, since a file system may hang; it ends when nobody listens.
///
/// # Errors
///
/// When that thread cannot be started.
pub fn watch(source: &TokenSource) -> io::Result<watch::Receiver<Current>> {
    let (sender, receiver) = watch::channel(match source {
        TokenSource::None => Current::None,
        TokenSource::Given(token) => Current::Token(token.clone()),
        TokenSource::File(path) => read(path),
    });
    if let TokenSource::File(path) = source {
        let path = path.clone();
        thread::Builder::new()
            .name("token-file".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || follow(&path, &sender))?;
    }
    Ok(receiver)
}

fn follow(path: &Path, sender: &watch::Sender<Current>) {
    while !sender.is_closed() {
        thread::sleep(EVERY);
        let new = read(path);
        sender.send_if_modified(|current| {
            let modified = *current != new;
            *current = new;
            modified
        });
    }
}

fn read(path: &Path) -> Current {
    let mut text = String::new();
    let reading = File::open(path).and_then(|f| f.take(MOST + 1).read_to_string(&mut text));
    let why = match reading {
        Err(error) => format!("cannot read {}: {}", path.display(), error.kind()),
        Ok(size) if size as u64 > MOST => format!("{} is too long for a token", path.display()),
        Ok(_) => match BotToken::parse(&text) {
            Ok(token) => return Current::Token(token),
            Err(why) => format!("{} holds no token: {why}", path.display()),
        },
    };
    Current::Missing(why)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        assert!(missing(&file).contains("not found"));
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
        assert_eq!(tokens.borrow().state(), Token::Missing);
        fs::write(&file, "abc").unwrap();
        tokens.changed().await.unwrap();
        assert_eq!(tokens.borrow().state(), Token::Unchecked);
    }
}
