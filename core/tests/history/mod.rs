//! Random histories: what clients, Discord and the machine do to a queue.

pub(crate) mod broken;
pub(crate) mod discord;
pub(crate) mod judge;
pub(crate) mod player;
pub(crate) mod verdict;

use proptest::collection::vec;
use proptest::prelude::*;

/// One history. It is all plain numbers, so that what a failing test prints
/// can be pasted into a test and played again.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) setup: Setup,
    /// Each with the milliseconds since the one before.
    pub(crate) steps: Vec<(u64, Step)>,
    /// Decides what nobody chooses: how long a write takes, whether it fails,
    /// how long Discord takes to answer and to count an identify.
    pub(crate) dice: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) token: bool,
    /// The number of buckets without a token.
    pub(crate) buckets: u32,
    pub(crate) margin_ms: u64,
    pub(crate) guard: bool,
    pub(crate) reserve: u64,
    pub(crate) refresh_s: u64,
    pub(crate) reservation_ttl_s: u64,
    /// What Discord says at first.
    pub(crate) says: Says,
}

/// What Discord says from a moment on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Says {
    pub(crate) remaining: u64,
    /// Zero: no window is open.
    pub(crate) reset_after_s: u64,
    /// None: a number that cannot be.
    pub(crate) max_concurrency: Option<u32>,
}

/// How Discord answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    Unreachable,
    Useless,
    RateLimited(u64),
    Rejects,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Ask(u32),
    /// One of those who wait, or whose grant is on its way, goes away.
    Leave(usize),
    /// One of those who went away asks again.
    Return(usize),
    Says(Says),
    /// Others with the same token use so many session starts.
    Others(u64),
    Discord(Mood),
    TokenGone,
    TokenNew,
    /// The machine sleeps, and its boot clock goes on.
    Suspend(u64),
    /// Killed and started again; all who waited ask again at once.
    Restart {
        guard: bool,
    },
}

pub(crate) fn histories() -> impl Strategy<Value = History> {
    let steps = vec((gap(), step()), 1..60);
    (setup(), steps, any::<u64>()).prop_map(|(setup, steps, dice)| History { setup, steps, dice })
}

fn setup() -> impl Strategy<Value = Setup> {
    let pacing = (1..=8_u32, prop_oneof![Just(0), Just(250)], any::<bool>());
    let budget = (
        0..=3_u64,
        prop_oneof![2 => Just(5), 2 => Just(10), 1 => Just(30), 1 => Just(300)],
    );
    let kept = prop_oneof![Just(5_u64), Just(60)];
    (prop::bool::weighted(0.75), pacing, budget, kept, says()).prop_map(
        |(token, (buckets, margin_ms, guard), (reserve, refresh_s), reservation_ttl_s, says)| {
            Setup {
                token,
                buckets,
                margin_ms,
                guard,
                reserve,
                refresh_s,
                reservation_ttl_s,
                says,
            }
        },
    )
}

/// Often none at all, so that much happens in one moment; sometimes exactly
/// the interval, so that things fall together.
fn gap() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => Just(0_u64),
        4 => 1..1000_u64,
        1 => Just(5000),
        1 => Just(5250),
        3 => 1000..12_000_u64,
        1 => 12_000..90_000_u64,
    ]
}

fn says() -> impl Strategy<Value = Says> {
    let remaining = prop_oneof![
        1 => Just(0_u64),
        4 => 1..12_u64,
        3 => 12..60_u64,
        14 => 100..=1000_u64,
    ];
    let reset_after_s = prop_oneof![Just(0_u64), 1..90_u64, Just(3600)];
    let max_concurrency = prop_oneof![
        8 => (1..=8_u32).prop_map(Some),
        2 => Just(Some(16)),
        1 => Just(None),
    ];
    (remaining, reset_after_s, max_concurrency).prop_map(
        |(remaining, reset_after_s, max_concurrency)| Says {
            remaining,
            reset_after_s,
            max_concurrency,
        },
    )
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        4 => Just(Mood::Well),
        1 => Just(Mood::Unreachable),
        1 => Just(Mood::Useless),
        1 => (0..200_u64).prop_map(Mood::RateLimited),
        1 => Just(Mood::Rejects),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        // Few shards, so that they meet and come back.
        40 => (0..10_u32).prop_map(Step::Ask),
        10 => any::<prop::sample::Index>().prop_map(|i| Step::Leave(i.index(64))),
        8 => any::<prop::sample::Index>().prop_map(|i| Step::Return(i.index(64))),
        12 => says().prop_map(Step::Says),
        4 => (1..=10_u64).prop_map(Step::Others),
        4 => mood().prop_map(Step::Discord),
        1 => Just(Step::TokenGone),
        2 => Just(Step::TokenNew),
        1 => (1..3600_u64).prop_map(Step::Suspend),
        2 => any::<bool>().prop_map(|guard| Step::Restart { guard }),
    ]
}
