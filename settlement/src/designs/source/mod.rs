//! What the designs taken from the source documents share: their tables apart from the balances, the existence check, the
//! bound of attempts with its pauses, and `failed_trades`. How a design writes an event is its own module's.

pub(crate) mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use schema::keys;
use schema::tables::settled_trades_table;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use settlement_events::{AssetId, Body, Event, OrderId, SymbolId, Trade, UserId};
use tokio::time::{Instant, sleep};

use super::prepare::{Preparer, StatementError};
use super::row::Bigint;
use super::{Context, How, Item, Settled, retry};
use rows::{FailedTrade, LedgerEvent, OrderRow, SettledTrade};

/// The source's bound of attempts.
const ATTEMPTS_MAX: u32 = 3;

/// The source's pause: this times the number of attempts made.
const PAUSE_MS: u64 = 100;

/// The statements that the designs share.
pub(crate) struct Source {
    pub(crate) context: Context,
    trades: BTreeMap<SymbolId, (PreparedStatement, PreparedStatement)>,
    pub(crate) ledger_event: PreparedStatement,
    ledger_event_exists: PreparedStatement,
    pub(crate) order: PreparedStatement,
    order_read: PreparedStatement,
    failed_trade: PreparedStatement,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    #[error("{0}")]
    Database(Box<ExecutionError>),
    #[error("the balance of user {user} in asset {asset} would overflow")]
    Overflow { user: UserId, asset: AssetId },
    #[error("a row cannot be read: {0}")]
    Unreadable(String),
    #[error("this design does not know such events")]
    Unknown,
}

impl From<ExecutionError> for AttemptError {
    fn from(error: ExecutionError) -> Self {
        Self::Database(Box::new(error))
    }
}

impl Source {
    /// Prepares the statements.
    pub(crate) async fn prepare(context: Context, preparer: Preparer<'_>) -> Result<Self, StatementError> {
        let mut trades = BTreeMap::new();
        for symbol in context.config.registry.symbols() {
            let table = settled_trades_table(symbol);
            let insert = preparer.insert::<SettledTrade>(&table).await?;
            let exists = preparer.select(&table, &["trade_id"], &["trade_id"]).await?;
            trades.insert(symbol.id, (insert, exists));
        }
        Ok(Self {
            trades,
            ledger_event: preparer.insert::<LedgerEvent>("ledger_events").await?,
            ledger_event_exists: preparer
                .select("ledger_events", &["event_id"], &["user_id", "event_id"])
                .await?,
            order: preparer.insert::<OrderRow>("orders").await?,
            order_read: preparer
                .select("orders", &["version"], &["user_id", "order_id"])
                .await?,
            failed_trade: preparer.insert::<FailedTrade>("failed_trades").await?,
            context,
        })
    }

    /// The source's policy for one event: attempts until one succeeds, at most [`ATTEMPTS_MAX`], then `failed_trades`.
    pub(crate) async fn settle<F>(&self, item: &Item, mut attempt_of: impl FnMut(u32) -> F) -> Settled
    where
        F: Future<Output = Result<How, AttemptError>>,
    {
        let taken = Instant::now();
        let mut attempt = 1;
        loop {
            let sent = Instant::now();
            let ended = |how| Settled {
                sequence: item.sequence,
                arrived: item.arrived,
                taken,
                sent,
                attempts: attempt,
                how,
            };
            let error = match attempt_of(attempt).await {
                Ok(how) => return ended(how),
                Err(error) => error,
            };
            tracing::debug!(target: "settlement", seq = item.sequence.0, attempt, error = %error, "attempt failed");
            if attempt == ATTEMPTS_MAX {
                self.give_up(item, attempt, &error).await;
                return ended(How::GivenUp);
            }
            sleep(Duration::from_millis(PAUSE_MS * u64::from(attempt))).await;
            attempt += 1;
            self.context.metrics.retries.inc();
        }
    }

    /// The existence check.
    pub(crate) async fn exists(&self, event: &Event) -> Result<bool, AttemptError> {
        match &event.body {
            Body::Trade(trade) => {
                let (_, exists) = self.statements_of(trade)?;
                let row = self.read::<(i64,)>(exists, &(Bigint::from(trade.trade_id),)).await?;
                Ok(row.is_some())
            }
            Body::Deposit { event_id, change } | Body::Withdrawal { event_id, change } => {
                let key = (Bigint::from(change.user_id), Bigint::from(*event_id));
                Ok(self.read::<(i64,)>(&self.ledger_event_exists, &key).await?.is_some())
            }
            Body::OrderPlaced { order, .. } | Body::OrderCancelled { order, .. } => {
                let version = self.order_version(order.user_id, order.order_id).await?;
                Ok(version
                    .is_some_and(|version| u64::try_from(version).is_ok_and(|version| version >= order.version.0)))
            }
            Body::EpochStart { .. } => Err(AttemptError::Unknown),
        }
    }

    async fn order_version(&self, user: UserId, order: OrderId) -> Result<Option<i64>, AttemptError> {
        let row = self
            .read::<(i64,)>(&self.order_read, &(Bigint::from(user), Bigint::from(order)))
            .await?;
        Ok(row.map(|(version,)| version))
    }

    /// The `INSERT` of a trade's table.
    pub(crate) fn insert_of(&self, trade: &Trade) -> Result<&PreparedStatement, AttemptError> {
        self.statements_of(trade).map(|(insert, _)| insert)
    }

    fn statements_of(&self, trade: &Trade) -> Result<&(PreparedStatement, PreparedStatement), AttemptError> {
        self.trades.get(&trade.symbol).ok_or(AttemptError::Unknown)
    }

    /// The first row of a `SELECT` by its key.
    pub(crate) async fn read<R>(
        &self,
        statement: &PreparedStatement,
        key: &impl SerializeRow,
    ) -> Result<Option<R>, AttemptError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let unreadable = |error: &dyn std::fmt::Display| AttemptError::Unreadable(error.to_string());
        let result = self.execute(statement, key).await?;
        let rows = result.into_rows_result().map_err(|error| unreadable(&error))?;
        rows.maybe_first_row::<R>().map_err(|error| unreadable(&error))
    }

    /// One request.
    pub(crate) async fn execute(
        &self,
        statement: &PreparedStatement,
        values: &impl SerializeRow,
    ) -> Result<QueryResult, ExecutionError> {
        self.context.metrics.requests.inc();
        self.context.session.execute_unpaged(statement, values).await
    }

    /// Writes the event to `failed_trades`. That much the source keeps; so until it is written nothing else happens.
    async fn give_up(&self, item: &Item, attempts: u32, error: &AttemptError) {
        let Context { config, metrics, .. } = &self.context;
        metrics.failed_trades.inc();
        tracing::warn!(target: "settlement", seq = item.sequence.0, attempts, error = %error, "given up");
        let row = FailedTrade {
            bucket: Bigint(keys::bucket(item.sequence)),
            output_sequence: item.sequence.into(),
            kind: item.event.kind().as_str(),
            reference: Bigint(item.event.trade().map_or(0, |trade| trade.trade_id.0)),
            attempts: attempts as i32,
            error: error.to_string(),
            event: item.event.encode(),
        };
        let mut attempt = 1;
        while let Err(error) = self.execute(&self.failed_trade, &row).await {
            tracing::debug!(target: "settlement", seq = item.sequence.0, attempt, error = %error, "failed_trades failed");
            sleep(retry::pause(&config.retry, attempt, item.sequence)).await;
            attempt = attempt.saturating_add(1);
        }
    }
}
