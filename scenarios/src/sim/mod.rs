//! Runs one seed in the simulated world and judges it. The same steps for every scenario:
//!
//! | module | job |
//! |---|---|
//! | [`plant`] | builds the machines and the programs on them from a resolved job |
//! | [`feed`] | faults on the feed, handed to the engine's publisher |
//! | [`operator`] | the person who decides about refused events |
//! | [`reader`] | reads balances beside the workload |
//! | [`storage`] | what the disks hold of event identities |
//! | [`watch`] | looks at durability and bounds while the run goes on |
//! | [`client`] | the judge as an ordinary client |
//! | [`collect`] | what replicas hold, as rows |
//! | [`run`] | the course of a run: faults, heal, liveness, evidence |
//! | [`report`] | from the evidence to the report |
mod client;
mod collect;
mod feed;
mod operator;
mod plant;
mod reader;
mod report;
mod run;
mod storage;
mod watch;

pub use run::run_seed;

/// CPU time of this thread in microseconds, from the kernel's own account, which the simulated clock does not touch. Never
/// part of a trace.
pub(crate) fn cpu_time_us() -> u64 {
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    account
        .split(' ')
        .next()
        .and_then(|ns| ns.parse::<u64>().ok())
        .unwrap_or(0)
        / 1_000
}
