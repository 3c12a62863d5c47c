//! The leader, and what the page shows without one.

use serde_json::json;

use crate::browser::{Browser, DESKTOP};
use crate::pods::Pod;
use crate::queues::{granted, request, start};
use crate::usable::{PHONE, TOO_WIDE};

/// As long as the name of a pod can be.
const LONG: &str = "a-bot-whose-name-is-as-long-as-it-may-be-7d9f8c6b5d-x2x9q";

#[tokio::test]
async fn a_follower_names_the_leader_and_the_command_that_opens_its_page() {
    let (leader, follower) = (Pod::start(LONG).await, Pod::start("my-bot-2").await);
    leader.lead();
    follower.follow(&leader);
    let browser = Browser::open(follower.admin).await;
    browser.shows("#headline", "This pod is a follower").await;
    browser
        .shows("#message", &format!("{LONG} is the leader"))
        .await;
    browser.shows("#pod", "bots/my-bot-2").await;
    browser.shows("#leader", LONG).await;
    let command = format!("kubectl --namespace bots port-forward pod/{LONG} 9090");
    browser.shows("#command", &command).await;
    for screen in [PHONE, DESKTOP] {
        browser.set_screen(screen).await;
        assert_eq!(browser.eval(TOO_WIDE).await, json!([]), "{screen:?}");
        browser
            .screenshot_as(&format!("follower-{}", screen.width))
            .await;
    }
    granted(request(follower.clients, 1).await).await;
    let _waiter = request(follower.clients, 3).await;
    browser.shows("#waiting", "1").await;
    browser
        .shows("#waiting-note", "connected to this pod")
        .await;
    assert_eq!(browser.console_errors().await, [""; 0]);
}

#[tokio::test]
async fn an_agent_shows_its_upstream_its_waiting_clients_and_whether_it_responds() {
    let upstream = start(&[("IDENTIFY_INTERVAL", "1h")]).await;
    granted(request(upstream.clients, 0).await).await;
    let (queue, admin) = (upstream.clients, upstream.admin.port().to_string());
    let url = format!("http://{queue}");
    let variables = [("UPSTREAM", &*url), ("UPSTREAM_ADMIN_PORT", &*admin)];
    let agent = start(&variables).await;
    let browser = Browser::open(agent.admin).await;
    browser.shows("#headline", "This is an agent").await;
    browser.shows("#leader-title", "Upstream").await;
    browser.shows("#leader", &queue.to_string()).await;
    browser.shows("#spacing", "Only the upstream has").await;
    let _waiter = request(agent.clients, 3).await;
    browser.shows("#waiting", "1").await;
    browser
        .shows("#waiting-note", "connected to this agent")
        .await;
    upstream.end().await;
    browser
        .shows("#headline", "The upstream does not respond")
        .await;
    browser.shows("#message", &format!("at {queue} ")).await;
    assert_eq!(browser.console_errors().await, [""; 0]);
}

#[tokio::test]
async fn a_lost_leader_and_its_successor_are_shown() {
    let (old, new) = (Pod::start("my-bot-1").await, Pod::start("my-bot-2").await);
    old.lead();
    new.follow(&old);
    let browser = Browser::open(new.admin).await;
    browser.shows("#headline", "This pod is a follower").await;
    // The Lease was released.
    new.seek();
    browser.shows("#headline", "Nothing is granted").await;
    browser.shows("#message", "No leader is known").await;
    browser.shows("#leader", "None").await;
    browser.screenshot_as("lost-leader").await;
    let waiter = request(new.clients, 3).await;
    new.lead();
    granted(waiter).await;
    browser.shows("#headline", "Ready").await;
    browser.shows("#leader", "my-bot-2").await;
    browser.shows("#last", "shard 3 of bucket 1").await;
    // The term expires without any event.
    new.expire();
    browser.shows("#headline", "Nothing is granted").await;
    browser.shows("#message", "cannot renew").await;
    browser.lane(1, ".next", "blocked").await;
    assert_eq!(browser.console_errors().await, [""; 0]);
}
