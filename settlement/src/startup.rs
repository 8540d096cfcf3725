//! What happens before the first event: connect, check that the keyspace with its rows and the WAL are the right ones
//! (in this order, and nothing is changed before all of that is known), find out how far
//! the stream is durable. Everything after that point is sent again by the pipeline, whatever the last run managed to
//! do: an acknowledgement that this process did not live to note counts for nothing.
//!
//! A WAL that is lost or too old is no error: the feed begins after what is durable and the matching engine replays the
//! rest; what it does not keep any more is listed, exactly, as missing (rule 10).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schema::keys;
use scylla::client::session::Session;
use settlement_events::OutputSequence;
use tokio::time::{Instant, sleep};

use crate::checkpoint::{CheckpointError, Checkpoints};
use crate::config::Config;
use crate::dead_letters::{DeadLetter, DeadLetterError, DeadLetters};
use crate::designs::prepare::Preparer;
use crate::designs::{Context, Design, Promise};
use crate::durable::{Durability, Verdict};
use crate::error::ServeError;
use crate::feed::{Feed, FeedConfig};
use crate::foreign::{self, ForeignError, Identities};
use crate::identity::Identity;
use crate::metrics::{Metrics, set_sequence};
use crate::probe;
use crate::session;
use crate::wal::{Position, Recovered, StreamId, Wal};

/// Everything the pipeline works with.
pub(crate) struct Started {
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    pub session: Arc<Session>,
    pub design: Arc<Design>,
    pub checkpoints: Arc<Checkpoints>,
    pub dead_letters: DeadLetters,
    /// The events that were refused before, as far as they are not settled.
    pub refused_before: BTreeMap<OutputSequence, DeadLetter>,
    pub wal: Wal,
    pub feed: Feed,
    pub identity: Identity,
    /// The first events behind the checkpoint that are settled already: what comes must be the same.
    pub settled_before: Identities,
    /// Everything up to here is durable; everything after it is sent again.
    pub durable: Position,
    /// `None` for designs that take an acknowledgement for enough.
    pub durability: Option<Durability>,
}

/// Starts. Takes as long as the configuration's patience with the database.
pub(crate) async fn start(config: Arc<Config>, metrics: Arc<Metrics>) -> Result<Started, ServeError> {
    let session = Arc::new(session::connect(&config).await?);
    let defs: Arc<[_]> = schema::check(&session, &config.target()).await?.into();
    let preparer = Preparer {
        session: &session,
        keyspace: config.keyspace(),
        defs: &defs,
    };
    let checkpoints = Checkpoints::prepare(session.clone(), preparer, &config.stream, config.generation).await?;
    let context = Context {
        session: session.clone(),
        config: config.clone(),
        metrics: metrics.clone(),
    };
    let design = Design::prepare(context, &defs).await?;

    let checkpoint = patiently(&config, || checkpoints.read(), CheckpointError::is_transient).await?;
    patiently(
        &config,
        || foreign::check(&session, &config, &defs),
        ForeignError::is_transient,
    )
    .await?;
    let settled_before = if design.has_settled_events() {
        settled_before(&config, &session, checkpoint).await?
    } else {
        Identities::new()
    };
    let (wal, recovered, durable) = open_wal(&config, &session, checkpoint).await?;
    foreign::compare(&config, &settled_before, |sequence| wal.digest_at(sequence))?;
    let dead_letters = DeadLetters::new(session.clone(), config.keyspace(), defs, config.generation);
    let lists_settled = design.has_settled_events().then_some(&*session);
    let refused_before = refused_after(&config, lists_settled, &dead_letters, durable.seq, wal.received().seq).await?;
    let durability = match design.promise() {
        Promise::Durable => Some(first_probe(&config, &session, &metrics, durable.seq).await),
        Promise::Acknowledged => None,
    };

    set_sequence(&metrics.received, wal.received().seq);
    set_sequence(&metrics.acknowledged, durable.seq);
    set_sequence(&metrics.durable, durable.seq);
    let feed = Feed::connect(feed_config(&config, &wal, &recovered));
    let identity = recovered_chain(&wal, &recovered).await?;
    Ok(Started {
        checkpoints: Arc::new(checkpoints),
        design: Arc::new(design),
        refused_before,
        config,
        metrics,
        session,
        dead_letters,
        wal,
        feed,
        identity,
        settled_before,
        durable,
        durability,
    })
}

/// The events behind the durable one that are refused. Those that were received here, and those whose bucket holds anything:
/// whoever has lost the WAL has received nothing, and will receive again what was refused.
async fn refused_after(
    config: &Config,
    lists_settled: Option<&Session>,
    store: &DeadLetters,
    durable: OutputSequence,
    received: OutputSequence,
) -> Result<BTreeMap<OutputSequence, DeadLetter>, ServeError> {
    let mut refused = BTreeMap::new();
    let mut bucket = keys::bucket(durable);
    loop {
        let before = OutputSequence((bucket * keys::BUCKET_SEQUENCES).saturating_sub(1));
        let first = OutputSequence(bucket * keys::BUCKET_SEQUENCES);
        let found = patiently(config, || store.read(first, first), DeadLetterError::is_transient).await?;
        let mut is_known = !found.is_empty() || bucket <= keys::bucket(received);
        if !is_known && let Some(session) = lists_settled {
            let settled = || foreign::identities(session, config, before);
            is_known = !patiently(config, settled, ForeignError::is_transient).await?.is_empty();
        }
        refused.extend(found);
        if !is_known {
            return Ok(refused.split_off(&OutputSequence(durable.0.saturating_add(1))));
        }
        bucket += 1;
    }
}

