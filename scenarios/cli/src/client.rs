//! One worker process, as the command sees it: a line out, a line back. Knows the protocol and nothing about what the
//! jobs mean; scheduling is `pool`'s affair.
use crate::interrupt;
use crate::problem::Problem;
use crate::protocol::{
    Answer, Catalog, Checked, Failed, FromWorker, Job, Ready, ScenarioInfo, SeedJob, SeedReport, ToWorker, VERSION,
    Verdict, Work,
};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How a worker is started. The default is how it is always started outside the determinism proof.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Environment variables added to the command's own.
    pub environment: Vec<(String, String)>,
    /// Arguments.
    pub arguments: Vec<String>,
}

/// A running worker. Dropping it ends it: its input closes and it leaves.
pub struct Client {
    path: PathBuf,
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    next_id: u64,
    /// What the worker says it is.
    pub ready: Ready,
}

/// How a job ended.
#[derive(Debug)]
pub enum Reply {
    /// With an answer.
    Answer(Box<Answer>),
    /// The child hung or died; the worker lives.
    Failed(Failed),
    /// The worker itself is gone; this client is of no more use.
    Gone(String),
}

impl Client {
    /// Starts a worker and greets it.
    pub fn start(path: &Path, start: &Start) -> Result<Client, Problem> {
        let bad = |why: String| Problem::Worker {
            path: path.to_path_buf(),
            why,
        };
        // A process group of its own: Ctrl-C is for the command, which lets seeds that run come to their end.
        let mut child = Command::new(path)
            .args(&start.arguments)
            .envs(start.environment.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| bad(format!("cannot be started: {error}")))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(bad("has no pipes".into()));
        };
        let (to, from) = (Some(to), BufReader::new(from));
        let mut client = Client {
            path: path.to_path_buf(),
            child,
            to,
            from,
            next_id: 1,
            ready: Ready::default(),
        };
        match client.exchange(&ToWorker::Hello { version: VERSION }) {
            Ok(FromWorker::Ready(ready)) if ready.version == VERSION => client.ready = ready,
            Ok(FromWorker::Ready(ready)) => {
                return Err(bad(format!(
                    "speaks protocol version {}, this command {VERSION}",
                    ready.version
                )));
            }
            Ok(FromWorker::Refused { message }) => return Err(bad(message)),
            Ok(other) => return Err(bad(format!("answered the greeting with {other:?}"))),
            Err(why) => {
                return Err(bad(format!(
                    "ended without a greeting ({why}); its own words are above"
                )));
            }
        }
        Ok(client)
    }

    /// Does one piece of work.
    pub fn ask(&mut self, work: Work, limit_ms: u64) -> Reply {
        let id = self.next_id;
        self.next_id += 1;
        let line = ToWorker::Job(Box::new(Job { id, limit_ms, work }));
        match self.exchange(&line) {
            Ok(FromWorker::Result { id: answered, answer }) if answered == id => Reply::Answer(answer),
            Ok(FromWorker::Failed { failed, .. }) => Reply::Failed(failed),
            Ok(FromWorker::Refused { message }) => Reply::Answer(Box::new(Answer::Error { message })),
            Ok(other) => Reply::Gone(format!("answered job {id} with {other:?}")),
            Err(why) => Reply::Gone(why),
        }
    }

    /// As [`Client::ask`], for work that takes minutes: Ctrl-C, or the limit, closes the worker's input, and the worker
    /// then ends what it does, cleans up and answers. It is of no use afterwards.
    #[expect(
        clippy::disallowed_methods,
        reason = "this process simulates nothing; a thread waits for Ctrl-C and for real time to pass"
    )]
    pub fn ask_until_interrupted(&mut self, work: Work, limit_ms: u64) -> Reply {
        const LOOK: Duration = Duration::from_millis(100);
        let line = ToWorker::Job(Box::new(Job { id: 0, limit_ms, work }));
        let sent = self.send(&line);
        let Some(to) = self.to.take() else {
            return Reply::Gone("its input is closed".into());
        };
        let done = Arc::new(AtomicBool::new(false));
        let late = Arc::new(AtomicBool::new(false));
        let watch = std::thread::spawn({
            let (done, late) = (done.clone(), late.clone());
            move || {
                let mut left_ms = limit_ms;
                while !done.load(Ordering::Relaxed) && !interrupt::seen() && left_ms > 0 {
                    std::thread::sleep(LOOK);
                    left_ms = left_ms.saturating_sub(100);
                }
                late.store(left_ms == 0, Ordering::Relaxed);
                drop(to);
            }
        });
        let answer = sent.and_then(|()| self.receive());
        done.store(true, Ordering::Relaxed);
        let _ = watch.join();
        if late.load(Ordering::Relaxed) {
            return Reply::Failed(Failed::Hung { limit_ms });
        }
        match answer {
            Ok(FromWorker::Result { answer, .. }) => Reply::Answer(answer),
            Ok(FromWorker::Failed { failed, .. }) => Reply::Failed(failed),
            Ok(other) => Reply::Gone(format!("answered with {other:?}")),
            Err(why) => Reply::Gone(why),
        }
    }

    /// Runs one seed. Whatever goes wrong becomes a report with the seed in it.
    pub fn run_seed(&mut self, job: &SeedJob, limit_ms: u64) -> Ran {
        let (verdict, gone) = match self.ask(Work::Seed(job.clone()), limit_ms) {
            Reply::Answer(answer) => match *answer {
                Answer::Seed(report) => return Ran { report, gone: false },
                Answer::Error { message } => (Verdict::Error { message }, false),
                other => (
                    Verdict::Error {
                        message: format!("the worker answered {other:?}"),
                    },
                    false,
                ),
            },
            Reply::Failed(Failed::Hung { .. }) => (Verdict::Hung, false),
            Reply::Failed(Failed::Signal { signal }) => (
                Verdict::Error {
                    message: format!("the child that ran this seed died by signal {signal}"),
                },
                false,
            ),
            Reply::Failed(Failed::Exit { code }) => (
                Verdict::Error {
                    message: format!("the child that ran this seed exited with {code} and no answer"),
                },
                false,
            ),
            Reply::Gone(why) => (
                Verdict::Error {
                    message: format!("the worker was lost with this seed: {why}"),
                },
                true,
            ),
        };
        let scenario = scenario_name(&job.scenario);
        let report = SeedReport {
            seed: job.seed,
            scenario,
            design: job.design.clone(),
            verdict,
            ..SeedReport::default()
        };
        Ran { report, gone }
    }

    /// What the worker can run.
    pub fn catalog(&mut self) -> Result<Catalog, Problem> {
        match self.ask_plainly(Work::Catalog)? {
            Answer::Catalog(catalog) => Ok(catalog),
            other => Err(self.odd(&other)),
        }
    }

    /// Whether a job could run: the scenario as the worker understands it and the design's name.
    pub fn check(&mut self, job: &SeedJob) -> Result<(ScenarioInfo, String), Problem> {
        match self.ask_plainly(Work::Check(job.clone()))? {
            Answer::Checked(Checked::Fine { scenario, design }) => Ok((scenario, design)),
            Answer::Checked(Checked::Bad { message }) => Err(Problem::Argument(message)),
            other => Err(self.odd(&other)),
        }
    }

    /// Work other than a seed, whose failure is a problem and not a result.
    pub fn ask_plainly(&mut self, work: Work) -> Result<Answer, Problem> {
        const LIMIT_MS: u64 = 120_000;
        match self.ask(work, LIMIT_MS) {
            Reply::Answer(answer) => match *answer {
                Answer::Error { message } => Err(self.bad(message)),
                answer => Ok(answer),
            },
            Reply::Failed(failed) => Err(self.bad(format!("its child gave no answer: {failed:?}"))),
            Reply::Gone(why) => Err(self.bad(format!("is gone: {why}"))),
        }
    }

    /// Ends the worker and waits for it, so that the CPU time of all its children is counted.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.to.take());
        // It ends by itself once its input is closed; there is nothing to learn from how.
        let _ = self.child.wait();
    }

    fn bad(&self, why: String) -> Problem {
        Problem::Worker {
            path: self.path.clone(),
            why,
        }
    }

    fn odd(&self, answer: &Answer) -> Problem {
        self.bad(format!("answered with something else: {answer:?}"))
    }

    /// One line out, one line back. A line that does not parse is what a dying child left; the line after it says so.
    fn exchange(&mut self, line: &ToWorker) -> Result<FromWorker, String> {
        self.send(line)?;
        self.receive()
    }

    fn send(&mut self, line: &ToWorker) -> Result<(), String> {
        let mut text = serde_json::to_string(line).map_err(|error| error.to_string())?;
        text.push('\n');
        let to = self.to.as_mut().ok_or("its input is closed")?;
        to.write_all(text.as_bytes())
            .and_then(|()| to.flush())
            .map_err(|error| format!("its input broke: {error}"))
    }

    fn receive(&mut self) -> Result<FromWorker, String> {
        const FRAGMENTS: usize = 2;
        let mut answer = String::new();
        for _ in 0..FRAGMENTS {
            answer.clear();
            let n = self
                .from
                .read_line(&mut answer)
                .map_err(|error| format!("its output broke: {error}"))?;
            if n == 0 {
                return Err("it ended".into());
            }
            if let Ok(line) = serde_json::from_str(&answer) {
                return Ok(line);
            }
        }
        let shown: String = answer.chars().take(200).collect();
        Err(format!(
            "it wrote what is no line of protocol version {VERSION}: {shown}"
        ))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

/// A seed that was run, or tried.
pub struct Ran {
    /// What came out; of a seed that could not be run, at least the seed.
    pub report: SeedReport,
    /// The worker is gone.
    pub gone: bool,
}

/// What to call a scenario before a worker has looked at it.
pub fn scenario_name(source: &crate::protocol::ScenarioSource) -> String {
    match source {
        crate::protocol::ScenarioSource::Named(name) => name.clone(),
        crate::protocol::ScenarioSource::Inline { origin, .. } => Path::new(origin)
            .file_stem()
            .map_or_else(|| origin.clone(), |stem| stem.to_string_lossy().into_owned()),
    }
}
