//! `quench run`: every scenario over its seeds, one table, and for what failed the whole story of the failure that is
//! easiest to read, saved so that it can be shown again. The very last line of the output is the command that does that.
use crate::args::RunArgs;
use crate::exit::Exit;
use crate::failure::{Build, FailureFile, describe, replay_command, run_command, shown};
use crate::launch::{self, Profile};
use crate::pool::{Event, Pool, Task};
use crate::problem::{Problem, say};
use crate::progress::Progress;
use crate::protocol::{SeedJob, Verdict};
use crate::session::{Planned, Session, read_plan};
use crate::tally::{HUNG_MAX, Tally};
use crate::{junit, seed, table, tape};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of a tape when no number is given: a tape is long.
const TAPE_SEEDS: u64 = 5;

/// Runs it.
pub fn run(arguments: &RunArgs) -> Result<Exit, Problem> {
    let first_seed = seed::parse(&arguments.seed)?;
    let plan = arguments.plan.as_deref().map(read_plan).transpose()?;
    let mut session = Session::open(Profile::of(arguments.worker.debug_build))?;
    let mut planned = session.plan(&arguments.scenario, arguments.design.as_deref(), &arguments.world)?;
    if let Some(plan) = plan {
        for one in &mut planned {
            one.job.plan = Some(plan.clone());
            session.client.check(&one.job)?;
        }
    }
    let seeds = |one: &Planned| match (arguments.seeds, &one.job.tape) {
        (Some(seeds), _) => seeds,
        (None, Some(_)) => TAPE_SEEDS,
        (None, None) => u64::from(one.scenario.seeds.max(1)),
    };
    let wanted: Vec<(Planned, u64)> = planned.into_iter().map(|one| (one.clone(), seeds(&one))).collect();
    let mut tallies: Vec<Tally> = wanted
        .iter()
        .map(|(one, _)| {
            Tally::new(
                &one.scenario,
                &one.job.design,
                arguments.max_inconclusive,
                &arguments.world.without,
            )
        })
        .collect();
    let pool = session.pool(&arguments.worker, arguments.world.tape.is_some());
    if !arguments.json {
        announce(&pool, &wanted, first_seed, &session);
    }
    let (cut_short, wall_ms) = run_all(&pool, &wanted, first_seed, &mut tallies)?;
    // Scenarios that Ctrl-C left without a seed have nothing to say.
    tallies.retain(|tally| tally.seeds > 0);
    if tallies.is_empty() {
        return Err(Problem::Interrupted);
    }
    let out = match &arguments.out {
        Some(directory) => directory.clone(),
        None => launch::workspace().unwrap_or_default().join("target/quench"),
    };
    // A file that cannot be written must not cost what hours of seeds have found: it is told, the report is printed all
    // the same, and the exit code stays that of the worst seed.
    let mut troubles = Vec::new();
    tell_failures(&mut session, &mut tallies, pool.limit_ms);
    let saved = save_failures(&session, &tallies, &out, &mut troubles);
    if let Some(path) = &arguments.junit {
        troubles.extend(junit::write(path, &tallies).err());
    }
    // A run that was cut short has not shown what it was asked to show.
    let least = if cut_short { Exit::Inconclusive } else { Exit::Pass };
    let broke_down = if troubles.is_empty() { Exit::Pass } else { Exit::Usage };
    let exit = worst(&tallies).worse(least).worse(broke_down);
    let outcome = Outcome {
        tallies: &tallies,
        saved: &saved,
        exit,
        cut_short,
        wall_ms,
    };
    let said = if arguments.json {
        say(&format!("{}\n", outcome.json(first_seed)))
    } else {
        say(&outcome.text())
    };
    troubles.extend(said.err());
    for problem in &troubles {
        eprintln!("error: {problem}");
    }
    Ok(if troubles.is_empty() {
        exit
    } else {
        exit.worse(Exit::Usage)
    })
}

