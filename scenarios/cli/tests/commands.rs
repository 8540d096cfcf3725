//! The command as a person runs it, with a worker that is a shell script: exit codes, the last line that can be pasted, and
//! what is said when a worker hangs, dies or is stale. The real worker has tests of its own.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the script does with each seed.
const SEEDS: &str = r#"
        *'"seed":"3"'*) report 3 '{"is":"safety"}' 'lost' ;;
        *'"seed":"4"'*) echo '{"type":"failed","id":'$id',"failed":{"how":"hung","limit_ms":7}}' ;;
        *'"seed":"40'*) echo '{"type":"failed","id":'$id',"failed":{"how":"hung","limit_ms":7}}' ;;
        *'"seed":"5"'*) exit 1 ;;
        *'"seed":"6"'*) report 6 '{"is":"liveness"}' 'stuck' ;;
        *'"seed":"7"'*) report 7 '{"is":"inconclusive"}' 'beyond' ;;
        *'"seed":"8"'*) echo '{"type":"result","id":'$id',"answer":{"kind":"error","message":"thread seed: panicked"}}' ;;
        *'"seed":"9"'*) printf '{"type":"resu'; echo; echo '{"type":"failed","id":'$id',"failed":{"how":"signal","signal":11}}' ;;
        *) report 1 '{"is":"pass"}' '' ;;
"#;

/// A worker that answers by pattern, in a directory of its own.
struct Fake {
    directory: tempfile::TempDir,
    worker: PathBuf,
}

impl Fake {
    fn new(version: u32) -> Fake {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let worker = directory.path().join("worker.sh");
        let script = format!(
            r#"#!/bin/sh
info='{{"name":"pause","about":"a stall","faults":[],"seeds":2,"inconclusive_max_percent":5}}'
report() {{
    seed=$(printf '%s' "$line" | sed 's/.*"seed":"\([0-9]*\)".*/\1/')
    violations='[]'
    [ -n "$3" ] && violations='[{{"invariant":2,"name":"agreement","text":"user 17 '$3'","accounts":[]}}]'
    echo '{{"type":"result","id":'$id',"answer":{{"kind":"seed","seed":"'$seed'","scenario":"pause","design":"ledger","verdict":'$2',"violations":'$violations',"timeline":[],"causes":{{}},"faults":[],"trace_hash":"'${{QUENCH_TEST_HASH:-aaaa}}$seed'","draws":{{}},"counts":{{"events":1,"settled_trades":500}},"sim_time_ms":1000,"notes":[],"plan":{{"version":1,"faults":[]}},"cost":{{"cpu_us":1000}}}}}}'
}}
while read -r line; do
    id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
    case "$line" in
        *'"type":"hello"'*) echo '{{"type":"ready","version":{version},"world":"sim","profile":"release","versions":{{}},"address_randomisation":"off"}}' ;;
        *'"kind":"catalog"'*) echo '{{"type":"result","id":'$id',"answer":{{"kind":"catalog","scenarios":['$info'],"designs":[{{"name":"ledger","about":"absolute"}}],"invariants":[],"faults":[],"kindness":[],"tape_scenario":"pause","bench_scenario":"pause"}}}}' ;;
        *'"kind":"check"'*nope*) echo '{{"type":"result","id":'$id',"answer":{{"kind":"checked","bad":{{"message":"there is no scenario `nope`"}}}}}}' ;;
        *'"kind":"check"'*) echo '{{"type":"result","id":'$id',"answer":{{"kind":"checked","fine":{{"scenario":'$info',"design":"ledger"}}}}}}' ;;
        {SEEDS}
    esac
done
"#
        );
        std::fs::write(&worker, script).unwrap();
        std::fs::set_permissions(&worker, std::fs::Permissions::from_mode(0o755)).unwrap();
        Fake { directory, worker }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quench"));
        command
            .args(arguments)
            .env("QUENCH_WORKER", &self.worker)
            .current_dir(self.directory.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        ended(self.command(arguments).output().unwrap())
    }

    /// One seed of the scenario.
    fn seed(&self, seed: &str) -> (i32, String, String) {
        self.run(&["run", "--out", "out", "--seed", seed, "--seeds", "1"])
    }

    fn out(&self) -> &Path {
        self.directory.path()
    }
}

fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn each_verdict_ends_with_its_exit_code() {
    let fake = Fake::new(1);
    for (seed, code) in [
        ("1", 0),
        ("3", 10),
        ("4", 14),
        ("5", 1),
        ("6", 11),
        ("7", 13),
        ("8", 1),
        ("9", 1),
    ] {
        let (exit, stdout, stderr) = fake.seed(seed);
        assert_eq!(exit, code, "seed {seed}\n{stdout}\n{stderr}");
    }
    let (exit, stdout, _) = fake.run(&["run", "--out", "out", "--seed", "1", "--seeds", "9", "--workers", "2"]);
    assert_eq!(exit, 10, "the worst of them decides\n{stdout}");
    assert!(stdout.contains("6 of 9 seeds fail"), "{stdout}");
}

#[test]
fn the_last_line_pasted_shows_the_identical_failure() {
    let fake = Fake::new(1);
    let (_, stdout, _) = fake.seed("3");
    let last = stdout.lines().last().unwrap();
    let pasted: Vec<&str> = last.strip_prefix("cargo quench ").unwrap().split(' ').collect();
    assert_eq!(pasted, ["replay", "out/failures/pause-ledger-3.json"]);
    let (exit, replayed, _) = fake.run(&pasted);
    assert_eq!(exit, 10, "{replayed}");
    assert!(
        replayed.contains("identical, the failure and the whole trace"),
        "{replayed}"
    );
    assert!(replayed.contains("trace hash aaaa3"), "{replayed}");
    // The same worker that runs differently is found out.
    let mut command = fake.command(&pasted);
    let (exit, replayed, _) = ended(command.env("QUENCH_TEST_HASH", "bbbb").output().unwrap());
    assert_eq!(exit, 12, "{replayed}");
}

#[test]
fn a_seed_that_kills_or_blocks_its_child_is_named() {
    let fake = Fake::new(1);
    let (_, hung, _) = fake.seed("4");
    assert!(hung.contains("HUNG pause x ledger, seed 4"), "{hung}");
    let (_, lost, _) = fake.seed("5");
    assert!(
        lost.contains("seed 5") && lost.contains("the worker was lost with this seed"),
        "{lost}"
    );
    let (_, died, _) = fake.seed("9");
    assert!(died.contains("died by signal 11"), "{died}");
}

#[test]
fn a_scenario_whose_seeds_hang_is_given_up() {
    let fake = Fake::new(1);
    let (exit, stdout, _) = fake.run(&["run", "--out", "out", "--seed", "400", "--seeds", "9", "--workers", "1"]);
    assert_eq!(exit, 14);
    // A seed or two may be under way while the third is being counted.
    assert!(
        stdout.contains("given up after") && !stdout.contains("9 seeds in"),
        "{stdout}"
    );
}

#[test]
fn wrong_arguments_are_exit_code_1_and_say_what_would_be_right() {
    let fake = Fake::new(1);
    let error = |arguments: &[&str]| {
        let (exit, stdout, stderr) = fake.run(arguments);
        assert_eq!(exit, 1, "{arguments:?}: {stdout}{stderr}");
        stderr
    };
    assert!(error(&["rnu"]).contains("rnu"));
    assert!(error(&["run", "--seed", "f859b7b"]).contains("git rev-parse HEAD"));
    assert!(error(&["run", "--scenario", "nope"]).contains("there is no scenario `nope`"));
    assert!(error(&["run", "--scenario", "mine.toml"]).contains("mine.toml"));
    assert!(error(&["run", "--tape", "nothing.csv.gz"]).contains("nothing.csv.gz"));
    assert!(error(&["replay", "nothing.json"]).contains("nothing.json"));
    assert!(error(&["run", "--design", ""]).contains("--design"));
    assert_eq!(fake.run(&["--help"]).0, 0);
    assert_eq!(fake.run(&["run", "--help"]).0, 0);
}

#[test]
fn a_stale_or_missing_worker_is_said_to_be_so() {
    let fake = Fake::new(99);
    let (exit, _, stderr) = fake.run(&["run"]);
    assert_eq!(exit, 1);
    assert!(stderr.contains("speaks protocol version 99"), "{stderr}");
    let mut command = fake.command(&["run"]);
    let (exit, _, stderr) = ended(command.env("QUENCH_WORKER", "/nowhere/worker").output().unwrap());
    assert_eq!(exit, 1);
    assert!(
        stderr.contains("/nowhere/worker") && stderr.contains("Unset it"),
        "{stderr}"
    );
}

