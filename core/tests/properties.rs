//! What must hold in every history, whatever clients, Discord and the machine do: see
//! `history::rule::Rule`. `PROPTEST_CASES=100000` plays more of them.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod history;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use history::faulty_queue::FAULTS;
use history::player::{Seen, play};
use history::{History, histories};

/// How many histories a test plays.
const CASES: u32 = 256;

/// The seed of the histories that test the judge.
const SEED: &[u8; 32] = b"one seed for all fixed histories";

fn fixed_histories() -> impl Iterator<Item = History> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, SEED);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let histories = histories();
    (0..CASES).map(move |_| histories.new_tree(&mut runner).unwrap().current())
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn every_rule_holds_in_every_history(history in histories()) {
        if let Err(violation) = play(&history, None) {
            return Err(TestCaseError::fail(violation.to_string()));
        }
    }
}

#[test]
fn each_faulty_queue_breaks_the_rule_of_its_fault() {
    let fixed: Vec<_> = fixed_histories().collect();
    let mut missed = Vec::new();
    for (fault, rule) in FAULTS {
        let mut caught = BTreeMap::new();
        for history in &fixed {
            if let Err(violation) = play(history, Some(fault)) {
                *caught.entry(violation.rule).or_insert(0) += 1;
            }
        }
        println!("{fault:?}: {caught:?} of {CASES} histories");
        if !caught.contains_key(&rule) {
            missed.push((fault, rule, caught));
        }
    }
    assert!(missed.is_empty(), "not found, with {SEED:?}: {missed:#?}");
}

#[test]
fn the_histories_include_every_rare_case() {
    let mut sum = Seen::new();
    for history in fixed_histories() {
        let seen = play(&history, None).unwrap_or_else(|v| panic!("{v}\n{history:#?}"));
        for (case, count) in seen {
            *sum.entry(case).or_default() += count;
        }
    }
    println!("{sum:?}");
    assert!(
        sum.len() == 9 && sum.values().all(|count| *count >= 5),
        "{sum:?}"
    );
}