/// What is about to happen, before the first step: enough to see a wrong argument.
fn announce(pool: &Pool, wanted: &[(Planned, u64)], first_seed: u64, session: &Session) {
    let seeds: u64 = wanted.iter().map(|(_, seeds)| seeds).sum();
    eprintln!(
        "{} from {first_seed}, {}, {}, {} build, address randomisation {}",
        table::counted(seeds, "seed"),
        table::counted(wanted.len() as u64, "scenario"),
        table::counted(pool.workers.into(), "worker"),
        session.client.ready.profile,
        session.client.ready.address_randomisation,
    );
}

/// Runs the seeds of every scenario. Returns whether Ctrl-C cut it short, and the wall time in ms.
fn run_all(
    pool: &Pool,
    wanted: &[(Planned, u64)],
    first_seed: u64,
    tallies: &mut [Tally],
) -> Result<(bool, u64), Problem> {
    let tasks = wanted.iter().enumerate().flat_map(|(group, (one, seeds))| {
        (0..*seeds).map(move |n| {
            let mut job = one.job.clone();
            job.seed = first_seed.wrapping_add(n);
            Task { group, job }
        })
    });
    // Each hung seed costs its whole limit; a scenario in which seeds hang has said what it had to say.
    let hung: Vec<AtomicU64> = wanted.iter().map(|_| AtomicU64::new(0)).collect();
    let tasks = tasks.filter(|task| hung[task.group].load(Ordering::Relaxed) < HUNG_MAX);
    let mut progress = Progress::new(wanted.iter().map(|(_, seeds)| seeds).sum());
    let outcome = pool.run(tasks, |event| match event {
        Event::Done(task, report) => {
            let fails = !matches!(Exit::of(&report.verdict), Exit::Pass | Exit::Inconclusive);
            progress.done(&report.scenario, fails);
            hung[task.group].fetch_add(u64::from(report.verdict == Verdict::Hung), Ordering::Relaxed);
            tallies[task.group].add(&task.job, report);
        }
        Event::Tick => progress.tick(),
    });
    let wall_ms = u64::try_from(progress.elapsed().as_millis()).unwrap_or(u64::MAX);
    progress.finish();
    outcome.map(|(_, cut_short)| (cut_short, wall_ms))
}

/// Runs the kept failures once more with everything recorded and what the programs say, for timelines that tell the
/// story. Only a run with the same trace may tell it; of a seed that hung there is none.
fn tell_failures(session: &mut Session, tallies: &mut [Tally], limit_ms: u64) {
    let failures = tallies.iter_mut().flat_map(|tally| tally.failures.values_mut());
    for failure in failures.filter(|failure| failure.report.verdict != Verdict::Hung) {
        let job = SeedJob {
            record_all: true,
            ..failure.job.clone()
        };
        let told = session.client.run_seed(&job, limit_ms).report;
        if told.trace_hash == failure.report.trace_hash && !told.trace_hash.is_empty() {
            failure.report.timeline = told.timeline;
        }
    }
}

/// A failure that is told: its tally's place, and its file if it could be saved.
type Saved = (usize, Option<PathBuf>);

/// Saves the kept failures of every scenario. Returns them with their tally's place, the one to end with last.
fn save_failures(session: &Session, tallies: &[Tally], out: &Path, troubles: &mut Vec<Problem>) -> Vec<Saved> {
    let mut order: Vec<usize> = (0..tallies.len())
        .filter(|i| tallies[*i].worst_failure().is_some())
        .collect();
    if order.is_empty() {
        return Vec::new();
    }
    // The worst is told last, next to the command that shows it again.
    order.sort_by_key(|i| (tallies[*i].exit().worse(Exit::Pass) == worst(tallies), *i));
    let build = session.build().unwrap_or_else(|problem| {
        troubles.push(problem);
        Build::default()
    });
    let mut saved = Vec::new();
    for i in order {
        for (kind, failure) in &tallies[i].failures {
            let path = FailureFile::new(&failure.job, &failure.report, build.clone()).save(&out.join("failures"));
            let path = path.map_err(|problem| troubles.push(problem)).ok();
            if *kind == tallies[i].exit().word() {
                saved.push((i, path));
            }
        }
    }
    saved
}

fn worst(tallies: &[Tally]) -> Exit {
    tallies
        .iter()
        .fold(Exit::Pass, |worst, tally| worst.worse(tally.exit()))
}

