//! The program as a child process, killed when a test ends, however it ends.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running scylla-sim.
pub struct Program {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    /// What it said until it served.
    pub started: String,
    /// Its nodes.
    pub addresses: Vec<SocketAddr>,
    /// Their generations.
    pub generations: Vec<u32>,
}

/// A port that the system chooses, so that tests do not meet.
pub const ANY_PORT: &str = "127.0.0.1:0";

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scylla-sim"));
    command.arg("--data").arg(data).args(arguments).stdin(Stdio::null());
    command
}

impl Program {
    /// Starts it and waits until it serves.
    pub fn start(data: &Path, arguments: &[&str]) -> Program {
        let mut child = command(data, &[&["--listen", ANY_PORT], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut program = Program {
            child,
            output,
            started: String::new(),
            addresses: Vec::new(),
            generations: Vec::new(),
        };
        while !program.started.contains("\nserving") {
            let length = program.output.read_line(&mut program.started).expect("UTF-8");
            if length == 0 {
                panic!("it ended: {}", program.errors());
            }
        }
        for line in program.started.lines() {
            if let Some((_, rest)) = line.split_once(": 127.0.0.")
                && let Some((address, generation)) = rest.split_once(", generation ")
            {
                program
                    .addresses
                    .push(format!("127.0.0.{address}").parse().expect("an address"));
                program.generations.push(generation.parse().expect("a number"));
            }
        }
        program
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(errors) = &mut self.child.stderr {
            errors.read_to_string(&mut text).expect("UTF-8");
        }
        text
    }

    /// kill -9. Returns what it said on standard error.
    pub fn kill(mut self) -> String {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited for");
        self.errors()
    }

    /// SIGTERM or SIGINT. Returns its exit code and what it said since it served.
    pub fn signal(mut self, name: &str) -> (Option<i32>, String) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()));
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("UTF-8");
        (self.child.wait().expect("waited for").code(), text)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Runs it where it cannot start: exit code and what it said on standard error.
pub fn refused(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(data, arguments).output().expect("it can be started");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    (
        output.status.code(),
        String::from_utf8(output.stderr).expect("UTF-8").trim_end().to_owned(),
    )
}
