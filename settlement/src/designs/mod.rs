//! The settlement designs: how an event becomes rows. They are first-class because comparing them is what people come
//! for; everything around them (feed, WAL, watermarks, checkpoint) is the same for all.
//!
//! | module | design |
//! |---|---|
//! | [`ledger`] | absolute postings keyed by account version, pinned timestamps, LOGGED batch; the default |
//! | [`logged_rmw`] | read, compute, LOGGED batch, existence check, retry; from the source |
//! | [`sequential_delta`] | insert, then `available + delta` on counters, one by one; the source's as it was shipped |
//!
//! To add one: a module here, a variant in [`Design`] with a line in each of its matches, and its name and tables
//! in the `schema` crate.

pub mod fees;
pub mod group;
pub mod ledger;
pub mod logged_rmw;
pub mod prepare;
pub mod retry;
pub mod row;
pub mod sequential_delta;
mod source;

use std::sync::Arc;

use schema::{DesignName, TableDef};
use scylla::client::session::Session;
use settlement_events::{Digest, Event, OutputSequence, Refusal};
use tokio::time::Instant;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::pipeline::in_flight::InFlight;
use prepare::{Preparer, StatementError};

/// An event to be settled.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its place in the stream.
    pub sequence: OutputSequence,
    /// Its digest.
    pub digest: Digest,
    /// Its content.
    pub event: Event,
    /// When it arrived here.
    pub arrived: Instant,
}

/// What became of a group of events that was handed to a design.
#[derive(Debug)]
pub enum Ended {
    /// They need no more work: all that was handed over, in its order.
    Settled(Vec<Settled>),
    /// The database refused their common batch for what it is, and nothing of it happened: each is to be handed over
    /// alone, so that one that the database does not take keeps no other back.
    Apart(Vec<Item>),
}

/// An event that needs no more work.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// Which one.
    pub sequence: OutputSequence,
    /// When it arrived here.
    pub arrived: Instant,
    /// When the design took it up.
    pub taken: Instant,
    /// When the attempt that was acknowledged left.
    pub sent: Instant,
    /// How many attempts it took.
    pub attempts: u32,
    /// How it ended.
    pub how: How,
}

/// How an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A quorum acknowledged its batch.
    Acknowledged,
    /// The design found it settled already.
    AlreadyThere,
    /// The design gave it up and wrote that down.
    GivenUp,
}

/// What makes an acknowledged event count as done for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The proof of rule 8; a window is sent again when a node became another process.
    Durable,
    /// The acknowledgement alone, as the source designs have it.
    Acknowledged,
}

/// What every design works with.
#[derive(Debug)]
pub struct Context {
    /// The connection.
    pub session: Arc<Session>,
    /// The configuration.
    pub config: Arc<Config>,
    /// The counters.
    pub metrics: Arc<Metrics>,
}

/// A design with its statements prepared.
pub enum Design {
    /// See [`ledger`].
    Ledger(ledger::Ledger),
    /// See [`logged_rmw`].
    LoggedRmw(logged_rmw::LoggedRmw),
    /// See [`sequential_delta`].
    SequentialDelta(sequential_delta::SequentialDelta),
}

impl Design {
    /// Prepares the statements of the configured design.
    pub async fn prepare(context: Context, defs: &[TableDef]) -> Result<Self, StatementError> {
        let session = context.session.clone();
        let config = context.config.clone();
        let preparer = Preparer {
            session: &session,
            keyspace: config.keyspace(),
            defs,
        };
        match config.design {
            DesignName::Ledger => ledger::Ledger::prepare(context, preparer).await.map(Self::Ledger),
            DesignName::LoggedRmw => logged_rmw::LoggedRmw::prepare(context, preparer)
                .await
                .map(Self::LoggedRmw),
            DesignName::SequentialDelta => sequential_delta::SequentialDelta::prepare(context, preparer)
                .await
                .map(Self::SequentialDelta),
        }
    }

    /// Settles the events of a group that [`Self::bounds`] allows, however long that takes. Dropping the future abandons
    /// them, and start-up sends them again.
    pub async fn settle(self: Arc<Self>, group: Vec<Item>) -> Ended {
        match &*self {
            Self::Ledger(design) => design.settle(group).await,
            // Boxed: they are far larger, and this future would be as large as the largest of them, for all.
            Self::LoggedRmw(design) => one_by_one(group, |item| async move { design.settle(&item).await }).await,
            Self::SequentialDelta(design) => one_by_one(group, |item| async move { design.settle(&item).await }).await,
        }
    }

    /// How many events may be settled by one batch.
    #[must_use]
    pub fn bounds(&self) -> group::Bounds {
        match self {
            Self::Ledger(design) => design.bounds(),
            Self::LoggedRmw(_) | Self::SequentialDelta(_) => group::Bounds::ONE,
        }
    }

    /// What the event's rows weigh in a batch at most, by the database's count, bytes; why it is refused if they cannot
    /// be written at all.
    pub fn weigh(&self, item: &Item) -> Result<usize, Refusal> {
        match self {
            Self::Ledger(design) => design.weigh(item),
            // Nothing shares a batch with them.
            Self::LoggedRmw(_) | Self::SequentialDelta(_) => Ok(0),
        }
    }

    /// Whether the design writes the identity of every event to `settled_events`.
    #[must_use]
    pub const fn has_settled_events(&self) -> bool {
        match self {
            Self::Ledger(_) => true,
            Self::LoggedRmw(_) | Self::SequentialDelta(_) => false,
        }
    }

    /// Whether events must come in the order of the stream. Rows that are absolute are right in any order; what adds to
    /// what it read waits at a gap.
    #[must_use]
    pub const fn needs_order(&self) -> bool {
        match self {
            Self::Ledger(_) => false,
            Self::LoggedRmw(_) | Self::SequentialDelta(_) => true,
        }
    }

    /// How many events may be on their way at once.
    #[must_use]
    pub fn in_flight(&self, config: &Config) -> InFlight {
        match self {
            Self::Ledger(_) => InFlight::new(config.limits.in_flight()),
            Self::LoggedRmw(_) | Self::SequentialDelta(_) => InFlight::one(),
        }
    }

    /// When an event is done for good.
    #[must_use]
    pub const fn promise(&self) -> Promise {
        match self {
            Self::Ledger(_) => Promise::Durable,
            Self::LoggedRmw(_) | Self::SequentialDelta(_) => Promise::Acknowledged,
        }
    }
}

/// For designs that know no groups: their bounds allow one event, and if there are more, each waits for the one before.
async fn one_by_one<F: Future<Output = Settled>>(group: Vec<Item>, mut settle: impl FnMut(Item) -> F) -> Ended {
    let mut settled = Vec::with_capacity(group.len());
    for item in group {
        settled.push(Box::pin(settle(item)).await);
    }
    Ended::Settled(settled)
}