/// Reads which events are settled from the checkpoint on, and compares the first with the checkpoint.
async fn settled_before(
    config: &Config,
    session: &Session,
    checkpoint: Option<Position>,
) -> Result<Identities, ServeError> {
    let before = checkpoint.map_or(0, |at| at.seq.0.saturating_sub(1));
    let settled = patiently(
        config,
        || foreign::identities(session, config, OutputSequence(before)),
        ForeignError::is_transient,
    )
    .await?;
    let at_checkpoint = |sequence| checkpoint.filter(|at| at.seq == sequence).map(|at| at.digest);
    foreign::compare(config, &settled, at_checkpoint)?;
    Ok(settled)
}

/// Opens the WAL, and says from where on everything is sent again: the later of the database's checkpoint and the WAL's
/// low-water mark, each of which was proven durable when it was written.
async fn open_wal(
    config: &Config,
    session: &Session,
    checkpoint: Option<Position>,
) -> Result<(Wal, Recovered, Position), ServeError> {
    let start = checkpoint.unwrap_or(Position::start_of(config.epoch));
    if start.epoch != config.epoch {
        let (ours, theirs, sequence) = (config.epoch, start.epoch, start.seq);
        return Err(ServeError::EpochChange { ours, theirs, sequence });
    }
    let cluster = format!("{}/{}", session.get_cluster_state().cluster_name(), config.keyspace());
    let id = StreamId {
        stream: config.stream.clone(),
        cluster,
    };
    let (wal, recovered) = Wal::open(&config.data_dir, id, config.wal_config(start)).await?;
    if recovered.torn_bytes > 0 || !recovered.damaged.is_empty() {
        let (torn_bytes, damaged) = (recovered.torn_bytes, recovered.damaged.len());
        tracing::warn!(target: "settlement", torn_bytes, damaged, "the WAL had an unfinished end or damage");
    }
    let kept = wal.digest_at(start.seq).filter(|_| start.seq > OutputSequence(0));
    if kept.is_some_and(|kept| kept != start.digest) {
        return Err(ServeError::CheckpointDisagrees { sequence: start.seq });
    }
    let low_water = wal.low_water();
    let durable = if low_water.seq > start.seq { low_water } else { start };
    tracing::info!(
        target: "settlement", durable = durable.seq.0, received = wal.received().seq.0, fresh = recovered.fresh,
        "recovered"
    );
    Ok((wal, recovered, durable))
}

fn feed_config(config: &Config, wal: &Wal, recovered: &Recovered) -> FeedConfig {
    let received = wal.received().seq;
    let next = OutputSequence(received.0.saturating_add(1));
    let mut feed = FeedConfig::new(&config.publish_addr, &config.replay_addr, config.epoch, next);
    feed.have.clone_from(&recovered.ahead);
    feed.ahead_max = config.limits.ahead_max;
    feed.replay_chunk = config.feed.replay_chunk;
    feed.replay_timeout_ms = config.feed.replay_timeout_ms;
    feed.silence_ms = config.feed.silence_ms;
    feed.backoff_max_ms = config.feed.backoff_max_ms;
    feed
}

/// The chain as the WAL holds it: its end without holes, and what lies beyond.
async fn recovered_chain(wal: &Wal, recovered: &Recovered) -> Result<Identity, ServeError> {
    let received = wal.received();
    let mut identity = Identity::at(received.seq, received.digest);
    let Some(first) = recovered.ahead.first() else {
        return Ok(identity);
    };
    for (sequence, envelope) in wal.read_from(*first, recovered.ahead.len(), usize::MAX).await? {
        let prev_digest = envelope.decode_unverified().ok().map(|event| event.prev_digest);
        identity.accept(sequence, envelope.digest, prev_digest);
    }
    Ok(identity)
}

/// Asks the nodes once before anything is sent, so that what is sent first can count. If a node cannot be asked, what
/// is sent meanwhile is sent again later.
async fn first_probe(
    config: &Config,
    session: &Arc<Session>,
    metrics: &Metrics,
    durable: OutputSequence,
) -> Durability {
    let mut durability = Durability::new(durable, config.settle_time());
    let timeout = Duration::from_millis(config.durable.probe_timeout_ms);
    let probe = probe::ask_all(session.clone(), timeout).await;
    metrics.probes.inc();
    if let Verdict::Stalled { unasked } = durability.probed(&probe) {
        metrics.probes_stalled.inc();
        tracing::warn!(target: "settlement", unasked, "durable stalled: a node cannot be asked");
    }
    durability
}

/// Tries something again while it fails in a way that may pass, as long as start-up is patient.
async fn patiently<T, E, F: Future<Output = Result<T, E>>>(
    config: &Config,
    mut attempt: impl FnMut() -> F,
    is_transient: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let began = Instant::now();
    let patience = Duration::from_millis(config.database.start_patience_ms);
    let mut pause = Duration::from_millis(config.retry.pause_min_ms);
    loop {
        match attempt().await {
            Err(error) if is_transient(&error) && began.elapsed() + pause <= patience => {}
            done => return done,
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(config.retry.pause_max_ms));
    }
}