/// Everything that a run ends with.
struct Outcome<'a> {
    tallies: &'a [Tally],
    saved: &'a [Saved],
    exit: Exit,
    cut_short: bool,
    wall_ms: u64,
}

impl Outcome<'_> {
    fn text(&self) -> String {
        let mut text = format!("{}\n", table::of_tallies(self.tallies));
        for line in table::remarks(self.tallies) {
            text.push_str(&format!("{line}\n"));
        }
        for tally in self.tallies {
            if let Some(tape) = &tally.tape {
                let name = format!("{} x {}", tally.scenario, tally.design);
                let told = tape::of_tally(&name, tape, tally.sim_time_ms, tally.cpu_us);
                text.push_str(&format!("\n{told}\n"));
            }
        }
        let seeds = table::counted(self.tallies.iter().map(|tally| tally.seeds).sum(), "seed");
        let cut = if self.cut_short { ", cut short by Ctrl-C" } else { "" };
        text.push_str(&format!(
            "{}: {seeds} in {}{cut}\n",
            self.exit.word(),
            table::seconds(self.wall_ms * 1_000)
        ));
        for (i, path) in self.saved {
            if let Some(failure) = self.tallies[*i].worst_failure() {
                text.push_str(&format!("\n{}", describe(&failure.job, &failure.report)));
                if let Some(path) = path {
                    text.push_str(&format!("  saved in {}\n", shown(path)));
                    let again = run_command(&failure.job, &failure.report);
                    text.push_str(&format!("  without that file: {again}\n"));
                }
            }
        }
        if let Some((i, path)) = self.saved.last() {
            text.push_str(&format!("\n{}\n", self.again(*i, path.as_deref())));
        }
        text
    }

    /// The command that shows a failure again.
    fn again(&self, i: usize, path: Option<&Path>) -> String {
        match (path, self.tallies[i].worst_failure()) {
            (Some(path), _) => replay_command(path),
            (None, Some(failure)) => run_command(&failure.job, &failure.report),
            (None, None) => String::new(),
        }
    }

    fn json(&self, first_seed: u64) -> serde_json::Value {
        let failures: Vec<_> = self
            .saved
            .iter()
            .filter_map(|(i, path)| {
                let failure = self.tallies[*i].worst_failure()?;
                let again = self.again(*i, path.as_deref());
                Some(json!({ "file": path, "replay": again, "job": failure.job, "report": failure.report }))
            })
            .collect();
        let scenarios: Vec<_> = self
            .tallies
            .iter()
            .map(|tally| {
                let mut row = json!(tally);
                row["verdict"] = json!(tally.exit().word());
                row["never_bit"] = json!(tally.never_bit());
                row
            })
            .collect();
        json!({
            "version": 1,
            "verdict": self.exit.word(),
            "exit_code": self.exit.code(),
            "first_seed": first_seed.to_string(),
            "cut_short": self.cut_short,
            "wall_ms": self.wall_ms,
            "scenarios": scenarios,
            "failures": failures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::tests::canned;
    use crate::protocol::ScenarioInfo;

    #[test]
    fn the_last_line_is_the_command_that_shows_the_failure_again() {
        let (job, report) = canned();
        let info = ScenarioInfo {
            name: report.scenario.clone(),
            ..ScenarioInfo::default()
        };
        let mut tally = Tally::new(&info, "logged-rmw", None, &[]);
        tally.add(&job, report);
        let saved = [(0, Some(PathBuf::from("target/quench/failures/f.json")))];
        let outcome = Outcome {
            tallies: &[tally],
            saved: &saved,
            exit: Exit::Safety,
            cut_short: true,
            wall_ms: 1_234,
        };
        let text = outcome.text();
        assert_eq!(
            text.lines().last().unwrap(),
            "cargo quench replay target/quench/failures/f.json"
        );
        insta::assert_snapshot!("run", text);
        let json = outcome.json(7);
        assert_eq!(json["exit_code"], 10);
        assert_eq!(json["first_seed"], "7");
        assert_eq!(json["failures"][0]["report"]["seed"], "137");
        assert_eq!(json["scenarios"][0]["verdict"], "safety");
    }
}
