//! `quench canary`: does the harness catch the bugs that we know? Each planted bug is applied to a copy of the tree, a
//! worker is built from it, and the scenarios that the bug names run, a round of seeds after the other, until its own
//! invariant has caught it or the seeds are used up. The matrix shows which invariants were violated how often in these
//! seeds; a bug that its own invariant does not catch fails the command. A kindness of the cluster must hide what it is
//! said to hide in all seeds: else the cluster is not as unkind as it claims. An invariant that is violated by none of all
//! the bugs fails the command too.
use crate::args::{CanaryArgs, WorldArgs};
use crate::client::{Client, Start};
use crate::exit::Exit;
use crate::launch::{self, Build, CargoProfile, Profile};
use crate::planted::{self, Planted};
use crate::pool::{Event, Pool, Task};
use crate::problem::{Problem, say};
use crate::progress::Progress;
use crate::protocol::{Catalog, InvariantInfo, SeedJob, SeedReport, Verdict};
use crate::scratch_tree::ScratchTree;
use crate::session::Session;
use crate::{interrupt, seed, table};
use comfy_table::{Cell, CellAlignment};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Ours is compiled anew for every bug, in the little pieces that changed, and not optimised across crates: a bug is built
/// for a few dozen seeds.
const QUICK_BUILD: &[&str] = &["--config", "profile.release.incremental=true"];
/// Seeds of each scenario before it is asked whether the bug is caught: enough for the matrix to say something.
const ROUND: u64 = 20;

/// Runs it.
pub fn run(arguments: &CanaryArgs) -> Result<Exit, Problem> {
    let first_seed = seed::parse(&arguments.seed)?;
    let root = launch::workspace()?;
    let bugs = choose(planted::all(&root)?, &arguments.bug)?;
    let session = Session::open(Profile::of(arguments.worker.debug_build))?;
    let canary = Canary {
        tree: ScratchTree::new(&root, &root.join("target/quench/canary/tree")),
        target: root.join("target/quench/canary/build"),
        plain: session.worker.clone(),
        pool: session.pool(&arguments.worker, false),
        first_seed,
        seeds: arguments.seeds,
    };
    let mut rows = Vec::new();
    for bug in &bugs {
        if interrupt::seen() {
            break;
        }
        eprintln!("{}: {}", bug.name, bug.about);
        rows.push(canary.row(bug));
    }
    let together = Together::of(rows.iter().filter_map(|row| row.outcome.as_ref().ok()));
    // An invariant that no bug violates is a check that nobody saw fail; a few bugs say nothing of that.
    let unproven = arguments.bug.is_empty() && together.silent(&session.catalog).next().is_some();
    let exit = if rows.iter().all(Row::is_as_it_must) && rows.len() == bugs.len() && !unproven {
        Exit::Pass
    } else {
        Exit::Inconclusive
    };
    match arguments.json {
        true => say(&format!("{}\n", as_json(&rows, &together, exit)))?,
        false => say(&as_text(&rows, &together, &session.catalog, exit))?,
    }
    Ok(exit)
}

/// The bugs asked for, or all.
fn choose(all: Vec<Planted>, asked: &[String]) -> Result<Vec<Planted>, Problem> {
    let known = || all.iter().map(|bug| bug.name.as_str()).collect::<Vec<_>>().join(", ");
    if all.is_empty() {
        return Err(Problem::Argument(
            "there are no planted bugs in scenarios/planted/".into(),
        ));
    }
    if let Some(unknown) = asked.iter().find(|name| !all.iter().any(|bug| bug.name == **name)) {
        return Err(Problem::Argument(format!(
            "there is no planted bug `{unknown}`; there are {}",
            known()
        )));
    }
    Ok(all
        .into_iter()
        .filter(|bug| asked.is_empty() || asked.contains(&bug.name))
        .collect())
}

/// What all bugs have in common.
struct Canary {
    tree: ScratchTree,
    target: PathBuf,
    /// A worker without any bug.
    plain: PathBuf,
    pool: Pool,
    first_seed: u64,
    seeds: u64,
}

