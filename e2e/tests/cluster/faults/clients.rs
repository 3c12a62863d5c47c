//! Plain clients that wait for their turns, and note what they see.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use gateway_queue_e2e::waits::{End, Wait, grants, tell};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::kubectl::wait_for;

const GRANT: &[u8] = b"{\"message\": \"You're free to connect now! :)\"}";

/// Who was cut off asks again after so long.
const AGAIN: Duration = Duration::from_millis(200);

/// Where a client asks.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// As the test calls it.
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
}

/// How often a client asks for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turns {
    One,
    /// Again after each grant, until the crowd goes home.
    Many,
}

/// Clients that all write into one book. They are gone when it is dropped.
pub(crate) struct Crowd {
    book: Arc<Book>,
    runtime: Runtime,
}

struct Book {
    begun: Instant,
    began: SystemTime,
    buckets: u32,
    /// Who was cut off asks here from then on.
    elsewhere: Place,
    home: AtomicBool,
    clients: AtomicUsize,
    waits: Mutex<Vec<Wait>>,
}

impl Crowd {
    /// Nobody yet.
    pub(crate) fn new(buckets: u32, elsewhere: Place) -> Self {
        Self {
            book: Arc::new(Book {
                begun: Instant::now(),
                began: SystemTime::now(),
                buckets,
                elsewhere,
                home: AtomicBool::new(false),
                clients: AtomicUsize::new(0),
                waits: Mutex::default(),
            }),
            // One thread for all of them, which the test's own never stops.
            runtime: Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    /// A shard asks, and another time whenever it is cut off.
    pub(crate) fn ask(&self, shard: u32, place: &Place, turns: Turns) {
        let book = Arc::clone(&self.book);
        let place = place.clone();
        book.clients.fetch_add(1, Ordering::SeqCst);
        self.runtime.spawn(async move {
            book.client(shard, place, turns).await;
            book.clients.fetch_sub(1, Ordering::SeqCst);
        });
    }

    /// How long the book is kept.
    pub(crate) fn now(&self) -> Duration {
        self.book.begun.elapsed()
    }

    /// A moment of this machine's clock, as the book counts.
    pub(crate) fn moment(&self, at: SystemTime) -> Duration {
        at.duration_since(self.book.began).unwrap_or_default()
    }

    /// All that was noted so far.
    pub(crate) fn waits(&self) -> Vec<Wait> {
        self.book.waits.lock().unwrap().clone()
    }

    /// Whoever is granted a turn from now on asks for no other; returns all that
    /// was noted when the last one was.
    pub(crate) fn served(&self, patience: Duration) -> Vec<Wait> {
        self.book.home.store(true, Ordering::SeqCst);
        let began = Instant::now();
        while self.book.clients.load(Ordering::SeqCst) > 0 {
            assert!(
                began.elapsed() < patience,
                "some still wait after {patience:?}\n{}",
                tell(&self.waits())
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        self.waits()
    }

    /// Waits until so many more turns were granted.
    pub(crate) fn granted(&self, turns: usize) {
        let enough = grants(&self.waits()).len() + turns;
        wait_for("the clients' turns", Duration::from_secs(60), || {
            (grants(&self.waits()).len() >= enough).then_some(())
        });
    }
}

impl Book {
    async fn client(&self, shard: u32, mut place: Place, turns: Turns) {
        loop {
            let index = self.note(shard, &place);
            let end = ask(place.address, shard).await;
            let served = end == End::Granted;
            self.waits.lock().unwrap()[index].end = Some((self.begun.elapsed(), end));
            if !served {
                sleep(AGAIN).await;
                place = self.elsewhere.clone();
            } else if turns == Turns::One || self.home.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn note(&self, shard: u32, place: &Place) -> usize {
        let mut waits = self.waits.lock().unwrap();
        waits.push(Wait {
            shard,
            bucket: shard % self.buckets,
            place: place.name.to_owned(),
            asked: self.begun.elapsed(),
            end: None,
        });
        waits.len() - 1
    }
}

/// One request, on a connection of its own.
async fn ask(address: SocketAddr, shard: u32) -> End {
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return End::Refused(error.to_string()),
    };
    let request = format!("GET /?shard={shard} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let read = async {
        stream.write_all(request.as_bytes()).await?;
        while !answer.ends_with(GRANT) {
            if stream.read_buf(&mut answer).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    let read = read.await;
    if answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(GRANT) {
        return End::Granted;
    }
    let answer = String::from_utf8_lossy(&answer);
    End::Closed(match read {
        Ok(()) => format!("ended after {answer:?}"),
        Err(error) => format!("{error} after {answer:?}"),
    })
}
