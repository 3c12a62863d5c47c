//! The real candidate and the real queue of two to five pods, against a model of
//! everything else, in made-up time: nothing is real but what is judged.
//!
//! What goes between a pod and the API server or Discord is their JSON. The model
//! leaves out the sockets, and the hops between pods: whoever leads has clients
//! that wait, so that it grants as soon as it may.
//!
//! All is drawn from a seed. `SEED=123` plays that one again and prints what
//! happens; `SEEDS=100000` plays more of them.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod api;
mod clock;
mod demands;
mod discord;
mod faults;
mod judge;
mod pod;
mod signals;
mod story;
mod stranger;
mod world;

use std::env;
use std::ops::Range;
use std::thread;
use std::time::Instant;

use judge::{Rule, Violation};
use story::Broken;
use world::{Seen, play};

const SEEDS: u64 = 10_000;

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={value} is no number")),
    )
}

/// Plays these. What was seen, and what was violated.
fn play_all(seeds: Range<u64>) -> (Seen, Vec<(u64, Violation)>) {
    let mut sum = Seen::default();
    let mut violations = Vec::new();
    for seed in seeds {
        let end = play(seed, Broken::Nothing, false);
        sum.add(&end.seen);
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
            sum.add(&seen);
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
    let counts = sum.counts();
    assert!(counts.iter().all(|count| *count > seeds / 500), "{sum:#?}");
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in 0..20 {
        let [one, two] = [(); 2].map(|()| play(seed, Broken::Nothing, true).trace);
        assert!(one == two, "SEED={seed} is two stories");
    }
}

/// Plays until the rule is broken.
fn finds(broken: Broken, rule: Rule) {
    let mut others = Vec::new();
    for seed in 0..SEEDS {
        match play(seed, broken, false).violation {
            Some(violation) if violation.rule == rule => {
                return println!("{broken:?}: seed {seed}: {violation}; before it {others:?}");
            }
            Some(violation) => others.push((seed, violation.rule)),
            None => {}
        }
    }
    panic!("{broken:?} does not break {rule:?} in {SEEDS} seeds, but {others:?}");
}

#[test]
fn without_the_margin_two_lead() {
    finds(Broken::NoMargin, Rule::TwoLeaders);
}

#[test]
fn without_compare_and_swap_two_lead() {
    finds(Broken::NoCompareAndSwap, Rule::TwoLeaders);
}

#[test]
fn a_release_record_without_inherited_guards_breaks_the_spacing() {
    finds(Broken::InheritedGuardsDropped, Rule::Spacing);
}

#[test]
fn a_grant_that_is_written_without_a_look_at_the_clock_breaks_the_spacing() {
    finds(Broken::NoFence, Rule::Spacing);
}

#[test]
fn a_candidate_that_waits_half_as_long_leads_with_another() {
    finds(Broken::HalfTheWait, Rule::TwoLeaders);
}

#[test]
fn a_release_record_that_hides_what_discord_may_not_have_counted_breaks_the_budget() {
    finds(Broken::UncountedForgotten, Rule::Budget);
}

#[test]
fn a_lease_state_that_is_used_as_it_is_breaks_the_budget() {
    finds(Broken::PageBelieved, Rule::Budget);
}

#[test]
fn candidates_that_never_lead_are_silent() {
    finds(Broken::NeverTakes, Rule::Silence);
}

#[test]
fn a_former_leader_that_goes_on_exporting_what_it_knew_is_found() {
    finds(Broken::StaleExports, Rule::Exports);
}

#[test]
fn a_date_on_the_lease_that_overflows_ends_a_process() {
    finds(Broken::DatesOverflow, Rule::Panic);
}
