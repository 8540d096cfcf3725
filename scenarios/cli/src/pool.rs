//! Deals seeds out to worker processes: one thread per worker, each waiting for its worker's answer before it sends the
//! next seed. Seeds are made as they are needed and results handed over as they come, in no particular order, so memory
//! does not grow with their number.
use crate::client::{Client, Start};
use crate::interrupt;
use crate::problem::Problem;
use crate::protocol::{Ready, SeedJob, SeedReport};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Results that may wait to be looked at, per worker; then workers wait.
const WAITING_RESULTS: usize = 4;
/// How often the progress line and Ctrl-C are looked at while nothing comes.
const TICK: Duration = Duration::from_millis(100);
/// Times that a worker is started again after it was lost, before its thread gives up: more than that is no accident.
const RESTARTS: u32 = 3;

/// Where and how many.
#[derive(Clone, Debug)]
pub struct Pool {
    /// The worker's binary.
    pub worker: PathBuf,
    /// Processes.
    pub workers: u16,
    /// Wall-clock bound of one seed, ms.
    pub limit_ms: u64,
    /// How each is started.
    pub start: Start,
    /// A new process for every seed, as if each were the first.
    pub fresh_worker_per_seed: bool,
}

/// One seed to run.
#[derive(Clone, Debug)]
pub struct Task {
    /// Chosen by the caller, to find its place again.
    pub group: usize,
    /// What to run.
    pub job: SeedJob,
}

/// What is going on.
#[allow(
    clippy::large_enum_variant,
    reason = "moved once from a bounded channel to its reader"
)]
pub enum Event {
    /// A seed is done.
    Done(Task, SeedReport),
    /// Nothing happened for a moment.
    Tick,
}

impl Pool {
    /// As many workers as the machine has cores, unless told otherwise.
    pub fn workers_or_cores(asked: Option<u16>) -> u16 {
        asked
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| u16::try_from(n.get()).unwrap_or(64)))
    }

    /// Runs every task and tells `on_event` of each. Returns what the workers are, and whether Ctrl-C cut it short.
    pub fn run(
        &self,
        tasks: impl Iterator<Item = Task> + Send,
        mut on_event: impl FnMut(Event),
    ) -> Result<(Ready, bool), Problem> {
        let tasks = Mutex::new(tasks);
        let stop = AtomicBool::new(false);
        let (results, incoming) = sync_channel(usize::from(self.workers) * WAITING_RESULTS);
        let outcome = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.workers)
                .map(|_| {
                    let results = results.clone();
                    let (tasks, stop) = (&tasks, &stop);
                    scope.spawn(move || {
                        let next = || match stop.load(Ordering::Relaxed) || interrupt::seen() {
                            true => None,
                            false => tasks.lock().unwrap_or_else(PoisonError::into_inner).next(),
                        };
                        let outcome = self.serve(next, |task, report| results.send((task, report)).is_ok());
                        if outcome.is_err() {
                            stop.store(true, Ordering::Relaxed);
                        }
                        outcome
                    })
                })
                .collect();
            drop(results);
            loop {
                match incoming.recv_timeout(TICK) {
                    Ok((task, report)) => on_event(Event::Done(task, report)),
                    Err(RecvTimeoutError::Timeout) => on_event(Event::Tick),
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            let mut ready = Ready::default();
            for thread in threads {
                // A panic of ours goes on as a panic of ours.
                ready = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            Ok(ready)
        });
        outcome.map(|ready| (ready, interrupt::seen()))
    }

    /// One worker's thread.
    fn serve(
        &self,
        next: impl Fn() -> Option<Task>,
        done: impl Fn(Task, SeedReport) -> bool,
    ) -> Result<Ready, Problem> {
        let mut client = Client::start(&self.worker, &self.start)?;
        let mut restarts = 0;
        while let Some(task) = next() {
            let ran = client.run_seed(&task.job, self.limit_ms);
            if ran.gone {
                restarts += 1;
                if restarts > RESTARTS {
                    let why = format!("was lost {restarts} times, the last time with seed {}", task.job.seed);
                    return Err(Problem::Worker {
                        path: self.worker.clone(),
                        why,
                    });
                }
            }
            if ran.gone || self.fresh_worker_per_seed {
                client = Client::start(&self.worker, &self.start)?;
            }
            if !done(task, ran.report) {
                break;
            }
        }
        let ready = client.ready.clone();
        client.finish();
        Ok(ready)
    }
}
