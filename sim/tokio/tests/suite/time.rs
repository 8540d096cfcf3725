//! Timers: what holds whether a millisecond is real or simulated. Exact instants are in `sim_runs.rs`.

use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep, sleep_until, timeout, timeout_at};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[tokio::test]
async fn a_sleep_lasts_at_least_as_long_as_asked() {
    for length in [ms(1), ms(7), ms(50)] {
        let start = Instant::now();
        sleep(length).await;
        assert!(start.elapsed() >= length);
    }
}

#[tokio::test]
async fn sleeps_end_in_the_order_of_their_deadlines() {
    let (ends, mut order) = tokio::sync::mpsc::channel(3);
    for n in [60u64, 20, 40] {
        let ends = ends.clone();
        tokio::spawn(async move {
            sleep(ms(n)).await;
            ends.send(n).await.expect("the test waits");
        });
    }
    drop(ends);
    let mut got = Vec::new();
    while let Some(n) = order.recv().await {
        got.push(n);
    }
    assert_eq!(got, [20, 40, 60]);
}

#[tokio::test]
async fn a_deadline_in_the_past_does_not_wait() {
    sleep(ms(30)).await;
    let past = Instant::now() - ms(20);
    let nap = sleep_until(past);
    tokio::pin!(nap);
    assert_eq!(nap.deadline(), past);
    assert!(!nap.is_elapsed(), "a timer that was never polled has not elapsed");
    timeout(ms(500), nap.as_mut()).await.expect("at once");
    assert!(nap.is_elapsed());
}

#[tokio::test]
async fn a_sleep_can_be_set_again() {
    let start = Instant::now();
    let nap = sleep(Duration::from_secs(3600));
    tokio::pin!(nap);
    assert!(timeout(ms(5), nap.as_mut()).await.is_err());
    nap.as_mut().reset(start + ms(40));
    nap.await;
    assert!(start.elapsed() >= ms(40) && start.elapsed() < Duration::from_secs(3000));
}

#[tokio::test]
async fn a_timeout_returns_what_is_ready_in_time() {
    assert_eq!(timeout(ms(500), async { 7 }).await.ok(), Some(7));
    assert_eq!(timeout(Duration::ZERO, async { 7 }).await.ok(), Some(7));
    assert_eq!(timeout_at(Instant::now() + ms(500), async { 8 }).await.ok(), Some(8));
    assert_eq!(timeout(Duration::MAX, async { 9 }).await.ok(), Some(9));
}

#[tokio::test]
async fn a_timeout_comes() {
    let start = Instant::now();
    let elapsed = timeout(ms(20), std::future::pending::<()>())
        .await
        .expect_err("never ready");
    assert!(start.elapsed() >= ms(20));
    assert_eq!(elapsed.to_string(), "deadline has elapsed");
    assert_eq!(std::io::Error::from(elapsed).kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn an_interval_ticks_at_once_and_then_at_its_period() {
    let start = Instant::now();
    let mut ticks = interval(ms(20));
    assert_eq!(ticks.period(), ms(20));
    let first = ticks.tick().await;
    assert!(first >= start && first < start + ms(20));
    for n in 1..4 {
        assert_eq!(ticks.tick().await, first + ms(20) * n);
    }
    assert!(start.elapsed() >= ms(60));
}

#[tokio::test]
async fn an_interval_can_begin_later() {
    let start = Instant::now() + ms(30);
    let mut ticks = interval_at(start, ms(10));
    assert_eq!(ticks.tick().await, start);
    assert!(Instant::now() >= start);
    ticks.reset();
    assert!(ticks.tick().await > start);
}

#[tokio::test]
async fn missed_ticks_come_in_a_burst_unless_told_otherwise() {
    let mut ticks = interval(ms(10));
    let first = ticks.tick().await;
    sleep(ms(65)).await;
    let late = Instant::now();
    for n in 1..=6 {
        assert_eq!(ticks.tick().await, first + ms(10) * n);
    }
    assert!(late.elapsed() < ms(60), "the missed ticks did not wait");
}

#[tokio::test]
async fn missed_ticks_can_be_skipped() {
    let mut ticks = interval(ms(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let first = ticks.tick().await;
    sleep(ms(70)).await;
    ticks.tick().await; // the one that was due
    let next = ticks.tick().await;
    assert!(next >= first + ms(80));
    assert_eq!(
        (next - first).as_nanos() % ms(20).as_nanos(),
        0,
        "still on the grid of the first"
    );
}

#[tokio::test]
async fn missed_ticks_can_delay_the_rest() {
    let mut ticks = interval(ms(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    sleep(ms(70)).await;
    let late = Instant::now();
    ticks.tick().await;
    let next = ticks.tick().await;
    assert!(next >= late + ms(20));
}
