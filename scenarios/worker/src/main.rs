//! `quench-worker`: takes work as JSON lines, runs each piece in a forked child and answers in JSON lines. It is started
//! by `quench`, not by people. What a seed does is the `scenarios` library's business; this binary only makes sure that
//! a seed sees the same process every time, whatever ran before it, whoever started it and wherever memory lies.
//!
//! - [`reexec`]: a fixed environment and no address randomisation, before anything else
//! - [`zygote`]: the pristine process that forks, forwards and watches the clock; it never allocates
//! - [`child`]: one job in a forked child, on a fresh thread
//! - [`work`]: what the kinds of job mean
//! - [`probe`], [`bench`]: jobs that need no scenario
//! - [`alloc`]: memory that lies where it lay last time
mod alloc;
#[cfg(madsim)]
mod bench;
#[cfg(madsim)]
mod child;
#[cfg(madsim)]
mod probe;
#[cfg(madsim)]
mod reexec;
#[cfg(madsim)]
mod work;
#[cfg(madsim)]
mod zygote;

#[global_allocator]
static ALLOCATOR: alloc::Arenas = alloc::Arenas;

/// Explains itself and fails: the simulated world is not in this build.
#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "quench-worker: this build has no worlds yet. The simulated world needs `--cfg madsim`: run `cargo quench run`, \
         which builds it so (an environment RUSTFLAGS drops flags given elsewhere). The local and live worlds come with \
         `quench live`."
    );
    std::process::ExitCode::from(1)
}

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    match reexec::enter() {
        Ok(()) => {
            scenarios::sim::warm_up();
            zygote::serve()
        }
        Err(problem) => {
            eprintln!("quench-worker: {problem}");
            std::process::ExitCode::from(1)
        }
    }
}
