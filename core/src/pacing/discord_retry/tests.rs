use super::*;
use crate::lease_state::{BlockedBy, TokenState};
use crate::pacing::budget::tests::{RULES, at, budget, fetch, fetched, grant, reported};
use crate::pacing::budget::{Budget, ONE_NANOSECOND};

#[test]
fn without_a_window_or_session_starts_the_pause_doubles() {
    let mut budget = budget(false);
    let mut now = 0;
    for pause in [5, 10, 20, 40, 60, 60] {
        fetch(&mut budget, now, reported(0, 0, 1));
        assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
        assert_eq!(budget.fetch_at(), Some(at(now + pause)));
        now += pause;
    }
    fetch(&mut budget, now, reported(1000, 0, 1));
    assert_eq!(budget.blocked_by(), None);
}

#[test]
fn without_an_open_window_the_limits_are_fetched_once_all_session_starts_are_used() {
    let mut budget = fetched(1, 0, 1);
    assert_eq!(budget.fetch_at(), Some(at(300)));
    grant(&mut budget, 20);
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsExhausted));
    assert!(budget.fetch_at().unwrap() <= at(20));
    // Discord has not counted it yet: the limits are fetched again, with longer pauses.
    fetch(&mut budget, 20, reported(1, 0, 1));
    assert_eq!(budget.fetch_at(), Some(at(25)));
    fetch(&mut budget, 25, reported(0, 86_000, 1));
    assert_eq!(budget.fetch_at(), Some(at(325)));
}

#[test]
fn a_failed_fetch_keeps_the_limits_and_backs_off() {
    let mut budget = fetched(5, 3600, 1);
    let mut now = 300;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        fetch(&mut budget, now, Outcome::Unreachable("x".to_owned()));
        assert_eq!((budget.blocked_by(), budget.remaining()), (None, Some(5)));
        assert_eq!(budget.fetch_at(), Some(at(now + pause)));
        now += pause;
    }
    assert_eq!(budget.last_error(), Some("x"));
    fetch(&mut budget, now, reported(9, 3600, 1));
    assert_eq!((budget.last_error(), budget.remaining()), (None, Some(9)));
}

#[test]
fn jitter_lengthens_a_pause_up_to_the_maximum() {
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
fn at_least_one_interval_passes_between_a_response_and_the_next_fetch() {
    for (outcome, next) in [
        (Outcome::Invalid("503".to_owned()), 5),
        (Outcome::RateLimited(Duration::ZERO), 5),
        (Outcome::RateLimited(Duration::from_secs(82_721)), 82_721),
        (Outcome::Rejected, 60),
        (reported(0, 1, 1), 5),
    ] {
        let mut budget = budget(false);
        fetch(&mut budget, 0, outcome);
        assert_eq!(budget.fetch_at(), Some(at(next)));
    }
}

#[test]
fn a_token_that_returns_does_not_end_the_pause() {
    let mut budget = budget(false);
    let silence = Outcome::RateLimited(Duration::from_secs(9000));
    fetch(&mut budget, 0, silence);
    budget.token_changed(TokenState::Missing, at(1));
    budget.token_returned(at(2));
    assert_eq!(budget.blocked_by(), Some(BlockedBy::SessionStartsUnknown));
    assert_eq!(budget.fetch_at(), Some(at(9000)));
}

/// A fetch while a grant is due, with the outcome `took` seconds later.
fn confirm(budget: &mut Budget, sent: u64, took: u64, outcome: Outcome) {
    budget.fetching(true, at(sent));
    budget.fetched(outcome, at(sent + took), 0.0);
    budget.expire(at(sent + took));
}

#[test]
fn with_a_low_budget_only_a_response_to_a_fetch_for_a_due_grant_confirms() {
    let mut budget = fetched(12, 86_400, 16);
    assert!(budget.is_low());
    assert!(!budget.may_grant(at(0)));
    // Immediately: no grant was due at the first fetch.
    assert_eq!(budget.confirm_at(at(0)), Some(at(0)));
    confirm(&mut budget, 0, 3, reported(2, 86_400, 16));
    // It confirms all session starts left, and no more.
    for _ in 0..2 {
        assert!(budget.may_grant(at(3)));
        grant(&mut budget, 3);
    }
    assert!(!budget.may_grant(at(3)));
}

#[test]
fn a_confirmation_is_valid_for_a_second_after_it_arrived() {
    let mut budget = budget(false);
    confirm(&mut budget, 0, 3, reported(12, 86_400, 16));
    let end = at(3) + CONFIRMED_FOR;
    assert!(budget.may_grant(end - ONE_NANOSECOND));
    assert!(!budget.may_grant(end));
    // A waiter that is due within it needs no fetch; a later one does.
    assert_eq!(budget.confirm_at(end - ONE_NANOSECOND), None);
    assert_eq!(budget.confirm_at(end), Some(at(5)));
    assert_eq!(budget.confirm_at(at(7)), Some(at(7)));
    // The process may have been suspended since.
    budget.expire(end);
    assert!(!budget.may_grant(at(3)));
    // The response to a regular fetch confirms nothing.
    fetch(&mut budget, 6, reported(12, 86_400, 16));
    assert!(!budget.may_grant(at(6)));
    assert_eq!(budget.confirm_at(at(6)), Some(at(6)));
}

#[test]
fn a_response_that_took_too_long_confirms_nothing() {
    let mut budget = budget(false);
    confirm(&mut budget, 0, 11, reported(12, 86_400, 16));
    assert!(!budget.may_grant(at(11)));
    assert_eq!(budget.confirm_at(at(11)), Some(at(11)));
}

#[test]
fn fetches_for_a_confirmation_are_an_interval_apart() {
    let mut budget = budget(false);
    confirm(&mut budget, 10, 0, reported(12, 86_400, 16));
    budget.expire(at(12));
    assert_eq!(budget.confirm_at(at(12)), Some(at(15)));
    // A new token may be tried at once.
    budget.token_changed(TokenState::Unchecked, at(12));
    fetch(&mut budget, 12, reported(12, 86_400, 16));
    assert_eq!(budget.confirm_at(at(12)), Some(at(12)));
}

#[test]
fn with_a_low_budget_nothing_is_granted_while_discord_is_unreachable() {
    for outcome in [
        Outcome::Unreachable("x".to_owned()),
        Outcome::Invalid("x".to_owned()),
        Outcome::RateLimited(Duration::from_secs(3600)),
        Outcome::Rejected,
    ] {
        let mut budget = fetched(12, 86_400, 1);
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
fn the_limits_of_a_predecessor_do_not_confirm_a_low_budget() {
    let mut budget = Budget::new(RULES, TokenState::Unchecked, Some(0), at(0));
    let Outcome::Limits(limits) = reported(12, 0, 1) else {
        unreachable!()
    };
    budget.adopt(limits, at(0));
    assert!(!budget.may_grant(at(0)));
    assert_eq!(budget.confirm_at(at(0)), Some(at(0)));
}
