//! `quench bench`: how fast whole seeds are, everything included, and how fast the simulated network and disk are beside
//! madsim's own in the same run. CPU time is that of the worker processes and all their children as the system counted it,
//! so forks, page faults and teardown are in it.
use crate::args::{BenchArgs, WorldArgs};
use crate::client::Start;
use crate::exit::Exit;
use crate::launch::Profile;
use crate::pool::{Event, Pool, Task};
use crate::problem::{Problem, say};
use crate::progress::Progress;
use crate::protocol::{Answer, SeedJob, Work};
use crate::session::Session;
use crate::stopwatch::Stopwatch;
use crate::table;
use crate::tally::Tally;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Wall-clock bound of one seed, ms.
const LIMIT_MS: u64 = 300_000;
/// CPU time of each micro-benchmark, ms.
const EACH_MS: u64 = 500;
/// Times that the warm start is measured; the shortest counts, because others' work on the machine only adds.
const STARTS: u32 = 5;

/// What was measured.
#[derive(Debug, Default)]
struct Measured {
    scenario: String,
    design: String,
    seeds: u64,
    failing: u64,
    trades: u64,
    cpu_us: u64,
    wall_us: u64,
    sim_time_ms: u64,
    peak_rss_kib: u64,
    stages_us: BTreeMap<String, u64>,
    /// CPU time of the children as they saw it themselves: the rest is forks, pipes and teardown.
    in_seeds_us: u64,
    warm_start_us: u64,
    per_cpu_s: BTreeMap<String, u64>,
}

/// Runs it.
pub fn run(arguments: &BenchArgs) -> Result<Exit, Problem> {
    let mut session = Session::open(Profile::Release)?;
    let scenario = arguments
        .scenario
        .clone()
        .unwrap_or_else(|| session.catalog.bench_scenario.clone());
    let planned = session.plan(&[scenario], arguments.design.as_deref(), &WorldArgs::default())?;
    let one = planned.into_iter().next().ok_or(Problem::Interrupted)?;
    let job = SeedJob {
        trades: Some(arguments.trades),
        ..one.job.clone()
    };
    let mut measured = Measured {
        scenario: one.scenario.name.clone(),
        ..Measured::default()
    };
    measured.warm_start_us = warm_start_us()?;
    let Answer::Bench { per_cpu_s } = session.client.ask_plainly(Work::Bench { each_ms: EACH_MS })? else {
        let why = "answered the micro-benchmarks with something else".into();
        return Err(Problem::Worker {
            path: session.worker.clone(),
            why,
        });
    };
    measured.per_cpu_s = per_cpu_s;
    let pool = Pool {
        worker: session.worker.clone(),
        workers: arguments.workers,
        limit_ms: LIMIT_MS,
        start: Start::default(),
        fresh_worker_per_seed: false,
    };
    let mut tally = Tally::new(&one.scenario, &one.job.design, None, &[]);
    seeds(&pool, &job, arguments.seeds, &mut tally, &mut measured)?;
    match arguments.json {
        true => say(&format!("{}\n", measured.json()))?,
        false => say(&measured.text())?,
    }
    Ok(if measured.failing > 0 { tally.exit() } else { Exit::Pass })
}

/// Runs the seeds and fills in what they cost.
fn seeds(pool: &Pool, job: &SeedJob, count: u64, tally: &mut Tally, measured: &mut Measured) -> Result<(), Problem> {
    let tasks = (1..=count).map(|seed| Task {
        group: 0,
        job: SeedJob { seed, ..job.clone() },
    });
    let mut progress = Progress::new(count);
    let (cpu_before, began) = (children_cpu_us()?, Stopwatch::start());
    let outcome = pool.run(tasks, |event| match event {
        Event::Done(task, report) => {
            progress.done(&report.scenario, false);
            tally.add(&task.job, report);
        }
        Event::Tick => progress.tick(),
    });
    let wall_us = began.elapsed_us();
    let cpu_after = children_cpu_us()?;
    progress.finish();
    outcome?;
    measured.design.clone_from(&tally.design);
    measured.seeds = tally.seeds;
    measured.failing = tally.failing();
    measured.trades = tally.settled_trades;
    measured.cpu_us = cpu_after.saturating_sub(cpu_before);
    measured.wall_us = wall_us;
    measured.sim_time_ms = tally.sim_time_ms;
    measured.peak_rss_kib = tally.peak_rss_kib;
    measured.stages_us.clone_from(&tally.stages_us);
    measured.in_seeds_us = tally.cpu_us;
    Ok(())
}

/// CPU time of every child that has ended, and of theirs.
fn children_cpu_us() -> Result<u64, Problem> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|errno| Problem::Program {
        program: "getrusage".into(),
        why: errno.to_string(),
    })?;
    let part = |time: nix::sys::time::TimeVal| u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0);
    Ok(part(usage.user_time()) + part(usage.system_time()))
}

