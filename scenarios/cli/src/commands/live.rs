//! `quench live`: one scenario with real processes against somebody's database, and the same report and exit codes as in
//! the simulator. The programs are built for production; the run itself is the worker's affair. What fails is saved with
//! its plan, which the simulator can run too.
use crate::args::LiveArgs;
use crate::client::{Client, Reply, Start};
use crate::exit::Exit;
use crate::failure::{Build, FailureFile, describe, shell_word, shown};
use crate::fingerprint;
use crate::launch::{self, Profile};
use crate::problem::{Problem, say};
use crate::protocol::{Answer, Failed, LiveJob, SeedJob, SeedReport, Verdict, Work};
use crate::session::{read_plan, scenario_source};
use crate::{seed, table};
use serde_json::json;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where CQL is spoken unless said otherwise.
const CQL_PORT: u16 = 9042;

/// Runs it.
pub fn run(arguments: &LiveArgs) -> Result<Exit, Problem> {
    let seed = seed::parse(&arguments.seed)?;
    let contact = contact_points(&arguments.contact)?;
    let plan = arguments.plan.as_deref().map(read_plan).transpose()?;
    let root = launch::workspace()?;
    let programs = launch::real_programs(Profile::of(arguments.debug_build))?;
    let worker = programs.join("quench-worker");
    let mut client = Client::start(&worker, &Start::default())?;
    let mut run = SeedJob {
        seed,
        scenario: scenario_source(&arguments.scenario)?,
        design: arguments.design.clone().unwrap_or_default(),
        plan,
        without: arguments.without.clone(),
        trades: arguments.trades,
        ..SeedJob::default()
    };
    let (scenario, design) = client.check(&run)?;
    run.design = design;
    let target = root.join("target/quench");
    let job = LiveJob {
        directory: text(
            &target
                .join("live")
                .join(format!("{}-{}-{seed}", scenario.name, run.design)),
        )?,
        contact,
        node_control: arguments.node_control.clone(),
        engine: text(&programs.join("engine"))?,
        settlement: text(&programs.join("settlement"))?,
        keep: arguments.keep,
        replace: arguments.replace,
        run,
    };
    eprintln!("{} x {}, seed {seed}, real processes:", scenario.name, job.run.design);
    let report = ask(&mut client, &job, arguments.limit.saturating_mul(1_000));
    let build = Build {
        worker: client.ready.clone(),
        worker_sha256: fingerprint::of_file(&worker)?,
    };
    client.finish();
    let exit = Exit::of(&report.verdict);
    let out = arguments.out.clone().unwrap_or(target);
    // What found nothing out has no plan, and is no failure that could be shown again.
    let is_worth_keeping = exit != Exit::Pass && !report.plan.is_null();
    let saved = is_worth_keeping.then(|| FailureFile::new(&job.run, &report, build).save(&out.join("live-failures")));
    let (saved, unsaved) = match saved.transpose() {
        Ok(saved) => (saved, None),
        Err(problem) => (None, Some(problem)),
    };
    let said = if arguments.json {
        let json = json!({
            "version": 1,
            "verdict": exit.word(),
            "exit_code": exit.code(),
            "file": saved,
            "report": report,
        });
        format!("{json}\n")
    } else {
        told(&job, &report, saved.as_deref(), &again(arguments, &job))
    };
    let said = say(&said);
    // The verdict is what was found, whether or not it could be written down.
    for problem in unsaved.into_iter().chain(said.err()) {
        let _ = writeln!(std::io::stderr(), "error: {problem}");
    }
    Ok(exit)
}

/// The run's report; whatever went wrong with the worker becomes one.
fn ask(client: &mut Client, job: &LiveJob, limit_ms: u64) -> SeedReport {
    let verdict = match client.ask_until_interrupted(Work::Live(job.clone()), limit_ms) {
        Reply::Answer(answer) => match *answer {
            Answer::Seed(report) => return report,
            Answer::Error { message } => Verdict::Error { message },
            other => Verdict::Error {
                message: format!("the worker answered {other:?}"),
            },
        },
        Reply::Failed(Failed::Hung { .. }) => Verdict::Hung,
        Reply::Failed(failed) => Verdict::Error {
            message: format!("the worker gave no answer: {failed:?}"),
        },
        Reply::Gone(why) => Verdict::Error {
            message: format!(
                "the worker was lost: {why}. Its engine and settlement may still run, the keyspace and {} are left as they \
                 were, and a database node that was struck may be down or frozen: resume or revive it",
                job.directory
            ),
        },
    };
    SeedReport {
        seed: job.run.seed,
        design: job.run.design.clone(),
        verdict,
        ..SeedReport::default()
    }
}

