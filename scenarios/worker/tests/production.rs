//! The worker of the production build: it greets as `live`, refuses what needs the simulated world and says what runs it,
//! and leaves in good order when nobody asks any more.
#![cfg(not(madsim))]

use scenarios::protocol::{Answer, FromWorker, Job, SeedJob, ToWorker, VERSION, Work};
use std::io::Write;
use std::process::{Command, Stdio};

/// What a worker answers to these lines, one answer per line, and its exit code once its input has ended.
fn answers(lines: &[ToWorker]) -> (Vec<FromWorker>, Option<i32>) {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_quench-worker"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = worker.stdin.take().unwrap();
    for line in lines {
        writeln!(input, "{}", serde_json::to_string(line).unwrap()).unwrap();
    }
    drop(input);
    let output = worker.wait_with_output().unwrap();
    let answers = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    (answers, output.status.code())
}

#[test]
fn a_seed_is_refused_with_what_runs_it_and_the_end_is_orderly() {
    let job = Job {
        id: 7,
        limit_ms: 1_000,
        work: Work::Seed(SeedJob::default()),
    };
    let (answers, code) = answers(&[ToWorker::Hello { version: VERSION }, ToWorker::Job(Box::new(job))]);
    let [FromWorker::Ready(ready), FromWorker::Result { id: 7, answer }] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(ready.world, "live");
    match &**answer {
        Answer::Error { message } => assert!(
            message.contains("without the simulated world") && message.contains("cargo quench run"),
            "{message}"
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(code, Some(0));
}

#[test]
fn a_command_of_another_version_is_told_that_one_of_them_is_stale() {
    let (answers, _) = answers(&[ToWorker::Hello { version: VERSION + 1 }]);
    match &answers[..] {
        [FromWorker::Refused { message }] => assert!(message.contains("stale"), "{message}"),
        other => panic!("{other:?}"),
    }
}