#[test]
fn json_is_the_only_thing_on_standard_output() {
    let fake = Fake::new(1);
    let (exit, stdout, _) = fake.run(&[
        "run", "--json", "--out", "out", "--seed", "2", "--seeds", "2", "--junit", "j.xml",
    ]);
    assert_eq!(exit, 10);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["verdict"], "safety");
    assert_eq!(json["scenarios"][0]["seeds"], 2);
    assert_eq!(json["scenarios"][0]["settled_trades"], 1_000);
    assert_eq!(json["failures"][0]["job"]["seed"], "3");
    assert!(
        std::fs::read_to_string(fake.out().join("j.xml"))
            .unwrap()
            .contains("user 17 lost")
    );
    let (_, listed, _) = fake.run(&["list", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(json["scenarios"][0]["name"], "pause");
}

/// What a person reads when a file that was named is not what it should be.
#[test]
fn a_bad_file_is_named_with_what_to_do() {
    let fake = Fake::new(1);
    let files = [
        ("cut.json", "{\"version\":1,\"job\":{"),
        ("empty.json", ""),
        ("other.json", "{}"),
        ("newer.json", "{\"version\":7}"),
        ("hollow.json", "{\"version\":1}"),
    ];
    for (name, text) in files {
        std::fs::write(fake.out().join(name), text).unwrap();
    }
    std::fs::create_dir(fake.out().join("directory")).unwrap();
    std::fs::write(fake.out().join("binary.toml"), b"version = 1\xff").unwrap();
    let cases: &[&[&str]] = &[
        &["run", "--scenario", "nowhere/mine.toml"],
        &["run", "--scenario", "./directory"],
        &["run", "--scenario", "binary.toml"],
        &["run", "--tape", "nothing.csv.gz"],
        &["run", "--tape", "directory"],
        &["run", "--tape", "/dev/null"],
        &["run", "--plan", "nothing.json"],
        &["run", "--plan", "cut.json"],
        &["run", "--plan", "other.json"],
        &["replay", "nothing.json"],
        &["replay", "directory"],
        &["replay", "cut.json"],
        &["replay", "empty.json"],
        &["replay", "other.json"],
        &["replay", "newer.json"],
        &["replay", "hollow.json"],
    ];
    let mut told = String::new();
    for arguments in cases {
        let (exit, stdout, stderr) = fake.run(arguments);
        assert_eq!((exit, stdout.as_str()), (1, ""), "{arguments:?}: {stderr}");
        told.push_str(&format!("$ quench {}\n{stderr}\n", arguments.join(" ")));
    }
    insta::assert_snapshot!("bad_files", told);
}

/// A failure that cannot be saved is told all the same, with the command that needs no file; the exit code is the seed's.
#[test]
fn what_was_found_survives_files_that_cannot_be_written() {
    let fake = Fake::new(1);
    std::fs::write(fake.out().join("file"), "").unwrap();
    let (exit, stdout, stderr) = fake.run(&[
        "run",
        "--out",
        "file",
        "--seed",
        "3",
        "--seeds",
        "1",
        "--junit",
        "file/j.xml",
    ]);
    assert_eq!(exit, 10, "{stdout}{stderr}");
    assert!(stdout.contains("user 17 lost"), "{stdout}");
    assert_eq!(
        stdout.lines().last().unwrap(),
        "cargo quench run --scenario pause --design ledger --seed 3 --seeds 1"
    );
    assert!(
        stderr.contains("file/failures") && stderr.matches("error: ").count() == 2,
        "{stderr}"
    );
    let (exit, _, stderr) = fake.run(&["run", "--seed", "1", "--seeds", "1", "--junit", "file/j.xml"]);
    assert_eq!(exit, 1, "a report that was asked for is missing: {stderr}");
}

/// `/dev/full` is a disk without room.
#[test]
fn a_report_that_cannot_be_written_is_an_error_and_no_panic() {
    let fake = Fake::new(1);
    for (arguments, code) in [
        (["run", "--out", "out", "--seed", "1", "--seeds", "1"].as_slice(), 1),
        (&["run", "--out", "out", "--seed", "3", "--seeds", "1"], 10),
        (&["list"], 1),
    ] {
        let mut command = fake.command(arguments);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (exit, _, stderr) = ended(command.stdout(full).output().unwrap());
        assert_eq!(exit, code, "{arguments:?}: {stderr}");
        assert!(
            stderr.contains("cannot be written to standard output") && !stderr.contains("panicked"),
            "{stderr}"
        );
    }
}
