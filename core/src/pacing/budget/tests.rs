use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    interval: Duration::from_secs(5),
    reserve: 0,
    refresh: Duration::from_secs(300),
};

fn at(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

fn says(remaining: u64, reset_after: u64, m: u32) -> Outcome {
    Outcome::Limits(Limits {
        shards: 1,
        total: 1000,
        remaining,
        reset_after: Duration::from_secs(reset_after),
        max_concurrency: Some(m),
    })
}

fn budget(guarded: bool) -> Budget {
    let uncounted = (!guarded).then_some(0);
    Budget::new(RULES, TokenState::Unchecked, uncounted, at(0))
}

fn fetch(budget: &mut Budget, sent: u64, outcome: Outcome) {
    budget.fetching(false, at(sent));
    budget.fetched(outcome, at(sent), 0.0);
}

fn grant(budget: &mut Budget, now: u64) {
    assert_eq!(budget.blocked_by(), None);
    budget.granted();
    budget.written(at(now));
}

#[test]
fn what_is_unknown_is_held_and_asked_for_at_once() {
    let mut budget = budget(false);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsUnknown));
    assert_eq!(budget.fetch_at(), Some(at(0)));
    budget.fetching(false, at(0));
    assert_eq!(budget.fetch_at(), None);
    budget.fetched(says(1000, 60, 1), at(1), 0.0);
    assert_eq!(
        (budget.blocked_by(), budget.remaining()),
        (None, Some(1000))
    );
    assert_eq!(budget.fetch_at(), Some(at(301)));
}

#[test]
fn each_grant_takes_one_and_one_that_did_not_go_out_gives_it_back() {
    let mut budget = budget(false);
    fetch(&mut budget, 0, says(2, 60, 1));
    grant(&mut budget, 1);
    budget.granted();
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    budget.unwritten();
    assert_eq!((budget.blocked_by(), budget.remaining()), (None, Some(1)));
}

#[test]
fn an_answer_is_less_the_grants_that_it_may_not_have_counted() {
    let mut budget = budget(false);
    fetch(&mut budget, 0, says(100, 60, 1));
    for now in [80, 89, 90, 95] {
        grant(&mut budget, now);
    }
    // Sent at 100: grants from 90 on may not be in it, and one comes while
    // it is under way.
    budget.fetching(false, at(100));
    grant(&mut budget, 101);
    budget.granted();
    budget.fetched(says(50, 60, 1), at(102), 0.0);
    assert_eq!(budget.remaining(), Some(50 - 3 - 1));
    budget.written(at(103));
    assert_eq!(budget.remaining(), Some(50 - 4));
}

#[test]
fn after_a_guarded_start_a_predecessors_grants_are_guessed() {
    let mut guarded = budget(true);
    fetch(&mut guarded, 1, says(40, 3600, 16));
    assert_eq!(guarded.remaining(), Some(8));
    fetch(&mut guarded, 10, says(40, 3600, 16));
    assert_eq!(guarded.remaining(), Some(40));
}

#[test]
fn a_hold_that_is_only_a_guess_is_looked_at_again_when_it_must_be_counted() {
    let mut budget = budget(true);
    fetch(&mut budget, 1, says(2, 3600, 1));
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    assert_eq!(budget.fetch_at(), Some(at(10)));
    fetch(&mut budget, 10, says(2, 3600, 1));
    assert_eq!(budget.blocked_by(), None);
}

#[test]
fn an_empty_window_is_asked_about_when_it_ends_and_never_refilled_by_the_clock() {
    let mut budget = budget(false);
    fetch(&mut budget, 0, says(1, 60, 1));
    grant(&mut budget, 1);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    assert_eq!(budget.fetch_at(), Some(at(60)));
    budget.fetching(false, at(60));
    budget.fetched(Outcome::Unreachable("x".to_owned()), at(61), 0.0);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    assert_eq!(budget.fetch_at(), Some(at(62)));
    fetch(&mut budget, 62, says(1000, 86_400, 1));
    assert_eq!(budget.blocked_by(), None);
}

#[test]
fn a_long_window_is_looked_at_with_each_refresh() {
    let mut budget = budget(false);
    fetch(&mut budget, 0, says(0, 80_000, 1));
    assert_eq!(budget.fetch_at(), Some(at(300)));
}