/// One bug and what became of it.
struct Row {
    bug: Planted,
    outcome: Result<Outcome, Problem>,
}

/// What the seeds of one bug showed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Outcome {
    seeds: u64,
    /// Seeds per violated invariant.
    violated: BTreeMap<u32, u64>,
    /// The first seed that the named invariant caught, counted from 1.
    caught_at: Option<u64>,
    /// Seeds that the named invariant still catches with the kindness on.
    caught_with_kindness: Option<u64>,
    /// Seeds that broke down, and what the first of them said.
    broken: u64,
    first_breakdown: Option<String>,
    /// Which invariants were violated in one and the same seed, how often.
    sets: BTreeMap<BTreeSet<u32>, u64>,
}

impl Row {
    /// Caught by the invariant that it names, and hidden by the kindness that it names.
    fn is_as_it_must(&self) -> bool {
        let Ok(outcome) = &self.outcome else { return false };
        outcome.caught_at.is_some() && outcome.caught_with_kindness.unwrap_or(0) == 0
    }
}

impl Canary {
    fn row(&self, bug: &Planted) -> Row {
        Row {
            bug: bug.clone(),
            outcome: self.outcome(bug),
        }
    }

    fn outcome(&self, bug: &Planted) -> Result<Outcome, Problem> {
        let worker = if bug.has_diff {
            self.build(bug)?
        } else {
            self.plain.clone()
        };
        let mut outcome = self.seeds_of(bug, &worker, &[], false)?;
        if let Some(kindness) = &bug.kindness {
            let kind = self.seeds_of(bug, &worker, std::slice::from_ref(kindness), true)?;
            outcome.caught_with_kindness = Some(kind.violated.get(&bug.invariant.unwrap_or(0)).copied().unwrap_or(0));
        }
        Ok(outcome)
    }

    /// A worker with the bug in it.
    fn build(&self, bug: &Planted) -> Result<PathBuf, Problem> {
        self.tree.reset()?;
        self.tree.apply(&bug.path)?;
        let what = format!("the worker with {}", bug.name);
        let wanted = Build {
            root: &self.tree.root,
            target: &self.target,
            profile: CargoProfile::Release,
            what: &what,
            packages: &["quench-worker"],
            is_simulated: true,
            extra: QUICK_BUILD,
        };
        Ok(launch::build(&wanted)?.join("quench-worker"))
    }

    /// Round after round until the bug is caught, or every seed with `to_the_end`.
    fn seeds_of(
        &self,
        bug: &Planted,
        worker: &Path,
        kindness: &[String],
        to_the_end: bool,
    ) -> Result<Outcome, Problem> {
        let client = Client::start(worker, &Start::default())?;
        let mut session = Session {
            worker: worker.to_path_buf(),
            client,
            catalog: Catalog::default(),
        };
        let world = WorldArgs {
            kindness: kindness.to_vec(),
            tape: bug.tape.clone(),
            ..WorldArgs::default()
        };
        let design = Some(bug.design.as_str()).filter(|design| !design.is_empty());
        let planned = session.plan(&bug.scenarios, design, &world)?;
        let seeds = bug.seeds.unwrap_or(self.seeds);
        let first_seed = self.first_seed;
        let mut outcome = Outcome::default();
        let mut progress = Progress::new(seeds * planned.len() as u64);
        let pool = Pool {
            worker: worker.to_path_buf(),
            ..self.pool.clone()
        };
        for round in (0..seeds).step_by(ROUND as usize) {
            let tasks = planned.iter().enumerate().flat_map(|(group, one)| {
                (round..seeds.min(round + ROUND)).map(move |n| Task {
                    group,
                    job: SeedJob {
                        seed: first_seed.wrapping_add(n),
                        ..one.job.clone()
                    },
                })
            });
            let ran = pool.run(tasks, |event| match event {
                Event::Done(task, report) => {
                    progress.done(&report.scenario, false);
                    let nth = task.job.seed.wrapping_sub(first_seed).wrapping_add(1);
                    outcome.add(&report, bug.invariant, nth);
                }
                Event::Tick => progress.tick(),
            });
            let (_, cut_short) = ran?;
            if cut_short || (outcome.caught_at.is_some() && !to_the_end) {
                break;
            }
        }
        progress.finish();
        Ok(outcome)
    }
}

