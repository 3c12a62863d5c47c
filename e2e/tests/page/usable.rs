//! Accessibility: small screens, dark mode, the keyboard, and more buckets and shards than fit.

use serde_json::{Value, json};

use crate::browser::{Browser, DESKTOP, Screen};
use crate::fake::Fake;
use crate::queues::{granted, request, start, start_with_token};

pub(crate) const PHONE: Screen = Screen {
    width: 360,
    height: 740,
    dark: false,
};

/// Returns the texts with less contrast than WCAG AA requires: 4.5, or 3 for large text.
const UNREADABLE: &str = include_str!("scripts/unreadable.js");

/// Returns the elements that extend beyond the right edge of the screen.
pub(crate) const TOO_WIDE: &str = include_str!("scripts/too_wide.js");

/// A queue with many waiting shards in a few buckets.
async fn busy(fake: &Fake) -> (crate::queue::Queue, Vec<tokio::net::TcpStream>) {
    let queue = start_with_token(
        fake,
        &[
            // The next grant is far away, so the page does not change during the test.
            ("IDENTIFY_INTERVAL", "2m"),
        ],
    )
    .await;
    for shard in 0..4 {
        granted(request(queue.clients, shard).await).await;
    }
    let mut waiters = Vec::new();
    for shard in (4..23).chain([1004, 1008, 1012, 2000, 3000, 4000, 5000, 123_456_788]) {
        waiters.push(request(queue.clients, shard).await);
    }
    (queue, waiters)
}

#[tokio::test]
async fn the_page_fits_a_phone_and_is_readable_in_light_and_dark_mode() {
    let fake = Fake::start(&[("MAX_CONCURRENCY", "4")]).await;
    let (queue, _waiters) = busy(&fake).await;
    let browser = Browser::open(queue.admin).await;
    browser.shows("#waiting", "27").await;
    browser.lane(0, ".line", "1 more").await;
    let mut grounds = Vec::new();
    for (name, width, height) in [("desk", 1200, 1000), ("phone", 360, 1300)] {
        for dark in [false, true] {
            let screen = Screen {
                width,
                height,
                dark,
            };
            browser.set_screen(screen).await;
            assert_eq!(browser.eval(UNREADABLE).await, json!([]), "{screen:?}");
            assert_eq!(browser.eval(TOO_WIDE).await, json!([]), "{screen:?}");
            let ground = "return getComputedStyle(document.body).backgroundColor";
            grounds.push(browser.eval(ground).await);
            let scheme = if dark { "dark" } else { "light" };
            browser.screenshot_as(&format!("{name}-{scheme}")).await;
        }
    }
    assert_eq!((&grounds[0], &grounds[1]), (&grounds[2], &grounds[3]));
    assert_ne!(grounds[0], grounds[1]);
    assert_eq!(browser.console_errors().await, [""; 0]);
}

/// Returns the focused element, and whether the focus is visible.
const FOCUS: &str = include_str!("scripts/focus.js");

#[tokio::test]
async fn the_keyboard_reaches_everything_in_order_and_the_focus_is_visible() {
    const TAB: &str = "\u{e004}";
    let fake = Fake::start(&[("MAX_CONCURRENCY", "4")]).await;
    let queue = start_with_token(&fake, &[("IDENTIFY_INTERVAL", "20s")]).await;
    let browser = Browser::open(queue.admin).await;
    granted(request(queue.clients, 2).await).await;
    let waiter = request(queue.clients, 6).await;
    // Buckets with waiting shards come first.
    browser.shows(".lane:first-child h3", "Bucket 2").await;
    let mut order = Vec::new();
    for _ in 0..7 {
        browser.press(TAB).await;
        let focus = browser.eval(FOCUS).await;
        assert_eq!(focus[1], Value::Bool(true), "{focus} is not visible");
        order.push(focus[0].as_str().unwrap().to_owned());
    }
    assert_eq!(order, ["#buckets", "2", "0", "1", "3", "state", "metrics"]);

    // A lane keeps the focus when it or others move.
    browser
        .eval("document.querySelector(\"[data-bucket='2']\").focus()")
        .await;
    granted(waiter).await;
    browser.shows(".lane:first-child h3", "Bucket 0").await;
    browser.lane(2, ".line", "none waiting").await;
    assert_eq!(browser.eval(FOCUS).await[0], "2");
    let _waiter = request(queue.clients, 10).await;
    browser.shows(".lane:first-child h3", "Bucket 2").await;
    assert_eq!(browser.eval(FOCUS).await[0], "2");
    // The skip link leads to the lanes.
    browser
        .eval("document.querySelector('.skip').focus()")
        .await;
    browser.press("\u{e007}").await;
    browser.press(TAB).await;
    assert_eq!(browser.eval(FOCUS).await[0], "2");
}

#[tokio::test]
async fn of_thousands_of_buckets_the_busy_ones_are_shown_and_the_others_counted() {
    let queue = start(&[("MAX_CONCURRENCY", "4096"), ("IDENTIFY_INTERVAL", "10m")]).await;
    let mut waiters = Vec::new();
    for bucket in 0..60 {
        for round in 0..3 {
            waiters.push(request(queue.clients, 4000 + bucket + round * 4096).await);
        }
    }
    let many: Vec<_> = (0..300).map(|n| 77 + n * 4096).collect();
    for shard in many {
        waiters.push(request(queue.clients, shard).await);
    }
    let browser = Browser::open(queue.admin).await;
    browser.set_screen(PHONE).await;
    browser.shows("#waiting", "419").await;
    browser.shows(".lane:first-child h3", "Bucket 77").await;
    browser.shows(".lane:first-child h3", "299 waiting").await;
    browser.shows(".lane:first-child .line", "287 more").await;
    browser
        .shows(
            "#more",
            "4,048 more buckets are not shown, with 26 waiting requests.",
        )
        .await;
    assert_eq!(
        browser
            .eval("return document.querySelectorAll('.lane').length")
            .await,
        48
    );
    assert_eq!(browser.eval(TOO_WIDE).await, json!([]));
    browser.set_screen(DESKTOP).await;
    browser.screenshot_as("many").await;
    assert_eq!(browser.console_errors().await, [""; 0]);
}
