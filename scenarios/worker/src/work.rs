//! What each kind of job means, on the seed's thread of a child. Scenario jobs go to the `scenarios` library, the rest
//! to the worker's own probes and measurements. It knows neither pipes nor processes.
use crate::{bench, probe};
use scenarios::protocol::{Answer, Work};

/// Does the work. A panic is the caller's to report.
pub fn run(work: &Work) -> Answer {
    match work {
        Work::Catalog => Answer::Catalog(scenarios::job::catalog()),
        Work::Check(job) => Answer::Checked(scenarios::job::check(job)),
        Work::Seed(job) => Answer::Seed(scenarios::sim::run_seed(job)),
        Work::Live(_) => Answer::Error {
            message: "this worker has only the simulated world; `quench live` builds another".into(),
        },
        Work::Probe(job) => probe::run(job),
        Work::Bench { each_ms } => bench::run(*each_ms),
    }
}