impl Outcome {
    fn add(&mut self, report: &SeedReport, named: Option<u32>, nth: u64) {
        self.seeds += 1;
        let violated: BTreeSet<u32> = report.violations.iter().map(|violation| violation.invariant).collect();
        if named.is_some_and(|named| violated.contains(&named)) {
            self.caught_at = Some(self.caught_at.map_or(nth, |first| first.min(nth)));
        }
        for invariant in &violated {
            *self.violated.entry(*invariant).or_default() += 1;
        }
        if let Verdict::Error { message } = &report.verdict {
            self.broken += 1;
            self.first_breakdown
                .get_or_insert_with(|| format!("seed {}: {message}", report.seed));
        }
        if !violated.is_empty() {
            *self.sets.entry(violated).or_default() += 1;
        }
    }
}

/// For each invariant how often it was the only one, and which others were always there with it.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Together {
    invariants: BTreeMap<u32, Company>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Company {
    seeds: u64,
    alone: u64,
    always_with: BTreeSet<u32>,
}

impl Together {
    fn of<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Together {
        let mut together = Together::default();
        for (set, seeds) in outcomes.flat_map(|outcome| &outcome.sets) {
            for invariant in set {
                let others: BTreeSet<u32> = set.iter().copied().filter(|other| other != invariant).collect();
                let company = together.invariants.entry(*invariant).or_default();
                company.always_with = match company.seeds {
                    0 => others.clone(),
                    _ => company.always_with.intersection(&others).copied().collect(),
                };
                company.seeds += seeds;
                company.alone += if others.is_empty() { *seeds } else { 0 };
            }
        }
        together
    }

    /// The invariants that were violated by nothing.
    fn silent<'a>(&'a self, catalog: &'a Catalog) -> impl Iterator<Item = &'a InvariantInfo> {
        let is_silent = move |invariant: &&InvariantInfo| !self.invariants.contains_key(&invariant.number);
        catalog.invariants.iter().filter(is_silent)
    }

    fn text(&self, catalog: &Catalog) -> String {
        let name = |number: u32| match catalog.invariants.iter().find(|invariant| invariant.number == number) {
            Some(invariant) => format!("{number} ({})", invariant.name),
            None => number.to_string(),
        };
        let mut text = String::new();
        for (number, company) in &self.invariants {
            let seeds = table::thousands(company.seeds);
            let line = match (company.alone, company.always_with.is_empty()) {
                (0, false) => {
                    let others: Vec<String> = company.always_with.iter().map(u32::to_string).collect();
                    format!(
                        "never the only one: whenever it is violated, so is {}",
                        others.join(" and ")
                    )
                }
                (0, true) => "never the only one, though no single other implies it".into(),
                (alone, _) => format!("the only one in {}", table::thousands(alone)),
            };
            text.push_str(&format!(
                "invariant {}: violated in {seeds} seeds, {line}\n",
                name(*number)
            ));
        }
        for invariant in self.silent(catalog) {
            text.push_str(&format!(
                "invariant {}: violated by no planted bug\n",
                name(invariant.number)
            ));
        }
        text
    }
}

/// The invariants that have a column.
fn columns(rows: &[Row], catalog: &Catalog) -> BTreeSet<u32> {
    let violated = rows
        .iter()
        .filter_map(|row| row.outcome.as_ref().ok())
        .flat_map(|outcome| outcome.violated.keys());
    let named = rows.iter().filter_map(|row| row.bug.invariant);
    violated
        .copied()
        .chain(named)
        .chain(catalog.invariants.iter().map(|invariant| invariant.number))
        .collect()
}

