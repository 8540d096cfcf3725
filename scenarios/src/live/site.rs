//! The processes of a run, and striking them: settlement and the engine are ours, database nodes are struck by the
//! configured command. It tells every blow as it falls, and puts everything back where it was however the run ends.
use super::control::{Blow, Control};
use super::health::{self, Seen, number};
use super::node_local::Node;
use super::process::Process;
use faults::live::{Hands, Struck, name};
use faults::plan::Target;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often settlement is asked for its numbers.
const WATCH: Duration = Duration::from_millis(50);
/// The same while the moment of a blow is waited for: a batch is on its way for a few milliseconds.
const WATCH_CLOSELY: Duration = Duration::from_millis(2);
/// Settlement answers about itself within so long of its start, or it is struck all the same: it may be waiting for the
/// database.
const UP_MAX: Duration = Duration::from_secs(20);
/// And then it is given so long to find its feet, read its WAL and send something.
const REST: Duration = Duration::from_secs(2);
/// Settlement that has not answered about itself for so long after its start waits for something: it takes a fraction of a
/// second otherwise.
const HELD_UP: Duration = Duration::from_secs(3);
/// A moment that is waited for does not come any more if nothing was acknowledged for so long: the bound of liveness.
const STANDSTILL_MAX: Duration = Duration::from_secs(180);
/// A program that ended by itself so often is not started again: settlement ends after 30 s without the database, so that is
/// five minutes of it.
const ENDED_MAX: usize = 10;
/// A node that is killed or frozen answers nothing; one that is not answers within this.
const STILL_ANSWERS: Duration = Duration::from_secs(2);
/// A node that was told to go on answers again within this: it may have much to catch up with.
const ANSWERS_AGAIN: Duration = Duration::from_secs(60);
/// So often a moment with events in flight is looked for before a blow.
const LOOKS_MAX: u32 = 50;
/// Counters that say that settlement had trouble with the database.
const TROUBLES: [&str; 5] = [
    "retries",
    "indeterminate",
    "not_applied",
    "windows_sent_again",
    "probes_stalled",
];

/// The processes.
#[derive(Clone)]
pub struct Site {
    shared: Arc<Shared>,
}

struct Shared {
    settlement: Process,
    engine: Process,
    control: Option<Control>,
    /// Where settlement answers.
    health: String,
    seen: Seen,
    /// Events that the engine will publish.
    events: u64,
    /// Where the engine keeps them.
    engine_log: PathBuf,
    /// Database nodes, in the order in which they are numbered.
    nodes: Vec<SocketAddr>,
    began: Mutex<Instant>,
    /// What is down or frozen just now, and whether it was killed.
    away: Mutex<BTreeMap<Target, bool>>,
    told: Mutex<Vec<String>>,
}

/// What a site is made of.
pub struct Parts {
    /// Settlement.
    pub settlement: Process,
    /// The engine.
    pub engine: Process,
    /// How nodes are struck.
    pub control: Option<Control>,
    /// Where settlement answers.
    pub health: String,
    /// Events that the engine will publish.
    pub events: u64,
    /// Where the engine keeps them.
    pub engine_log: PathBuf,
    /// Database nodes, in the order in which they are numbered.
    pub nodes: Vec<SocketAddr>,
}

impl Site {
    /// Nothing runs yet.
    pub fn new(parts: Parts) -> Site {
        Site {
            shared: Arc::new(Shared {
                settlement: parts.settlement,
                engine: parts.engine,
                control: parts.control,
                health: parts.health,
                seen: Seen::default(),
                events: parts.events,
                engine_log: parts.engine_log,
                nodes: parts.nodes,
                began: Mutex::new(Instant::now()),
                away: Mutex::default(),
                told: Mutex::default(),
            }),
        }
    }

    /// Settlement's process.
    pub fn settlement(&self) -> &Process {
        &self.shared.settlement
    }

    /// The engine's process.
    pub fn engine(&self) -> &Process {
        &self.shared.engine
    }

    /// What settlement has said of itself.
    pub fn seen(&self) -> &Seen {
        &self.shared.seen
    }

