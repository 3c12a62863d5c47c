//! The rules of the session starts and of the buckets, for the binary as it is
//! started with nothing but environment variables, half a second between grants.

mod away;
mod buckets;
mod restart;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::fake::{Fake, Port, limits, response};
use crate::common::{LONG, Server, granted, machine};

/// The interval, and so the spacing.
const D: Duration = Duration::from_millis(500);

/// We see a grant, or a request, a moment after it was sent.
const SEEN: Duration = Duration::from_millis(20);

/// How late a thing may be here, on a machine that also compiles.
const SLACK: Duration = Duration::from_millis(300);

/// What a Discord says that accepts and never answers.
const SILENCE: &str = "";

/// A Discord that answers what it was last told to say, and may be away.
struct Discord {
    port: Port,
    says: Arc<Mutex<String>>,
    here: Option<Fake>,
    /// All tests here measure times.
    _timed: machine::Timed,
}

impl Discord {
    fn away() -> Self {
        Self {
            port: Port::take(),
            says: Arc::default(),
            here: None,
            _timed: machine::timed(),
        }
    }

    fn saying(answer: String) -> Self {
        let mut discord = Self::away();
        discord.say(answer);
        discord.come();
        discord
    }

    fn come(&mut self) {
        let says = Arc::clone(&self.says);
        self.here = Some(self.port.listen(move |_, mut stream| {
            let answer = says.lock().unwrap().clone();
            if answer == SILENCE {
                let _ = stream.read(&mut [0]);
            }
            let _ = stream.write_all(answer.as_bytes());
        }));
    }

    fn say(&self, answer: String) {
        *self.says.lock().unwrap() = answer;
    }

    /// When it was asked, since it came.
    fn calls(&self) -> Vec<Instant> {
        self.here.as_ref().map_or_else(Vec::new, Fake::calls)
    }

    /// Waits until it was asked so many times.
    fn asked(&self, times: usize) -> Vec<Instant> {
        let start = Instant::now();
        while self.calls().len() < times {
            assert!(start.elapsed() < LONG, "asked {} times", self.calls().len());
            thread::sleep(Duration::from_millis(2));
        }
        self.calls()
    }

    fn serves(&self, more: &[(&str, &str)]) -> Server {
        let url = self.port.url();
        let mut environment = vec![("DISCORD_API", url.as_str()), ("DISCORD_TOKEN", "t0ken")];
        environment.extend(more);
        Server::start(&environment)
    }
}

