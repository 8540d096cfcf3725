//! What a person is told when the program cannot start, and when it does. What is refused is not touched.

use super::program::{Program, refused};
use std::fs;
use std::path::Path;

/// Every file below a directory with its content.
fn content(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.display().to_string(), fs::read(&path).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn whatever_is_wrong_at_the_start_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    let data = here.join("data");
    drop(Program::start(&data, &[]));
    let before = content(&data);
    fs::create_dir(here.join("other")).expect("made");
    fs::write(here.join("other/letter.txt"), "dear").expect("written");
    fs::write(here.join("file"), "").expect("written");
    fs::create_dir(here.join("broken")).expect("made");
    fs::write(here.join("broken/scylla-sim.toml"), "version = 1\nflavour = \"x\"").expect("written");
    fs::create_dir(here.join("newer")).expect("made");
    fs::write(
        here.join("newer/scylla-sim.toml"),
        "version = 9\nflavor = \"scylla\"\nnodes = 3",
    )
    .expect("written");
    // A port that is taken on the second address, and not by a test beside this one on the first.
    let (_listener, taken) = std::iter::repeat_with(|| {
        let listener = std::net::TcpListener::bind("127.0.0.2:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        (listener, port)
    })
    .find(|(_, port)| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
    .expect("without end");
    let taken_by_another = format!("127.0.0.1:{taken}");
    let any = super::program::ANY_PORT;
    let cases: &[(&str, &[&str])] = &[
        ("data", &["--listen", &taken_by_another]),
        ("data", &["--listen", any, "--flavor", "cassandra"]),
        ("data", &["--listen", any, "--nodes", "1"]),
        ("data", &["--listen", any, "--nodes", "0"]),
        ("data", &["--listen", any, "--nodes", "65"]),
        ("data", &["--listen", "127.0.0.253:0"]),
        ("data", &["--listen", "192.0.2.1:9042"]),
        ("data", &["--listen", "localhost:9042"]),
        ("data", &["--commitlog-sync-period-ms", "0"]),
        ("data", &["--knob", "paxos_minds_truncation"]),
        ("data", &["--knob", "unsent_at_strike_percent"]),
        ("data", &["--knob", "soon"]),
        ("other", &["--listen", any]),
        ("file", &["--listen", any]),
        ("broken", &["--listen", any]),
        ("newer", &["--listen", any]),
    ];
    let mut told = String::new();
    for (name, arguments) in cases {
        let (code, text) = refused(&here.join(name), arguments);
        assert_eq!(code, Some(1), "{text}");
        let command = format!("$ scylla-sim --data {name} {}\n{text}\n\n", arguments.join(" "));
        told.push_str(
            &command
                .replace(&format!("{}/", here.display()), "")
                .replace(&taken.to_string(), "TAKEN")
                .replace(&(taken + 100).to_string(), "TAKEN+100"),
        );
    }
    insta::assert_snapshot!("refusals", told);
    assert_eq!(content(&data), before, "what is refused is not touched");
    assert_eq!(content(&here.join("other")).len(), 1);
}

#[test]
fn a_directory_has_one_user() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = Program::start(directory.path(), &[]);
    let (code, text) = refused(directory.path(), &["--listen", super::program::ANY_PORT]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("is in use by another scylla-sim (process ")
            && text.ends_with("stop that one, or give another directory with --data"),
        "{text}"
    );
    first.kill();
    drop(Program::start(directory.path(), &[]));
}

#[test]
fn the_start_tells_how_to_connect() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = Program::start(&directory.path().join("data"), &["--flavor", "cassandra"]);
    let port = program.addresses[0].port().to_string();
    let mut text = program
        .started
        .replace(&port, "PORT")
        .replace(&format!("{}/", directory.path().display()), "");
    for generation in &program.generations {
        text = text.replace(&generation.to_string(), "GENERATION");
    }
    insta::assert_snapshot!("started", text);
}
