//! The scheduler alone: the steps of our queue in this process, and those of the peer's.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::budget::Rules;
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::pacing::pacer::WaiterId;
use gateway_queue_core::pacing::scheduler::{Config, Queue};
use gateway_queue_core::pacing::shard_history::ShardLimit;
use gateway_queue_core::time::Moment;
use twilight_gateway_queue::{IDENTIFY_DELAY, InMemoryQueue, LIMIT_PERIOD, Queue as _};

use crate::bench::Bench;
use crate::cpu_time;
use crate::row::{Aim, Figure, Measured, Row, Unit};
use crate::server::{SPACING, Side};
use crate::turns::alternate;

/// How often all buckets grant.
const GRANTS_PER_BUCKET: u32 = 25;

/// Waiters are cancelled in steps of this prime number, so in no order that suits a queue.
const STRIDE: u64 = 611_953;

/// More than are used.
const SESSION_STARTS: u64 = 1_000_000_000;

/// How long the peer may need to remove cancelled waiters: until its buckets grant again.
const REMOVAL: Duration = IDENTIFY_DELAY.saturating_add(Duration::from_millis(500));

const fn in_us(name: &'static str) -> Figure {
    Figure {
        name,
        unit: Unit::Microseconds,
        aim: Aim::at_most(1.0),
    }
}

pub(super) const ROW: Row = Row {
    name: "scheduler",
    title: "The scheduler alone",
    method: "Without a server: 1,000,000 waiters in 4,096 buckets, in this process, measured as the processor time of \
        one thread. Ours is the queue of `core/`, with a budget of session starts: each waiter is offered; then each \
        bucket grants 25 times (a grant, and the report that it was written); then Discord reports half as many \
        buckets; then the remaining waiters are cancelled, in no useful order. The peer is `InMemoryQueue` with its \
        task and channels, on a runtime with one thread: each waiter is enqueued and moved to its bucket; then each \
        bucket grants once (it grants at most every 5 s by the machine's clock); then `update` halves the buckets; \
        then all waiters are dropped, and removed when their bucket grants next. A cancellation mostly waits for \
        memory. A hash map or an ordered map of single waiters, smaller blocks and a binary search within a block \
        were tried, and were no faster.",
    rounds: 5,
    on_node: false,
    figures: &[
        in_us("scheduler, 1,000,000 waiters: time per offer"),
        in_us("scheduler, 1,000,000 waiters: time per grant"),
        in_us("scheduler, 1,000,000 waiters: time per cancellation"),
        Figure {
            name: "scheduler, 1,000,000 waiters: change of max_concurrency",
            unit: Unit::Seconds,
            aim: Aim::at_most(1.0),
        },
    ],
    measure,
};

/// The processor time of each step.
#[derive(Clone, Copy, Debug)]
struct Steps {
    offer: Duration,
    grant: Duration,
    cancel: Duration,
    change: Duration,
}

fn measure(bench: &Bench, rounds: usize) -> Result<Measured> {
    let (waiters, buckets) = (bench.scale.waiters, bench.scale.buckets);
    let values = alternate(rounds, |side| {
        let steps = match side {
            Side::Ours => ours(waiters, buckets),
            Side::Peer => peer(waiters, buckets)?,
        };
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let each = [us(steps.offer), us(steps.grant), us(steps.cancel)];
        let [offer, grant, cancel] = each.map(Some);
        Ok([offer, grant, cancel, Some(steps.change.as_secs_f64())])
    })?;
    Ok(Measured::without_plots(values))
}

fn ours(waiters: u32, buckets: u32) -> Steps {
    let config = Config {
        spacing: SPACING,
        start_guard: false,
        reservation_ttl: Duration::from_secs(60),
        shard_limit: ShardLimit {
            burst: 10,
            window: Duration::from_mins(10),
        },
        max_concurrency: 1,
        rules: Rules {
            interval: SPACING,
            reserve: 0,
            refresh: Duration::from_mins(5),
        },
    };
    let mut now = Moment::ZERO + Duration::from_hours(1);
    let mut queue = Queue::new(&config, TokenState::Unchecked, now);
    let report = |queue: &mut Queue, buckets: u32, now: Moment| {
        let limits = Limits {
            url: None,
            shards: waiters,
            total: SESSION_STARTS,
            remaining: SESSION_STARTS,
            reset_after: Duration::ZERO,
            max_concurrency: Some(buckets),
        };
        queue.fetching(now);
        queue.fetched(Outcome::Limits(limits), now, 0.0);
    };
    report(&mut queue, buckets, now);

    let (offer, ()) = cpu_time::of(|| {
        for shard in 0..waiters {
            queue.offer(WaiterId(shard.into()), shard, now);
        }
    });
    let mut grants = 0;
    let (grant, ()) = cpu_time::of(|| {
        for _ in 0..GRANTS_PER_BUCKET {
            while let Some(grant) = queue.grant(now) {
                queue.written(grant.waiter, now);
                grants += 1;
            }
            now = now + SPACING;
        }
    });
    let (change, ()) = cpu_time::of(|| report(&mut queue, (buckets / 2).max(1), now));
    let mut cancelled = 0;
    let (cancel, ()) = cpu_time::of(|| {
        for number in 0..u64::from(waiters) {
            let waiter = number * STRIDE % u64::from(waiters);
            cancelled += u32::from(queue.cancel(WaiterId(waiter), now));
        }
    });
    Steps {
        offer: offer / waiters,
        grant: grant / grants.max(1),
        cancel: cancel / cancelled.max(1),
        change,
    }
}

fn peer(waiters: u32, buckets: u32) -> Result<Steps> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .context("building a runtime")?;
    runtime.block_on(peer_steps(waiters, buckets))
}

/// Must run on a runtime with one thread, with nothing else.
async fn peer_steps(waiters: u32, buckets: u32) -> Result<Steps> {
    let max_concurrency = u16::try_from(buckets).context("too many buckets")?;
    let started = cpu_time::now();
    let queue = InMemoryQueue::new(max_concurrency, waiters, LIMIT_PERIOD, waiters);
    let mut waiting: Vec<_> = (0..waiters).map(|shard| queue.enqueue(shard)).collect();
    // It reads all messages before it grants, beginning with the first bucket.
    let [first, others @ ..] = &mut waiting[..] else {
        bail!("no waiters");
    };
    first.await?;
    let offered = cpu_time::now();
    let of_last_bucket = others.get_mut(buckets.saturating_sub(2) as usize);
    of_last_bucket.context("too few waiters")?.await?;
    let granted = cpu_time::now();
    queue.update(
        (max_concurrency / 2).max(1),
        waiters - buckets,
        LIMIT_PERIOD,
        waiters,
    );
    // Its task runs when this one yields.
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    let changed = cpu_time::now();
    drop(waiting);
    tokio::time::sleep(REMOVAL).await;
    let cancelled = cpu_time::now();
    Ok(Steps {
        offer: (offered - started) / waiters,
        grant: (granted - offered) / (buckets - 1).max(1),
        cancel: (cancelled - changed) / (waiters - buckets).max(1),
        change: changed - granted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_of_ours_takes_time_and_each_waiter_is_served_or_cancelled() {
        let steps = ours(10_000, 16);
        for time in [steps.offer, steps.grant, steps.cancel, steps.change] {
            assert!(time > Duration::ZERO, "{steps:?}");
        }
    }
}
