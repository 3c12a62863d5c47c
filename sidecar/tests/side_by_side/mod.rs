//! Plays one story to the peer's queue and to ours.

use std::collections::HashMap;
use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::budget::{Outcome, Rules};
use gateway_queue_core::pacing::pacer::WaiterId;
use gateway_queue_core::pacing::scheduler::{Config, Queue};
use gateway_queue_core::time::Moment;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use twilight_gateway_queue::{InMemoryQueue, Queue as _};

pub(crate) const SECOND: u64 = 1000;
pub(crate) const HOUR: u64 = 3600 * SECOND;

/// What happens; the number with `Ask` and `Leave` is the shard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Ask(u32),
    /// The oldest request of the shard that waits goes away.
    Leave(u32),
    /// From now on Discord says this. The peer is told by `update`, we ask.
    Discord(Says),
}
pub(crate) use Event::{Ask, Discord, Leave};

/// Discord's answer, or the first settings: the window ends at `reset_at`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Says {
    pub(crate) buckets: u16,
    pub(crate) remaining: u32,
    pub(crate) total: u32,
    pub(crate) reset_at: u64,
}

/// More session starts than any test uses.
pub(crate) fn plenty(buckets: u16) -> Says {
    Says {
        buckets,
        remaining: 1_000_000,
        total: 1_000_000,
        reset_at: 0,
    }
}

/// Events, each with its millisecond.
pub(crate) type Story = [(u64, Event)];
/// Who was granted at which millisecond, in order.
pub(crate) type Grants = Vec<(u64, u32)>;

/// Plays the story to the peer, on tokio's clock, which stands still while
/// there is something to do.
pub(crate) fn peer(first: Says, story: &Story, end: u64) -> Grants {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let reset_after = Duration::from_millis(first.reset_at);
        let queue = InMemoryQueue::new(first.buckets, first.remaining, reset_after, first.total);
        let (tell, mut granted) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting: Vec<(u32, AbortHandle)> = Vec::new();
        for (ms, event) in story {
            // Without a pause between events of one moment: the peer grants in it.
            if at(*ms) > Instant::now() {
                sleep_until(at(*ms)).await;
            }
            match *event {
                Ask(shard) => {
                    let (turn, tell) = (queue.enqueue(shard), tell.clone());
                    let waiter = tokio::spawn(async move {
                        if turn.await.is_ok() {
                            let ms = start.elapsed().as_millis() as u64;
                            tell.send((ms, shard)).unwrap();
                        }
                    });
                    waiting.push((shard, waiter.abort_handle()));
                }
                Leave(shard) => {
                    let waits = |w: &(u32, AbortHandle)| w.0 == shard && !w.1.is_finished();
                    let n = waiting.iter().position(waits).expect("it does not wait");
                    waiting.remove(n).1.abort();
                }
                Discord(says) => {
                    let reset_after = Duration::from_millis(says.reset_at.saturating_sub(*ms));
                    queue.update(says.buckets, says.remaining, reset_after, says.total);
                }
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

/// How we are set up for a comparison: without a margin.
pub(crate) fn config(place_kept: Duration) -> Config {
    Config {
        spacing: Duration::from_secs(5),
        start_guard: false,
        place_kept,
        max_concurrency: 1,
        rules: Rules {
            interval: Duration::from_secs(5),
            reserve: 0,
            refresh: Duration::from_secs(300),
        },
    }
}

/// Plays the story to our queue, with made-up time and a Discord that answers
/// at once. While the story does not end, nor does Discord's last word change.
pub(crate) fn ours(config: Config, first: Says, story: &Story, end: u64) -> Grants {
    let mut queue = Queue::new(&config, TokenState::Unchecked, Moment::ZERO);
    let mut says = first;
    let mut waiting: HashMap<u32, Vec<WaiterId>> = HashMap::new();
    let mut grants = Vec::new();
    let mut now = Moment::ZERO;
    let stop = (end, None);
    let story = story.iter().map(|(ms, event)| (*ms, Some(*event)));
    for (n, (ms, event)) in (0..).zip(story.chain([stop])) {
        let then = Moment::ZERO + Duration::from_millis(ms);
        while let Some(at) = queue.wake_at().map(|at| at.max(now))
            && at < then
        {
            now = at;
            while let Some(grant) = queue.grant(now) {
                queue.written(grant.waiter, now);
                waiting
                    .entry(grant.shard)
                    .or_default()
                    .retain(|id| *id != grant.waiter);
                grants.push((millis(now), grant.shard));
            }
            if queue.fetch_at().is_some_and(|at| at <= now) {
                queue.fetching(now);
                queue.fetched(answer(says, now), now, 0.0);
            }
        }
        now = then;
        match event {
            Some(Ask(shard)) => {
                queue.offer(WaiterId(n), shard, now);
                waiting.entry(shard).or_default().push(WaiterId(n));
            }
            Some(Leave(shard)) => {
                let id = waiting.get_mut(&shard).expect("it never came").remove(0);
                assert!(queue.cancel(id, now), "shard {shard} does not wait at {ms}");
            }
            Some(Discord(new)) => says = new,
            None => {}
        }
    }
    grants
}

fn answer(says: Says, now: Moment) -> Outcome {
    Outcome::Limits(Limits {
        shards: 1,
        total: says.total.into(),
        remaining: says.remaining.into(),
        reset_after: Duration::from_millis(says.reset_at.saturating_sub(millis(now))),
        max_concurrency: Some(u32::from(says.buckets)).filter(|m| *m > 0),
    })
}

fn millis(moment: Moment) -> u64 {
    moment.since(Moment::ZERO).as_millis() as u64
}
