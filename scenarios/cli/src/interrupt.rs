//! Ctrl-C: the first one asks the command to stop giving out seeds and to print what was done so far, the second one ends
//! it. Workers live in process groups of their own and do not see it; they leave when nobody listens to them any more.
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use std::sync::atomic::{AtomicBool, Ordering};

static SEEN: AtomicBool = AtomicBool::new(false);
/// The exit code of a process that Ctrl-C ended, by custom of shells: 128 + SIGINT.
const EXIT_CODE: i32 = 130;

/// Begins to watch. To be called before any other thread is started, because threads inherit what signals are held back.
/// Where the system refuses, Ctrl-C keeps its usual meaning.
#[expect(
    clippy::disallowed_methods,
    reason = "this process simulates nothing; a thread waits for signals"
)]
pub fn watch() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    let Ok(descriptor) = SignalFd::new(&signals) else {
        return;
    };
    if signals.thread_block().is_err() {
        return;
    }
    std::thread::spawn(move || {
        while let Ok(Some(_)) = descriptor.read_signal() {
            if SEEN.swap(true, Ordering::Relaxed) {
                std::process::exit(EXIT_CODE);
            }
            eprintln!("\nstopping after the seeds that are running; once more to end at once");
        }
    });
}

/// Whether Ctrl-C was pressed.
pub fn seen() -> bool {
    SEEN.load(Ordering::Relaxed)
}
