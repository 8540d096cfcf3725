//! tokio's own paths, in the world that the build chooses. Every crate of ours, and every transplanted library, imports
//! this crate under the name `tokio`.
//!
//! - without `--cfg madsim` this crate is exactly `pub use tokio::*`: the production build;
//! - with it, time, tasks, network, files and signals come from `sim-world`, while `io`, `sync` and the macros stay
//!   tokio's, whose version is therefore pinned.
//!
//! Import paths, names and errors mirror tokio's to the letter. What has no meaning in the simulator is absent (no
//! `UnixStream`, no `process`), so that it fails to compile instead of quietly touching the real machine.
#![forbid(unsafe_code)]

#[cfg(not(madsim))]
pub use tokio::*;

#[cfg(madsim)]
pub mod fs;
#[cfg(madsim)]
pub mod net;
#[cfg(madsim)]
pub mod runtime;
#[cfg(madsim)]
mod select;
#[cfg(madsim)]
pub mod signal;
#[cfg(madsim)]
pub mod task;
#[cfg(madsim)]
pub mod time;

#[cfg(madsim)]
pub use tokio::{io, join, main, pin, sync, task_local, test, try_join};

#[cfg(madsim)]
pub use task::spawn;

#[cfg(madsim)]
#[doc(hidden)]
pub use select::support;
