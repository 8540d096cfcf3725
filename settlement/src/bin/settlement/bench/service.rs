//! One design as it runs in production, under measurement: `settlement::serve`, all of it, fed by a matching engine that
//! is none ([`super::engine`]). Events are given to it in rounds; between rounds it goes on running and has nothing to
//! do but to look whether what it wrote is durable.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use settlement::designs::{How, Settled};
use settlement::{Config, DesignName, Exit, Metrics, MetricsSnapshot, ServeError};
use settlement_events::Envelope;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::engine::Engine;
use super::error::BenchError;

/// How often it is looked whether settlement has room for more. Short against the time of a group fsync, so that it
/// never waits for us.
const LOOK: Duration = Duration::from_millis(2);

/// Events on their way to settlement or waiting in its memory, beyond twice of what it may have in flight: what a group
/// fsync covers. More would only wait, and be waited for at the end of a round.
const AHEAD: u64 = 64;

/// Without anything settled for so long, nothing will be.
const STALLED: Duration = Duration::from_secs(60);

/// Latencies in microseconds, up to ten minutes, to three digits.
const LATENCY_MAX_US: u64 = 600_000_000;

/// What the observer of a service sees.
struct Seen {
    settled: u64,
    given_up: u64,
    latencies: Histogram<u64>,
}

/// What is to be published, and what was.
#[derive(Default)]
struct Outbox {
    waiting: VecDeque<Envelope>,
    published: u64,
    failed: Option<String>,
}

/// A running service.
pub struct Service {
    /// Which design.
    pub design: DesignName,
    metrics: Arc<Metrics>,
    seen: Arc<Mutex<Seen>>,
    outbox: Arc<Mutex<Outbox>>,
    pump: JoinHandle<()>,
    serving: JoinHandle<Result<Exit, ServeError>>,
    shutdown: Option<oneshot::Sender<()>>,
}

/// What one round saw.
pub struct Round {
    /// From the first event published to the last one settled.
    pub elapsed: Duration,
    /// Events settled in it.
    pub settled: u64,
    /// Events given up in it.
    pub given_up: u64,
    /// From the place in flight to the answer, in microseconds.
    pub latencies: Histogram<u64>,
    /// Before.
    pub before: MetricsSnapshot,
    /// After.
    pub after: MetricsSnapshot,
    /// What was not published, for the next round.
    pub left: VecDeque<Envelope>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty one.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).unwrap_or_else(|_| unreachable!("the bounds are constants"))
}

impl Service {
    /// Starts settlement for a design, in a keyspace that is there, with its WAL in a directory of its own.
    pub async fn start(base: &Config, design: DesignName, keyspace: &str, wal: &Path) -> Result<Self, BenchError> {
        let engine = Engine::bind().await?;
        let config = Config {
            design,
            keyspace: Some(keyspace.to_owned()),
            publish_addr: engine.publish_addr.clone(),
            replay_addr: engine.replay_addr.clone(),
            data_dir: wal.join(design.as_str()),
            stream: "bench".to_owned(),
            epoch: settlement_events::Epoch(1),
            metrics_addr: None,
            ..base.clone()
        };
        let metrics = Arc::new(Metrics::new());
        let seen = Arc::new(Mutex::new(Seen {
            settled: 0,
            given_up: 0,
            latencies: histogram(),
        }));
        let outbox = Arc::new(Mutex::new(Outbox::default()));
        let (shutdown, asked) = oneshot::channel();
        let observer = {
            let seen = seen.clone();
            Arc::new(move |settled: &Settled| note(&seen, settled))
        };
        let until = async {
            // Asked to, or nobody is left who could ask.
            let _ = asked.await;
        };
        Ok(Self {
            design,
            serving: tokio::spawn(settlement::serve_observed(
                config,
                metrics.clone(),
                Some(observer),
                until,
            )),
            pump: tokio::spawn(pump(engine, outbox.clone(), seen.clone(), metrics.clone())),
            metrics,
            seen,
            outbox,
            shutdown: Some(shutdown),
        })
    }