    /// ms since the start.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.began().elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// From when times count.
    pub fn began(&self) -> Instant {
        *self.shared.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets times count from `after` from now on.
    pub fn begin(&self, after: Duration) {
        *self.shared.began.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + after;
    }

    /// Tells a person, and keeps it for the report.
    pub fn tell(&self, text: &str) {
        let line = format!("{:>6.1} s  {text}", self.now_ms() as f64 / 1_000.0);
        say(&line);
        self.shared
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    /// Everything that was told.
    pub fn told(&self) -> Vec<String> {
        self.shared.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Watches settlement and the engine until it is aborted: asks for numbers, and mends what ended by itself.
    pub async fn watch(self) {
        loop {
            // What it shows is noted; an answer that does not come is no news.
            let _ = self.look().await;
            for process in [&self.shared.settlement, &self.shared.engine] {
                if let Some(news) = process.tend() {
                    self.tell(&news);
                }
            }
            sleep(WATCH).await;
        }
    }

    /// Completes when a program has ended by itself so often that it will not work any more; with its last words.
    pub async fn hopeless(&self) -> String {
        loop {
            for process in [&self.shared.settlement, &self.shared.engine] {
                let mut ended = process.ended();
                if ended.len() >= ENDED_MAX
                    && let Some(last) = ended.pop()
                {
                    return format!("{} times: {}", ended.len() + 1, last.text);
                }
            }
            sleep(WATCH).await;
        }
    }

    /// Settlement's numbers as they are now; None if it does not answer.
    async fn look(&self) -> Option<health::Numbers> {
        let start = self.shared.settlement.starts();
        let numbers = health::ask(&self.shared.health).await?;
        // What was answered while it was started anew may be of either start.
        if start != self.shared.settlement.starts() {
            return None;
        }
        self.shared.seen.note(start, numbers.clone());
        Some(numbers)
    }

    /// Settlement's last numbers, if the present start has given any.
    pub fn numbers(&self) -> Option<health::Numbers> {
        self.shared.seen.last(self.shared.settlement.starts())
    }

    fn away(&self) -> MutexGuard<'_, BTreeMap<Target, bool>> {
        self.shared.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings back every node that a run that was cut short has left down or frozen.
    pub async fn restore(&self) {
        let away = self.away().clone();
        let nodes = away.into_iter().filter(|(target, _)| matches!(target, Target::Node(_)));
        for (target, was_killed) in nodes {
            let back = if was_killed {
                self.start(target).await
            } else {
                self.resume(target).await
            };
            if let Err(why) = back {
                say(&format!("{} was not brought back: {why}", name(target)));
            }
        }
    }

    /// The last event that the engine has in its log.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn head(&self) -> Result<u64, String> {
        let path = &self.shared.engine_log;
        let log = std::fs::read(path).map_err(|error| format!("the engine's log {}: {error}", path.display()))?;
        // A log that is just being written may end in the middle of a record: those before it count.
        let facts = engine::log::read_facts(&log).map_err(|error| format!("the engine's log: {error}"))?;
        Ok(facts.last().map_or(0, |fact| fact.event.output_sequence.0))
    }

    /// Strikes a node, and looks whether it is struck: a command may say so and do nothing.
    async fn strike(&self, blow: Blow, node: u16) -> Result<(), String> {
        self.control()?.strike(blow, node).await?;
        let Some(address) = self.shared.nodes.get(usize::from(node)).copied() else {
            return Err(format!("the database has no node {}", node + 1));
        };
        let (is_away, patience) = match blow {
            Blow::Kill | Blow::Freeze => (true, STILL_ANSWERS),
            Blow::Resume | Blow::Revive => (false, ANSWERS_AGAIN),
        };
        let until = Instant::now() + patience;
        loop {
            if Node::answers(address, STILL_ANSWERS).await != is_away {
                return Ok(());
            }
            if Instant::now() >= until {
                let what = if is_away { "still answers" } else { "does not answer" };
                return Err(format!(
                    "node {} ({address}) {what} after `{}` has ended with success",
                    node + 1,
                    blow.word()
                ));
            }
            sleep(WATCH).await;
        }
    }

    fn control(&self) -> Result<&Control, String> {
        let control = self.shared.control.as_ref();
        control.ok_or_else(|| "no command is given that strikes database nodes".into())
    }

    /// What was on its way when settlement was struck, and in words. A blow that finds it idle shows little, so a moment
    /// with events in flight is looked for, for a fraction of a second.
    async fn struck(&self, target: Target) -> Struck {
        match target {
            Target::Settlement => {
                let mut numbers = health::Numbers::new();
                let mut in_flight = 0;
                for _ in 0..LOOKS_MAX {
                    numbers = self.look().await.unwrap_or_default();
                    let behind = number(&numbers, "received").saturating_sub(number(&numbers, "acknowledged"));
                    in_flight = number(&numbers, "in_flight").min(behind);
                    if in_flight > 0 {
                        break;
                    }
                    sleep(WATCH_CLOSELY).await;
                }
                let get = |name| number(&numbers, name);
                Struck {
                    seen: format!(
                        "received {}, acknowledged {}, durable {}, {in_flight} in flight",
                        get("received"),
                        get("acknowledged"),
                        get("durable")
                    ),
                    at_work: in_flight > 0,
                    in_flight: Some(in_flight),
                }
            }
            Target::Engine => {
                let (head, events) = (self.head().unwrap_or(0), self.shared.events);
                Struck {
                    seen: format!("published {head} of {events} events"),
                    at_work: head < events,
                    in_flight: None,
                }
            }
            Target::Node(_) => Struck::default(),
        }
    }

    fn tell_blow(&self, what: &str, target: Target, struck: &Struck) {
        let seen = if struck.seen.is_empty() {
            String::new()
        } else {
            format!(": {}", struck.seen)
        };
        self.tell(&format!("{what} {}{seen}", name(target)));
    }
}

impl Hands for Site {
    async fn kill(&self, target: Target) -> Result<Struck, String> {
        let struck = self.struck(target).await;
        self.away().insert(target, true);
        match target {
            Target::Settlement => self.shared.settlement.kill(),
            Target::Engine => self.shared.engine.kill(),
            Target::Node(node) => self.strike(Blow::Kill, node).await?,
        }
        self.tell_blow("kill -9", target, &struck);
        Ok(struck)
    }

    async fn start(&self, target: Target) -> Result<(), String> {
        match target {
            Target::Settlement => self.shared.settlement.start()?,
            Target::Engine => self.shared.engine.start()?,
            Target::Node(node) => self.strike(Blow::Revive, node).await?,
        }
        self.away().remove(&target);
        self.tell(&format!("{} is started again", name(target)));
        Ok(())
    }

    async fn freeze(&self, target: Target) -> Result<Struck, String> {
        let struck = self.struck(target).await;
        self.away().insert(target, false);
        match target {
            Target::Settlement => self.shared.settlement.signal(Signal::SIGSTOP)?,
            Target::Engine => self.shared.engine.signal(Signal::SIGSTOP)?,
            Target::Node(node) => self.strike(Blow::Freeze, node).await?,
        }
        self.tell_blow("SIGSTOP", target, &struck);
        Ok(struck)
    }

    async fn resume(&self, target: Target) -> Result<(), String> {
        match target {
            Target::Settlement => self.shared.settlement.signal(Signal::SIGCONT)?,
            Target::Engine => self.shared.engine.signal(Signal::SIGCONT)?,
            Target::Node(node) => self.strike(Blow::Resume, node).await?,
        }
        self.away().remove(&target);
        self.tell(&format!("SIGCONT {}", name(target)));
        Ok(())
    }

    async fn until_up(&self, target: Target) {
        // The engine is up as soon as it runs, and a node when the command that started it has ended.
        if target == Target::Engine {
            return;
        }
        let until = Instant::now() + UP_MAX;
        let is_up = || self.shared.settlement.running_for().is_some() && self.numbers().is_some();
        while !is_up() && Instant::now() < until {
            sleep(WATCH).await;
        }
        sleep(REST).await;
    }

    fn is_held_up(&self) -> bool {
        let running_for = self.shared.settlement.running_for();
        running_for.is_some_and(|running_for| running_for >= HELD_UP) && self.numbers().is_none()
    }

    async fn until_in_flight(&self, output_sequence: u64) -> bool {
        let mut acknowledged = 0;
        let mut last_progress = Instant::now();
        while last_progress.elapsed() < STANDSTILL_MAX {
            if let Some(numbers) = self.look().await {
                let get = |name| number(&numbers, name);
                if get("acknowledged") >= self.shared.events {
                    return false;
                }
                if get("acknowledged") > acknowledged {
                    acknowledged = get("acknowledged");
                    last_progress = Instant::now();
                }
                if get("received") >= output_sequence && get("in_flight") > 0 && get("received") > get("acknowledged") {
                    return true;
                }
            }
            sleep(WATCH_CLOSELY).await;
        }
        false
    }

    fn troubles(&self) -> u64 {
        TROUBLES.iter().map(|name| self.shared.seen.total(name)).sum()
    }
}

/// Tells a person. Nobody listening any more is no reason to stop: nodes may have to be brought back.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "  {line}");
}