/// How long this command takes from its start to its first answer when nothing has to be built.
fn warm_start_us() -> Result<u64, Problem> {
    let itself = std::env::current_exe().map_err(Problem::file("find", "/proc/self/exe"))?;
    let failed = |why: String| Problem::Program {
        program: format!("{} list", itself.display()),
        why,
    };
    let mut shortest = u64::MAX;
    for _ in 0..STARTS {
        let began = Stopwatch::start();
        let status = Command::new(&itself)
            .arg("list")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let status = status.map_err(|error| failed(error.to_string()))?;
        if !status.success() {
            return Err(failed(format!("ended with {status}")));
        }
        shortest = shortest.min(began.elapsed_us());
    }
    Ok(shortest)
}

/// `count` per second of `us`, rounded down.
fn rate(count: u64, us: u64) -> u64 {
    if us == 0 {
        0
    } else {
        u64::try_from(u128::from(count) * 1_000_000 / u128::from(us)).unwrap_or(u64::MAX)
    }
}

impl Measured {
    fn stages_per_seed_us(&self) -> BTreeMap<String, u64> {
        let seeds = self.seeds.max(1);
        let mut stages: BTreeMap<String, u64> = self.stages_us.iter().map(|(n, us)| (n.clone(), us / seeds)).collect();
        let staged: u64 = self.stages_us.values().sum();
        stages.insert("other_in_seed".into(), self.in_seeds_us.saturating_sub(staged) / seeds);
        stages.insert(
            "fork_and_pipes".into(),
            self.cpu_us.saturating_sub(self.in_seeds_us) / seeds,
        );
        stages
    }

    /// Simulated seconds per second of real time.
    fn simulated_to_wall(&self) -> u64 {
        self.sim_time_ms.saturating_mul(1_000) / self.wall_us.max(1)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "version": 1,
            "scenario": self.scenario,
            "design": self.design,
            "seeds": self.seeds,
            "failing_seeds": self.failing,
            "settled_trades": self.trades,
            "settled_trades_per_cpu_s": rate(self.trades, self.cpu_us),
            "seeds_per_cpu_s": rate(self.seeds * 100, self.cpu_us) as f64 / 100.0,
            "simulated_to_wall_ratio": self.simulated_to_wall(),
            "peak_rss_kib": self.peak_rss_kib,
            "cpu_us_per_seed": self.cpu_us / self.seeds.max(1),
            "stages_us_per_seed": self.stages_per_seed_us(),
            "warm_start_ms": self.warm_start_us / 1_000,
            "per_cpu_s": self.per_cpu_s,
        })
    }

    fn text(&self) -> String {
        let mut table = table::new_table();
        table.set_header(["measure", "value"]);
        let n = table::thousands;
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_string(), value]);
        };
        row("settled trades per CPU-second", n(rate(self.trades, self.cpu_us)));
        row(
            "seeds per CPU-second",
            format!("{:.1}", rate(self.seeds * 10, self.cpu_us) as f64 / 10.0),
        );
        row("simulated time to wall time", n(self.simulated_to_wall()));
        row("peak memory of a seed", format!("{} KiB", n(self.peak_rss_kib)));
        row(
            "warm start of this command",
            format!("{} ms", n(self.warm_start_us / 1_000)),
        );
        for (name, us) in self.stages_per_seed_us() {
            row(&format!("CPU per seed, {name}"), format!("{} us", n(us)));
        }
        for (name, per_cpu_s) in &self.per_cpu_s {
            row(&format!("{name} per CPU-second"), n(*per_cpu_s));
        }
        let (seeds, trades) = (n(self.seeds), n(self.trades));
        format!(
            "{} x {}: {seeds} seeds, {trades} settled trades\n{table}\n",
            self.scenario, self.design
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_from_counts_and_times() {
        let measured = Measured {
            scenario: "steady".into(),
            design: "ledger".into(),
            seeds: 10,
            trades: 5_000,
            cpu_us: 125_000,
            wall_us: 130_000,
            sim_time_ms: 300_000,
            peak_rss_kib: 20_480,
            stages_us: BTreeMap::from([("run".into(), 100_000), ("judge".into(), 10_000)]),
            in_seeds_us: 120_000,
            warm_start_us: 45_678,
            per_cpu_s: BTreeMap::from([("round trips, sim-world".into(), 1_500_000)]),
            ..Measured::default()
        };
        let json = measured.json();
        assert_eq!(json["settled_trades_per_cpu_s"], 40_000);
        assert_eq!(json["seeds_per_cpu_s"], 80.0);
        assert_eq!(json["simulated_to_wall_ratio"], 2_307);
        assert_eq!(json["stages_us_per_seed"]["fork_and_pipes"], 500);
        assert_eq!(json["stages_us_per_seed"]["other_in_seed"], 1_000);
        insta::assert_snapshot!("bench", measured.text());
        assert_eq!(rate(1, 0), 0);
    }
}
