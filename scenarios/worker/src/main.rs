//! `quench-worker`: takes work as JSON lines, runs each piece in a forked child and answers in JSON lines. It is started
//! by `quench`, not by people. What a seed does is the `scenarios` library's business; this binary only makes sure that
//! a seed sees the same process every time, whatever ran before it, whoever started it and wherever memory lies.
//!
//! - [`reexec`]: a fixed environment and no address randomisation, before anything else
//! - [`zygote`]: the pristine process that forks, forwards and watches the clock; it never allocates
//! - [`child`]: one job in a forked child, on a fresh thread
//! - [`work`]: what the kinds of job mean
//! - [`greeting`]: what this worker is
//! - `live`: the worker of the production build, which forks nothing and runs `quench live`
//! - [`probe`], [`bench`]: jobs that need no scenario
//! - [`alloc`]: memory that lies where it lay last time
#[cfg(any(madsim, test))]
mod alloc;
#[cfg(madsim)]
mod bench;
#[cfg(madsim)]
mod child;
mod greeting;
#[cfg(not(madsim))]
mod live;
#[cfg(madsim)]
mod probe;
#[cfg(madsim)]
mod reexec;
#[cfg(madsim)]
mod work;
#[cfg(madsim)]
mod zygote;

#[cfg(madsim)]
#[global_allocator]
static ALLOCATOR: alloc::Arenas = alloc::Arenas;

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    live::serve()
}

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    match reexec::enter() {
        Ok(()) => {
            alloc::lay_shared();
            scenarios::sim::warm_up();
            zygote::serve()
        }
        Err(problem) => {
            eprintln!("quench-worker: {problem}");
            std::process::ExitCode::from(1)
        }
    }
}
