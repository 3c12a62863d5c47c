//! Buckets through real sockets: their clocks, their order, their number.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{D, Discord, SLACK, assert_took, ms, told};
use crate::common::{Server, granted};

/// One after the other, as requests of the same instant may overtake.
fn ask(server: &Server, shards: impl IntoIterator<Item = u32>) -> Vec<TcpStream> {
    let ask = |(n, shard)| {
        let client = server.ask(shard);
        server.wait_for_state(&format!(r#""waiting":{}"#, n + 1));
        client
    };
    (0..).zip(shards).map(ask).collect()
}

/// When each is granted, after `first`. They are granted in this order.
fn turns(clients: &mut [TcpStream], first: Instant) -> Vec<Duration> {
    let times = clients.iter_mut().map(|client| granted(client) - first);
    times.collect()
}

#[test]
fn a_bucket_waits_for_its_own_clock_alone() {
    let discord = Discord::saying(told(2, 100, 60_000));
    let server = discord.serves(&[]);
    let first = granted(&mut server.ask(0));
    let mut third = server.ask(2);
    let asked = Instant::now();
    let second = granted(&mut server.ask(1));
    assert_took("s1", second - asked, Duration::ZERO);
    assert_took("s2", granted(&mut third) - first, D);
    // Idle for longer than an interval, it grants at once.
    std::thread::sleep(D + ms(50));
    let asked = Instant::now();
    assert_took("s4", granted(&mut server.ask(4)) - asked, Duration::ZERO);
}

#[test]
fn who_came_first_goes_first_and_two_requests_of_a_shard_are_two() {
    let discord = Discord::saying(told(1, 100, 60_000));
    let server = discord.serves(&[]);
    let first = granted(&mut server.ask(2));
    let took = turns(&mut ask(&server, [1, 1, 0]), first);
    for (n, took) in (1..).zip(took) {
        assert_took("a turn", took, D * n);
    }
}

#[test]
fn who_left_takes_no_slot_and_finds_its_place_kept() {
    let discord = Discord::saying(told(1, 100, 60_000));
    let server = discord.serves(&[]);
    let first = granted(&mut server.ask(9));
    let mut clients = ask(&server, [1, 2, 3]);
    drop(clients.remove(0));
    drop(clients.remove(1));
    server.wait_for_state(r#""waiting":1"#);
    let mut back = server.ask(1);
    server.wait_for_state(r#""shards":[1,2]"#);
    assert_took("s1", granted(&mut back) - first, D);
    assert_took("s2", granted(&mut clients[0]) - first, D * 2);
    server.wait_for_state(r#""remaining":97"#);
}

#[test]
fn fewer_buckets_take_the_latest_old_grant_and_all_waiters_in_order() {
    let discord = Discord::saying(told(16, 1000, 3_600_000));
    let server = discord.serves(&[("REFRESH_INTERVAL", "500ms")]);
    granted(&mut server.ask(0));
    // Late in the interval, so that the old clocks still run when it ends.
    std::thread::sleep(ms(300));
    let mut last = Instant::now();
    for shard in 1..16 {
        last = granted(&mut server.ask(shard));
    }
    let mut clients = ask(&server, [18, 17]);
    discord.say(told(1, 1000, 3_600_000));
    server.wait_for_state(r#""max_concurrency":1,"#);
    clients.push(server.ask(16));
    for (n, took) in (1..).zip(turns(&mut clients, last)) {
        assert_took("a turn", took, D * n);
    }
}

#[test]
fn more_buckets_let_all_who_wait_go_when_the_old_one_is_free() {
    let discord = Discord::saying(told(1, 1000, 3_600_000));
    let server = discord.serves(&[("REFRESH_INTERVAL", "600ms")]);
    let first = granted(&mut server.ask(0));
    let mut clients = ask(&server, 1..16);
    discord.say(told(16, 1000, 3_600_000));
    let took = turns(&mut clients, first);
    assert_took("s1", took[0], D);
    for took in &took[1..] {
        assert_took("another", *took, D * 2);
    }
}

#[test]
fn a_max_concurrency_that_cannot_be_is_counted_also_in_the_first_answer() {
    let discord = Discord::saying(told(0, 10, 60_000));
    let server = discord.serves(&[]);
    server.last_error();
    let refused = "gateway_queue_invalid_max_concurrency_total 1\n";
    server.wait_for_page("/metrics", refused);
}

#[test]
fn a_max_concurrency_that_cannot_be_is_refused_and_the_old_one_kept() {
    let discord = Discord::saying(told(2, 1000, 3_600_000));
    let server = discord.serves(&[("REFRESH_INTERVAL", "500ms")]);
    granted(&mut server.ask(0));
    for (n, impossible) in (1..).zip([0, 5000]) {
        discord.say(told(impossible, 1000, 3_600_000));
        let refused = format!("gateway_queue_invalid_max_concurrency_total {n}\n");
        server.wait_for_page("/metrics", &refused);
        // As soon as it is refused it must not be refused again.
        discord.say(told(2, 1000, 3_600_000));
        let metrics = server.page("/metrics").1;
        assert!(metrics.contains("gateway_queue_max_concurrency 2\n"));
    }
    let asked = Instant::now();
    granted(&mut server.ask(0));
    granted(&mut server.ask(1));
    assert!(asked.elapsed() < SLACK);
}