/// Host and port of every contact point.
fn contact_points(given: &[String]) -> Result<Vec<String>, Problem> {
    let one = |text: &String| {
        let text = text.trim();
        let has_port = text.starts_with('[') && text.contains("]:") || text.matches(':').count() == 1;
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if has_port => (host, port.parse::<u16>().ok().filter(|port| *port > 0)),
            _ => (text, Some(CQL_PORT)),
        };
        match port {
            Some(port) if !host.is_empty() => Ok(format!("{host}:{port}")),
            _ => Err(Problem::Argument(format!(
                "--contact {text:?}: give a node as HOST or HOST:PORT, such as 127.0.0.1:9042"
            ))),
        }
    };
    given.iter().map(one).collect()
}

fn text(path: &Path) -> Result<String, Problem> {
    path.to_str().map(str::to_string).ok_or_else(|| Problem::Content {
        path: path.into(),
        why: "its path is not UTF-8, which job lines cannot carry".into(),
    })
}

fn told(job: &LiveJob, report: &SeedReport, saved: Option<&Path>, again: &str) -> String {
    let exit = Exit::of(&report.verdict);
    let mut text = String::new();
    let count = |name: &str| report.counts.get(name).copied().unwrap_or(0);
    if !matches!(report.verdict, Verdict::Pass) {
        text.push_str(&describe(&job.run, report));
    } else {
        for fault in &report.faults {
            let became = match (fault.fired, fault.bit) {
                (_, true) => "bit",
                (true, false) => "fired",
                (false, false) => "did not fire",
            };
            let _ = writeln!(text, "  {}: {} [{became}]", fault.class, fault.detail);
        }
    }
    for note in &report.notes {
        let _ = writeln!(text, "  {note}");
    }
    if count("events") > 0 {
        let _ = writeln!(
            text,
            "\n{}: {} events, {} trades settled; settlement struck {} times, {} of them with events in flight; {} reads of \
             balances beside it; {} replicas read one by one",
            exit.word(),
            table::thousands(count("events")),
            table::thousands(count("settled_trades")),
            count("settlement_struck"),
            count("settlement_struck_with_events_in_flight"),
            table::thousands(count("reads")),
            count("replicas_read"),
        );
    }
    if let Some(path) = saved {
        let _ = writeln!(
            text,
            "saved in {}; the same plan in the simulator: {}",
            shown(path),
            simulated(job, report, path)
        );
    }
    if exit != Exit::Pass {
        let _ = writeln!(text, "\n{again}");
    }
    text
}

fn simulated(job: &LiveJob, report: &SeedReport, path: &Path) -> String {
    let mut command = format!(
        "cargo quench run --plan {} --scenario {} --design {} --seed {} --seeds 1",
        shell_word(&shown(path)),
        shell_word(&report.scenario),
        report.design,
        report.seed
    );
    if job.run.trades.is_some() {
        command.push_str(" # with the scenario's own number of trades");
    }
    command
}

/// The command that does the same again. What a real cluster does with it is its own affair.
fn again(arguments: &LiveArgs, job: &LiveJob) -> String {
    let mut command = format!(
        "cargo quench live --contact {} --scenario {} --design {} --seed {} --replace",
        shell_word(&arguments.contact.join(",")),
        shell_word(&arguments.scenario),
        job.run.design,
        job.run.seed
    );
    let path = |path: &PathBuf| path.display().to_string();
    for (name, value) in [
        ("node-control", arguments.node_control.clone()),
        ("trades", arguments.trades.map(|trades| trades.to_string())),
        ("plan", arguments.plan.as_ref().map(path)),
    ] {
        if let Some(value) = value {
            let _ = write!(command, " --{name} {}", shell_word(&value));
        }
    }
    for class in &arguments.without {
        let _ = write!(command, " --without {class}");
    }
    if arguments.debug_build {
        command.push_str(" --debug-build");
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_point_gets_the_usual_port_and_a_mistake_is_told() {
        let given = ["127.0.0.1", "db:9142", "::1", "[::1]:9142"].map(String::from);
        let expected = ["127.0.0.1:9042", "db:9142", "::1:9042", "[::1]:9142"];
        assert_eq!(contact_points(&given).unwrap(), expected);
        for wrong in ["", ":9042", "db:port", "db:0", "db:70000"] {
            let error = contact_points(&[wrong.into()]).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }
}
