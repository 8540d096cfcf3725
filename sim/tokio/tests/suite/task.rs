//! Tasks, their ends and their sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking, yield_now};
use tokio::time::sleep;

/// Counts when it is dropped.
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test]
async fn a_task_returns_its_output() {
    let task = tokio::spawn(async { 6 * 7 });
    assert_eq!(task.await.expect("joined"), 42);
}

#[tokio::test]
async fn tasks_run_beside_each_other() {
    let (to, mut from) = mpsc::channel(1);
    let producer = tokio::spawn(async move {
        for n in 0..100 {
            to.send(n).await.expect("the other one receives");
        }
    });
    let mut got = Vec::new();
    while let Some(n) = from.recv().await {
        got.push(n);
    }
    producer.await.expect("joined");
    assert_eq!(got, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dropped_handle_lets_the_task_run_on() {
    let (to, from) = oneshot::channel();
    drop(tokio::spawn(async move {
        yield_now().await;
        to.send(7).expect("the test waits");
    }));
    assert_eq!(from.await.expect("it ran"), 7);
}

#[tokio::test]
async fn an_aborted_task_is_dropped_and_cancelled() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let bomb = Bomb(dropped.clone());
    let task = tokio::spawn(async move {
        let _bomb = bomb;
        std::future::pending::<()>().await;
    });
    yield_now().await;
    assert!(!task.is_finished());
    task.abort();
    let error = task.await.expect_err("aborted");
    assert!(error.is_cancelled() && !error.is_panic());
    assert!(error.try_into_panic().is_err());
    assert_eq!(dropped.load(SeqCst), 1);
}

#[tokio::test]
async fn aborting_through_another_handle_works_and_aborting_what_ended_does_nothing() {
    let task = tokio::spawn(std::future::pending::<()>());
    let abort = task.abort_handle();
    abort.abort();
    assert!(task.await.expect_err("aborted").is_cancelled());
    assert!(abort.is_finished());

    let task = tokio::spawn(async { 1 });
    while !task.is_finished() {
        yield_now().await;
    }
    task.abort();
    assert_eq!(task.await.expect("it had ended"), 1);
}

#[tokio::test]
async fn a_panic_ends_its_task_only() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let bomb = Bomb(dropped.clone());
    let task = tokio::spawn(async move {
        let _bomb = bomb;
        panic!("expected by the test");
    });
    let error = task.await.expect_err("it panicked");
    assert!(error.is_panic() && !error.is_cancelled());
    assert!(error.to_string().contains("panicked"), "{error}");
    let payload = error.into_panic();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"expected by the test"));
    assert_eq!(dropped.load(SeqCst), 1);
}

#[tokio::test]
async fn a_join_error_is_an_io_error() {
    let task = tokio::spawn(std::future::pending::<()>());
    task.abort();
    let error: std::io::Error = task.await.expect_err("aborted").into();
    assert_eq!(error.kind(), std::io::ErrorKind::Other);
}

#[tokio::test]
async fn blocking_work_is_joined_like_a_task() {
    assert_eq!(spawn_blocking(|| 5).await.expect("joined"), 5);
    assert!(
        spawn_blocking(|| panic!("expected by the test"))
            .await
            .map(|_: ()| ())
            .expect_err("it panicked")
            .is_panic()
    );
}

#[tokio::test]
async fn a_set_joins_in_the_order_of_the_ends() {
    let mut set = JoinSet::new();
    for n in [60u64, 20, 40] {
        set.spawn(async move {
            sleep(Duration::from_millis(n)).await;
            n
        });
    }
    assert_eq!(set.len(), 3);
    let mut got = Vec::new();
    while let Some(n) = set.join_next().await {
        got.push(n.expect("joined"));
    }
    assert_eq!(got, [20, 40, 60]);
    assert!(set.is_empty() && set.join_next().await.is_none());
}

#[tokio::test]
async fn a_set_reports_panics_and_aborts() {
    let mut set = JoinSet::new();
    set.spawn(async { panic!("expected by the test") });
    assert!(
        set.join_next()
            .await
            .expect("one")
            .map(|_: ()| ())
            .expect_err("it panicked")
            .is_panic()
    );
    let abort = set.spawn(std::future::pending());
    abort.abort();
    assert!(set.join_next().await.expect("one").expect_err("aborted").is_cancelled());
}

#[tokio::test]
async fn a_dropped_set_aborts_its_tasks() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut set = JoinSet::new();
    for _ in 0..3 {
        let bomb = Bomb(dropped.clone());
        set.spawn(async move {
            let _bomb = bomb;
            std::future::pending::<()>().await;
        });
    }
    yield_now().await;
    assert!(set.try_join_next().is_none());
    drop(set);
    while dropped.load(SeqCst) < 3 {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_set_can_be_shut_down_and_collected() {
    let mut set: JoinSet<()> = (0..3).map(|_| std::future::pending()).collect();
    set.shutdown().await;
    assert!(set.is_empty());
    let set: JoinSet<u32> = (0..3).map(|n| async move { n }).collect();
    let mut all = set.join_all().await;
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2]);
}

#[tokio::test]
async fn select_takes_what_is_ready() {
    let (to, from) = oneshot::channel();
    to.send(3).expect("the other end lives");
    let got = tokio::select! {
        n = from => n.expect("sent"),
        () = std::future::pending() => unreachable!("never ready"),
    };
    assert_eq!(got, 3);
}

#[tokio::test]
async fn select_respects_bias_conditions_and_else() {
    let first = tokio::select! {
        biased;
        n = async { 1 } => n,
        n = async { 2 } => n,
    };
    assert_eq!(first, 1);
    let (on, off) = (true, false);
    let allowed = tokio::select! {
        n = async { 1 }, if off => n,
        n = async { 2 }, if on => n,
    };
    assert_eq!(allowed, 2);
    let nothing = tokio::select! {
        Some(n) = async { None::<u32> } => n,
        else => 9,
    };
    assert_eq!(nothing, 9);
}

#[tokio::test]
async fn select_is_fair() {
    let mut first = 0;
    for _ in 0..200 {
        tokio::select! {
            () = async {} => first += 1,
            () = async {} => {}
        }
    }
    assert!(
        (40..160).contains(&first),
        "one of two ready branches was taken {first} times of 200"
    );
}

#[tokio::test]
async fn joins_wait_for_all_or_for_the_first_failure() {
    assert_eq!(tokio::join!(async { 1 }, async { 2 }), (1, 2));
    let ok: Result<(u32, u32), ()> = tokio::try_join!(async { Ok(1) }, async { Ok(2) });
    assert_eq!(ok, Ok((1, 2)));
    let failed: Result<((), ()), u32> = tokio::try_join!(std::future::pending::<Result<(), u32>>(), async { Err(3) });
    assert_eq!(failed, Err(3));
}

#[tokio::test]
async fn the_handle_of_the_runtime_spawns() {
    let task = tokio::runtime::Handle::current().spawn(async { 4 });
    assert_eq!(task.await.expect("joined"), 4);
}