/// An answer with max_concurrency, remaining and reset_after in milliseconds.
fn told(m: u32, remaining: u64, reset_after: u64) -> String {
    response("200 OK", &limits(m, remaining, reset_after))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Not before `expected`, and not much after it.
fn assert_took(what: &str, took: Duration, expected: Duration) {
    assert!(
        took + SEEN >= expected && took < expected + SLACK,
        "{what}: {took:?} for {expected:?}"
    );
}

fn is_silent(client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let peeked = client.peek(&mut [0]);
    client.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Ends it, and counts what it said in the log since it was last looked at.
fn said(mut server: Server, text: &str) -> usize {
    server.signal("-TERM");
    let times = server.log_to_the_end().filter(|line| line.contains(text));
    let times = times.count();
    assert!(server.ended().success());
    times
}

const EXHAUSTED: &str = r#""blocked_by":"session_starts_exhausted""#;

#[test]
fn used_up_session_starts_come_back_only_when_discord_says_so() {
    thread::scope(|scope| {
        // At the end of the window Discord knows of no new one, or of nothing.
        for then in [told(16, 0, 200), response("500 Oops", "")] {
            scope.spawn(move || {
                let discord = Discord::saying(told(16, 3, 1000));
                let server = discord.serves(&[]);
                server.wait_for_state(r#""remaining":3,"#);
                // The second question is for these, as few are left.
                for shard in 0..3 {
                    granted(&mut server.ask(shard));
                }
                let mut others: Vec<_> = (3..16).map(|shard| server.ask(shard)).collect();
                server.wait_for_state(r#""waiting":13"#);
                server.wait_for_state(EXHAUSTED);
                discord.say(then);
                let calls = discord.asked(3);
                assert_took("the window", calls[2] - calls[1], ms(1000));
                server.wait_for_state(EXHAUSTED);
                assert!(others.iter().all(is_silent));
                discord.say(told(16, 1000, 86_400_000));
                let times: Vec<_> = others.iter_mut().map(granted).collect();
                let calls = discord.calls();
                assert_eq!(calls.len(), 4);
                assert!(calls[3] - calls[2] + SEEN >= D, "{calls:?}");
                assert!(times.iter().all(|at| *at >= calls[3]));
                assert_eq!(said(server, r#""reason":"session_starts_exhausted""#), 1);
            });
        }
    });
}

#[test]
fn all_who_ask_at_once_get_what_is_left_at_once() {
    let discord = Discord::saying(told(16, 3, 2000));
    let server = discord.serves(&[]);
    server.wait_for_state(r#""remaining":3,"#);
    let start = Instant::now();
    let clients: Vec<_> = (0..16).map(|shard| server.ask(shard)).collect();
    server.wait_for_state(EXHAUSTED);
    discord.say(told(16, 1000, 86_400_000));
    // Each sees its own grant, in whatever order they came.
    let wait = |mut client| thread::spawn(move || granted(&mut client));
    let threads: Vec<_> = clients.into_iter().map(wait).collect();
    let mut times: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    times.sort();
    // At the start, for the three, and when the window has ended.
    let calls = discord.calls();
    assert_eq!(calls.len(), 3);
    assert_took("the three", times[2] - start, Duration::ZERO);
    assert_took("the window", calls[2] - calls[1], ms(2000));
    assert!(times[3..].iter().all(|at| *at >= calls[2]));
}

#[test]
fn a_refresh_that_says_more_wakes_who_waits_at_once() {
    let discord = Discord::saying(told(1, 0, 3_600_000));
    let server = discord.serves(&[("REFRESH_INTERVAL", "600ms")]);
    let mut client = server.ask(0);
    server.wait_for_state(EXHAUSTED);
    discord.say(told(1, 5, 3_600_000));
    let at = granted(&mut client);
    let calls = discord.calls();
    assert_took("the refresh", calls[1] - calls[0], ms(600));
    assert_took("the grant", at - calls[1], Duration::ZERO);
}

#[test]
fn the_reserve_is_left_and_why_nothing_is_granted_is_said_once() {
    let discord = Discord::saying(told(16, 4, 60_000));
    let server = discord.serves(&[("SESSION_RESERVE", "2"), ("REFRESH_INTERVAL", "500ms")]);
    granted(&mut server.ask(0));
    granted(&mut server.ask(1));
    // Discord has counted those.
    discord.say(told(16, 2, 60_000));
    let client = server.ask(2);
    server.wait_for_state(EXHAUSTED);
    discord.asked(3);
    assert!(is_silent(&client));
    assert!(server.page("/metrics").1.contains("_reserve 2\n"));
    assert_eq!(said(server, r#""reason":"session_starts_exhausted""#), 1);
}

#[test]
fn a_fetch_is_less_the_grants_of_the_two_intervals_before_it() {
    let discord = Discord::saying(told(16, 100, 3_600_000));
    let server = discord.serves(&[("REFRESH_INTERVAL", "700ms")]);
    for shard in 0..4 {
        granted(&mut server.ask(shard));
    }
    server.wait_for_state(r#""remaining":96"#);
    // Sent 700 ms after them, with the same number: it may not count them.
    discord.asked(2);
    server.wait_for_page(
        "/metrics",
        "discord_requests_total{outcome=\"success\"} 2\n",
    );
    let state = server.page("/state").1;
    assert!(state.contains(r#""remaining":96"#), "{state}");
    // Sent 1.4 s after them, it does.
    discord.asked(3);
    server.wait_for_state(r#""remaining":100"#);
}

#[test]
fn without_a_window_what_is_left_is_granted_and_nothing_is_asked_about_after_an_interval() {
    let some = Discord::saying(told(1, 1, 0));
    let none = Discord::saying(told(1, 0, 0));
    let some_server = some.serves(&[]);
    let none_server = none.serves(&[]);
    let mut held = none_server.ask(0);
    some_server.wait_for_state(r#""remaining":1,"#);
    granted(&mut some_server.ask(0));
    none_server.wait_for_state(EXHAUSTED);
    assert!(is_silent(&held));
    none.asked(2);
    none_server.wait_for_state(EXHAUSTED);
    assert!(is_silent(&held));
    none.say(told(1, 5, 0));
    let at = granted(&mut held);
    let calls = none.calls();
    assert!(
        calls.windows(2).all(|c| c[1] - c[0] + SEEN >= D),
        "{calls:?}"
    );
    assert!(at >= calls[2]);
    assert_eq!(
        said(none_server, r#""reason":"session_starts_exhausted""#),
        1
    );
    // The second question is for the grant, as few are left.
    let calls = some.calls();
    assert!(
        calls[1..].windows(2).all(|c| c[1] - c[0] + SEEN >= D),
        "{calls:?}"
    );
}
