use proptest::prelude::*;

use super::*;

pub(in crate::pacing) const RULES: Rules = Rules {
    interval: Duration::from_secs(5),
    reserve: 0,
    refresh: Duration::from_secs(300),
};

pub(in crate::pacing) fn at(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

pub(in crate::pacing) fn reported(remaining: u64, reset_after: u64, m: u32) -> Outcome {
    Outcome::Limits(Limits {
        url: None,
        shards: 1,
        total: 1000,
        remaining,
        reset_after: Duration::from_secs(reset_after),
        max_concurrency: Some(m),
    })
}

pub(in crate::pacing) fn budget(guarded: bool) -> Budget {
    let uncounted = (!guarded).then_some(0);
    Budget::new(RULES, TokenState::Unchecked, uncounted, at(0))
}

/// A budget for which Discord reported this in second 0.
pub(in crate::pacing) fn fetched(remaining: u64, reset_after: u64, m: u32) -> Budget {
    let mut budget = budget(false);
    fetch(&mut budget, 0, reported(remaining, reset_after, m));
    budget
}

pub(in crate::pacing) fn fetch(budget: &mut Budget, sent: u64, outcome: Outcome) {
    budget.fetching(false, at(sent));
    budget.fetched(outcome, at(sent), 0.0);
}

pub(in crate::pacing) fn grant(budget: &mut Budget, now: u64) {
    assert_eq!(budget.blocked_by(), None);
    budget.granted();
    budget.written(at(now));
}

#[test]
fn a_grant_takes_a_session_start_and_an_unwritten_one_returns_it() {
    let mut budget = fetched(2, 60, 1);
    grant(&mut budget, 1);
    budget.granted();
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    budget.unwritten();
    assert_eq!((budget.blocked_by(), budget.remaining()), (None, Some(1)));
}

#[test]
fn grants_that_a_response_may_not_include_are_deducted() {
    let mut budget = fetched(100, 60, 1);
    for now in [80, 89, 90, 95] {
        grant(&mut budget, now);
    }
    // A response to a request at 100 may not include grants from 90 on; one is written meanwhile.
    budget.fetching(false, at(100));
    grant(&mut budget, 101);
    budget.granted();
    budget.fetched(reported(50, 60, 1), at(102), 0.0);
    assert_eq!(budget.remaining(), Some(50 - 3 - 1));
    budget.written(at(103));
    assert_eq!(budget.remaining(), Some(50 - 4));
}

#[test]
fn after_a_guarded_start_two_grants_per_bucket_are_assumed() {
    let mut guarded = budget(true);
    fetch(&mut guarded, 1, reported(40, 3600, 16));
    assert_eq!(guarded.remaining(), Some(8));
    fetch(&mut guarded, 10, reported(40, 3600, 16));
    assert_eq!(guarded.remaining(), Some(40));
}

#[test]
fn if_only_an_assumption_blocks_grants_the_limits_are_fetched_once_it_must_be_counted() {
    let mut budget = budget(true);
    fetch(&mut budget, 1, reported(2, 3600, 1));
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    assert_eq!(budget.fetch_at(), Some(at(10)));
    fetch(&mut budget, 10, reported(2, 3600, 1));
    assert_eq!(budget.blocked_by(), None);
}

#[test]
fn session_starts_are_replenished_by_a_response_and_never_by_the_clock() {
    let mut budget = fetched(1, 60, 1);
    grant(&mut budget, 1);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    assert_eq!(budget.fetch_at(), Some(at(60)));
    budget.fetching(false, at(60));
    budget.fetched(Outcome::Unreachable("x".to_owned()), at(61), 0.0);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    assert_eq!(budget.fetch_at(), Some(at(62)));
    fetch(&mut budget, 62, reported(1000, 86_400, 1));
    assert_eq!(budget.blocked_by(), None);
}

#[test]
fn a_rejected_token_blocks_grants_until_it_is_accepted() {
    let mut budget = fetched(5, 3600, 1);
    fetch(&mut budget, 300, Outcome::Rejected);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::TokenRejected));
    fetch(&mut budget, 360, Outcome::Unreachable("x".to_owned()));
    assert_eq!(budget.blocked_by(), Some(BlockedBy::TokenRejected));
    fetch(&mut budget, 420, reported(5, 3600, 1));
    assert_eq!(
        (budget.blocked_by(), budget.token()),
        (None, TokenState::Accepted)
    );
}

#[test]
fn a_new_token_makes_the_limits_unknown_and_is_tried_at_once() {
    let mut budget = fetched(5, 3600, 1);
    fetch(
        &mut budget,
        300,
        Outcome::RateLimited(Duration::from_secs(9000)),
    );
    budget.token_changed(TokenState::Unchecked, at(301));
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsUnknown));
    assert_eq!(budget.fetch_at(), Some(at(301)));
    budget.token_changed(TokenState::Missing, at(302));
    assert_eq!(
        (budget.blocked_by(), budget.fetch_at()),
        (Some(BlockedBy::TokenMissing), None)
    );
}

#[test]
fn if_only_uncounted_grants_block_the_limits_are_fetched_once_they_must_be_counted() {
    let mut budget = fetched(4, 3600, 1);
    for now in [290, 294, 299] {
        grant(&mut budget, now);
    }
    // Discord has counted all three already; the budget cannot know that.
    fetch(&mut budget, 300, reported(1, 3600, 1));
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    assert_eq!(budget.fetch_at(), Some(at(309) + ONE_NANOSECOND));
    fetch(&mut budget, 310, reported(1, 3600, 1));
    assert_eq!(budget.blocked_by(), None);
}

