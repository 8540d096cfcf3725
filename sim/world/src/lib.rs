//! The simulated world: machines with links, byte-stream TCP, disks and clocks, under a seed and a typed trace.
//!
//! | module | what | worlds |
//! |---|---|---|
//! | [`seed`] | seeds and labelled streams of draws | both |
//! | [`trace`] | the typed trace and its hash | both |
//! | [`summary`] | what a run leaves behind | both |
//! | `cpu` | real CPU time, for reports of cost | both |
//! | `config` | what a run is given | simulated |
//! | `world` | one run from a seed: [`World::run`] | simulated |
//! | `host` | machines: start, kill, power off, pause, restart | simulated |
//! | `task` | tasks that belong to a machine | simulated |
//! | `time` | cancellable timers | simulated |
//! | `net` | links and TCP | simulated |
//! | `disk` | files that can be lost | simulated |
//! | `log` | `tracing` events of programs, into the trace | simulated |
//! | `bench` | speed beside madsim's own network | simulated |
//!
//! Executor, random scheduling and the interposition of libc's clock and entropy are madsim's; network, timers and disk
//! are ours, because that is where the truth about faults lies. Without `--cfg madsim` only the data types exist.

mod cpu;
pub mod seed;
pub mod summary;
pub mod trace;

#[cfg(madsim)]
pub mod bench;
#[cfg(madsim)]
mod clock;
#[cfg(madsim)]
mod config;
#[cfg(madsim)]
mod courier;
#[cfg(madsim)]
pub mod disk;
#[cfg(madsim)]
mod host;
#[cfg(madsim)]
pub mod log;
#[cfg(madsim)]
pub mod net;
#[cfg(madsim)]
pub mod task;
#[cfg(madsim)]
pub mod time;
#[cfg(madsim)]
mod world;

pub use cpu::cpu_time_us;
pub use seed::{Seed, Stream};
pub use summary::{DiskStats, NetStats, RunSummary, TaskPanic};
pub use trace::{Class, HostId, Kind, Record, Trace};

#[cfg(madsim)]
pub use config::WorldConfig;
#[cfg(madsim)]
pub use disk::{Disk, DiskConfig, DiskFault};
#[cfg(madsim)]
pub use host::{BoxFuture, Host, HostState, interrupted};
#[cfg(madsim)]
pub use net::{ConnInfo, DeliverVerdict, Link, Links, NetConfig, TapFilter, TapGuard, TapVerdict, TcpTap};
#[cfg(madsim)]
pub use world::{RunError, World};
