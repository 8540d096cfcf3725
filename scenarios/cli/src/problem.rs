//! Everything that can stop the command before or beside a verdict. Each says what happened, to what, and what to do; all
//! of them end in exit code 1. A violated invariant is not a problem but a result.
use std::io::Write;
use std::path::PathBuf;

/// Why the command cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A text that is no seed.
    #[error("{text:?} is not a seed: {why}")]
    Seed {
        /// As given.
        text: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// Arguments that do not go together or name what is not there.
    #[error("{0}")]
    Argument(String),
    /// A file that cannot be read or written.
    #[error("cannot {what} {}: {error}", path.display())]
    File {
        /// `read`, `write`, …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// A file that is not there, or not a file.
    #[error("{} {}: {hint}", path.display(), if path.exists() { "is not a file" } else { "is not there" })]
    NoFile {
        /// Which.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// Standard output cannot be written.
    #[error(
        "the report cannot be written to standard output: {0}. What was found out is in the exit code and in the saved files"
    )]
    Output(std::io::Error),
    /// A file whose content is not what it should be.
    #[error("{}: {why}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The command was not started in a checkout.
    #[error(
        "there is no Quench workspace in {} or above it: run inside the repository, or set QUENCH_WORKER to a built worker",
        from.display()
    )]
    NoWorkspace {
        /// Where the search began.
        from: PathBuf,
    },
    /// The worker cannot be built.
    #[error("cannot build {what} (the command was: {command}): {why}")]
    Build {
        /// For example `the worker (release)`.
        what: String,
        /// As one would type it.
        command: String,
        /// What to do.
        why: String,
    },
    /// The worker is there and does not work.
    #[error("the worker {}: {why}", path.display())]
    Worker {
        /// Its path.
        path: PathBuf,
        /// What happened and what to do.
        why: String,
    },
    /// Another program that is needed failed.
    #[error("{program}: {why}")]
    Program {
        /// For example `git apply`.
        program: String,
        /// What it said.
        why: String,
    },
    /// Ctrl-C.
    #[error("interrupted before there was anything to report")]
    Interrupted,
}

/// Writes a report to standard output. A reader that has gone (`| head`) is no problem; a full disk is.
pub fn say(text: &str) -> Result<(), Problem> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Problem::Output(error)),
        _ => Ok(()),
    }
}

impl Problem {
    /// For `map_err` on file operations.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Problem {
        let path = path.into();
        move |error| Problem::File { what, path, error }
    }
}
