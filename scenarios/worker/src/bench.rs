//! Micro-benchmarks: the simulated network and disk beside madsim's own, in one process and one run, because ratios
//! measured in different runs on a busy machine mean nothing. Measuring is `sim_world::bench`'s job; this only answers.
use scenarios::protocol::Answer;
use std::time::Duration;

/// Measures each for `each_ms` of CPU time.
pub fn run(each_ms: u64) -> Answer {
    let rates = sim_world::bench::measure(Duration::from_millis(each_ms));
    Answer::Bench {
        per_cpu_s: rates.into_iter().map(|(name, rate)| (name.to_string(), rate)).collect(),
    }
}
