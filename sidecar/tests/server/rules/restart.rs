//! What a predecessor did, and may have done.

use std::time::{Duration, Instant};

use super::{D, Discord, EXHAUSTED, SEEN, assert_took, is_silent, told};
use crate::common::granted;

const GUARD: (&str, &str) = ("START_GUARD", "true");

#[test]
fn the_first_grant_after_a_kill_is_an_interval_after_the_last_before_it() {
    let discord = Discord::saying(told(1, 1000, 60_000));
    let old = discord.serves(&[GUARD]);
    let last = granted(&mut old.ask(0));
    let _waits = old.ask(2);
    old.signal("-KILL");
    drop(old);
    let started = Instant::now();
    let new = discord.serves(&[GUARD]);
    let at = granted(&mut new.ask(1));
    assert!(at - last + SEEN >= D, "{:?}", at - last);
    assert_took("the guard", at - started, D);
}

#[test]
fn a_fetch_right_after_the_start_is_less_what_a_predecessor_may_have_granted() {
    // 4 buckets and two intervals: 8 of these 9 may be gone.
    let discord = Discord::saying(told(4, 9, 3_600_000));
    let started = Instant::now();
    let server = discord.serves(&[GUARD]);
    server.wait_for_state(r#""remaining":1"#);
    let mut first = server.ask(0);
    server.wait_for_state(r#""waiting":1"#);
    let mut second = server.ask(1);
    assert_took("the one", granted(&mut first) - started, D);
    server.wait_for_state(EXHAUSTED);
    assert!(is_silent(&second));
    // As soon as an answer must have counted them it asks again.
    let at = granted(&mut second);
    let calls = discord.calls();
    // With so few left, it was also asked before the first.
    assert_eq!(calls.len(), 3);
    assert!(calls[2] - started >= D * 2);
    assert!(at >= calls[2]);
    assert_took("the others", at - calls[2], Duration::ZERO);
    // Nine, less the one before that question, less the one after it.
    server.wait_for_state(r#""remaining":7"#);
}
