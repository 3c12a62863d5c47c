//! Plays one story to twilight's queue and to ours.

use std::time::Duration;

use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::scheduler::Config;
pub(crate) use gateway_queue_core::testing::story::Event::{self, Ask, Discord, Leave};
use gateway_queue_core::testing::story::Player;
pub(crate) use gateway_queue_core::testing::story::{Report, config};
use gateway_queue_core::time::Moment;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use twilight_gateway_queue::{InMemoryQueue, Queue as _};

pub(crate) const SECOND: u64 = 1000;
pub(crate) const HOUR: u64 = 3600 * SECOND;

/// Returns limits with more session starts than any test uses, and no open window.
pub(crate) fn plenty(buckets: u32) -> Report {
    Report {
        buckets,
        remaining: 1_000_000,
        total: 1_000_000,
        resets_at: Moment::ZERO,
    }
}

/// Events, each with its millisecond.
pub(crate) type Story = [(u64, Event)];
/// The milliseconds and shards of the grants, in order.
pub(crate) type Grants = Vec<(u64, u32)>;

/// Plays the story to twilight's queue, on tokio's paused clock.
pub(crate) fn peer(first: Report, story: &Story, end: u64) -> Grants {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let limits = |report: Report, now: u64| {
            let number = |n: u64| u32::try_from(n).unwrap();
            let buckets = u16::try_from(report.buckets).unwrap();
            let reset_after = report.resets_at.since(moment(now));
            (
                buckets,
                number(report.remaining),
                reset_after,
                number(report.total),
            )
        };
        let (buckets, remaining, reset_after, total) = limits(first, 0);
        let queue = InMemoryQueue::new(buckets, remaining, reset_after, total);
        let (sender, mut granted) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting: Vec<(u32, AbortHandle)> = Vec::new();
        for (ms, event) in story {
            // Without a pause between the events of one instant: the peer grants at it.
            if at(*ms) > Instant::now() {
                sleep_until(at(*ms)).await;
            }
            match *event {
                Ask(shard) => {
                    let (grant, sender) = (queue.enqueue(shard), sender.clone());
                    let waiter = tokio::spawn(async move {
                        if grant.await.is_ok() {
                            let ms = start.elapsed().as_millis() as u64;
                            sender.send((ms, shard)).unwrap();
                        }
                    });
                    waiting.push((shard, waiter.abort_handle()));
                }
                Leave(shard) => {
                    let waits = |w: &(u32, AbortHandle)| w.0 == shard && !w.1.is_finished();
                    let n = waiting.iter().position(waits).expect("it does not wait");
                    waiting.remove(n).1.abort();
                }
                Discord(report) => {
                    let (buckets, remaining, reset_after, total) = limits(report, *ms);
                    queue.update(buckets, remaining, reset_after, total);
                }
                Event::Restart => unreachable!("no story here restarts"),
            }
        }
        sleep_until(at(end)).await;
        let mut grants = Vec::new();
        while let Ok(grant) = granted.try_recv() {
            grants.push(grant);
        }
        grants
    })
}

/// Plays the story to our queue, with a Discord that answers immediately and does not count.
pub(crate) fn ours(config: Config, first: Report, story: &Story, end: u64) -> Grants {
    let mut player = Player::new(config, TokenState::Unchecked);
    player.discord = Some(first);
    let events = story.iter().map(|(ms, event)| (moment(*ms), *event));
    player.play(events, moment(end));
    let grants = player.grants.iter();
    grants.map(|(shard, at)| (millis(*at), *shard)).collect()
}

pub(crate) fn moment(ms: u64) -> Moment {
    Moment::ZERO + Duration::from_millis(ms)
}

fn millis(moment: Moment) -> u64 {
    moment.since(Moment::ZERO).as_millis() as u64
}
