//! What happens in a simulation, drawn from its seed.

use std::time::Duration;

use fastrand::Rng;
use gateway_queue_core::pacing::shard_history::ShardLimit;

use crate::clock::{Clock, MILLI, RATES, SECOND, True};
use crate::pod::INTERVAL;

/// A part that is broken on purpose: the simulation must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// A leader's right to grant lasts as long as the others assume.
    NoMargin,
    /// The API server ignores the version that a patch names.
    NoCompareAndSwap,
    /// A handover contains only the grants of its own term.
    InheritedGuardsDropped,
    /// A grant is written without reading the clock.
    NoFence,
    /// A candidate waits half as long as a leader's right lasts.
    HalfTheWait,
    /// A handover omits what Discord may not have counted.
    UncountedForgotten,
    /// The published budget is used as if nothing had been granted since.
    PublishedBudgetTrusted,
    /// A candidate never acquires the Lease.
    NeverAcquires,
    /// A former leader still exports the state of a leader.
    StaleExports,
    /// Five minutes are added to any time on the Lease.
    DatesOverflow,
    /// No shard is held.
    NoBreaker,
}

/// The settings of a pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) duration: Duration,
    pub(crate) spacing: Duration,
    pub(crate) token: bool,
    /// The number of buckets without a token.
    pub(crate) buckets: u32,
    pub(crate) reserve: u64,
    pub(crate) refresh: Duration,
    pub(crate) shard_limit: ShardLimit,
}

/// The faults of the network: chances in a thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) lost: u16,
    pub(crate) late: u16,
    /// The event of a watch is late.
    pub(crate) stale: u16,
    pub(crate) repeated: u16,
}

/// The Lease in the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    New,
    Blank,
    Missing,
}

/// How a Lease is created again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remake {
    Blank,
    /// With the content of the old one.
    Copied,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The leader, if there is one.
    Leader,
    Any(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A process is suspended, immediately or between its next grant and the write.
    Stop(Target, True, bool),
    /// A process is killed, and started again after a while.
    Crash(Target, True),
    /// A process gets SIGTERM, and another one is started.
    Terminate(Target),
    /// A leader ends, and so do the next leaders, within this time after they begin to lead.
    EndInARow(How, u8, True),
    /// All are replaced, one after the other.
    Rollout(Settings, True),
    /// A pod cannot reach the API server.
    Cut(Target, True),
    ServerDown(True),
    /// The Lease is deleted, and created again after a while. Its leader may not notice.
    Delete(Remake, True, bool),
    /// Another client changes a label of the Lease so many times.
    Label(u8),
    /// Another client writes garbage to the Lease so many times.
    Garbage(u8),
    DiscordDown(True),
    /// Discord answers with errors and garbage.
    DiscordBroken(True),
    MoreBuckets,
}

/// How a leader ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Killed,
    /// It loses the API server, and grants as long as it may.
    Cut,
    Terminated,
}

const fn network(lost: u16, late: u16, stale: u16, repeated: u16) -> Network {
    Network {
        lost,
        late,
        stale,
        repeated,
    }
}

const NETWORKS: [Network; 9] = [
    network(0, 0, 0, 0),
    network(0, 0, 0, 0),
    network(0, 0, 800, 0),
    network(10, 10, 50, 10),
    network(50, 50, 400, 100),
    network(200, 0, 0, 0),
    network(0, 400, 0, 100),
    network(50, 400, 800, 0),
    network(100, 400, 800, 100),
];

const fn limit(burst: usize, seconds: u64) -> ShardLimit {
    let window = Duration::from_secs(seconds);
    ShardLimit { burst, window }
}

/// Short enough that some shard is granted soon after the last fault.
const LIMITS: [ShardLimit; 4] = [ShardLimit::NONE, limit(1, 15), limit(2, 20), limit(3, 25)];

#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) pods: usize,
    pub(crate) settings: Settings,
    pub(crate) network: Network,
    /// The longest time that Discord takes to answer.
    pub(crate) discord: True,
    pub(crate) first: First,
    pub(crate) faults: Vec<(True, Fault)>,
    /// When the faults end.
    pub(crate) calm_at: True,
}

