use std::time::Duration;

use gateway_queue_core::leadership::term::ReceivedHandover;
use gateway_queue_core::pacing::budget::Rules;
use gateway_queue_core::pacing::pacer::Lane;
use gateway_queue_core::protocol::refusal::Reason;
use gateway_queue_core::queue::snapshot::Detail;
use tokio::time::Instant;

use super::*;
use crate::queue::handle::{Turn, Waiting};

const HOUR: Duration = Duration::from_secs(3600);

/// A queue task without a token, with one bucket and an hour between two grants.
fn queue_task(most: usize) -> (QueueTask, Handle) {
    let (queue_task, handle, _) = led(most);
    (queue_task, handle)
}

/// The same, with what tells it whether it leads.
fn led(most: usize) -> (QueueTask, Handle, watch::Sender<LeadershipState>) {
    let hour = HOUR;
    let config = Config {
        spacing: hour,
        start_guard: false,
        place_kept: hour,
        max_concurrency: 1,
        rules: Rules {
            interval: hour,
            reserve: 0,
            refresh: hour,
        },
    };
    let (_, tokens) = watch::channel(Current::None);
    let (lease_state, _) = watch::channel(Page::new("test"));
    let (leads, standing) = watch::channel(LeadershipState::alone(ReceivedHandover::NONE));
    let discord = Discord::new("http://127.0.0.1:1").unwrap();
    let metrics = Arc::new(Metrics::new(0));
    let made = QueueTask::new(
        config,
        most,
        standing,
        tokens,
        discord,
        lease_state,
        metrics,
    );
    let (queue_task, handle) = made.unwrap();
    (queue_task, handle, leads)
}

fn start(most: usize) -> Handle {
    let (queue_task, handle) = queue_task(most);
    tokio::spawn(queue_task.run());
    handle
}

async fn turn(waiting: Option<Waiting>) -> Permit {
    let turn = tokio::time::timeout(Duration::from_secs(5), waiting.unwrap()).await;
    turn.expect("its turn never came").unwrap()
}

async fn look(queue_task: &Handle) -> Lane {
    let mut snapshot = queue_task.look(Detail::Shards).await.unwrap();
    snapshot.lanes.remove(0)
}

#[tokio::test]
async fn a_permit_that_is_dropped_gives_its_turn_to_the_next() {
    let queue_task = start(9);
    let first = queue_task.enqueue(1, boot_time::now()).await;
    let second = queue_task.enqueue(2, boot_time::now()).await;
    drop(turn(first).await);
    turn(second).await.written(boot_time::now());
    assert!(look(&queue_task).await.free_at > boot_time::now());
}

#[tokio::test]
async fn a_turn_that_nobody_takes_goes_to_the_next() {
    let queue_task = start(9);
    let first = queue_task.enqueue(1, boot_time::now()).await;
    // The turn is given before the waiter looks; then the waiter goes.
    while look(&queue_task).await.waiting > 0 {}
    drop(first);
    turn(queue_task.enqueue(2, boot_time::now()).await).await;
}

#[tokio::test]
async fn who_wants_to_wait_for_no_time_still_has_a_turn_that_is_free() {
    let queue_task = start(9);
    let Some(Turn::Granted(permit)) = queue_task
        .turn_until(Instant::now(), 1, boot_time::now())
        .await
    else {
        panic!("refused");
    };
    permit.written(boot_time::now());
    let Some(Turn::Refused(refusal)) = queue_task
        .turn_until(Instant::now(), 1, boot_time::now())
        .await
    else {
        panic!("granted");
    };
    assert_eq!(
        (refusal.reason, refusal.position),
        (Reason::Waiting, Some(1))
    );
    // Half of the hour that place is kept.
    let half = Duration::from_secs(1800);
    assert!(refusal.retry_after.abs_diff(half) < Duration::from_secs(10));
}

#[tokio::test]
async fn who_comes_and_gives_up_before_anybody_looks_still_has_a_turn_that_is_free() {
    let (queue_task, handle) = queue_task(9);
    let asked =
        tokio::spawn(async move { handle.turn_until(Instant::now(), 1, boot_time::now()).await });
    while queue_task.events.len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::spawn(queue_task.run());
    assert!(matches!(asked.await.unwrap(), Some(Turn::Granted(_))));
}

#[tokio::test]
async fn a_waiter_has_its_seat_until_the_keeper_knows_that_it_is_gone() {
    let queue_task = start(1);
    turn(queue_task.enqueue(1, boot_time::now()).await)
        .await
        .written(boot_time::now());
    let second = queue_task.enqueue(2, boot_time::now()).await;
    let mut third = Box::pin(queue_task.enqueue(3, boot_time::now()));
    let seated = tokio::time::timeout(Duration::from_millis(20), &mut third).await;
    assert!(seated.is_err());
    drop(second);
    let _third = third.await.unwrap();
    assert_eq!(look(&queue_task).await.shards, [3]);
}

#[tokio::test]
async fn what_is_left_is_not_told_while_a_grant_is_on_its_way() {
    let (queue_task, handle, leads) = led(9);
    tokio::spawn(queue_task.run());
    let term = leads.borrow().term.clone().unwrap();
    let permit = turn(handle.enqueue(1, boot_time::now()).await).await;
    leads.send_replace(LeadershipState::UNKNOWN);
    let mut left = Box::pin(handle.handover("uid", term));
    let told = tokio::time::timeout(Duration::from_millis(50), &mut left).await;
    assert!(told.is_err(), "it would miss the grant");
    permit.written(boot_time::now());
    let waits = left.await.unwrap().waits;
    let [wait] = waits[..] else {
        panic!("one bucket: {waits:?}");
    };
    assert!(HOUR - wait < Duration::from_secs(10), "{wait:?}");
}
