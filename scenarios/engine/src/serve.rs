//! The engine as a program: recovers its log, then carries out commands in groups (fsync, then publish), says where it is,
//! and serves replay. One loop owns everything; replay and intake are tasks of their own that share no more than the
//! memory of durable events and a queue of one.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use settlement_events::{Envelope, Heartbeat, OutputSequence, TimeMs};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep_until};

use crate::config::EngineConfig;
use crate::intake::{IntakeReply, IntakeServer, Submission};
use crate::log::{self, LogError};
use crate::log_file::LogFile;
use crate::publish::Publisher;
use crate::replay::{LogMemory, ReplayServer, SharedMemory, memory};
use crate::session::{RecoveryError, Session};
use crate::source::Source;
use crate::workload::WorkloadError;

/// Why an engine ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The workload cannot be generated.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The configuration contradicts itself.
    #[error("the configuration: {0}")]
    Config(String),
    /// The log cannot be read.
    #[error("{}: {source}", path.display())]
    Log {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: LogError,
    },
    /// The log cannot be continued.
    #[error("{}: {source}", path.display())]
    Recovery {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<RecoveryError>,
    },
    /// The disk.
    #[error(
        "{doing} {} failed: {source}. data_dir must be on a disk that works and has room, and this user must be allowed to \
         write it. Nothing that is not on the disk was published or answered: started again, the engine goes on where its \
         log ends",
        path.display()
    )]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// An address cannot be bound.
    #[error(
        "{what} cannot be bound to {address}: {detail}. Is another engine running, or the address not this machine's?"
    )]
    Bind {
        /// What for.
        what: &'static str,
        /// The address.
        address: String,
        /// What happened.
        detail: String,
    },
    /// A socket failed.
    #[error("{doing}: {detail}")]
    Socket {
        /// What was tried.
        doing: &'static str,
        /// What happened.
        detail: String,
    },
}

impl EngineError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn bind(what: &'static str, address: &str, error: &zeromq::ZmqError) -> Self {
        Self::Bind {
            what,
            address: address.to_owned(),
            detail: error.to_string(),
        }
    }

    pub(crate) fn socket(doing: &'static str, error: &zeromq::ZmqError) -> Self {
        Self::Socket {
            doing,
            detail: error.to_string(),
        }
    }
}

/// How an engine ended when it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineExit {
    /// The last durable event.
    pub head: Heartbeat,
    /// Whether the source had nothing more to give.
    pub source_ended: bool,
}

/// Runs an engine until it fails, or until its source ends if the configuration says so.
pub async fn serve(config: EngineConfig) -> Result<EngineExit, EngineError> {
    serve_until(config, pending()).await
}

/// The same, until `shutdown` completes: the group under way is finished, nothing is lost.
pub async fn serve_until(config: EngineConfig, shutdown: impl Future<Output = ()>) -> Result<EngineExit, EngineError> {
    config.check()?;
    config.controls.status.started();
    let mut engine = Engine::start(config).await?;
    let exit = engine.run(shutdown).await?;
    tracing::info!(target: "engine", head = exit.head.head_sequence.0, "stopped");
    Ok(exit)
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Engine {
    config: EngineConfig,
    session: Session,
    log: LogFile,
    shared: SharedMemory,
    publisher: Publisher,
    submissions: mpsc::Receiver<Submission>,
    _servers: Vec<Task>,
    started: Instant,
    /// Events made by the source since this start, which is what pacing counts.
    paced_events: u64,
    next_tick: Instant,
    next_heartbeat: Instant,
    /// Events of the group under way.
    group: Vec<Envelope>,
    /// Clients that wait for the group under way.
    waiting: Vec<(Submission, IntakeReply)>,
    source_ended: bool,
}

impl Engine {
    async fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let mut session = Session::new(config.registry.clone(), &config.source, &config.contradictions)?;
        let (log, entries) = recover(&config, &mut session).await?;
        let head = session.head();
        let mut kept = LogMemory::new(
            Heartbeat {
                head_sequence: OutputSequence(0),
                ..head
            },
            config.retention_events,
        );
        kept.extend(entries, head);
        let shared: SharedMemory = Arc::new(Mutex::new(kept));
        let status = &config.controls.status;
        status.durable(head.head_sequence, session.exchange().trades());
        status.ended(false);
        let publisher = Publisher::bind(&config.publish_addr).await?;
        let (submissions, servers) = start_servers(&config, &shared).await?;
        tracing::info!(target: "engine", head = head.head_sequence.0, "started");
        let now = Instant::now();
        Ok(Self {
            session,
            log,
            shared,
            publisher,
            submissions,
            _servers: servers,
            started: now + Duration::from_millis(config.pacing.start_after_ms),
            paced_events: 0,
            next_tick: now + Duration::from_millis(config.pacing.start_after_ms),
            next_heartbeat: now,
            group: Vec::new(),
            waiting: Vec::new(),
            source_ended: false,
            config,
        })
    }

    async fn run(&mut self, shutdown: impl Future<Output = ()>) -> Result<EngineExit, EngineError> {
        tokio::pin!(shutdown);
        loop {
            if self.source_ended && self.config.exit_when_done {
                return Ok(self.exit());
            }
            let wake = if self.source_ended {
                self.next_heartbeat
            } else {
                self.next_tick.min(self.next_heartbeat)
            };
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(self.exit()),
                Some(submission) = self.submissions.recv() => self.submit(submission),
                () = sleep_until(wake) => {}
            }
            let now = Instant::now();
            if !self.source_ended && now >= self.next_tick {
                self.step_source(now);
            }
            self.commit().await?;
            if now >= self.next_heartbeat {
                self.next_heartbeat = now + Duration::from_millis(self.config.heartbeat_ms);
                let head = memory(&self.shared).head();
                self.publisher.heartbeat(head).await?;
            }
        }
    }

    fn exit(&self) -> EngineExit {
        EngineExit {
            head: memory(&self.shared).head(),
            source_ended: self.source_ended,
        }
    }

    /// Carries out as many of the source's commands as are due.
    fn step_source(&mut self, now: Instant) {
        let pacing = self.config.pacing;
        self.next_tick = now + Duration::from_millis(pacing.tick_ms);
        let elapsed_us = u64::try_from(now.duration_since(self.started).as_micros()).unwrap_or(u64::MAX);
        let tick_us = pacing.tick_ms.saturating_mul(1_000);
        let due = match pacing.events_per_s {
            0 => u64::MAX,
            rate => elapsed_us.saturating_add(tick_us).saturating_mul(rate) / 1_000_000,
        };
        let mut made = 0;
        while self.paced_events < due && made < pacing.group_events_max {
            let Some(record) = self.session.step() else { break };
            let events = record.entries.len() as u64;
            self.paced_events += events;
            made += events;
            self.log.append(&record);
            self.group.extend(record.entries);
        }
    }

    fn submit(&mut self, submission: Submission) {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(0);
        let at = TimeMs(self.config.clock_base_ms.saturating_add(elapsed_ms));
        match self.session.intake(at, submission.command) {
            Ok(record) => {
                let reply = IntakeReply::accepted(&record.entries, self.session.head().head_sequence);
                self.log.append(&record);
                self.group.extend(record.entries);
                self.waiting.push((submission, reply));
            }
            Err(rejection) => {
                let reply = IntakeReply::Rejected {
                    reason: rejection.to_string(),
                };
                self.waiting.push((submission, reply));
            }
        }
    }

    /// Makes the group durable, then lets others know of it.
    async fn commit(&mut self) -> Result<(), EngineError> {
        if !self.group.is_empty() {
            self.log.commit().await?;
            let head = self.session.head();
            self.config
                .controls
                .status
                .durable(head.head_sequence, self.session.exchange().trades());
            memory(&self.shared).extend(self.group.iter().cloned(), head);
            for envelope in std::mem::take(&mut self.group) {
                self.publisher.event(envelope).await?;
            }
            self.config.controls.status.published(head.head_sequence);
        }
        for (submission, reply) in self.waiting.drain(..) {
            // A client that has gone needs no answer.
            let _ = submission.reply.send(reply);
        }
        if self.session.source_ended() && !self.source_ended {
            self.source_ended = true;
            self.config.controls.status.ended(true);
            tracing::info!(target: "engine", head = self.session.head().head_sequence.0, "source ended");
        }
        Ok(())
    }
}