fn as_text(rows: &[Row], together: &Together, catalog: &Catalog, exit: Exit) -> String {
    let columns = columns(rows, catalog);
    let mut matrix = table::new_table();
    let heads = ["bug".to_string()]
        .into_iter()
        .chain(columns.iter().map(u32::to_string));
    matrix.set_header(heads.chain(["seeds".to_string(), "caught".to_string()]));
    for row in rows {
        let mut cells = vec![Cell::new(&row.bug.name)];
        for invariant in &columns {
            let seeds = row
                .outcome
                .as_ref()
                .ok()
                .and_then(|outcome| outcome.violated.get(invariant))
                .copied();
            let mark = if row.bug.invariant == Some(*invariant) { "*" } else { "" };
            let text = seeds.map_or_else(|| "·".to_string(), |n| n.to_string());
            cells.push(Cell::new(format!("{mark}{text}")).set_alignment(CellAlignment::Right));
        }
        let seeds = row
            .outcome
            .as_ref()
            .map_or_else(|_| String::new(), |o| o.seeds.to_string());
        cells.push(Cell::new(seeds).set_alignment(CellAlignment::Right));
        cells.push(Cell::new(in_words(row)));
        matrix.add_row(cells);
    }
    let mut text = format!(
        "{matrix}\n* the invariant that must catch it; numbers are seeds, of those that were run until it had\n\n"
    );
    text.push_str(&together.text(catalog));
    for row in rows {
        if let Err(problem) = &row.outcome {
            text.push_str(&format!("{}: {problem}\n", row.bug.name));
        }
    }
    let caught = rows.iter().filter(|row| row.is_as_it_must()).count();
    text.push_str(&format!(
        "{}: {caught} of {} planted bugs are caught as they must be\n",
        exit.word(),
        rows.len()
    ));
    text
}

fn in_words(row: &Row) -> String {
    let outcome = match &row.outcome {
        Ok(outcome) => outcome,
        Err(_) => return "NO, it could not be planted (see below)".into(),
    };
    let broke = match &outcome.first_breakdown {
        Some(message) => format!(
            ", {} broke down ({})",
            outcome.broken,
            message.lines().next().unwrap_or_default()
        ),
        None => String::new(),
    };
    let kindness = row.bug.kindness.as_deref().unwrap_or_default();
    match (outcome.caught_at, outcome.caught_with_kindness) {
        (None, _) => format!("NO, in {} seeds{broke}", outcome.seeds),
        (Some(nth), None) => format!("seed {nth}{broke}"),
        (Some(nth), Some(0)) => format!("seed {nth}, hidden by {kindness}{broke}"),
        (Some(nth), Some(n)) => format!("seed {nth}, NOT hidden by {kindness} ({n} seeds){broke}"),
    }
}

