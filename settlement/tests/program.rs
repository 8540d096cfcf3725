//! The `settlement` program as a person runs it, where it can do nothing: no configuration, a wrong one, no database. Each
//! ends by itself with an exit code other than 0, one message that says what to do, and nothing on the disk.

use std::path::Path;
use std::process::Command;

/// Environment variables.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// A configuration whose database is nobody.
fn configuration() -> String {
    include_str!("../settlement.example.toml")
        .replace("127.0.0.1:9042", "127.0.0.1:1")
        .replace("metrics_addr", "# metrics_addr")
}

/// Runs it in a directory; the exit code and what it said, log lines left out and times replaced.
fn run(directory: &Path, variables: Variables<'_>, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_settlement"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .env("SETTLEMENT_DATABASE__START_PATIENCE_MS", "300")
        .envs(variables.iter().copied())
        .output()
        .expect("it can be started");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!text.contains("panicked") && !text.contains('\u{1b}'), "{text}");
    let told: Vec<&str> = text.lines().filter(|line| !line.starts_with("20")).collect();
    (output.status.code().expect("an exit code"), told.join("\n"))
}

#[test]
fn whatever_is_wrong_with_the_configuration_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    let file = |name: &str, text: String| std::fs::write(here.join(name), text).expect("written");
    file("good.toml", configuration());
    file("empty.toml", String::new());
    file("broken.toml", "design = \"ledger\ncontact_points = 3".into());
    file("misspelt.toml", configuration().replace("data_dir", "datadir"));
    file("design.toml", configuration().replace("\"ledger\"", "\"ledgr\""));
    file("symbols.toml", configuration().replace("base = 1", "base = 7"));
    let cases: &[(Variables<'_>, &[&str])] = &[
        (&[], &["-c", "missing.toml", "serve"]),
        (&[], &["-c", ".", "serve"]),
        (&[], &["-c", "empty.toml", "serve"]),
        (&[], &["-c", "broken.toml", "serve"]),
        (&[], &["-c", "misspelt.toml", "serve"]),
        (&[], &["-c", "design.toml", "serve"]),
        (&[], &["-c", "symbols.toml", "serve"]),
        (&[], &["-c", "good.toml", "--keyspace", "Bad-Name", "serve"]),
        (
            &[("SETTLEMENT_LIMITS__IN_FLIGHT_MAX", "0")],
            &["-c", "good.toml", "serve"],
        ),
        (&[("SETTLEMENT_NO_SUCH", "1")], &["-c", "good.toml", "serve"]),
        (
            &[("SETTLEMENT_METRICS_ADDR", "192.0.2.1:80")],
            &["-c", "good.toml", "serve"],
        ),
        (&[], &["-c", "good.toml", "resettle", "--from", "0"]),
        (&[], &["-c", "good.toml", "skip", "3", "--reason", " "]),
        (&[], &["-c", "good.toml", "--design", "ledgr", "serve"]),
        (&[], &["-c", "good.toml", "sreve"]),
        (&[], &["-c", "missing.toml", "bench"]),
        (&[], &["-c", "good.toml", "bench", "--trades", "0"]),
        (&[], &["-c", "good.toml", "bench", "--designs", "ledger,fastest"]),
        (&[], &["-c", "good.toml", "bench", "--trades", "9", "--seconds", "9"]),
        (
            &[],
            &["-c", "good.toml", "bench", "--designs", "ledger", "--ratio-min", "4"],
        ),
    ];
    let mut told = String::new();
    for (variables, arguments) in cases {
        let (code, text) = run(here, variables, arguments);
        assert_ne!(code, 0, "{arguments:?}");
        let set: String = variables
            .iter()
            .map(|(name, value)| format!("{name}={value} "))
            .collect();
        told.push_str(&format!(
            "$ {set}settlement {}\n{text}\n=> {code}\n\n",
            arguments.join(" ")
        ));
    }
    insta::assert_snapshot!("configurations", told);
    assert!(!here.join("settlement-data").exists(), "nothing was written");
}

#[test]
fn a_database_that_cannot_be_reached_ends_every_command() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("settlement.toml"), configuration()).expect("written");
    for arguments in [
        &["serve"][..],
        &["status"],
        &["skip", "4", "--reason", "x"],
        &["resettle", "--from", "1"],
        &["migrate"],
        &["bench"],
    ] {
        let (code, text) = run(directory.path(), &[], arguments);
        assert_eq!(code, 1, "{arguments:?}: {text}");
        for part in [
            "settlement: no node of the database can be reached (127.0.0.1:1; ",
            "attempts in 0.",
            "Connection refused",
            "Check `contact_points`",
            "raise `database.start_patience_ms`",
            "Nothing was lost, the WAL is untouched",
        ] {
            assert!(text.contains(part), "{arguments:?}: {part}: {text}");
        }
    }
    for wrong in ["[\"nowhere.invalid:9042\"]", "[\"127.0.0.1:port\"]"] {
        let (code, text) = run(directory.path(), &[("SETTLEMENT_CONTACT_POINTS", wrong)], &["serve"]);
        assert!(code == 1 && text.contains("Couldn't resolve any hostname"), "{text}");
    }
    assert!(
        !directory.path().join("settlement-data").exists(),
        "nothing was written"
    );
}