#[test]
fn no_open_window_and_nothing_left_is_asked_again_ever_more_seldom() {
    let mut budget = budget(false);
    let mut now = 0;
    for pause in [5, 10, 20, 40, 60, 60] {
        fetch(&mut budget, now, says(0, 0, 1));
        assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
        assert_eq!(budget.fetch_at(), Some(at(now + pause)));
        now += pause;
    }
    fetch(&mut budget, now, says(1000, 0, 1));
    assert_eq!(budget.blocked_by(), None);
}

#[test]
fn without_an_open_window_the_end_of_the_one_that_opens_is_asked_for_once_all_is_used() {
    let mut budget = budget(false);
    fetch(&mut budget, 0, says(1, 0, 1));
    assert_eq!(budget.fetch_at(), Some(at(300)));
    grant(&mut budget, 20);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    assert!(budget.fetch_at().unwrap() <= at(20));
    // Discord has not counted it yet: asked again, ever more seldom.
    fetch(&mut budget, 20, says(1, 0, 1));
    assert_eq!(budget.fetch_at(), Some(at(25)));
    fetch(&mut budget, 25, says(0, 86_000, 1));
    assert_eq!(budget.fetch_at(), Some(at(325)));
}

#[test]
fn the_reserve_is_left_untouched() {
    let rules = Rules {
        reserve: 10,
        ..RULES
    };
    let mut budget = Budget::new(rules, TokenState::Unchecked, Some(0), at(0));
    fetch(&mut budget, 0, says(11, 60, 1));
    grant(&mut budget, 0);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    assert_eq!(budget.remaining(), Some(10));
}

#[test]
fn a_failed_fetch_changes_nothing_and_backs_off() {
    let mut budget = budget(false);
    fetch(&mut budget, 0, says(5, 3600, 1));
    let mut now = 300;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        fetch(&mut budget, now, Outcome::Unreachable("x".to_owned()));
        assert_eq!((budget.blocked_by(), budget.remaining()), (None, Some(5)));
        assert_eq!(budget.fetch_at(), Some(at(now + pause)));
        now += pause;
    }
    assert_eq!(budget.last_error(), Some("x"));
    fetch(&mut budget, now, says(9, 3600, 1));
    assert_eq!((budget.last_error(), budget.remaining()), (None, Some(9)));
}

#[test]
fn jitter_lengthens_a_pause_and_never_beyond_the_longest() {
    let mut budget = budget(false);
    let after = |budget: &mut Budget| {
        budget.fetching(false, at(0));
        budget.fetched(Outcome::Unreachable(String::new()), at(0), 1.0);
        budget.fetch_at().unwrap().since(at(0))
    };
    assert_eq!(after(&mut budget), Duration::from_millis(1250));
    let last = (0..9).map(|_| after(&mut budget)).last();
    assert_eq!(last, Some(Duration::from_secs(60)));
}

#[test]
fn after_any_answer_there_is_one_interval_of_silence() {
    for (outcome, next) in [
        (Outcome::Useless("503".to_owned()), 5),
        (Outcome::RateLimited(Duration::ZERO), 5),
        (Outcome::RateLimited(Duration::from_secs(82_721)), 82_721),
        (Outcome::Rejected, 60),
        (says(0, 1, 1), 5),
    ] {
        let mut budget = budget(false);
        fetch(&mut budget, 0, outcome);
        assert_eq!(budget.fetch_at(), Some(at(next)));
    }
}

#[test]
fn a_rejected_token_holds_even_with_session_starts_left_until_it_is_accepted() {
    let mut budget = budget(false);
    fetch(&mut budget, 0, says(5, 3600, 1));
    fetch(&mut budget, 300, Outcome::Rejected);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::TokenRejected));
    fetch(&mut budget, 360, Outcome::Unreachable("x".to_owned()));
    assert_eq!(budget.blocked_by(), Some(BlockedBy::TokenRejected));
    fetch(&mut budget, 420, says(5, 3600, 1));
    assert_eq!(
        (budget.blocked_by(), budget.token()),
        (None, TokenState::Accepted)
    );
}

#[test]
fn a_new_token_makes_the_limits_unknown_and_is_tried_at_once() {
    let mut budget = budget(false);
    fetch(&mut budget, 0, says(5, 3600, 1));
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
fn a_token_that_was_only_away_does_not_break_the_silence() {
    let mut budget = budget(false);
    let silence = Outcome::RateLimited(Duration::from_secs(9000));
    fetch(&mut budget, 0, silence);
    budget.token_changed(TokenState::Missing, at(1));
    budget.token_returned(at(2));
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsUnknown));
    assert_eq!(budget.fetch_at(), Some(at(9000)));
}

