//! The `engine` program as a person runs it, where something is wrong: each ends by itself with an exit code other than 0
//! and says what happened, to what and what to do. Real processes, so only in the production world.
#![cfg(not(madsim))]

use std::path::Path;
use std::process::{Command, Output};

/// Environment variables.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// An engine that ends when it is done, on ports of its own choosing.
const CONFIG: &str = "\
publish_addr = \"tcp://127.0.0.1:0\"
replay_addr = \"tcp://127.0.0.1:0\"
exit_when_done = true
[pacing]
events_per_s = 0
[workload]
seed = 7
trades = 400
";

fn ended(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("panicked") && !text.contains('\u{1b}'), "{text}");
    let told: Vec<&str> = text.lines().filter(|line| !line.starts_with("20")).collect();
    (output.status.code().expect("an exit code"), told.join("\n"))
}

fn run(directory: &Path, variables: Variables<'_>, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    let command = command.args(arguments).current_dir(directory).env_remove("RUST_LOG");
    ended(
        &command
            .envs(variables.iter().copied())
            .output()
            .expect("it can be started"),
    )
}

#[test]
fn whatever_is_wrong_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    let file = |name: &str, text: &str| std::fs::write(here.join(name), text).expect("written");
    file("good.toml", CONFIG);
    file("broken.toml", "data_dir = \"x");
    file("misspelt.toml", "heartbeat = 5");
    file("both.toml", &format!("{CONFIG}[tape]\npath = \"x.csv\"\n"));
    file("file", "");
    file("quiet.csv", "34200.1,1,77,10,33578400,-1\n");
    file("not.log", &"garbage ".repeat(20));
    assert_eq!(
        run(here, &[], &["serve", "--config", "good.toml", "--data-dir", "used"]),
        (0, String::new())
    );
    let good = |more: &[&'static str]| [&["serve", "--config", "good.toml"], more].concat();
    let cases: &[(Variables<'_>, Vec<&str>)] = &[
        (&[], vec!["serve", "--config", "missing.toml"]),
        (&[], vec!["serve", "--config", "."]),
        (&[], vec!["serve", "--config", "broken.toml"]),
        (&[], vec!["serve", "--config", "misspelt.toml"]),
        (&[], vec!["serve", "--config", "both.toml"]),
        (&[("ENGINE_HEARTBEAT_MS", "0")], good(&[])),
        (&[("ENGINE_PUBLISH_ADDR", "tcp://192.0.2.1:5")], good(&[])),
        (&[("ENGINE_REGISTRY", "missing.toml")], good(&[])),
        (&[], good(&["--data-dir", "file"])),
        (&[], good(&["--data-dir", "used", "--trades", "401"])),
        (&[], good(&["--tape", "missing.csv"])),
        (&[], good(&["--tape", "quiet.csv"])),
        (&[], vec!["tape", "file"]),
        (&[], vec!["log", "missing.log"]),
        (&[], vec!["log", "not.log"]),
    ];
    let mut told = String::new();
    for (variables, arguments) in cases {
        let (code, text) = run(here, variables, arguments);
        assert_ne!(code, 0, "{arguments:?}");
        let set: String = variables
            .iter()
            .map(|(name, value)| format!("{name}={value} "))
            .collect();
        told.push_str(&format!("$ {set}engine {}\n{text}\n=> {code}\n\n", arguments.join(" ")));
    }
    insta::assert_snapshot!("troubles", told);
}

/// A limit on the size of files is a disk without room that needs no rights to make.
#[test]
fn a_log_that_cannot_grow_ends_the_engine_and_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    std::fs::write(here.join("good.toml"), CONFIG).expect("written");
    let log = |data_dir: &str| std::fs::read(here.join(data_dir).join("engine.log")).expect("a log");
    assert_eq!(
        run(here, &[], &["serve", "--config", "good.toml", "--data-dir", "whole"]),
        (0, String::new())
    );

    let limited = format!(
        "trap '' XFSZ; ulimit -f 64; exec {} serve --config good.toml --data-dir cut",
        env!("CARGO_BIN_EXE_engine")
    );
    let output = Command::new("sh")
        .args(["-c", &limited])
        .current_dir(here)
        .env_remove("RUST_LOG")
        .output();
    let (code, told) = ended(&output.expect("a shell"));
    assert_eq!(code, 1, "{told}");
    for part in [
        "writing cut/engine.log failed",
        "has room",
        "goes on where its log ends",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(log("cut").len() < log("whole").len());
    assert_eq!(
        run(here, &[], &["serve", "--config", "good.toml", "--data-dir", "cut"]),
        (0, String::new())
    );
    let events = |data_dir: &str| engine::log::read_facts(&log(data_dir)).expect("a good log");
    assert_eq!(events("cut"), events("whole"));
}
