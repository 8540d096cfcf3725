//! A failure as a file and as text. The file holds what was asked, what came out and what ran it, so that `quench replay`
//! can show the same thing again and prove that it is the same. The text is what a person reads first: which invariant,
//! which accounts, what happened in which order.
use crate::client::scenario_name;
use crate::exit::Exit;
use crate::launch::write_file;
use crate::problem::Problem;
use crate::protocol::{Ready, ScenarioSource, SeedJob, SeedReport, TAccount, Verdict};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The version of the file format.
pub const FAILURE_VERSION: u32 = 1;

/// A saved failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureFile {
    /// [`FAILURE_VERSION`].
    pub version: u32,
    /// What ran it.
    pub build: Build,
    /// What was asked; its plan is the one that was run.
    pub job: SeedJob,
    /// What came out.
    pub report: SeedReport,
}

/// Which build of the worker it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// As the worker introduced itself.
    pub worker: Ready,
    /// SHA-256 of the worker's binary.
    pub worker_sha256: String,
}

impl FailureFile {
    /// Puts a failure together. The plan that was run becomes part of the job.
    pub fn new(job: &SeedJob, report: &SeedReport, build: Build) -> FailureFile {
        let mut job = job.clone();
        if !report.plan.is_null() {
            job.plan = Some(report.plan.clone());
        }
        FailureFile {
            version: FAILURE_VERSION,
            build,
            job,
            report: report.clone(),
        }
    }

    /// Reads a saved failure.
    pub fn read(path: &Path) -> Result<FailureFile, Problem> {
        if !path.is_file() {
            let hint =
                "name a failure that `cargo quench run` saved, or run its seed again with `cargo quench run --seed N`";
            return Err(Problem::NoFile {
                path: path.to_path_buf(),
                hint,
            });
        }
        let text = std::fs::read_to_string(path).map_err(Problem::file("read the saved failure", path))?;
        let bad = |why: String| Problem::Content {
            path: path.to_path_buf(),
            why,
        };
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| bad(format!("is not JSON, so no saved failure (cut off?): {error}. Its seed can be run again with `cargo quench run --seed N --seeds 1`")))?;
        match json.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(FAILURE_VERSION) => {}
            Some(version) => {
                return Err(bad(format!(
                    "has version {version}; this command reads version {FAILURE_VERSION}. Use the build that saved it, or \
                     run its seed again with `cargo quench run --seed N --seeds 1`"
                )));
            }
            None => {
                return Err(bad(
                    "has no version, so it is no saved failure; `cargo quench run` saves them".into(),
                ));
            }
        }
        serde_json::from_value(json)
            .map_err(|error| bad(format!("is no saved failure: {error}; `cargo quench run` saves them")))
    }

    /// Saves it in `directory` under a name that says what it is. Returns the path.
    pub fn save(&self, directory: &Path) -> Result<PathBuf, Problem> {
        let report = &self.report;
        let name = format!("{}-{}-{}.json", report.scenario, report.design, report.seed);
        // A scenario's name comes from a file of the user's: it must not lead out of the directory.
        let name = name.replace(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)), "_");
        let path = directory.join(name);
        let json = serde_json::to_string_pretty(self).map_err(|error| Problem::Content {
            path: path.clone(),
            why: error.to_string(),
        })?;
        write_file(&path, json.as_bytes())?;
        Ok(path)
    }
}

/// The command that runs the saved plan again. `path` is shown relative to the current directory where it lies below it.
pub fn replay_command(path: &Path) -> String {
    format!("cargo quench replay {}", shell_word(&shown(path)))
}

/// The command that draws the same run from its seed, for a machine that does not have the file.
pub fn run_command(job: &SeedJob, report: &SeedReport) -> String {
    let scenario = match &job.scenario {
        ScenarioSource::Named(name) => name.clone(),
        ScenarioSource::Inline { origin, .. } => origin.clone(),
    };
    let mut command = format!(
        "cargo quench run --scenario {} --design {}",
        shell_word(&scenario),
        report.design
    );
    for class in &job.without {
        let _ = write!(command, " --without {class}");
    }
    for kindness in &job.kindness {
        let _ = write!(command, " --kindness {kindness}");
    }
    if let Some(tape) = &job.tape {
        let _ = write!(command, " --tape {}", shell_word(tape));
    }
    let _ = write!(command, " --seed {} --seeds 1", report.seed);
    command
}

