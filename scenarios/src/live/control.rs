//! The command that strikes database nodes: `COMMAND kill|freeze|resume|revive N`, N from 1. Whoever runs the database
//! knows how to do that; this file only calls it, with a bound, and keeps what it says.
use super::process::Process;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A node of a large cluster may take minutes until it serves again.
const LIMIT: Duration = Duration::from_secs(300);

/// How to strike nodes.
#[derive(Clone)]
pub struct Control {
    command: String,
    /// Where the command is run: as typed, it means the directory that it was typed in.
    here: PathBuf,
    logs: PathBuf,
}

/// What can be done to a node.
#[derive(Clone, Copy)]
pub enum Blow {
    /// kill -9
    Kill,
    /// SIGSTOP
    Freeze,
    /// SIGCONT
    Resume,
    /// Start again, until it serves.
    Revive,
}

impl Blow {
    /// The command's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Blow::Kill => "kill",
            Blow::Freeze => "freeze",
            Blow::Resume => "resume",
            Blow::Revive => "revive",
        }
    }
}

impl Control {
    /// `command` as a shell understands it; what it says goes to a file in `logs`.
    pub fn new(command: &str, logs: &Path) -> Control {
        Control {
            command: command.into(),
            here: std::env::current_dir().unwrap_or_default(),
            logs: logs.into(),
        }
    }

    /// Strikes node `node`, from 0, and waits until that is done.
    ///
    /// # Errors
    /// The command fails or does not end; with its last words.
    pub async fn strike(&self, blow: Blow, node: u16) -> Result<(), String> {
        let script = format!("{} {} {}", self.command, blow.word(), node + 1);
        let shell =
            Process::new("node-control", Path::new("/bin/sh"), &["-c", &script], &self.logs).running_in(&self.here);
        let ended = shell.run_to_end(LIMIT).await;
        ended.map_err(|why| format!("`{} {} {}` failed: {why}", self.command, blow.word(), node + 1))
    }
}
