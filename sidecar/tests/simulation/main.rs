//! The real candidate and the real queue of two to five pods, with a model of everything else, in
//! simulated time.
//!
//! Pods exchange JSON with the API server and Discord. The model leaves out sockets and forwarded
//! requests: clients always wait at the leader, so that it grants as soon as it may.
//!
//! Everything is drawn from a seed. `SEED=123` repeats one run and prints what happens;
//! `SEEDS=100000` makes more runs.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod api;
mod clock;
mod demands;
mod discord;
mod faults;
mod foreign_writes;
mod pod;
mod rules;
mod signals;
mod story;
mod world;

use std::env;
use std::ops::Range;
use std::thread;
use std::time::Instant;

use rules::{Rule, Violation};
use story::Broken;
use world::{Rare, Seen, play};

const SEEDS: u64 = 10_000;

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={value} is no number")))
}

fn add(sum: &mut Seen, seen: Seen) {
    for (rare, count) in seen {
        *sum.entry(rare).or_default() += count;
    }
}

/// Plays these seeds. Returns what was seen and what was violated.
fn play_all(seeds: Range<u64>) -> (Seen, Vec<(u64, Violation)>) {
    let mut sum = Seen::default();
    let mut violations = Vec::new();
    for seed in seeds {
        let end = play(seed, Broken::Nothing, false);
        add(&mut sum, end.seen);
        violations.extend(end.violation.map(|violation| (seed, violation)));
    }
    (sum, violations)
}

#[test]
fn every_rule_holds_in_every_story() {
    if let Some(seed) = number("SEED") {
        let end = play(seed, Broken::Nothing, true);
        println!("{}\n{:#?}", end.trace.join("\n"), end.seen);
        assert!(end.violation.is_none(), "{}", end.violation.unwrap());
        return;
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let began = Instant::now();
    let (mut sum, mut violations) = (Seen::default(), Vec::new());
    thread::scope(|scope| {
        let halves = [0..seeds / 2, seeds / 2..seeds];
        for half in halves.map(|half| scope.spawn(|| play_all(half))) {
            let (seen, found) = half.join().unwrap();
            add(&mut sum, seen);
            violations.extend(found);
        }
    });
    println!("{seeds} seeds in {:?}: {sum:#?}", began.elapsed());
    if let Some((seed, _)) = violations.first() {
        println!("{}", play(*seed, Broken::Nothing, true).trace.join("\n"));
        for (seed, violation) in &violations {
            println!("SEED={seed}: {violation}");
        }
        panic!("{} of {seeds} seeds break a rule", violations.len());
    }
    let often_enough = sum.values().filter(|count| **count > seeds / 500);
    assert_eq!(often_enough.count(), Rare::COUNT, "{sum:#?}");
}

#[test]
fn the_same_seed_has_the_same_story() {
    for seed in 0..20 {
        let [one, two] = [(); 2].map(|()| play(seed, Broken::Nothing, true).trace);
        assert!(one == two, "SEED={seed} has two stories");
    }
}

#[test]
fn each_broken_part_violates_the_rule_that_it_breaks() {
    for (broken, rule) in [
        (Broken::NoMargin, Rule::TwoLeaders),
        (Broken::NoCompareAndSwap, Rule::TwoLeaders),
        (Broken::HalfTheWait, Rule::TwoLeaders),
        (Broken::InheritedGuardsDropped, Rule::Spacing),
        (Broken::NoFence, Rule::Spacing),
        (Broken::UncountedForgotten, Rule::Budget),
        (Broken::PublishedBudgetTrusted, Rule::Budget),
        (Broken::NeverAcquires, Rule::Silence),
        (Broken::StaleExports, Rule::Exports),
        (Broken::DatesOverflow, Rule::Panic),
        (Broken::NoBreaker, Rule::Burst),
    ] {
        let mut others = Vec::new();
        let violates = |seed: &u64| match play(*seed, broken, false).violation {
            Some(violation) if violation.rule == rule => true,
            Some(violation) => {
                others.push((*seed, violation.rule));
                false
            }
            None => false,
        };
        let seed = (0..SEEDS).find(violates);
        println!("{broken:?}: seed {seed:?} violates {rule:?}; before it {others:?}");
        assert!(seed.is_some(), "{broken:?} does not violate {rule:?}");
    }
}