/// A path as one would type it here.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// A word as a shell takes it.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_string();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The failure as a person reads it, without the command at its end.
pub fn describe(job: &SeedJob, report: &SeedReport) -> String {
    let mut text = String::new();
    let word = Exit::of(&report.verdict).word();
    let scenario = if report.scenario.is_empty() {
        scenario_name(&job.scenario)
    } else {
        report.scenario.clone()
    };
    let design = if report.design.is_empty() {
        &job.design
    } else {
        &report.design
    };
    let _ = writeln!(
        text,
        "{} {scenario} x {design}, seed {}",
        word.to_uppercase(),
        report.seed
    );
    match &report.verdict {
        Verdict::Error { message } => {
            let _ = writeln!(text, "\n  {}", message.trim_end().replace('\n', "\n  "));
        }
        Verdict::Hung => {
            let _ = writeln!(
                text,
                "\n  the seed did not come to its end within its wall-clock limit and was killed"
            );
        }
        _ => {}
    }
    for violation in &report.violations {
        let _ = writeln!(
            text,
            "\n  invariant {} ({}): {}",
            violation.invariant, violation.name, violation.text
        );
        for account in &violation.accounts {
            text.push_str(&t_account(account));
        }
    }
    let causes = report.causes;
    let named = [
        ("lost", causes.lost),
        ("doubled", causes.doubled),
        ("clobbered", causes.clobbered),
        ("partial", causes.partial),
    ];
    let named: Vec<_> = named
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(what, n)| format!("{n} {what}"))
        .collect();
    if !named.is_empty() {
        let _ = writeln!(text, "\n  effects: {}", named.join(", "));
    }
    if !report.faults.is_empty() {
        let _ = writeln!(text, "\n  plan");
        for fault in &report.faults {
            let became = match (fault.fired, fault.bit) {
                (_, true) => "bit",
                (true, false) => "fired",
                (false, false) => "did not fire",
            };
            let _ = writeln!(
                text,
                "    {:>2}  {}: {} [{became}]",
                fault.id, fault.class, fault.detail
            );
        }
    }
    if !report.timeline.is_empty() {
        let _ = writeln!(text, "\n  timeline");
        for line in &report.timeline {
            let _ = writeln!(text, "    {line}");
        }
    }
    if !report.trace_hash.is_empty() {
        let _ = writeln!(text, "\n  trace hash {}", report.trace_hash);
    }
    text
}