    /// Gives it events until they are used up or the time is over, and waits until everything published is settled.
    pub async fn round(&mut self, events: VecDeque<Envelope>, time: Option<Duration>) -> Result<Round, BenchError> {
        let before = self.metrics.snapshot();
        let (settled_before, given_up_before) = {
            let mut seen = lock(&self.seen);
            seen.latencies.reset();
            (seen.settled, seen.given_up)
        };
        let began = Instant::now();
        lock(&self.outbox).waiting = events;
        let mut left = VecDeque::new();
        let mut moved = (settled_before, began);
        loop {
            sleep(LOOK).await;
            self.check().await?;
            let now = Instant::now();
            let (published, waiting) = {
                let mut outbox = lock(&self.outbox);
                if time.is_some_and(|time| now >= began + time) && !outbox.waiting.is_empty() {
                    left = std::mem::take(&mut outbox.waiting);
                }
                (outbox.published, outbox.waiting.len())
            };
            let settled = lock(&self.seen).settled;
            if waiting == 0 && settled >= published {
                break;
            }
            if settled > moved.0 {
                moved = (settled, now);
            } else if now >= moved.1 + STALLED {
                return Err(self.stalled());
            }
        }
        let seen = lock(&self.seen);
        Ok(Round {
            elapsed: began.elapsed(),
            settled: seen.settled - settled_before,
            given_up: seen.given_up - given_up_before,
            latencies: seen.latencies.clone(),
            before,
            after: self.metrics.snapshot(),
            left,
        })
    }

    /// Whether it still runs.
    async fn check(&mut self) -> Result<(), BenchError> {
        if let Some(why) = lock(&self.outbox).failed.take() {
            return Err(BenchError::Engine(why));
        }
        if !self.serving.is_finished() {
            return Ok(());
        }
        let design = self.design;
        Err(match (&mut self.serving).await {
            Ok(Err(source)) => BenchError::Serve {
                design,
                source: Box::new(source),
            },
            Ok(Ok(_)) | Err(_) => BenchError::Ended { design },
        })
    }

    fn stalled(&self) -> BenchError {
        let stalled = self.metrics.stalled_events.list();
        let why = stalled.first().map_or_else(
            || "nothing says why; RUST_LOG=settlement=debug tells more".to_owned(),
            |(sequence, why)| format!("event {sequence}: {why}"),
        );
        BenchError::Stalled {
            design: self.design,
            waited: STALLED,
            why,
        }
    }

    /// Ends it. What it wrote stays.
    pub async fn stop(mut self) {
        drop(self.shutdown.take());
        // However it ended: everything that was measured is settled.
        let _ = (&mut self.serving).await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.pump.abort();
        self.serving.abort();
    }
}

fn note(seen: &Mutex<Seen>, settled: &Settled) {
    let took = u64::try_from(settled.taken.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut seen = lock(seen);
    seen.settled += 1;
    match settled.how {
        How::GivenUp => seen.given_up += 1,
        How::Acknowledged | How::AlreadyThere => seen.latencies.saturating_record(took),
    }
}

/// Publishes what waits, as far as settlement has room for it, and the heartbeats.
async fn pump(mut engine: Engine, outbox: Arc<Mutex<Outbox>>, seen: Arc<Mutex<Seen>>, metrics: Arc<Metrics>) {
    loop {
        let in_flight = u64::try_from(metrics.in_flight_limit.get()).unwrap_or_default();
        let upto = lock(&seen).settled + AHEAD + 2 * in_flight;
        let mut result = engine.heartbeat().await;
        while result.is_ok() {
            let event = {
                let mut outbox = lock(&outbox);
                if outbox.published >= upto {
                    break;
                }
                let Some(event) = outbox.waiting.pop_front() else { break };
                outbox.published += 1;
                event
            };
            result = engine.publish(event).await;
        }
        if let Err(error) = result {
            lock(&outbox).failed = Some(error.to_string());
            return;
        }
        sleep(LOOK).await;
    }
}
