//! The worker of the production build: the same lines, but one job at a time and in this very process, because real
//! processes and sockets have nothing to gain from a fork. Whoever asked may go away, by closing standard input, or send a
//! signal; then the run is cut short and cleaned up before the worker leaves.
use crate::greeting;
use nix::sys::signal::SigSet;
use scenarios::protocol::{Answer, FromWorker, Job, ToWorker, VERSION, Work};
use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Lines that wait: the command sends one and waits for its answer.
const LINES_MAX: usize = 4;

/// Serves lines until standard input ends.
pub fn serve() -> ExitCode {
    // The command holds signals back, and a process inherits that; so would settlement and the engine, which could then
    // not be asked to end. Where the system refuses, they are ended the hard way.
    let _ = SigSet::empty().thread_set_mask();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let served = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let served = catch_unwind(AssertUnwindSafe(|| runtime.block_on(serve_lines())));
        // Not waited for: a thread reads lines that may never come.
        runtime.shutdown_background();
        served.unwrap_or_else(|_| Err("it broke down; its words are above".into()))
    });
    let code = match served {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("quench-worker: {why}");
            1
        }
    };
    // A thread may still wait for a line that never comes; nothing is left to be done in good order.
    std::process::exit(code)
}

async fn serve_lines() -> Result<(), String> {
    let (to, mut lines) = mpsc::channel::<String>(LINES_MAX);
    // Not awaited: it ends with the input or with the process.
    drop(tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if to.blocking_send(line).is_err() {
                return;
            }
        }
    }));
    while let Some(line) = lines.recv().await {
        let answer = match serde_json::from_str(&line) {
            Ok(ToWorker::Hello { version }) => greeting::answer(version, "live", "as the system has it".into()),
            Ok(ToWorker::Job(job)) => FromWorker::Result {
                id: job.id,
                answer: Box::new(work(*job, &mut lines).await),
            },
            Err(error) => FromWorker::Refused {
                message: format!("a line that is no line of protocol version {VERSION}: {error}"),
            },
        };
        let text = serde_json::to_string(&answer).map_err(|error| error.to_string())?;
        let mut output = std::io::stdout().lock();
        // Nobody listening any more is the end, and an orderly one.
        if writeln!(output, "{text}").and_then(|()| output.flush()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn work(job: Job, lines: &mut mpsc::Receiver<String>) -> Answer {
    match job.work {
        Work::Catalog => Answer::Catalog(scenarios::job::catalog()),
        Work::Check(job) => Answer::Checked(scenarios::job::check(&job)),
        Work::Live(live) => Answer::Seed(scenarios::live::run(&live, interrupted(lines)).await),
        Work::Seed(_) | Work::Probe(_) | Work::Bench { .. } => Answer::Error {
            message: "this worker was built without the simulated world (`--cfg madsim`) and runs `quench live` only; \
                      `cargo quench run` builds the one that has it, or unset QUENCH_WORKER"
                .into(),
        },
    }
}

/// Completes when the other side closes its pipe, or a signal asks for an end.
async fn interrupted(lines: &mut mpsc::Receiver<String>) {
    let stopped = async |kind| match signal(kind) {
        Ok(mut signals) => drop(signals.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        _ = lines.recv() => {}
        () = stopped(SignalKind::interrupt()) => {}
        () = stopped(SignalKind::terminate()) => {}
    }
}
