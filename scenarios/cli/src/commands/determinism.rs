//! `quench determinism`: the proof that a seed decides everything. The same seeds run under conditions that must not
//! matter; the whole reports and the hashes over the whole traces must be identical. A difference is followed to the first
//! record that differs. A negative control shows that the proof can fail: one draw more must be noticed.
use crate::args::{DeterminismArgs, WorldArgs};
use crate::client::{Client, Start};
use crate::exit::Exit;
use crate::launch::{self, Profile};
use crate::pool::{Event, Pool, Task};
use crate::problem::{Problem, say};
use crate::progress::Progress;
use crate::protocol::{Cost, SeedJob, SeedReport, Verdict};
use crate::session::Session;
use crate::{interrupt, seed, table};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Variables of the large environment, each of [`VARIABLE_BYTES`]: together more than a stack page a hundred times over.
const VARIABLES: usize = 200;
const VARIABLE_BYTES: usize = 4_000;
/// Records shown before the first that differs.
const CONTEXT: usize = 3;

/// A way to run seeds that must not change what they do.
struct Condition {
    name: &'static str,
    worker: PathBuf,
    workers: u16,
    start: Start,
    /// Every seed in a worker process of its own.
    alone: bool,
    /// From the last seed to the first.
    backwards: bool,
    /// A difference fails the proof; else it is only told.
    binding: bool,
}

/// What a condition showed.
struct Shown {
    name: &'static str,
    binding: bool,
    seeds: u64,
    differing: u64,
    /// The first difference, told.
    story: Option<String>,
}

/// Runs it.
pub fn run(arguments: &DeterminismArgs) -> Result<Exit, Problem> {
    let first_seed = seed::parse(&arguments.seed)?;
    let mut session = Session::open(Profile::Release)?;
    let planned = session.plan(&arguments.scenario, arguments.design.as_deref(), &WorldArgs::default())?;
    let jobs: Vec<SeedJob> = planned
        .iter()
        .flat_map(|one| {
            (0..arguments.seeds).map(|n| SeedJob {
                seed: first_seed.wrapping_add(n),
                ..one.job.clone()
            })
        })
        .collect();
    let limit_ms = arguments.limit.saturating_mul(1_000);
    let conditions = conditions(&session.worker, arguments.no_debug)?;
    let (reference, others) = conditions.split_first().ok_or(Problem::Interrupted)?;
    let expected = run_all(reference, &jobs, limit_ms)?;
    let broken = expected
        .values()
        .find(|report| matches!(report.verdict, Verdict::Error { .. } | Verdict::Hung));
    if let Some(report) = broken {
        let why = format!(
            "seed {} of {} broke down ({:?}): run it by itself first",
            report.seed, report.scenario, report.verdict
        );
        return Err(Problem::Argument(why));
    }
    let mut shown = Vec::new();
    for condition in others {
        let found = run_all(condition, &jobs, limit_ms)?;
        if interrupt::seen() {
            return Err(Problem::Interrupted);
        }
        shown.push(compare(reference, condition, &jobs, &expected, &found, limit_ms)?);
    }
    let blind = negative_control(&mut session.client, &jobs, &expected, arguments.seeds, limit_ms);
    let failed = !blind.is_empty() || shown.iter().any(|one| one.binding && one.differing > 0);
    let exit = if failed { Exit::NonDeterminism } else { Exit::Pass };
    match arguments.json {
        true => say(&format!("{}\n", as_json(&shown, &blind, jobs.len(), exit)))?,
        false => say(&as_text(&shown, &blind, jobs.len(), exit))?,
    }
    Ok(exit)
}

/// The conditions, the one that the others are compared with first.
fn conditions(worker: &Path, no_debug: bool) -> Result<Vec<Condition>, Problem> {
    let plain = |name| Condition {
        name,
        worker: worker.to_path_buf(),
        workers: 1,
        start: Start::default(),
        alone: false,
        backwards: false,
        binding: true,
    };
    let large = (0..VARIABLES)
        .map(|i| (format!("QUENCH_BALLAST_{i}"), "x".repeat(VARIABLE_BYTES)))
        .collect();
    let randomised = Start {
        arguments: vec!["--keep-address-randomisation".into()],
        ..Start::default()
    };
    let mut conditions = vec![
        plain("one worker, n-th of a batch"),
        Condition {
            alone: true,
            workers: Pool::workers_or_cores(None),
            ..plain("alone in a worker")
        },
        Condition {
            workers: 2,
            backwards: true,
            ..plain("two workers, backwards")
        },
        Condition {
            start: Start {
                environment: large,
                ..Start::default()
            },
            ..plain("large environment")
        },
        Condition {
            start: randomised,
            binding: false,
            ..plain("address randomisation on (for information)")
        },
    ];
    if !no_debug {
        let debug = launch::worker(Profile::Debug)?;
        let workers = Pool::workers_or_cores(None);
        conditions.push(Condition {
            worker: debug,
            workers,
            ..plain("debug build")
        });
    }
    Ok(conditions)
}

