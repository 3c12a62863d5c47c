use std::time::Duration;

use gateway_queue_core::leadership::term::ReceivedHandover;
use gateway_queue_core::pacing::pacer::Lane;
use gateway_queue_core::protocol::refusal::Reason;
use gateway_queue_core::queue::snapshot::Detail;
use gateway_queue_core::testing::story;
use tokio::time::Instant;

use super::*;
use crate::queue::handle::{Decision, Waiting};

const HOUR: Duration = Duration::from_secs(3600);

/// A queue task without a token, with one bucket and an hour between two grants.
fn queue_task(most: usize) -> (QueueTask, Handle) {
    let (queue_task, handle, _) = with_leadership(most);
    (queue_task, handle)
}

/// The same, with its leadership state.
fn with_leadership(most: usize) -> (QueueTask, Handle, watch::Sender<LeadershipState>) {
    let config = Config {
        spacing: HOUR,
        ..story::config(HOUR)
    };
    let (_, tokens) = watch::channel(Current::None);
    let (lease_state, _) = watch::channel(PublishedState::new("test"));
    let (sender, leadership) = watch::channel(LeadershipState::alone(ReceivedHandover::NONE));
    let discord = Discord::new("http://127.0.0.1:1", None).unwrap();
    let metrics = Arc::new(Metrics::new(0));
    let made = QueueTask::new(
        config,
        most,
        leadership,
        tokens,
        discord,
        lease_state,
        metrics,
    );
    let (queue_task, handle) = made.unwrap();
    (queue_task, handle, sender)
}

fn start(most: usize) -> Handle {
    let (queue_task, handle) = queue_task(most);
    tokio::spawn(queue_task.run());
    handle
}

async fn granted(waiting: Option<Waiting>) -> Permit {
    let granted = tokio::time::timeout(Duration::from_secs(5), waiting.unwrap()).await;
    granted.expect("it was never granted").unwrap()
}

async fn look(queue_task: &Handle) -> Lane {
    let mut snapshot = queue_task.look(Detail::Shards).await.unwrap();
    snapshot.lanes.remove(0)
}

#[tokio::test]
async fn a_dropped_permit_is_granted_to_the_next_waiter() {
    let queue_task = start(9);
    let first = queue_task.enqueue(1, boot_time::now()).await;
    let second = queue_task.enqueue(2, boot_time::now()).await;
    drop(granted(first).await);
    granted(second).await.written(boot_time::now());
    assert!(look(&queue_task).await.free_at > boot_time::now());
}

#[tokio::test]
async fn a_grant_to_a_disconnected_waiter_goes_to_the_next() {
    let queue_task = start(9);
    let first = queue_task.enqueue(1, boot_time::now()).await;
    // It is granted before the waiter is polled, and then dropped.
    while look(&queue_task).await.waiting > 0 {}
    drop(first);
    granted(queue_task.enqueue(2, boot_time::now()).await).await;
}

#[tokio::test]
async fn a_waiter_with_no_time_left_still_gets_an_available_grant() {
    let queue_task = start(9);
    let ask = || queue_task.wait_until(Instant::now(), 1, boot_time::now());
    let Some(Decision::Granted(permit)) = ask().await else {
        panic!("refused");
    };
    permit.written(boot_time::now());
    let Some(Decision::Refused(refusal)) = ask().await else {
        panic!("granted");
    };
    assert_eq!(refusal.reason, Reason::Waiting);
    assert_eq!(refusal.position, Some(1));
    // Half of the hour for which its position is reserved.
    let half = Duration::from_secs(1800);
    assert!(refusal.retry_after.abs_diff(half) < Duration::from_secs(10));
}

#[tokio::test]
async fn a_waiter_that_gives_up_before_it_is_queued_still_gets_an_available_grant() {
    let (queue_task, handle) = queue_task(9);
    let asked =
        tokio::spawn(async move { handle.wait_until(Instant::now(), 1, boot_time::now()).await });
    while queue_task.events.len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::spawn(queue_task.run());
    assert!(matches!(asked.await.unwrap(), Some(Decision::Granted(_))));
}

#[tokio::test]
async fn a_waiter_keeps_its_permit_until_the_queue_task_has_handled_its_end() {
    let queue_task = start(1);
    granted(queue_task.enqueue(1, boot_time::now()).await)
        .await
        .written(boot_time::now());
    let second = queue_task.enqueue(2, boot_time::now()).await;
    let mut third = Box::pin(queue_task.enqueue(3, boot_time::now()));
    let waited = tokio::time::timeout(Duration::from_millis(20), &mut third).await;
    assert!(waited.is_err());
    drop(second);
    let _third = third.await.unwrap();
    assert_eq!(look(&queue_task).await.shards, [3]);
}

#[tokio::test]
async fn the_handover_waits_for_grants_in_flight() {
    let (queue_task, handle, leadership) = with_leadership(9);
    tokio::spawn(queue_task.run());
    let term = leadership.borrow().term.clone().unwrap();
    let permit = granted(handle.enqueue(1, boot_time::now()).await).await;
    leadership.send_replace(LeadershipState::UNKNOWN);
    let mut handover = Box::pin(handle.handover("uid", term));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut handover).await;
    assert!(early.is_err(), "it would miss the grant");
    permit.written(boot_time::now());
    let waits = handover.await.unwrap().waits;
    let [wait] = waits[..] else {
        panic!("one bucket: {waits:?}");
    };
    assert!(HOUR - wait < Duration::from_secs(10), "{wait:?}");
}
