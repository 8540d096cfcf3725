//! The worker as a process: that what a child sees does not depend on what came before it or on who started the worker,
//! and that a child that hangs, panics or dies costs its own answer and nothing else.
#![cfg(madsim)]

use scenarios::protocol::{Answer, Behave, Failed, FromWorker, Job, ProbeJob, ToWorker, VERSION, Work};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running worker.
struct Worker {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Worker {
    fn start(change: impl FnOnce(&mut Command)) -> Worker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quench-worker"));
        change(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let mut process = command.spawn().unwrap();
        let (to, from) = (
            process.stdin.take().unwrap(),
            BufReader::new(process.stdout.take().unwrap()),
        );
        Worker { process, to, from }
    }

    fn plain() -> Worker {
        Worker::start(|_| {})
    }

    fn send(&mut self, line: &str) {
        self.to.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn answer(&mut self) -> FromWorker {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    fn ask(&mut self, id: u64, limit_ms: u64, probe: ProbeJob) -> FromWorker {
        let job = ToWorker::Job(Box::new(Job {
            id,
            limit_ms,
            work: Work::Probe(probe),
        }));
        self.send(&serde_json::to_string(&job).unwrap());
        self.answer()
    }

    /// What a simulation sees of the process.
    fn draw(&mut self, id: u64, seed: u64, ballast: &str) -> BTreeMap<String, String> {
        match self.ask(id, 60_000, probe(seed, Behave::Honest, ballast)) {
            FromWorker::Result { id: answered, answer } if answered == id => match *answer {
                Answer::Probe { drawn } => drawn,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn finish(mut self) -> i32 {
        drop(self.to);
        self.process.wait().unwrap().code().unwrap()
    }
}

fn probe(seed: u64, behave: Behave, ballast: &str) -> ProbeJob {
    ProbeJob {
        seed,
        behave,
        ballast: ballast.to_string(),
    }
}

#[test]
fn a_worker_says_what_it_is_and_refuses_another_version() {
    let mut worker = Worker::plain();
    worker.send(&serde_json::to_string(&ToWorker::Hello { version: VERSION }).unwrap());
    let FromWorker::Ready(ready) = worker.answer() else {
        panic!("no greeting")
    };
    assert_eq!((ready.version, ready.world.as_str()), (VERSION, "sim"));
    assert_eq!(ready.versions["madsim"], "0.2.34");
    assert!(ready.address_randomisation == "off" || ready.address_randomisation.starts_with("on: "));
    worker.send(&serde_json::to_string(&ToWorker::Hello { version: VERSION + 1 }).unwrap());
    let FromWorker::Refused { message } = worker.answer() else {
        panic!("not refused")
    };
    assert!(message.contains("stale"), "{message}");
    worker.send("nonsense");
    assert!(matches!(worker.answer(), FromWorker::Refused { .. }));
    assert_eq!(worker.finish(), 0);
}

#[test]
fn a_child_sees_the_same_process_whatever_came_before_and_whoever_started_it() {
    let mut first = Worker::plain();
    let alone = first.draw(1, 7, "");
    assert!(alone.len() > 6, "{alone:?}");
    assert_eq!(first.draw(2, 7, ""), alone, "the second in one worker");
    for id in 3..20 {
        first.draw(id, id * 31, &"x".repeat(id as usize * 1_000));
    }
    assert_eq!(
        first.draw(u64::MAX, 7, ""),
        alone,
        "the twentieth, after jobs of all sizes"
    );
    assert_eq!(first.draw(21, 7, &"x".repeat(3_000_000)), alone, "with a job of 3 MB");
    let hang = first.ask(22, 50, probe(7, Behave::Hang, ""));
    assert!(matches!(hang, FromWorker::Failed { .. }));
    assert_eq!(first.draw(23, 7, ""), alone, "after a child that was killed");

    assert_eq!(Worker::plain().draw(1, 7, ""), alone, "in another process");
    let large = |command: &mut Command| {
        command.envs((0..100).map(|i| (format!("BALLAST_{i}"), "y".repeat(5_000))));
    };
    assert_eq!(Worker::start(large).draw(1, 7, ""), alone, "with a large environment");
    let bare = |command: &mut Command| {
        command.env_clear().current_dir("/");
    };
    assert_eq!(
        Worker::start(bare).draw(1, 7, ""),
        alone,
        "with an empty environment, elsewhere"
    );
}

#[test]
fn two_workers_at_once_draw_alike_and_two_seeds_do_not() {
    let (mut left, mut right) = (Worker::plain(), Worker::plain());
    for seed in 0..5 {
        assert_eq!(left.draw(seed, seed, ""), right.draw(9 - seed, seed, ""), "seed {seed}");
    }
    let (one, other) = (left.draw(1, 1, ""), left.draw(2, 2, ""));
    assert_ne!(one["uuid v4"], other["uuid v4"], "the probe sees nothing of the seed");
    assert_ne!(
        one["std HashMap"], other["std HashMap"],
        "the probe sees nothing of the seed"
    );
}

#[test]
fn memory_lies_in_the_same_place_even_with_address_randomisation() {
    let randomised = |command: &mut Command| {
        command.arg("--keep-address-randomisation");
    };
    let (one, other) = (
        Worker::start(randomised).draw(1, 1, ""),
        Worker::start(randomised).draw(1, 1, ""),
    );
    for source in [
        "heap address",
        "large heap address",
        "std HashMap",
        "uuid v4",
        "tokio::select!",
    ] {
        assert_eq!(one[source], other[source], "{source}");
    }
}

#[test]
fn a_child_that_hangs_is_killed_and_the_next_job_runs() {
    let mut worker = Worker::plain();
    let hung = worker.ask(5, 200, probe(1, Behave::Hang, ""));
    assert_eq!(
        hung,
        FromWorker::Failed {
            id: 5,
            failed: Failed::Hung { limit_ms: 200 }
        }
    );
    worker.draw(6, 1, "");
}

#[test]
fn a_child_that_panics_or_dies_is_reported_with_its_job() {
    let mut worker = Worker::plain();
    let panicked = worker.ask(5, 60_000, probe(1, Behave::Panic, ""));
    let FromWorker::Result { id: 5, answer } = panicked else {
        panic!("{panicked:?}")
    };
    let Answer::Error { message } = *answer else {
        panic!("{answer:?}")
    };
    assert!(
        message.contains("asked to panic") && message.contains("probe.rs"),
        "{message}"
    );
    let died = worker.ask(6, 60_000, probe(1, Behave::Abort, ""));
    assert_eq!(
        died,
        FromWorker::Failed {
            id: 6,
            failed: Failed::Signal { signal: 6 }
        }
    );
    worker.draw(7, 1, "");
}

#[test]
fn jobs_sent_at_once_are_answered_in_order() {
    let mut worker = Worker::plain();
    let jobs: String = (1..=3)
        .map(|id| {
            let work = Work::Probe(probe(id, Behave::Honest, ""));
            let job = ToWorker::Job(Box::new(Job {
                id,
                limit_ms: 60_000,
                work,
            }));
            serde_json::to_string(&job).unwrap() + "\n"
        })
        .collect();
    worker.to.write_all(jobs.as_bytes()).unwrap();
    for expected in 1..=3 {
        assert!(matches!(worker.answer(), FromWorker::Result { id, .. } if id == expected));
    }
}

#[test]
fn a_worker_whose_listener_is_gone_ends_and_takes_its_child_along() {
    let mut worker = Worker::plain();
    let job = ToWorker::Job(Box::new(Job {
        id: 1,
        limit_ms: 600_000,
        work: Work::Probe(probe(1, Behave::Hang, "")),
    }));
    worker.send(&serde_json::to_string(&job).unwrap());
    let pid = worker.process.id();
    let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let child = loop {
        let pids = children();
        if let Some(child) = pids.split_whitespace().next() {
            break child.to_string();
        }
        std::thread::yield_now();
    };
    let Worker { mut process, to, from } = worker;
    drop(from);
    assert!(process.wait().unwrap().success());
    drop(to);
    let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    assert!(!state.contains("quench-worker) R"), "the child runs on: {state}");
}

#[test]
fn an_unknown_argument_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_quench-worker"))
        .arg("--seed")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cargo quench"));
    let mut nothing = String::new();
    (&output.stdout[..]).read_to_string(&mut nothing).unwrap();
    assert_eq!(nothing, "");
}