/// Runs every job under a condition. The reports come without their cost, the only part that may differ.
fn run_all(condition: &Condition, jobs: &[SeedJob], limit_ms: u64) -> Result<BTreeMap<usize, SeedReport>, Problem> {
    eprintln!("{}: {} seeds", condition.name, table::thousands(jobs.len() as u64));
    let mut found = BTreeMap::new();
    let mut progress = Progress::new(jobs.len() as u64);
    let order: Box<dyn Iterator<Item = usize> + Send> = if condition.backwards {
        Box::new((0..jobs.len()).rev())
    } else {
        Box::new(0..jobs.len())
    };
    let tasks = order.map(|group| Task {
        group,
        job: jobs[group].clone(),
    });
    let pool = Pool {
        worker: condition.worker.clone(),
        workers: condition.workers,
        limit_ms,
        start: condition.start.clone(),
        fresh_worker_per_seed: condition.alone,
    };
    let outcome = pool.run(tasks, |event| match event {
        Event::Done(task, report) => {
            progress.done(&report.scenario, false);
            found.insert(
                task.group,
                SeedReport {
                    cost: Cost::default(),
                    ..report
                },
            );
        }
        Event::Tick => progress.tick(),
    });
    progress.finish();
    outcome.map(|_| found)
}

fn compare(
    reference: &Condition,
    condition: &Condition,
    jobs: &[SeedJob],
    expected: &BTreeMap<usize, SeedReport>,
    found: &BTreeMap<usize, SeedReport>,
    limit_ms: u64,
) -> Result<Shown, Problem> {
    let differing: Vec<usize> = expected
        .keys()
        .copied()
        .filter(|i| expected.get(i) != found.get(i))
        .collect();
    let story = match differing.first() {
        None => None,
        Some(first) => {
            let fields = match found.get(first) {
                Some(report) => differences(&expected[first], report),
                None => vec!["it did not run".into()],
            };
            let record = first_differing_record(reference, condition, &jobs[*first], limit_ms)?;
            let (scenario, seed) = (&expected[first].scenario, expected[first].seed);
            Some(format!("{scenario}, seed {seed}: {}\n{record}", fields.join("; ")))
        }
    };
    let (seeds, differing) = (expected.len() as u64, differing.len() as u64);
    Ok(Shown {
        name: condition.name,
        binding: condition.binding,
        seeds,
        differing,
        story,
    })
}

/// Which parts of two reports differ, in words; draws per stream first, because they say where to look.
fn differences(left: &SeedReport, right: &SeedReport) -> Vec<String> {
    let mut words = Vec::new();
    for (what, left, right) in [
        ("draws of", &left.draws, &right.draws),
        ("count of", &left.counts, &right.counts),
    ] {
        let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
        for name in names.into_iter().filter(|name| left.get(*name) != right.get(*name)) {
            let number = |side: &BTreeMap<String, u64>| side.get(name).map_or("none".into(), u64::to_string);
            words.push(format!("{what} {name}: {} and {}", number(left), number(right)));
        }
    }
    if left.verdict != right.verdict {
        words.push(format!("verdict: {:?} and {:?}", left.verdict, right.verdict));
    }
    if left.trace_hash != right.trace_hash {
        words.push(format!("trace hash: {} and {}", left.trace_hash, right.trace_hash));
    }
    if words.is_empty() {
        words.push("plan, faults, violations or timeline".into());
    }
    words
}

/// Runs a seed again under both conditions with every record kept, and tells the first record that differs.
fn first_differing_record(
    reference: &Condition,
    condition: &Condition,
    job: &SeedJob,
    limit_ms: u64,
) -> Result<String, Problem> {
    let directory = launch::workspace()?.join("target/quench/determinism");
    std::fs::create_dir_all(&directory).map_err(Problem::file("create the directory", &directory))?;
    let mut paths = Vec::new();
    for (name, condition) in [("left", reference), ("right", condition)] {
        let path = directory.join(format!("{name}.jsonl"));
        let trace_file = Some(path.display().to_string());
        let job = SeedJob {
            record_all: true,
            trace_file,
            ..job.clone()
        };
        Client::start(&condition.worker, &condition.start)?.run_seed(&job, limit_ms);
        paths.push(path);
    }
    let open = |path: &PathBuf| {
        std::fs::File::open(path)
            .map(|file| BufReader::new(file).lines())
            .map_err(Problem::file("read", path))
    };
    let (left, right) = (open(&paths[0])?, open(&paths[1])?);
    Ok(tell_first_difference(
        left.map_while(Result::ok),
        right.map_while(Result::ok),
    ))
}

fn tell_first_difference(left: impl Iterator<Item = String>, right: impl Iterator<Item = String>) -> String {
    let (mut left, mut right) = (left, right);
    let mut before: Vec<String> = Vec::new();
    for number in 1.. {
        let (l, r) = (left.next(), right.next());
        match (l, r) {
            (None, None) => break,
            (l, r) if l == r => {
                before.extend(l);
                if before.len() > CONTEXT {
                    before.remove(0);
                }
            }
            (l, r) => {
                let side = |line: Option<String>| line.unwrap_or_else(|| "(the trace ends)".into());
                let context: String = before.iter().map(|line| format!("    = {line}\n")).collect();
                return format!(
                    "  first differing record, line {number}:\n{context}    < {}\n    > {}",
                    side(l),
                    side(r)
                );
            }
        }
    }
    "  run once more by itself, it did not differ: what came before it in the batch matters".into()
}