fn as_json(rows: &[Row], together: &Together, exit: Exit) -> serde_json::Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let mut json = json!({ "bug": row.bug, "as_it_must": row.is_as_it_must() });
            match &row.outcome {
                Ok(outcome) => {
                    json["seeds"] = json!(outcome.seeds);
                    json["violated"] = json!(outcome.violated);
                    json["caught_at"] = json!(outcome.caught_at);
                    json["caught_with_kindness"] = json!(outcome.caught_with_kindness);
                    json["broken"] = json!(outcome.broken);
                }
                Err(problem) => json["problem"] = json!(problem.to_string()),
            }
            json
        })
        .collect();
    json!({ "version": 1, "verdict": exit.word(), "exit_code": exit.code(), "bugs": rows, "together": together })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Violation;

    fn bug(name: &str, invariant: u32, kindness: Option<&str>) -> Planted {
        Planted {
            name: name.into(),
            invariant: Some(invariant),
            kindness: kindness.map(str::to_string),
            ..Planted::default()
        }
    }

    fn outcome(named: u32, seeds: &[&[u32]]) -> Outcome {
        let mut outcome = Outcome::default();
        for (i, invariants) in seeds.iter().enumerate() {
            let violation = |invariant: &u32| Violation {
                invariant: *invariant,
                ..Violation::default()
            };
            let report = SeedReport {
                violations: invariants.iter().map(violation).collect(),
                ..SeedReport::default()
            };
            outcome.add(&report, Some(named), i as u64 + 1);
        }
        outcome
    }

    fn catalog() -> Catalog {
        let invariant = |number, name: &str| InvariantInfo {
            number,
            name: name.into(),
            about: String::new(),
        };
        let invariants = vec![
            invariant(1, "conservation"),
            invariant(2, "trade/balance agreement"),
            invariant(4, "nothing negative"),
        ];
        Catalog {
            invariants,
            ..Catalog::default()
        }
    }

    #[test]
    fn a_matrix_of_bugs_and_invariants() {
        let caught = outcome(2, &[&[], &[1, 2], &[2], &[1, 2, 2]]);
        assert_eq!(caught.caught_at, Some(2));
        assert_eq!(caught.violated, BTreeMap::from([(1, 2), (2, 3)]));
        let hidden = Outcome {
            caught_with_kindness: Some(0),
            ..outcome(2, &[&[2]])
        };
        let not_hidden = Outcome {
            caught_with_kindness: Some(3),
            ..outcome(2, &[&[2]])
        };
        let mut broken = outcome(4, &[&[1]]);
        let message = "panicked\nat x".to_string();
        broken.add(
            &SeedReport {
                verdict: Verdict::Error { message },
                ..SeedReport::default()
            },
            Some(4),
            2,
        );
        let unbuilt = Problem::Program {
            program: "git apply late.patch".into(),
            why: "does not apply".into(),
        };
        let rows = [
            Row {
                bug: bug("caught", 2, None),
                outcome: Ok(caught),
            },
            Row {
                bug: bug("hidden", 2, Some("fsync-every-write")),
                outcome: Ok(hidden),
            },
            Row {
                bug: bug("not-hidden", 2, Some("batch-rollback")),
                outcome: Ok(not_hidden),
            },
            Row {
                bug: bug("missed", 4, None),
                outcome: Ok(broken),
            },
            Row {
                bug: bug("stale", 1, None),
                outcome: Err(unbuilt),
            },
        ];
        assert_eq!(
            rows.iter().map(Row::is_as_it_must).collect::<Vec<_>>(),
            [true, true, false, false, false]
        );
        let together = Together::of(rows.iter().filter_map(|row| row.outcome.as_ref().ok()));
        let silent: Vec<u32> = together.silent(&catalog()).map(|invariant| invariant.number).collect();
        assert_eq!(silent, [4], "which the command does not pass");
        insta::assert_snapshot!("canary", as_text(&rows, &together, &catalog(), Exit::Inconclusive));
        assert_eq!(as_json(&rows, &together, Exit::Inconclusive)["bugs"][0]["caught_at"], 2);
    }

    #[test]
    fn an_invariant_that_is_never_alone_names_those_that_imply_it() {
        let outcomes = [outcome(1, &[&[1, 2], &[1, 2, 4], &[2]])];
        let together = Together::of(outcomes.iter());
        assert_eq!(
            together.invariants[&1],
            Company {
                seeds: 2,
                alone: 0,
                always_with: BTreeSet::from([2])
            }
        );
        assert_eq!(
            together.invariants[&2],
            Company {
                seeds: 3,
                alone: 1,
                always_with: BTreeSet::new()
            }
        );
        assert_eq!(together.invariants[&4].always_with, BTreeSet::from([1, 2]));
    }

    #[test]
    fn an_unknown_bug_is_answered_with_those_there_are() {
        let error = choose(vec![bug("a", 1, None), bug("b", 1, None)], &["c".into()])
            .unwrap_err()
            .to_string();
        assert!(error.contains("`c`") && error.contains("a, b"), "{error}");
        assert_eq!(
            choose(vec![bug("a", 1, None), bug("b", 1, None)], &["b".into()])
                .unwrap()
                .len(),
            1
        );
        assert!(choose(vec![], &[]).is_err());
    }
}
