//! One job in a forked child. The order of things here is what makes seed 137 of a batch replay alone:
//!
//! 1. the thread for the seed is started, so that its stack lies where it always lies;
//! 2. only then is the job read, by the main thread and into its memory;
//! 3. the seed's thread wakes up and runs it, on hash keys, counters and memory that nobody has used before;
//! 4. the main thread writes the answer and leaves without running destructors.
use crate::zygote::{Header, write_all};
use crate::{greeting, reexec, work};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeVal;
use scenarios::protocol::{Answer, FromWorker, Job, ToWorker, VERSION, Work};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Stack of the seed's thread. Only what is touched costs memory; deep recursion in a driver or a judge must not end a run.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Between the two threads. Neither side allocates while waiting, unlike with a channel.
struct Handoff {
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    Starting,
    /// The seed's thread exists and has nothing more to set up.
    Waiting,
    Given(Box<Work>),
    Taken,
}

static HANDOFF: Handoff = Handoff {
    state: Mutex::new(State::Starting),
    changed: Condvar::new(),
};
/// What the last panic said; the hook runs on the panicking thread, the answer is written by the main one.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

impl Handoff {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_all();
    }

    fn wait_while(&self, condition: impl FnMut(&mut State) -> bool) -> MutexGuard<'_, State> {
        self.changed
            .wait_while(self.lock(), condition)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// On the seed's thread: says that it is there and sleeps until there is work.
    fn take(&self) -> Box<Work> {
        self.set(State::Waiting);
        loop {
            let mut state = self.wait_while(|state| !matches!(state, State::Given(_)));
            if let State::Given(work) = std::mem::replace(&mut *state, State::Taken) {
                return work;
            }
        }
    }
}

/// Reads one line from `job`, does what it says and writes the header and the answer to `answers`. Never returns.
#[expect(
    clippy::disallowed_methods,
    reason = "the one thread that every simulation of this process runs in"
)]
pub fn run(job: OwnedFd, answers: OwnedFd) -> ! {
    // If the zygote is killed, its child must not run on. A refusal only costs that protection.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current().name().unwrap_or("unnamed").to_string();
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("thread {thread}: {info}"));
    }));
    let seed = std::thread::Builder::new()
        .name("seed".into())
        .stack_size(STACK_BYTES)
        .spawn(|| {
            let work = HANDOFF.take();
            work::run(&work)
        });
    let seed = match seed {
        Ok(thread) => thread,
        Err(error) => leave(
            &answers,
            0,
            refused(format!("cannot start a thread for the seed: {error}")),
        ),
    };
    drop(HANDOFF.wait_while(|state| matches!(state, State::Starting)));
    let mut line = String::new();
    match std::fs::File::from(job).read_to_string(&mut line) {
        Ok(0) => exit(0),
        Ok(_) => {}
        Err(error) => leave(&answers, 0, refused(format!("the job could not be read: {error}"))),
    }
    let job = match serde_json::from_str(&line) {
        Ok(ToWorker::Job(job)) => *job,
        Ok(ToWorker::Hello { version }) => leave(
            &answers,
            0,
            greeting::answer(version, "sim", reexec::address_randomisation()),
        ),
        Err(error) => leave(
            &answers,
            0,
            refused(format!("not a line of protocol version {VERSION}: {error}")),
        ),
    };
    let Job { id, limit_ms, work } = job;
    if write_all(answers.as_fd(), &Header { id, limit_ms }.encode()).is_err() {
        exit(1)
    }
    let began = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    HANDOFF.set(State::Given(Box::new(work)));
    let mut answer = seed.join().unwrap_or_else(|_| {
        let said = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
        Answer::Error {
            message: said.unwrap_or_else(|| "the seed's thread panicked and said nothing".into()),
        }
    });
    if let Answer::Seed(report) = &mut answer {
        let ended = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        if let (Ok(began), Ok(ended)) = (began, ended) {
            report.cost.wall_us = us(ended - began);
        }
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            report.cost.cpu_us = timeval_us(usage.user_time()) + timeval_us(usage.system_time());
            report.cost.peak_rss_kib = u64::try_from(usage.max_rss()).unwrap_or(0);
        }
    }
    // The header has gone out; the answer alone follows.
    send(
        &answers,
        &FromWorker::Result {
            id,
            answer: Box::new(answer),
        },
    );
    exit(0)
}

fn us(time: nix::sys::time::TimeSpec) -> u64 {
    u64::try_from(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000).unwrap_or(0)
}

fn timeval_us(time: TimeVal) -> u64 {
    u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0)
}

fn refused(message: String) -> FromWorker {
    FromWorker::Refused { message }
}

/// Answers without having started the seed's thread on anything.
fn leave(answers: &OwnedFd, id: u64, line: FromWorker) -> ! {
    let header = Header { id, limit_ms: u64::MAX };
    if write_all(answers.as_fd(), &header.encode()).is_ok() {
        send(answers, &line);
    }
    exit(0)
}

fn send(answers: &OwnedFd, line: &FromWorker) {
    let mut text = match serde_json::to_string(line) {
        Ok(text) => text,
        // Then the zygote reports an exit without an answer, and this says why.
        Err(error) => {
            eprintln!("quench-worker: an answer cannot be written as JSON: {error}");
            exit(1)
        }
    };
    text.push('\n');
    // The zygote may be gone; then nobody is left to tell.
    let _ = write_all(answers.as_fd(), text.as_bytes());
}

/// Ends this child at once: no destructors, no exit handlers. It owns nothing that outlives it.
fn exit(code: i32) -> ! {
    // SAFETY: `_exit` takes any code, touches no memory and does not return.
    unsafe { libc::_exit(code) }
}