#[test]
fn a_response_to_a_replaced_token_is_ignored() {
    let mut budget = budget(false);
    budget.fetching(false, at(0));
    budget.token_changed(TokenState::Unchecked, at(1));
    budget.fetched(reported(5, 3600, 1), at(2), 0.0);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsUnknown));
}

#[test]
fn the_limits_of_a_predecessor_are_used_until_discord_answers() {
    let mut budget = Budget::new(RULES, TokenState::Unchecked, Some(3), at(0));
    let Outcome::Limits(limits) = reported(2, 0, 1) else {
        unreachable!()
    };
    budget.adopt(limits, at(0));
    assert_eq!(
        (budget.fetch_at(), budget.blocked_by()),
        (Some(at(0)), None)
    );
    budget.fetching(false, at(0));
    budget.fetched(Outcome::Unreachable("x".to_owned()), at(1), 0.0);
    grant(&mut budget, 1);
    grant(&mut budget, 2);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    fetch(&mut budget, 3, reported(10, 3600, 1));
    assert_eq!(budget.remaining(), Some(10 - 2 - 3));
}

#[test]
fn without_a_token_nothing_is_counted() {
    let mut budget = Budget::new(RULES, TokenState::None, None, at(0));
    for now in 0..100 {
        grant(&mut budget, now);
    }
    assert_eq!((budget.remaining(), budget.fetch_at()), (None, None));
    assert!(budget.recent.is_empty());
    // A successor that has a token must know that these grants were not counted.
    assert_eq!(budget.uncounted(at(100)), None);
    let mut counting = fetched(9, 60, 1);
    grant(&mut counting, 1);
    assert_eq!(counting.uncounted(at(2)), Some(1));
}

#[test]
fn only_grants_that_a_response_may_not_include_are_kept() {
    let mut budget = fetched(100_000, 3600, 1);
    for now in 0..1000 {
        grant(&mut budget, now);
    }
    assert!(budget.recent.len() <= 11);
}

#[test]
fn a_budget_is_low_below_two_per_bucket_or_two_percent() {
    for (buckets, remaining, is_low) in [
        (1, 20, false),
        (1, 19, true),
        (16, 32, false),
        (16, 31, true),
        (4096, 999, true),
    ] {
        let budget = fetched(remaining, 60, buckets);
        assert_eq!(budget.is_low(), is_low, "{buckets} {remaining}");
    }
    let rules = Rules {
        reserve: 100,
        ..RULES
    };
    let mut reserved = Budget::new(rules, TokenState::Unchecked, Some(0), at(0));
    fetch(&mut reserved, 0, reported(119, 60, 1));
    assert!(reserved.is_low());
    let none = Budget::new(RULES, TokenState::None, Some(0), at(0));
    assert!(!none.is_low() && none.may_grant(at(0)));
}

/// Numbers from Discord, a Lease or the settings.
fn number() -> impl Strategy<Value = u64> {
    const EXTREMES: [u64; 10] = [
        0,
        1,
        2,
        19,
        20,
        1 << 31,
        1 << 32,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    prop_oneof![prop::sample::select(&EXTREMES[..]), any::<u64>()]
}

fn extreme_outcome() -> impl Strategy<Value = Outcome> {
    let time = (number(), 0..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns));
    let limits = (number(), number(), number(), prop::option::of(1..=4096_u32));
    prop_oneof![
        3 => limits.prop_map(|(total, remaining, ms, max_concurrency)| {
            Outcome::Limits(Limits {
                url: None,
                shards: u32::MAX,
                total,
                remaining,
                reset_after: Duration::from_millis(ms),
                max_concurrency,
            })
        }),
        1 => time.prop_map(Outcome::RateLimited),
        1 => Just(Outcome::Rejected),
        1 => Just(Outcome::Invalid(String::new())),
        1 => Just(Outcome::Unreachable(String::new())),
    ]
}

proptest! {
    #[test]
    fn no_number_panics_or_wraps_or_grants_more_than_discord_reported(
        (reserve, uncounted) in (number(), prop::option::of(number())),
        steps in prop::collection::vec((0..30_u64, extreme_outcome(), 0..3_usize), 1..12),
    ) {
        let rules = Rules { reserve, ..RULES };
        let mut budget = Budget::new(rules, TokenState::Unchecked, uncounted, at(0));
        let (mut now, mut left) = (0, None);
        for (later, outcome, grants) in steps {
            now += later;
            prop_assert!(budget.fetch_at().is_some());
            budget.fetching(true, at(now));
            budget.fetched(outcome.clone(), at(now), 1.0);
            match outcome {
                Outcome::Limits(limits) => left = Some(limits.remaining),
                Outcome::Rejected => left = None,
                _ => {}
            }
            for _ in 0..grants {
                let _ = (budget.confirm_at(at(u64::MAX)), budget.uncounted(at(now)));
                if !budget.may_grant(at(now)) {
                    break;
                }
                prop_assert!(left.is_some_and(|left| left > reserve));
                budget.granted();
                budget.written(at(now));
                left = left.map(|left| left - 1);
            }
        }
    }
}
