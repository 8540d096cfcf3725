//! Settlement lands every event of the matching engine in the database exactly once, whatever crashes, times out,
//! repeats or goes missing on the way. An ordinary tokio program: it takes its time, its network and its files from
//! tokio and nothing from anywhere else.
//!
//! The way of an event: feed -> WAL (fsynced before anything else) -> verified -> one batch -> acknowledged -> durable ->
//! checkpoint.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`], [`metrics`], [`error`] | what it is told, what it counts, why it ends |
//! | [`feed`] | receives what the matching engine publishes and replays |
//! | [`identity`] | duplicate, fork or new (rule 4) |
//! | [`wal`] | the write-ahead log |
//! | [`verify`] | does the event contradict itself or what came before (rule 5) |
//! | [`designs`] | how an event becomes rows; `ledger` is the default (rules 1-3) |
//! | [`outcome`] | what is known after a request to the database |
//! | [`watermarks`] | received, acknowledged, durable |
//! | [`durable`], [`probe`] | when acknowledged becomes durable (rule 8) |
//! | [`checkpoint`] | the checkpoint row (rule 9) |
//! | [`dead_letters`], [`skip`] | refused events (rule 7) |
//! | [`foreign`] | whether the keyspace's rows are those of our stream, written by settlement (rule 2) |
//! | [`startup`], [`pipeline`] | before the first event (rule 10), and the loop that runs all of this (rule 6) |
//! | [`resettle`], [`status`] | sending a range again; looking from outside |
//! | [`session`] | the connection and its settings |
//! | [`stalled`], [`missing`], [`ranges`] | the lists of events that fail often, and of those that nobody has; sets of events |

pub mod batch_limit;
pub mod checkpoint;
pub mod config;
pub mod dead_letters;
pub mod designs;
pub mod durable;
pub mod error;
pub mod feed;
pub mod foreign;
pub mod identity;
pub mod metrics;
pub mod missing;
pub mod outcome;
pub mod pipeline;
pub mod probe;
pub mod ranges;
pub mod resettle;
pub mod session;
pub mod skip;
pub mod stalled;
mod startup;
pub mod status;
pub mod verify;
pub mod wal;
pub mod watermarks;

use std::pin::pin;
use std::sync::Arc;

pub use config::{Config, DesignName};
pub use error::ServeError;
pub use metrics::{Metrics, MetricsSnapshot};
pub use pipeline::Exit;
pub use resettle::resettle;
pub use skip::skip;
pub use status::status;

/// Is told of every event that needs no more work, as soon as that is known. It is called in the loop that runs
/// everything, so it must be quick and must not block.
pub type Observer = Arc<dyn Fn(&designs::Settled) + Send + Sync>;

/// Settles until `shutdown` completes, or until something needs a person.
///
/// What was not acknowledged when it ends is sent again by the next run; nothing is flushed on purpose, so that an
/// orderly end and a crash are the same case.
///
/// # Errors
/// See [`ServeError`]. None of them loses anything: the WAL and the matching engine still hold what is not durable.
pub async fn serve(
    config: Config,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()>,
) -> Result<Exit, ServeError> {
    serve_observed(config, metrics, None, shutdown).await
}

/// The same, with somebody who looks.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve_observed(
    config: Config,
    metrics: Arc<Metrics>,
    observer: Option<Observer>,
    shutdown: impl Future<Output = ()>,
) -> Result<Exit, ServeError> {
    config.validate()?;
    let mut shutdown = pin!(shutdown);
    let started = tokio::select! {
        biased;
        () = &mut shutdown => return Ok(Exit::default()),
        started = startup::start(Arc::new(config), metrics) => started?,
    };
    pipeline::Pipeline::new(started, observer).run(shutdown).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_send<T: Send>(_: &T) {}

    #[test]
    fn serving_can_be_spawned() {
        let config = Config::new(Vec::new(), "", "", "", settlement_events::Registry::example());
        is_send(&serve(config.clone(), Arc::new(Metrics::new()), std::future::pending()));
        is_send(&skip(&config, settlement_events::OutputSequence(1), ""));
        is_send(&resettle(
            config.clone(),
            settlement_events::OutputSequence(1),
            Arc::new(Metrics::new()),
        ));
    }
}
