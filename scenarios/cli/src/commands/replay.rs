//! `quench replay`: runs the plan of a saved failure again and says whether it is the same failure. Same means: the same
//! hash over the whole trace, the same verdict and the same violations, word for word.
use crate::args::ReplayArgs;
use crate::exit::Exit;
use crate::failure::{Build, FailureFile, describe, shown};
use crate::launch::Profile;
use crate::problem::{Problem, say};
use crate::protocol::{SeedJob, SeedReport, Verdict};
use crate::session::Session;
use serde_json::json;

/// Runs it.
pub fn run(arguments: &ReplayArgs) -> Result<Exit, Problem> {
    let saved = FailureFile::read(&arguments.file)?;
    let debug = arguments.worker.debug_build || saved.build.worker.profile == "debug";
    let mut session = Session::open(Profile::of(debug))?;
    session.client.check(&saved.job)?;
    let limit_ms = arguments.worker.limit_ms(saved.job.tape.is_some(), debug);
    // Recording everything changes nothing but the timeline, which has then what the programs said.
    let job = SeedJob {
        record_all: true,
        ..saved.job.clone()
    };
    let report = session.client.run_seed(&job, limit_ms).report;
    let build = session.build()?;
    let found = compare(&saved, &report, &build);
    let (exit, sentence) = judge(&found, &report);
    if arguments.json {
        let json = json!({
            "version": 1,
            "verdict": exit.word(),
            "exit_code": exit.code(),
            "same_failure": found.same_failure,
            "same_trace": found.same_trace,
            "other_build": found.other_build,
            "saved_trace_hash": saved.report.trace_hash,
            "report": report,
        });
        say(&format!("{json}\n"))?;
        return Ok(exit);
    }
    let told = describe(&saved.job, &report);
    say(&format!("{told}\n{}: {sentence}\n", shown(&arguments.file)))?;
    Ok(exit)
}

/// How the second run compares with the saved one.
#[derive(Debug, PartialEq)]
struct Found {
    same_failure: bool,
    same_trace: bool,
    /// What is different about the build; empty if it is the same binary.
    other_build: Vec<String>,
}

fn compare(saved: &FailureFile, report: &SeedReport, build: &Build) -> Found {
    let same_failure = saved.report.verdict == report.verdict && saved.report.violations == report.violations;
    let same_trace = saved.report.trace_hash == report.trace_hash;
    Found {
        same_failure,
        same_trace,
        other_build: differences(&saved.build, build),
    }
}

/// What is different between two builds, in words.
fn differences(then: &Build, now: &Build) -> Vec<String> {
    if then.worker_sha256 == now.worker_sha256 {
        return Vec::new();
    }
    let mut words = Vec::new();
    if then.worker.profile != now.worker.profile {
        words.push(format!(
            "a {} build then, a {} build now",
            then.worker.profile, now.worker.profile
        ));
    }
    for (name, version) in &now.worker.versions {
        match then.worker.versions.get(name) {
            Some(before) if before == version => {}
            Some(before) => words.push(format!("{name} {before} then, {version} now")),
            None => words.push(format!("{name} {version} is new")),
        }
    }
    if words.is_empty() {
        words.push("the sources or the compiler changed".into());
    }
    words
}

/// How the command ends, and what it says.
fn judge(found: &Found, report: &SeedReport) -> (Exit, String) {
    let build = match found.other_build.is_empty() {
        true => String::new(),
        false => format!(
            " This worker is not the one that saved it: {}.",
            found.other_build.join(", ")
        ),
    };
    match (found.same_failure, found.same_trace) {
        (true, true) => (
            Exit::of(&report.verdict),
            format!("identical, the failure and the whole trace.{build}"),
        ),
        (true, false) if !found.other_build.is_empty() => (
            Exit::of(&report.verdict),
            format!("the same failure; the trace around it changed.{build}"),
        ),
        (false, _) if !found.other_build.is_empty() => match report.verdict {
            Verdict::Pass => (Exit::Pass, format!("it does not fail any more.{build}")),
            _ => (Exit::of(&report.verdict), format!("it fails, but differently.{build}")),
        },
        _ => (
            Exit::NonDeterminism,
            format!(
                "the same worker ran the same job differently (trace hash {}). Something draws from outside the \
                 simulation: `cargo quench determinism` says where.",
                report.trace_hash
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::tests::canned;
    use std::collections::BTreeMap;

    fn build(sha: &str, scylla: &str) -> Build {
        let mut build = Build {
            worker_sha256: sha.into(),
            ..Build::default()
        };
        build.worker.profile = "release".into();
        build.worker.versions = BTreeMap::from([("scylla".into(), scylla.into())]);
        build
    }

    fn judged(change: impl FnOnce(&mut SeedReport), now: &Build) -> (Exit, String) {
        let (job, mut report) = canned();
        let saved = FailureFile::new(&job, &report, build("a", "1.9.0"));
        change(&mut report);
        judge(&compare(&saved, &report, now), &report)
    }

    #[test]
    fn the_same_failure_ends_with_its_own_exit_code() {
        let (exit, words) = judged(|_| {}, &build("a", "1.9.0"));
        assert_eq!(exit, Exit::Safety);
        assert!(words.starts_with("identical"), "{words}");
    }

    #[test]
    fn another_trace_from_the_same_binary_is_non_determinism() {
        let (exit, words) = judged(|report| report.trace_hash = "f".repeat(16), &build("a", "1.9.0"));
        assert_eq!(exit, Exit::NonDeterminism);
        assert!(words.contains("cargo quench determinism"), "{words}");
        let (exit, _) = judged(|report| report.violations.clear(), &build("a", "1.9.0"));
        assert_eq!(exit, Exit::NonDeterminism);
    }

    #[test]
    fn another_build_is_named_and_judged_by_what_it_does() {
        let other = build("b", "1.9.1");
        let (exit, words) = judged(|report| report.trace_hash = "f".repeat(16), &other);
        assert_eq!(exit, Exit::Safety);
        assert!(words.contains("scylla 1.9.0 then, 1.9.1 now"), "{words}");
        let fixed = |report: &mut SeedReport| {
            report.verdict = Verdict::Pass;
            report.violations.clear();
        };
        let (exit, words) = judged(fixed, &build("b", "1.9.0"));
        assert_eq!(exit, Exit::Pass);
        assert!(
            words.contains("does not fail any more") && words.contains("sources"),
            "{words}"
        );
    }
}