/// The first seed of each scenario with one draw more. Returns those where nobody noticed.
fn negative_control(
    client: &mut Client,
    jobs: &[SeedJob],
    expected: &BTreeMap<usize, SeedReport>,
    seeds: u64,
    limit_ms: u64,
) -> Vec<String> {
    let every = usize::try_from(seeds).unwrap_or(usize::MAX).max(1);
    let mut blind = Vec::new();
    for (i, job) in jobs.iter().enumerate().step_by(every) {
        let job = SeedJob {
            extra_draw: true,
            ..job.clone()
        };
        let report = client.run_seed(&job, limit_ms).report;
        if expected
            .get(&i)
            .is_some_and(|expected| expected.trace_hash == report.trace_hash)
        {
            blind.push(format!("{}, seed {}", report.scenario, report.seed));
        }
    }
    blind
}

fn as_text(shown: &[Shown], blind: &[String], seeds: usize, exit: Exit) -> String {
    let mut table = table::new_table();
    table.set_header([
        "compared with one worker, n-th of a batch",
        "seeds",
        "identical",
        "differ",
    ]);
    for one in shown {
        let identical = one.seeds - one.differing;
        table.add_row([
            one.name.to_string(),
            one.seeds.to_string(),
            identical.to_string(),
            one.differing.to_string(),
        ]);
    }
    let mut text = format!("{table}\n");
    for one in shown {
        if let Some(story) = &one.story {
            text.push_str(&format!("\n{}\n{story}\n", one.name));
        }
    }
    match blind.is_empty() {
        true => text.push_str("\none draw added on purpose is noticed in every scenario\n"),
        false => text.push_str(&format!(
            "\none draw added on purpose is NOT noticed: {}\n",
            blind.join("; ")
        )),
    }
    let verdict = if exit == Exit::Pass {
        "a seed decides everything"
    } else {
        "a seed does not decide everything"
    };
    text.push_str(&format!(
        "{}: {verdict}, {seeds} seeds under {} conditions\n",
        exit.word(),
        shown.len() + 1
    ));
    text
}

fn as_json(shown: &[Shown], blind: &[String], seeds: usize, exit: Exit) -> serde_json::Value {
    let conditions: Vec<_> = shown
        .iter()
        .map(|one| {
            json!({
                "name": one.name, "binding": one.binding, "seeds": one.seeds,
                "differing": one.differing, "first_difference": one.story,
            })
        })
        .collect();
    json!({
        "version": 1, "verdict": exit.word(), "exit_code": exit.code(), "seeds": seeds,
        "conditions": conditions, "extra_draw_unnoticed_in": blind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> impl Iterator<Item = String> {
        text.split_whitespace()
            .map(str::to_string)
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn the_first_differing_record_is_told_with_what_came_before() {
        let told = tell_first_difference(lines("a b c d e f"), lines("a b c d x f"));
        assert_eq!(
            told,
            "  first differing record, line 5:\n    = b\n    = c\n    = d\n    < e\n    > x"
        );
        let shorter = tell_first_difference(lines("a"), lines("a b"));
        assert!(shorter.ends_with("< (the trace ends)\n    > b"), "{shorter}");
        assert!(tell_first_difference(lines("a"), lines("a")).contains("did not differ"));
    }

    #[test]
    fn the_streams_that_drew_differently_are_named() {
        let left = SeedReport {
            draws: BTreeMap::from([("links".into(), 3), ("disk".into(), 1)]),
            ..SeedReport::default()
        };
        let right = SeedReport {
            draws: BTreeMap::from([("links".into(), 4), ("disk".into(), 1)]),
            ..SeedReport::default()
        };
        assert_eq!(differences(&left, &right), ["draws of links: 3 and 4"]);
        assert_eq!(
            differences(
                &left,
                &SeedReport {
                    sim_time_ms: 1,
                    ..left.clone()
                }
            ),
            ["plan, faults, violations or timeline"]
        );
    }

    #[test]
    fn a_report_with_and_without_a_difference() {
        let shown = |name, differing, story: Option<&str>| Shown {
            name,
            binding: true,
            seeds: 100,
            differing,
            story: story.map(str::to_string),
        };
        let fine = [shown("two workers, backwards", 0, None)];
        insta::assert_snapshot!("determinism_pass", as_text(&fine, &[], 100, Exit::Pass));
        let bad = [shown(
            "debug build",
            2,
            Some("pause, seed 3: draws of links: 3 and 4\n  first differing record, line 5:"),
        )];
        let blind = ["pause, seed 1".to_string()];
        insta::assert_snapshot!("determinism_fail", as_text(&bad, &blind, 100, Exit::NonDeterminism));
        assert_eq!(as_json(&bad, &blind, 100, Exit::NonDeterminism)["exit_code"], 12);
    }
}