/// Opens the log and brings the session to where it ends. Returns the last events, as many as are retained.
async fn recover(config: &EngineConfig, session: &mut Session) -> Result<(LogFile, VecDeque<Envelope>), EngineError> {
    let (mut file, bytes) = LogFile::open(&config.data_dir).await?;
    let path = config.data_dir.join(crate::log_file::LOG_FILE);
    let scan = log::scan(&bytes).map_err(|source| EngineError::Log {
        path: path.clone(),
        source,
    })?;
    file.settle(&scan, config.identity(), &config.data_dir).await?;
    let mut kept = VecDeque::new();
    for logged in &scan.records {
        let record = session.repeat(logged).map_err(|source| EngineError::Recovery {
            path: path.clone(),
            source: Box::new(source),
        })?;
        kept.extend(record.entries);
        let surplus = kept.len().saturating_sub(config.retention_events);
        kept.drain(..surplus);
    }
    if !scan.records.is_empty() {
        let head = session.head().head_sequence.0;
        tracing::info!(target: "engine", head, records = scan.records.len(), "recovered");
    }
    Ok((file, kept))
}

async fn start_servers(
    config: &EngineConfig,
    shared: &SharedMemory,
) -> Result<(mpsc::Receiver<Submission>, Vec<Task>), EngineError> {
    let replay = ReplayServer::bind(&config.replay_addr, shared.clone(), config.reply_entries_max).await?;
    let mut servers = vec![Task(tokio::spawn(replay.run()))];
    let (sender, receiver) = mpsc::channel(1);
    if let Some(address) = &config.intake_addr {
        let intake = IntakeServer::bind(address, sender).await?;
        servers.push(Task(tokio::spawn(intake.run())));
    }
    Ok((receiver, servers))
}

impl EngineConfig {
    /// What cannot be right whatever the machine.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let wrong = |detail: &str| Err(EngineError::Config(detail.to_owned()));
        if self.heartbeat_ms == 0 {
            return wrong("heartbeat_ms = 0: a heartbeat needs an interval");
        }
        if self.retention_events == 0 || self.reply_entries_max == 0 {
            return wrong("retention_events and reply_entries_max must be at least 1");
        }
        if self.pacing.group_events_max == 0 {
            return wrong("pacing.group_events_max = 0: a group has at least one event");
        }
        if self.pacing.tick_ms == 0 && self.pacing.events_per_s > 0 {
            return wrong("pacing.tick_ms = 0: a paced source needs a tick");
        }
        match &self.source {
            Source::Tape(_) if self.intake_addr.is_some() => {
                wrong("a tape is replayed exactly as it is: it cannot have an intake beside it")
            }
            Source::Tape(tape) if tape.registry != self.registry => {
                wrong("a tape brings its own registry: use that one (`engine tape FILE --registry` prints it)")
            }
            _ => Ok(()),
        }
    }
}