impl Story {
    pub(crate) fn draw(dice: &mut Rng) -> Self {
        let token = dice.bool();
        let settings = settings(token, dice);
        let calm_at = dice.u64(40..200) * SECOND;
        let network = pick(&NETWORKS, dice);
        let mut faults: Vec<_> = (0..dice.u8(1..20))
            .map(|_| (dice.u64(0..calm_at), fault(&settings, dice)))
            .collect();
        // Two faults that are present when the calm begins.
        if dice.u8(0..4) == 0 {
            faults.push((calm_at - 30 * SECOND, Fault::ServerDown(30 * SECOND)));
        }
        if dice.u8(0..4) == 0 {
            let at = calm_at - dice.u64(0..SECOND);
            faults.push((at, Fault::Crash(Target::Leader, SECOND)));
        }
        Self {
            pods: dice.usize(2..=5),
            settings,
            network,
            discord: pick(&[200 * MILLI, 200 * MILLI, 5 * SECOND], dice),
            first: pick(
                &[
                    First::New,
                    First::New,
                    First::New,
                    First::Blank,
                    First::Missing,
                ],
                dice,
            ),
            faults,
            calm_at,
        }
    }
}

/// Draws a clock. Half of all clocks are the fastest or the slowest.
pub(crate) fn clock(broken: Broken, dice: &mut Rng) -> Clock {
    let rate = match dice.u8(0..4) {
        0 => RATES.0,
        1 => RATES.1,
        _ if broken == Broken::NoMargin => pick(&[RATES.0, RATES.1], dice),
        _ => dice.u64(RATES.0..=RATES.1),
    };
    let ahead = dice.u64(0..1_000_000 * SECOND);
    let wrong = match dice.u8(0..4) {
        0 => dice.i64(-400..400),
        1 => dice.i64(-1_000_000_000..1_000_000_000),
        _ => 0,
    };
    Clock { ahead, rate, wrong }
}

fn settings(token: bool, dice: &mut Rng) -> Settings {
    let duration = Duration::from_secs(dice.u64(10..=30));
    Settings {
        duration,
        spacing: INTERVAL + Duration::from_millis(pick(&[50, 250, 500, 1000], dice)),
        token,
        buckets: dice.u32(1..=4),
        reserve: dice.u64(0..3),
        refresh: Duration::from_secs(dice.u64(10..60)),
        shard_limit: pick(&LIMITS, dice),
    }
}

fn fault(settings: &Settings, dice: &mut Rng) -> Fault {
    let target = match dice.u8(0..10) {
        0..7 => Target::Leader,
        _ => Target::Any(dice.usize(0..5)),
    };
    let up_to = |seconds: u64, dice: &mut Rng| dice.u64(0..seconds * SECOND);
    match dice.u8(0..115) {
        0..25 => Fault::Stop(target, up_to(60, dice), dice.bool()),
        25..38 => Fault::Crash(target, up_to(30, dice)),
        38..50 => Fault::Terminate(target),
        50..62 => {
            let how = pick(&[How::Killed, How::Cut, How::Terminated], dice);
            let within = pick(&[SECOND / 4, 4 * SECOND], dice);
            Fault::EndInARow(how, dice.u8(2..5), within)
        }
        62..68 => {
            let token = settings.token;
            let next = self::settings(token, dice);
            Fault::Rollout(next, 200 * MILLI + up_to(6, dice))
        }
        68..80 => Fault::Cut(target, up_to(60, dice)),
        80..85 => Fault::ServerDown(up_to(40, dice)),
        85..91 => {
            let remake = pick(&[Remake::Blank, Remake::Blank, Remake::Copied], dice);
            Fault::Delete(remake, up_to(10, dice), dice.bool())
        }
        91..95 => Fault::Label(dice.u8(1..4)),
        95..98 => {
            let max = pick(&[30, 150], dice);
            Fault::DiscordDown(up_to(max, dice))
        }
        98..108 => Fault::Garbage(dice.u8(1..4)),
        108..112 => Fault::DiscordBroken(up_to(60, dice)),
        _ => Fault::MoreBuckets,
    }
}

fn pick<T: Copy>(from: &[T], dice: &mut Rng) -> T {
    from[dice.usize(0..from.len())]
}
