//! One program as a process: started with its words in a log file, watched, struck, stopped. It leads a process group of
//! its own, so that Ctrl-C at the terminal reaches only whoever runs the scenario, and it is killed when this value goes.
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A program that ended by itself is started again after this, as an init system would.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// How often an end is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// An end that is worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// In words, with the program's last ones.
    pub text: String,
    /// A signal or a panic, or anything but success where it was asked to end: never what a program may do, whatever the
    /// database does.
    pub is_crash: bool,
}

/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;

fn is_crash(status: ExitStatus) -> bool {
    status.code().is_none_or(|code| code == PANICKED)
}

/// A program and its process, if it runs.
pub struct Process {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    /// Where it runs, if not in `directory`.
    here: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    /// It is meant to run.
    wanted: bool,
    starts: u32,
    /// When it was started last.
    started: Option<Instant>,
    /// How it ended by itself, or badly when it was asked to, each time.
    ended: Vec<End>,
    restart_at: Option<Instant>,
}

impl Process {
    /// A program that does not run yet. Its log is `<name>.log` in `directory`, which is also where it runs.
    pub fn new(name: &'static str, program: &Path, arguments: &[&str], directory: &Path) -> Process {
        Process {
            name,
            program: program.into(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            directory: directory.into(),
            here: None,
            state: Mutex::default(),
        }
    }

    /// The same, running in another directory than its log is in.
    #[must_use]
    pub fn running_in(mut self, here: &Path) -> Process {
        self.here = Some(here.into());
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program's log file.
    pub fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.name))
    }

    /// Starts it.
    ///
    /// # Errors
    /// The program or its log cannot be opened.
    pub fn start(&self) -> Result<(), String> {
        let mut state = self.lock();
        state.wanted = true;
        self.spawn(&mut state)
    }

    fn spawn(&self, state: &mut State) -> Result<(), String> {
        let log = self.log();
        let failed = |what: &Path, error: std::io::Error| {
            format!("{} cannot be started: {}: {error}", self.name, what.display())
        };
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.map_err(|error| failed(&log, error))?;
        let errors = file.try_clone().map_err(|error| failed(&log, error))?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .current_dir(self.here.as_ref().unwrap_or(&self.directory))
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| failed(&self.program, error))?;
        state.child = Some(child);
        state.starts += 1;
        state.started = Some(Instant::now());
        state.restart_at = None;
        Ok(())
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.lock().starts
    }

    /// For how long it has been running; None if it does not run.
    pub fn running_for(&self) -> Option<Duration> {
        let state = self.lock();
        state.child.as_ref()?;
        state.started.map(|started| started.elapsed())
    }

    /// How it ended by itself, or badly when it was asked to, each time.
    pub fn ended(&self) -> Vec<End> {
        self.lock().ended.clone()
    }

    /// Notices an end that nobody asked for, and starts it again a little later. To be called every so often. Returns what
    /// is new, in words.
    pub fn tend(&self) -> Option<String> {
        let mut state = self.lock();
        if !state.wanted {
            return None;
        }
        if let Some(at) = state.restart_at {
            if Instant::now() < at {
                return None;
            }
            return match self.spawn(&mut state) {
                Ok(()) => Some(format!("{} is started again", self.name)),
                Err(error) => Some(error),
            };
        }
        let status = state.child.as_mut()?.try_wait().ok().flatten()?;
        let why = self.note_end(&mut state, status);
        state.child = None;
        state.restart_at = Some(Instant::now() + RESTART_AFTER);
        Some(why)
    }

    fn note_end(&self, state: &mut State, status: ExitStatus) -> String {
        let text = format!("{} ended by itself ({status}): {}", self.name, last_words(&self.log()));
        state.ended.push(End {
            text: text.clone(),
            is_crash: is_crash(status),
        });
        text
    }

    /// kill -9, and waits until it is gone. Nothing if it does not run.
    pub fn kill(&self) {
        let mut state = self.lock();
        let was_wanted = std::mem::take(&mut state.wanted);
        state.restart_at = None;
        if let Some(mut child) = state.child.take() {
            // Dead already, and nobody has noticed: that was its own doing and not this blow's.
            if let (true, Ok(Some(status))) = (was_wanted, child.try_wait()) {
                self.note_end(&mut state, status);
            }
            // The whole group: a command that strikes nodes has children of its own. It may have ended a moment ago; then
            // there is nothing to kill.
            if let Ok(group) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = child.wait();
        }
    }

    /// Sends a signal to the running process.
    ///
    /// # Errors
    /// It does not run, or may not be signalled.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        let state = self.lock();
        let child = state
            .child
            .as_ref()
            .ok_or_else(|| format!("{} does not run", self.name))?;
        let pid = i32::try_from(child.id()).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(pid), signal).map_err(|errno| format!("{signal} to {}: {errno}", self.name))
    }

    /// SIGTERM, and waits until it has ended in good order.
    ///
    /// # Errors
    /// It does not end within `limit`, or not with success; it is gone in any case.
    pub async fn stop(&self, limit: Duration) -> Result<(), String> {
        self.lock().wanted = false;
        if self.lock().child.is_none() {
            return Ok(());
        }
        self.signal(Signal::SIGTERM)?;
        let status = self.wait(limit).await;
        self.kill();
        let text = match status {
            Some(status) if status.success() => return Ok(()),
            None => format!("{} did not end within {} s after SIGTERM", self.name, limit.as_secs()),
            Some(status) => format!(
                "{} ended with {status} after SIGTERM: {}",
                self.name,
                last_words(&self.log())
            ),
        };
        self.lock().ended.push(End {
            text: text.clone(),
            is_crash: true,
        });
        Err(text)
    }

    /// Starts it and waits until it has ended with success: for programs that do one thing.
    ///
    /// # Errors
    /// It cannot be started, takes longer than `limit`, or fails; with its last words.
    pub async fn run_to_end(&self, limit: Duration) -> Result<(), String> {
        self.spawn(&mut self.lock())?;
        let status = self.wait(limit).await;
        self.kill();
        match status {
            Some(status) if status.success() => Ok(()),
            Some(_) => Err(last_words(&self.log())),
            None => Err(format!(
                "{} did not end within {} s: {}",
                self.name,
                limit.as_secs(),
                last_words(&self.log())
            )),
        }
    }

    async fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            let status = self
                .lock()
                .child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            if status.is_some() {
                return status;
            }
            sleep(LOOK).await;
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last line of a log: programs say last why they end.
fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.unwrap_or("it said nothing").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, directory: &Path) -> Process {
        Process::new("shell", Path::new("/bin/sh"), &["-c", script], directory)
    }

    #[tokio::test]
    async fn an_end_that_nobody_asked_for_is_told_with_the_last_words_and_mended() {
        let directory = tempfile::tempdir().expect("a directory");
        let process = shell("echo too bad; exit 3", directory.path());
        process.start().expect("a shell");
        let mut told = None;
        while told.is_none() {
            sleep(LOOK).await;
            told = process.tend();
        }
        assert_eq!(told.as_deref(), Some("shell ended by itself (exit status: 3): too bad"));
        let mut again = None;
        while again.is_none() {
            sleep(LOOK).await;
            again = process.tend();
        }
        assert_eq!(again.as_deref(), Some("shell is started again"));
        assert_eq!((process.starts(), process.ended().len()), (2, 1));
    }

    #[tokio::test]
    async fn a_killed_process_is_gone_and_not_mended() {
        let directory = tempfile::tempdir().expect("a directory");
        let process = shell("sleep 1000", directory.path());
        process.start().expect("a shell");
        process.signal(Signal::SIGSTOP).expect("it runs");
        assert!(process.running_for().is_some());
        process.kill();
        assert!(process.running_for().is_none());
        assert!(process.tend().is_none() && process.ended().is_empty());
        assert!(process.signal(Signal::SIGCONT).is_err());
    }

    #[tokio::test]
    async fn stopping_tells_good_order_from_bad() {
        let directory = tempfile::tempdir().expect("a directory");
        let limit = Duration::from_secs(20);
        let good = shell("trap 'exit 0' TERM; while :; do sleep 0.05; done", directory.path());
        good.start().expect("a shell");
        sleep(Duration::from_millis(300)).await;
        assert_eq!(good.stop(limit).await, Ok(()));
        let deaf = shell("trap '' TERM; while :; do sleep 0.05; done", directory.path());
        deaf.start().expect("a shell");
        sleep(Duration::from_millis(300)).await;
        let error = deaf
            .stop(Duration::from_millis(500))
            .await
            .expect_err("it does not listen");
        assert!(error.contains("did not end within"), "{error}");
        assert!(shell("exit 4", directory.path()).run_to_end(limit).await.is_err());
        assert_eq!(shell("exit 0", directory.path()).run_to_end(limit).await, Ok(()));
    }
}