/// One account: what it should hold against what it holds.
fn t_account(account: &TAccount) -> String {
    let head = format!("{}, {}", account.owner, account.asset);
    let width = |texts: &mut dyn Iterator<Item = &str>| texts.map(|text| text.chars().count()).max().unwrap_or(0);
    let lines = &account.lines;
    let what = width(&mut lines.iter().map(|line| line.what.as_str()).chain([head.as_str()]));
    let expected = width(&mut lines.iter().map(|line| line.expected.as_str()).chain(["expected"]));
    let found = width(&mut lines.iter().map(|line| line.found.as_str()).chain(["found"]));
    let mut text = format!("\n    {head:<what$}  {:>expected$}  {:>found$}\n", "expected", "found");
    let _ = writeln!(text, "    {}", "─".repeat(what + expected + found + 4));
    for line in lines {
        // What is in brackets says why there is nothing to compare.
        let equal = line.expected == line.found || line.found.starts_with('(');
        let mark = if equal { "" } else { "  ≠" };
        let _ = writeln!(
            text,
            "    {:<what$}  {:>expected$}  {:>found$}{mark}",
            line.what, line.expected, line.found
        );
    }
    text
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::protocol::{Causes, FaultOutcome, TLine, Violation};

    /// A canned failure with everything in it.
    pub fn canned() -> (SeedJob, SeedReport) {
        let line = |what: &str, expected: &str, found: &str| TLine {
            what: what.into(),
            expected: expected.into(),
            found: found.into(),
        };
        let fault = |id, class: &str, fired, bit, detail: &str| FaultOutcome {
            id,
            class: class.into(),
            fired,
            bit,
            detail: detail.into(),
        };
        let job = SeedJob {
            seed: 137,
            scenario: ScenarioSource::Named("mid-batch-timeout".into()),
            design: "logged-rmw".into(),
            ..SeedJob::default()
        };
        let report = SeedReport {
            seed: 137,
            scenario: "mid-batch-timeout".into(),
            design: "logged-rmw".into(),
            verdict: Verdict::Safety,
            violations: vec![Violation {
                invariant: 2,
                name: "trade/balance agreement".into(),
                text: "user 17 lost 3.20 USDT".into(),
                accounts: vec![TAccount {
                    owner: "user 17".into(),
                    asset: "USDT".into(),
                    lines: vec![
                        line("deposit 1", "+10.00", "+10.00"),
                        line("trade 31 sells 0.5 BTC", "+3.20", ""),
                        line("available", "13.20", "10.00"),
                    ],
                }],
            }],
            timeline: vec![
                "  12.034 s  #418  settlement  batch of event 31 sent, attempt 1".into(),
                "  72.034 s  #902  db-2        batchlog replays event 31 with its old timestamp".into(),
            ],
            causes: Causes {
                lost: 1,
                ..Causes::default()
            },
            faults: vec![
                fault(
                    0,
                    "timeout-applied-by-replay",
                    true,
                    true,
                    "batch of event 31, attempt 1",
                ),
                fault(1, "pause", false, false, "db-3 for 4 s at 90 s"),
            ],
            trace_hash: "0123456789abcdef".into(),
            plan: serde_json::json!({ "version": 1, "faults": [] }),
            ..SeedReport::default()
        };
        (job, report)
    }

    #[test]
    fn a_failure_as_people_read_it() {
        let (job, report) = canned();
        insta::assert_snapshot!("failure", describe(&job, &report));
        let hung = SeedReport {
            verdict: Verdict::Hung,
            violations: vec![],
            ..SeedReport::default()
        };
        insta::assert_snapshot!("failure_hung", describe(&job, &hung));
        let broken = Verdict::Error {
            message: "thread seed: panicked\nat x.rs".into(),
        };
        insta::assert_snapshot!(
            "failure_error",
            describe(
                &job,
                &SeedReport {
                    verdict: broken,
                    ..SeedReport::default()
                }
            )
        );
    }

    #[test]
    fn a_saved_failure_is_read_back_with_its_plan_in_the_job() {
        let (job, report) = canned();
        let directory = tempfile::tempdir().unwrap();
        let saved = FailureFile::new(&job, &report, Build::default());
        let path = saved.save(directory.path()).unwrap();
        assert_eq!(path, directory.path().join("mid-batch-timeout-logged-rmw-137.json"));
        let read = FailureFile::read(&path).unwrap();
        assert_eq!(read, saved);
        assert_eq!(read.job.plan, Some(report.plan));
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_directory() {
        let (job, mut report) = canned();
        report.scenario = "../../x".into();
        let directory = tempfile::tempdir().unwrap();
        let path = FailureFile::new(&job, &report, Build::default())
            .save(directory.path())
            .unwrap();
        assert_eq!(path.parent().unwrap(), directory.path());
    }

    #[test]
    fn a_file_that_is_no_failure_is_named_with_its_fault() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f.json");
        let error = |text: &str| {
            std::fs::write(&path, text).unwrap();
            FailureFile::read(&path).unwrap_err().to_string()
        };
        assert!(error("{").contains("not JSON"));
        assert!(error("{}").contains("no version"));
        assert!(error(r#"{"version":9}"#).contains("version 9"));
        assert!(error(r#"{"version":1}"#).contains("no saved failure"));
        assert!(error("{").contains("f.json"));
    }

    #[test]
    fn the_commands_can_be_pasted() {
        let (mut job, report) = canned();
        assert_eq!(
            run_command(&job, &report),
            "cargo quench run --scenario mid-batch-timeout --design logged-rmw --seed 137 --seeds 1"
        );
        job.scenario = ScenarioSource::Inline {
            origin: "/tmp/my file.toml".into(),
            toml: String::new(),
        };
        job.without = vec!["pause".into()];
        job.kindness = vec!["fsync-every-write".into()];
        job.tape = Some("/t/a.csv".into());
        assert_eq!(
            run_command(&job, &report),
            "cargo quench run --scenario '/tmp/my file.toml' --design logged-rmw --without pause \
             --kindness fsync-every-write --tape /t/a.csv --seed 137 --seeds 1"
        );
        assert_eq!(
            replay_command(Path::new("/x/it's.json")),
            r"cargo quench replay '/x/it'\''s.json'"
        );
    }
}