#[test]
fn a_hold_for_what_discord_may_not_have_counted_is_looked_at_again_when_it_must_have() {
    let mut budget = budget(false);
    fetch(&mut budget, 0, says(4, 3600, 1));
    for now in [290, 294, 299] {
        grant(&mut budget, now);
    }
    // Discord has counted all three already; nobody can know that.
    fetch(&mut budget, 300, says(1, 3600, 1));
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    assert_eq!(budget.fetch_at(), Some(at(309) + INSTANT));
    fetch(&mut budget, 310, says(1, 3600, 1));
    assert_eq!(budget.blocked_by(), None);
}

#[test]
fn an_answer_to_a_token_that_was_swapped_meanwhile_is_not_taken() {
    let mut budget = budget(false);
    budget.fetching(false, at(0));
    budget.token_changed(TokenState::Unchecked, at(1));
    budget.fetched(says(5, 3600, 1), at(2), 0.0);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsUnknown));
}

#[test]
fn what_a_predecessor_knew_is_granted_from_until_discord_answers() {
    let mut budget = Budget::new(RULES, TokenState::Unchecked, Some(3), at(0));
    let Outcome::Limits(limits) = says(2, 0, 1) else {
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
    fetch(&mut budget, 3, says(10, 3600, 1));
    assert_eq!(budget.remaining(), Some(10 - 2 - 3));
}

#[test]
fn without_a_token_there_is_no_budget() {
    let mut budget = Budget::new(RULES, TokenState::None, None, at(0));
    for now in 0..100 {
        grant(&mut budget, now);
    }
    assert_eq!((budget.remaining(), budget.fetch_at()), (None, None));
    assert!(budget.recent.is_empty());
}

#[test]
fn what_is_granted_without_a_token_is_not_said_to_be_counted() {
    let none = Budget::new(RULES, TokenState::None, Some(0), at(0));
    assert_eq!(none.uncounted(at(1)), None);
    let mut counts = budget(false);
    fetch(&mut counts, 0, says(9, 60, 1));
    grant(&mut counts, 1);
    assert_eq!(counts.uncounted(at(2)), Some(1));
}

#[test]
fn only_grants_that_an_answer_can_miss_are_remembered() {
    let mut budget = budget(false);
    fetch(&mut budget, 0, says(100_000, 3600, 1));
    for now in 0..1000 {
        grant(&mut budget, now);
    }
    assert!(budget.recent.len() <= 11);
}

/// A question of a moment at which a grant is due, and its answer `took` seconds later.
fn confirm(budget: &mut Budget, sent: u64, took: u64, outcome: Outcome) {
    budget.fetching(true, at(sent));
    budget.fetched(outcome, at(sent + took), 0.0);
    budget.expire(at(sent + took));
}

#[test]
fn a_low_budget_is_less_than_two_for_each_bucket_or_two_percent_of_all() {
    for (buckets, remaining, is_low) in [
        (1, 20, false),
        (1, 19, true),
        (16, 32, false),
        (16, 31, true),
        (4096, 999, true),
    ] {
        let mut budget = budget(false);
        fetch(&mut budget, 0, says(remaining, 60, buckets));
        assert_eq!(budget.is_low(), is_low, "{buckets} {remaining}");
    }
    let rules = Rules {
        reserve: 100,
        ..RULES
    };
    let mut reserved = Budget::new(rules, TokenState::Unchecked, Some(0), at(0));
    fetch(&mut reserved, 0, says(119, 60, 1));
    assert!(reserved.is_low());
    let none = Budget::new(RULES, TokenState::None, Some(0), at(0));
    assert!(!none.is_low() && none.may_grant(at(0)));
}

#[test]
fn with_a_low_budget_only_an_answer_to_a_question_for_a_grant_confirms() {
    let mut budget = budget(false);
    fetch(&mut budget, 0, says(12, 86_400, 16));
    assert!(budget.is_low());
    assert!(!budget.may_grant(at(0)));
    // At once: that question was not for a grant.
    assert_eq!(budget.confirm_at(at(0)), Some(at(0)));
    confirm(&mut budget, 0, 3, says(2, 86_400, 16));
    // Good for all that it says are left, and no more.
    for _ in 0..2 {
        assert!(budget.may_grant(at(3)));
        grant(&mut budget, 3);
    }
    assert!(!budget.may_grant(at(3)));
}

#[test]
fn a_confirmation_is_good_for_a_second_from_its_arrival() {
    let mut budget = budget(false);
    confirm(&mut budget, 0, 3, says(12, 86_400, 16));
    let end = at(3) + CONFIRMED_FOR;
    assert!(budget.may_grant(end - INSTANT));
    assert!(!budget.may_grant(end));
    // Whose turn comes within it needs no question, and who comes later gets one.
    assert_eq!(budget.confirm_at(end - INSTANT), None);
    assert_eq!(budget.confirm_at(end), Some(at(5)));
    assert_eq!(budget.confirm_at(at(7)), Some(at(7)));
    // The process may have been suspended since.
    budget.expire(end);
    assert!(!budget.may_grant(at(3)));
    // An answer that comes in between confirms nothing.
    fetch(&mut budget, 6, says(12, 86_400, 16));
    assert!(!budget.may_grant(at(6)));
    assert_eq!(budget.confirm_at(at(6)), Some(at(6)));
}

#[test]
fn an_answer_that_was_read_after_a_suspension_confirms_nothing() {
    let mut budget = budget(false);
    confirm(&mut budget, 0, 11, says(12, 86_400, 16));
    assert!(!budget.may_grant(at(11)));
    assert_eq!(budget.confirm_at(at(11)), Some(at(11)));
}

#[test]
fn questions_for_a_confirmation_are_an_interval_apart() {
    let mut budget = budget(false);
    confirm(&mut budget, 10, 0, says(12, 86_400, 16));
    budget.expire(at(12));
    assert_eq!(budget.confirm_at(at(12)), Some(at(15)));
    // A new token may be asked for at once.
    budget.token_changed(TokenState::Unchecked, at(12));
    fetch(&mut budget, 12, says(12, 86_400, 16));
    assert_eq!(budget.confirm_at(at(12)), Some(at(12)));
}

#[test]
fn with_a_low_budget_no_grant_is_made_while_discord_is_away() {
    for outcome in [
        Outcome::Unreachable("x".to_owned()),
        Outcome::Useless("x".to_owned()),
        Outcome::RateLimited(Duration::from_secs(3600)),
        Outcome::Rejected,
    ] {
        let mut budget = budget(false);
        fetch(&mut budget, 0, says(12, 86_400, 1));
        confirm(&mut budget, 6, 0, outcome.clone());
        assert!(!budget.may_grant(at(6)), "{outcome:?}");
        let next = budget.confirm_at(at(6)).or(budget.fetch_at());
        assert!(next > Some(at(6)), "{outcome:?}");
        if let Outcome::RateLimited(_) = outcome {
            assert_eq!(next, Some(at(3606)));
        }
    }
}

#[test]
fn what_a_predecessor_knew_is_not_enough_for_a_low_budget() {
    let mut budget = Budget::new(RULES, TokenState::Unchecked, Some(0), at(0));
    let Outcome::Limits(limits) = says(12, 0, 1) else {
        unreachable!()
    };
    budget.adopt(limits, at(0));
    assert!(!budget.may_grant(at(0)));
    assert_eq!(budget.confirm_at(at(0)), Some(at(0)));
}

/// Numbers as they come from Discord, from a Lease and from settings.
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
                shards: u32::MAX,
                total,
                remaining,
                reset_after: Duration::from_millis(ms),
                max_concurrency,
            })
        }),
        1 => time.prop_map(Outcome::RateLimited),
        1 => Just(Outcome::Rejected),
        1 => Just(Outcome::Useless(String::new())),
        1 => Just(Outcome::Unreachable(String::new())),
    ]
}

proptest! {
    #[test]
    fn no_number_panics_or_wraps_or_grants_more_than_it_says(
        (reserve, uncounted) in (number(), prop::option::of(number())),
        steps in prop::collection::vec((0..30_u64, extreme_outcome(), 0..3_usize), 1..12),
    ) {
        let rules = Rules { reserve, ..RULES };
        let mut budget = Budget::new(rules, TokenState::Unchecked, uncounted, at(0));
        let (mut now, mut said) = (0, None);
        for (later, outcome, grants) in steps {
            now += later;
            prop_assert!(budget.fetch_at().is_some());
            budget.fetching(true, at(now));
            budget.fetched(outcome.clone(), at(now), 1.0);
            match outcome {
                Outcome::Limits(limits) => said = Some(limits.remaining),
                Outcome::Rejected => said = None,
                _ => {}
            }
            for _ in 0..grants {
                let _ = (budget.confirm_at(at(u64::MAX)), budget.uncounted(at(now)));
                if !budget.may_grant(at(now)) {
                    break;
                }
                prop_assert!(said.is_some_and(|left| left > reserve));
                budget.granted();
                budget.written(at(now));
                said = said.map(|left| left - 1);
            }
        }
    }
}
