//! `tokio::task`: tasks belong to the machine that spawns them.

mod join_set;

pub use join_set::JoinSet;
pub use sim_world::task::{AbortHandle, Id, JoinError, JoinHandle, spawn};
pub use tokio::task::{consume_budget, coop, unconstrained, yield_now};

/// Runs a closure that would block a thread. There is one thread, and nothing blocks it: the closure runs as a task.
#[track_caller]
pub fn spawn_blocking<F, R>(f: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    spawn(async move { f() })
}

/// Runs a closure that would block a thread.
pub fn block_in_place<F, R>(f: F) -> R
where
    F: FnOnce() -> R,
{
    f()
}
