//! Runs as a whole: same seed, same run; panics, deadlocks and limits are reported; nothing outlives a run; exact time.
#![cfg(madsim)]

extern crate sim_tokio as tokio;

mod common;

use common::{Pair, SERVER, ms, ping, secs};
use sim_world::time::Timer;
use sim_world::{HostState, Kind, RunError, RunSummary, Seed, World, WorldConfig};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

/// A run with traffic, files, draws, a fault, and tasks that race.
fn busy(seed: u64, record_all: bool, extra_draw: bool) -> RunSummary {
    let config = WorldConfig {
        record_all,
        ..WorldConfig::default()
    };
    Pair::run_seed(Seed(seed), config, move |pair| async move {
        let stream = pair.world.stream("test");
        if extra_draw {
            stream.bits();
        }
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..5u64 {
            let naps = stream.clone();
            tasks.spawn(async move {
                let mut connection = TcpStream::connect(SERVER).await.expect("connect");
                let mut log = tokio::fs::File::create(format!("/tmp/{n}")).await.expect("create");
                for _ in 0..10 {
                    tokio::select! {
                        () = sleep(ms(naps.below(5))) => {}
                        done = ping(&mut connection) => done.expect("ping"),
                    }
                    log.write_all(b"entry").await.expect("write");
                    log.sync_all().await.expect("sync");
                }
            });
        }
        tasks.join_all().await;
        pair.server.restart();
        sleep(ms(2)).await;
        ping(&mut TcpStream::connect(SERVER).await.expect("connect"))
            .await
            .expect("ping");
    })
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (one, two) = (busy(3, false, false), busy(3, false, false));
    assert_eq!(one, two);
    assert!(one.events > 300, "{} events", one.events);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a worker runs every seed on a fresh thread")]
fn a_fresh_thread_gives_the_same_run() {
    let here = busy(4, false, false);
    let there = std::thread::spawn(|| busy(4, false, false)).join().expect("joined");
    assert_eq!(here, there);
}

#[test]
fn recording_everything_does_not_change_the_run() {
    let (lean, full) = (busy(5, false, false), busy(5, true, false));
    assert_eq!(
        (lean.trace_hash, lean.events, lean.sim_time_ns),
        (full.trace_hash, full.events, full.sim_time_ns)
    );
    assert!(full.records.len() > lean.records.len() * 10);
    let has = |wanted: fn(&Kind) -> bool| full.records.iter().any(|record| wanted(&record.kind));
    assert!(has(|kind| matches!(kind, Kind::Delivery { .. })));
    assert!(has(|kind| matches!(kind, Kind::DiskOp { .. })));
    assert!(has(|kind| matches!(kind, Kind::Draw { .. })));
    assert!(full.records.windows(2).all(|pair| pair[0].ordinal < pair[1].ordinal));
}

#[test]
fn another_seed_gives_another_run() {
    assert_ne!(busy(1, false, false).trace_hash, busy(2, false, false).trace_hash);
}

#[test]
fn one_more_draw_is_noticed() {
    let (plain, extra) = (busy(6, false, false), busy(6, false, true));
    assert_ne!(plain.trace_hash, extra.trace_hash);
    assert_eq!(plain.draws["test"] + 1, extra.draws["test"]);
}

#[test]
fn streams_are_shared_by_label() {
    let (values, summary) = World::run(Seed(1), WorldConfig::default(), |world| async move {
        let (a, b) = (world.stream("a"), world.stream("a"));
        vec![a.bits(), b.bits(), world.stream("b").bits()]
    })
    .expect("a run");
    let alone = Seed(1).stream("a");
    assert_eq!(values, [alone.bits(), alone.bits(), Seed(1).stream("b").bits()]);
    assert_eq!((summary.draws["a"], summary.draws["b"]), (2, 1));
}

#[test]
fn a_panic_of_the_run_is_an_error_with_its_message() {
    let run = World::run(Seed(9), WorldConfig::default(), |_| async {
        panic!("expected by the test")
    });
    let error = run.map(|((), _)| ()).expect_err("it panicked");
    assert!(
        matches!(&error, RunError::Panicked { message, .. } if message == "expected by the test"),
        "{error}"
    );
    assert!(error.to_string().contains("seed 9"), "{error}");
}

#[test]
fn a_panic_of_a_task_is_an_error_with_the_name_of_its_machine() {
    let run = |tolerate_panics| {
        let config = WorldConfig {
            tolerate_panics,
            ..WorldConfig::default()
        };
        World::run(Seed(1), config, |world| async move {
            let host = world.host("unlucky", [10, 0, 0, 1].into());
            host.start(|| {
                Box::pin(async {
                    drop(tokio::spawn(async { panic!("expected by the test") }));
                    std::future::pending::<()>().await;
                })
            });
            sleep(ms(5)).await;
            host.state()
        })
    };
    let error = run(false).expect_err("it panicked");
    assert!(
        matches!(&error, RunError::TaskPanicked { panic, .. } if panic.host_name == "unlucky"),
        "{error}"
    );
    assert!(error.to_string().contains("a task on unlucky panicked"), "{error}");
    let (state, summary) = run(true).expect("tolerated");
    assert_eq!(
        state,
        HostState::Up,
        "as in tokio, a task's panic does not end the process"
    );
    assert_eq!(summary.panics.len(), 1);
    assert!(
        summary
            .records
            .iter()
            .any(|record| matches!(&record.kind, Kind::Panic { message } if message == "expected by the test"))
    );
}

#[test]
fn a_program_that_panics_ends_its_process() {
    let config = WorldConfig {
        tolerate_panics: true,
        ..WorldConfig::default()
    };
    let (state, _) = World::run(Seed(1), config, |world| async move {
        let host = world.host("unlucky", [10, 0, 0, 1].into());
        host.start(|| Box::pin(async { panic!("expected by the test") }));
        sleep(ms(5)).await;
        host.state()
    })
    .expect("tolerated");
    assert_eq!(state, HostState::Down);
}

#[test]
fn a_deadlock_and_an_endless_run_are_told_apart() {
    let stuck = World::run(Seed(1), WorldConfig::default(), |_| std::future::pending::<()>());
    assert!(matches!(stuck, Err(RunError::Stuck { .. })));
    let config = WorldConfig {
        time_limit_ns: Some(3_000_000_000),
        ..WorldConfig::default()
    };
    let endless = World::run(Seed(1), config, |_| async {
        loop {
            sleep(secs(1)).await;
        }
    });
    let error = endless.map(|((), _)| ()).expect_err("it never ends");
    assert!(matches!(error, RunError::TimeLimit { .. }), "{error}");
    assert!(error.summary().sim_time_ns >= 3_000_000_000);
}

#[test]
fn nothing_outlives_a_run() {
    struct Token(Arc<AtomicUsize>);
    impl Drop for Token {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    let alive = Arc::new(AtomicUsize::new(0));
    let token = |alive: &Arc<AtomicUsize>| {
        alive.fetch_add(1, SeqCst);
        Token(alive.clone())
    };
    let count = alive.clone();
    World::run(Seed(1), WorldConfig::default(), |world| async move {
        let host = world.host("host", [10, 0, 0, 1].into());
        let (on_host, in_program, on_main, in_call, asleep) = (
            token(&count),
            Arc::new(token(&count)),
            token(&count),
            token(&count),
            token(&count),
        );
        drop(host.spawn(async move {
            let _token = on_host;
            std::future::pending::<()>().await;
        }));
        let owner = world.clone();
        host.start(move || {
            let (token, world) = (in_program.clone(), owner.clone());
            Box::pin(async move {
                let _kept = (token, world);
                sleep(secs(1000)).await;
            })
        });
        drop(tokio::spawn(async move {
            let _token = on_main;
            std::future::pending::<()>().await;
        }));
        drop(tokio::spawn(async move {
            let _token = asleep;
            sleep(secs(1_000_000)).await;
        }));
        world.call_at(u64::MAX, move || drop(in_call));
        sleep(ms(5)).await;
        host.pause();
        assert_eq!(count.load(SeqCst), 5);
    })
    .expect("a run");
    assert_eq!(alive.load(SeqCst), 0);
}

#[test]
fn timers_are_exact_and_tokios_are_on_a_grid_of_a_millisecond() {
    World::run(Seed(1), WorldConfig::default(), |world| async move {
        // madsim counts 50 to 100 ns for every poll: an instant is met to within a few of them
        let near = |at_ns: u64| (at_ns..at_ns + 2_000).contains(&world.now_ns());
        let at = world.now_ns() + 12_345;
        world.until(at).await;
        assert!(near(at), "{} instead of {at}", world.now_ns());
        Timer::at(at).await;
        assert!(near(at), "an instant that has passed does not wait");
        for nap_ns in [1, 999_999, 1_000_000, 1_500_000] {
            let due = (world.now_ns() + nap_ns).next_multiple_of(1_000_000);
            sleep(std::time::Duration::from_nanos(nap_ns)).await;
            assert!(near(due), "{} instead of {due}", world.now_ns());
        }
        let mut timer = Timer::at(world.now_ns() + 1_000_000_000);
        assert!(timeout(ms(1), &mut timer).await.is_err());
        let soon = world.now_ns() + 777;
        timer.reset(soon);
        timer.await;
        assert!(near(soon));
    })
    .expect("a run");
}

#[test]
fn a_thousand_timers_fire_in_order_and_cancelled_ones_do_not() {
    World::run(Seed(1), WorldConfig::default(), |world| async move {
        let fired = Arc::new(Mutex::new(Vec::new()));
        let draws = world.stream("naps");
        let mut tasks = Vec::new();
        for n in 0..1000u64 {
            let nap = draws.below(100_000_000);
            let fired = fired.clone();
            let world = world.clone();
            let task = tokio::spawn(async move {
                let at = world.now_ns() + nap;
                world.until(at).await;
                fired.lock().expect("one thread").push(at);
            });
            if n % 3 == 0 {
                task.abort();
            }
            tasks.push(task);
        }
        sleep(ms(200)).await;
        let fired = fired.lock().expect("one thread");
        assert_eq!(fired.len(), 666);
        // tasks of one instant run in a drawn order; 100 ns are what a poll may take
        assert!(
            fired.windows(2).all(|pair| pair[0] <= pair[1] + 20_000),
            "{:?}",
            fired.windows(2).find(|pair| pair[0] > pair[1] + 20_000)
        );
    })
    .expect("a run");
}

#[test]
fn calls_come_at_their_instant_and_in_order() {
    World::run(Seed(1), WorldConfig::default(), |world| async move {
        let calls = Arc::new(Mutex::new(Vec::new()));
        for (n, at_ns) in [(1, 3_000_000), (2, 1_000_000), (3, 3_000_000), (4, 0)] {
            let (calls, clock) = (calls.clone(), world.clone());
            world.call_at(at_ns, move || {
                calls.lock().expect("one thread").push((n, clock.now_ns() / 1_000_000))
            });
        }
        sleep(ms(10)).await;
        assert_eq!(*calls.lock().expect("one thread"), [(4, 0), (2, 1), (1, 3), (3, 3)]);
    })
    .expect("a run");
}

#[test]
fn a_call_may_kill_and_restart() {
    Pair::run(|pair| async move {
        let server = pair.server.clone();
        let generation = server.generation();
        pair.world.call_at(pair.world.now_ns() + 1_000_000, move || {
            server.kill();
            server.restart();
        });
        sleep(ms(3)).await;
        assert_eq!(pair.server.state(), HostState::Up);
        assert!(pair.server.generation() > generation);
        ping(&mut TcpStream::connect(SERVER).await.expect("connect"))
            .await
            .expect("ping");
    });
}

#[test]
fn a_paused_machine_sleeps_longer() {
    Pair::run(|pair| async move {
        let ticks = Arc::new(AtomicUsize::new(0));
        let counted = ticks.clone();
        drop(pair.server.spawn(async move {
            let mut ticking = interval(ms(10));
            ticking.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticking.tick().await;
                counted.fetch_add(1, SeqCst);
            }
        }));
        sleep(ms(95)).await;
        assert_eq!(ticks.load(SeqCst), 10);
        pair.server.pause();
        sleep(secs(30)).await;
        assert_eq!(ticks.load(SeqCst), 10);
        pair.server.resume();
        sleep(ms(1)).await;
        assert_eq!(ticks.load(SeqCst), 11, "one late tick, and no burst");
    });
}

#[test]
fn a_program_is_asked_to_stop() {
    Pair::run(|pair| async move {
        let stopped = Arc::new(AtomicUsize::new(0));
        let counted = stopped.clone();
        pair.server.kill();
        pair.server.start(move || {
            let stopped = counted.clone();
            Box::pin(async move {
                let mut terminate =
                    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signal");
                tokio::select! {
                    end = tokio::signal::ctrl_c() => end.expect("signal"),
                    Some(()) = terminate.recv() => {}
                }
                sleep(ms(10)).await;
                stopped.fetch_add(1, SeqCst);
            })
        });
        sleep(ms(5)).await;
        pair.server.interrupt();
        sleep(ms(5)).await;
        assert_eq!(
            (pair.server.state(), stopped.load(SeqCst)),
            (HostState::Up, 0),
            "it finishes what it does"
        );
        sleep(ms(20)).await;
        assert_eq!((pair.server.state(), stopped.load(SeqCst)), (HostState::Down, 1));
        pair.client.disk();
        let deaf = pair.world.host("deaf", [10, 0, 0, 8].into());
        deaf.start(|| Box::pin(std::future::pending()));
        sleep(ms(1)).await;
        deaf.interrupt();
        assert_eq!(
            deaf.state(),
            HostState::Down,
            "a program that does not listen ends at once"
        );
    });
}

#[test]
fn the_join_handle_of_a_killed_task_is_cancelled() {
    Pair::run(|pair| async move {
        let task = pair.server.spawn(std::future::pending::<()>());
        sleep(ms(1)).await;
        pair.server.kill();
        assert!(task.await.expect_err("killed").is_cancelled());
        let never = pair.server.spawn(async { 1 });
        assert!(never.await.expect_err("nothing runs on a dead machine").is_cancelled());
    });
}

#[test]
fn far_deadlines_cost_nothing() {
    World::run(Seed(1), WorldConfig::default(), |world| async move {
        for _ in 0..10_000 {
            let answered = timeout(secs(30), async { tokio::task::yield_now().await });
            answered.await.expect("at once");
        }
        let waiting = timeout(std::time::Duration::MAX, sleep(ms(1)));
        waiting.await.expect("in time");
        sleep_until(Instant::now() + secs(3600 * 24 * 365)).await;
        assert!(world.now_ns() > 365 * 24 * 3_600_000_000_000);
    })
    .expect("a run");
}

#[test]
fn a_world_inside_a_world_is_refused() {
    let run = World::run(Seed(1), WorldConfig::default(), |_| async {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("built")
            .block_on(async {});
    });
    assert!(matches!(run, Err(RunError::Panicked { .. })));
}

#[test]
#[should_panic(expected = "quench-worker")]
fn a_program_of_the_simulated_build_does_not_run_by_itself() {
    tokio::runtime::Runtime::new().expect("built").block_on(async {});
}
