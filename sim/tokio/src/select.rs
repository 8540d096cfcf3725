//! `select!` whose fairness is drawn from the seed.
//!
//! tokio's macro asks a generator that is seeded from a process-wide counter which branch to poll first; a fork per seed
//! makes that reproducible, and this is the second line: the same macro, entered at the arm behind the draw. That arm is
//! private to tokio, so its version is pinned.

/// As `tokio::select!`.
#[macro_export]
macro_rules! select {
    (biased; $($branches:tt)*) => {
        $crate::support::tokio::select!(biased; $($branches)*)
    };
    (else => $($rest:tt)*) => {
        $crate::support::tokio::select!(else => $($rest)*)
    };
    ($pattern:pat = $($branches:tt)*) => {
        $crate::support::tokio::select!(@{ start={ $crate::support::first_branch(BRANCHES) }; () } $pattern = $($branches)*)
    };
    () => {
        compile_error!("select! requires at least one branch.")
    };
}

/// What the macro needs at the place where it is used.
pub mod support {
    pub use tokio;

    /// Which of `branches` is polled first: drawn from the seed in a world, the first one elsewhere.
    pub fn first_branch(branches: u32) -> u32 {
        sim_world::task::first_of(branches)
    }
}
