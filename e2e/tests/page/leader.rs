//! Who leads, and what is said when nobody does.

use serde_json::json;

use crate::browser::{Browser, DESK};
use crate::pods::Pod;
use crate::queue::{ask, granted};
use crate::usable::{PHONE, TOO_WIDE};

/// As long as a name that Kubernetes makes may be.
const LONG: &str = "a-bot-whose-name-is-as-long-as-it-may-be-7d9f8c6b5d-x2x9q";

#[tokio::test]
async fn a_pod_that_follows_says_who_leads_and_how_to_open_that_page() {
    let (leader, follower) = (Pod::start(LONG).await, Pod::start("my-bot-2").await);
    leader.lead();
    follower.follow(&leader);
    let browser = Browser::open(&follower.page()).await;
    browser.sees("#headline", "This pod follows").await;
    browser.sees("#message", &format!("{LONG} leads")).await;
    browser.sees("#pod", "bots/my-bot-2").await;
    browser.sees("#leader", LONG).await;
    let command = format!("kubectl --namespace bots port-forward pod/{LONG} 9090");
    browser.sees("#command", &command).await;
    for screen in [PHONE, DESK] {
        browser.look_on(screen).await;
        assert_eq!(browser.ask(TOO_WIDE).await, json!([]), "{screen:?}");
        browser.picture(&format!("follower-{}", screen.width)).await;
    }
    granted(ask(follower.clients, 1).await).await;
    let _waiter = ask(follower.clients, 3).await;
    browser.sees("#waiting", "1").await;
    browser.sees("#waiting-note", "held by this pod").await;
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test]
async fn a_lost_leader_is_said_and_so_is_the_next() {
    let (old, new) = (Pod::start("my-bot-1").await, Pod::start("my-bot-2").await);
    old.lead();
    new.follow(&old);
    let browser = Browser::open(&new.page()).await;
    browser.sees("#headline", "This pod follows").await;
    // Its Lease is nobody's now.
    new.seek();
    browser.sees("#headline", "Nothing is granted").await;
    browser
        .sees("#message", "No pod leads at this moment")
        .await;
    browser.sees("#leader", "Nobody").await;
    browser.picture("lost-leader").await;
    let waiter = ask(new.clients, 3).await;
    new.lead();
    granted(waiter).await;
    browser.sees("#headline", "Ready").await;
    browser.sees("#leader", "my-bot-2").await;
    browser.sees("#last", "shard 3 of bucket 1").await;
    // Time alone ends its right; nothing happens then.
    new.lapse();
    browser.sees("#headline", "Nothing is granted").await;
    browser.sees("#message", "cannot renew").await;
    browser.sees("[data-bucket='1'] .next", "held").await;
    assert_eq!(browser.complaints().await, [""; 0]);
}
