//! Random histories: what clients, Discord and the machine do to a queue.

pub(crate) mod discord;
pub(crate) mod faulty_queue;
pub(crate) mod judge;
pub(crate) mod player;
pub(crate) mod rule;

use gateway_queue_core::protocol::request;
use proptest::collection::vec;
use proptest::prelude::*;

/// One history, in plain numbers: what a failed test prints can be pasted into a test.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) setup: Setup,
    /// Each with the milliseconds since the previous one.
    pub(crate) steps: Vec<(u64, Step)>,
    /// The seed of what is not chosen: how long a write takes, whether it fails, how long Discord
    /// takes to answer and to count an identify.
    pub(crate) seed: u64,
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
    /// The maximum number of grants of a shard within the window; 0 for no limit.
    pub(crate) burst: usize,
    pub(crate) window_ms: u64,
    /// What Discord reports first.
    pub(crate) report: Report,
}

/// What Discord reports from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) remaining: u64,
    /// Zero: no window is open.
    pub(crate) reset_after_s: u64,
    /// None: an impossible number.
    pub(crate) max_concurrency: Option<u32>,
}

/// How Discord answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Normal,
    Unreachable,
    Invalid,
    RateLimited(u64),
    Rejects,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Ask(u32),
    /// A client disconnects that waits, or whose grant is in flight.
    Leave(usize),
    /// A client that disconnected asks again.
    Return(usize),
    /// A client reports something about its shard.
    ShardReport(u32, request::Report),
    Report(Report),
    /// Other programs with the same token use this many session starts.
    Others(u64),
    Discord(Mode),
    TokenMissing,
    TokenNew,
    /// The machine is suspended for this many seconds; its boot clock keeps running.
    Suspend(u64),
    /// The queue is killed and started again; all waiters ask again at once.
    Restart(bool),
}

pub(crate) fn histories() -> impl Strategy<Value = History> {
    let steps = vec((gap(), step()), 1..60);
    (setup(), steps, any::<u64>()).prop_map(|(setup, steps, seed)| History { setup, steps, seed })
}

fn setup() -> impl Strategy<Value = Setup> {
    let pacing = (1..=8_u32, prop_oneof![Just(0), Just(250)], any::<bool>());
    let budget = (
        0..=3_u64,
        prop_oneof![2 => Just(5), 2 => Just(10), 1 => Just(30), 1 => Just(300)],
    );
    let ttl = prop_oneof![Just(5_u64), Just(60)];
    let limit = (
        prop_oneof![3 => Just(0_usize), 4 => 1..=3_usize],
        prop_oneof![
            Just(1_u64),
            Just(5000),
            Just(5250),
            Just(12_000),
            Just(20_000)
        ],
    );
    let token = prop::bool::weighted(0.75);
    (token, pacing, budget, ttl, limit, report()).prop_map(
        |(token, pacing, budget, reservation_ttl_s, limit, report)| {
            let (buckets, margin_ms, guard) = pacing;
            let (reserve, refresh_s) = budget;
            let (burst, window_ms) = limit;
            Setup {
                token,
                buckets,
                margin_ms,
                guard,
                reserve,
                refresh_s,
                reservation_ttl_s,
                burst,
                window_ms,
                report,
            }
        },
    )
}

/// Often zero, so that several steps happen at one instant; sometimes exactly the interval or the
/// spacing, so that events coincide.
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

fn report() -> impl Strategy<Value = Report> {
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
        |(remaining, reset_after_s, max_concurrency)| Report {
            remaining,
            reset_after_s,
            max_concurrency,
        },
    )
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        4 => Just(Mode::Normal),
        1 => Just(Mode::Unreachable),
        1 => Just(Mode::Invalid),
        1 => (0..200_u64).prop_map(Mode::RateLimited),
        1 => Just(Mode::Rejects),
    ]
}

/// Often an invalid session, which is the only one with an effect.
fn shard_report() -> impl Strategy<Value = request::Report> {
    prop_oneof![
        Just(request::Report::InvalidSession),
        prop::sample::select(request::Report::ALL.to_vec()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        // Few shards, so that several requests are of the same one.
        40 => (0..10_u32).prop_map(Step::Ask),
        10 => any::<prop::sample::Index>().prop_map(|i| Step::Leave(i.index(64))),
        8 => any::<prop::sample::Index>().prop_map(|i| Step::Return(i.index(64))),
        12 => (0..10_u32, shard_report()).prop_map(|(shard, r)| Step::ShardReport(shard, r)),
        12 => report().prop_map(Step::Report),
        4 => (1..=10_u64).prop_map(Step::Others),
        4 => mode().prop_map(Step::Discord),
        1 => Just(Step::TokenMissing),
        2 => Just(Step::TokenNew),
        1 => (1..3600_u64).prop_map(Step::Suspend),
        2 => any::<bool>().prop_map(Step::Restart),
    ]
}
