//! The `logged-rmw` design, as the source documents give it and as everyone writes it first: one event at a time; is it
//! there already; read the balances; compute; one LOGGED batch of the trade, the balances and the orders; on failure
//! wait 100 ms x n and begin again, at most three attempts; then `failed_trades`, and on to the next.
//!
//! It is here to be compared. It is wrong: a batch that timed out may still be applied, by replay or by a coordinator
//! that woke up, after the check said "not there" and after the retry read the old balances; and because the
//! coordinator's clock stamps the rows, a batch that lands late loses against what was written meanwhile, in part.

mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use schema::keys;
use schema::tables::settled_trades_table;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use settlement_events::{AssetId, Body, Event, OrderId, OrderState, SymbolId, Trade, UserId};
use tokio::time::{Instant, sleep};

use super::fees::FeeBytes;
use super::prepare::{Preparer, StatementError};
use super::row::{Bigint, Int};
use super::{Context, How, Item, Settled, retry};
use crate::outcome::Outcome;
use rows::{FailedTrade, LedgerEvent, OrderRow, Row, SettledTrade, UserBalance};

/// The source's bound of attempts.
const ATTEMPTS_MAX: u32 = 3;

/// The source's pause: this times the number of attempts made.
const PAUSE_MS: u64 = 100;

/// The design with its statements.
pub struct LoggedRmw {
    context: Context,
    trades: BTreeMap<SymbolId, (PreparedStatement, PreparedStatement)>,
    ledger_event: PreparedStatement,
    ledger_event_exists: PreparedStatement,
    balance: PreparedStatement,
    balance_read: PreparedStatement,
    order: PreparedStatement,
    order_read: PreparedStatement,
    failed_trade: PreparedStatement,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
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

impl LoggedRmw {
    /// Prepares the statements.
    pub async fn prepare(context: Context, preparer: Preparer<'_>) -> Result<Self, StatementError> {
        let mut trades = BTreeMap::new();
        for symbol in context.config.registry.symbols() {
            let table = settled_trades_table(symbol);
            let insert = preparer.insert::<SettledTrade>(&table).await?;
            let exists = preparer.select(&table, &["trade_id"], &["trade_id"]).await?;
            trades.insert(symbol.id, (insert, exists));
        }
        let balance_columns = ["version", "avail", "frozen"];
        Ok(Self {
            trades,
            ledger_event: preparer.insert::<LedgerEvent>("ledger_events").await?,
            ledger_event_exists: preparer
                .select("ledger_events", &["event_id"], &["user_id", "event_id"])
                .await?,
            balance: preparer.insert::<UserBalance>("user_balances").await?,
            balance_read: preparer
                .select("user_balances", &balance_columns, &["user_id", "asset_id"])
                .await?,
            order: preparer.insert::<OrderRow>("orders").await?,
            order_read: preparer
                .select("orders", &["version"], &["user_id", "order_id"])
                .await?,
            failed_trade: preparer.insert::<FailedTrade>("failed_trades").await?,
            context,
        })
    }

    /// The source's policy for one event.
    pub async fn settle(&self, item: &Item) -> Settled {
        let mut attempt = 1;
        loop {
            let sent = Instant::now();
            let ended = |how| Settled {
                sequence: item.sequence,
                arrived: item.arrived,
                sent,
                attempts: attempt,
                how,
            };
            let error = match self.attempt(item, attempt).await {
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

    async fn attempt(&self, item: &Item, attempt: u32) -> Result<How, AttemptError> {
        if self.exists(&item.event).await? {
            tracing::debug!(target: "settlement", seq = item.sequence.0, "is there already, not sent again");
            return Ok(How::AlreadyThere);
        }
        let balances = self.new_balances(&item.event).await?;
        let (statements, values) = self.batch_of(&item.event, balances)?;
        let batch = Batch::new_with_statements(BatchType::Logged, statements);
        self.context.metrics.batches_sent.inc();
        tracing::debug!(target: "settlement", seq = item.sequence.0, attempt, "is not there, so balances read and batch sent");
        match self.context.session.batch(&batch, &values).await {
            Ok(_) => Ok(How::Acknowledged),
            Err(error) => {
                retry::count(&self.context.metrics, &Outcome::of::<()>(Err(error.clone())));
                Err(error.into())
            }
        }
    }

    /// The existence check.
    async fn exists(&self, event: &Event) -> Result<bool, AttemptError> {
        match &event.body {
            Body::Trade(trade) => {
                let (_, exists) = self.trade_statements(trade)?;
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

    /// Reads the accounts that the event changes and adds what it changes them by. What the event says about the
    /// result is not looked at: this design computes.
    async fn new_balances(&self, event: &Event) -> Result<Vec<UserBalance>, AttemptError> {
        let mut deltas: BTreeMap<(UserId, AssetId), (i64, i64)> = BTreeMap::new();
        for change in event.changes() {
            let overflow = AttemptError::Overflow {
                user: change.user_id,
                asset: change.asset_id,
            };
            let delta = deltas.entry((change.user_id, change.asset_id)).or_default();
            *delta = add(*delta, (change.delta_avail.0, change.delta_frozen.0)).ok_or(overflow)?;
        }
        let accounts = deltas.into_iter().map(|((user, asset), delta)| async move {
            let key = (Bigint::from(user), Int::from(asset));
            let before = self.read::<(i64, i64, i64)>(&self.balance_read, &key).await?;
            let (version, avail, frozen) = before.unwrap_or_default();
            let overflow = || AttemptError::Overflow { user, asset };
            let (avail, frozen) = add((avail, frozen), delta).ok_or_else(overflow)?;
            let version = version.checked_add(1).ok_or_else(overflow)?;
            let row = UserBalance {
                user_id: user.into(),
                asset_id: asset.into(),
                version,
                avail,
                frozen,
            };
            Ok::<_, AttemptError>(row)
        });
        try_join_all(accounts).await
    }

    fn batch_of(
        &self,
        event: &Event,
        balances: Vec<UserBalance>,
    ) -> Result<(Vec<BatchStatement>, Vec<Row>), AttemptError> {
        let mut statements: Vec<BatchStatement> = Vec::new();
        let mut values = Vec::new();
        match &event.body {
            Body::Trade(trade) => {
                statements.push(self.trade_statements(trade)?.0.clone().into());
                values.push(Row::Trade(trade_row(event, trade)));
            }
            Body::Deposit { .. } | Body::Withdrawal { .. } => {
                statements.push(self.ledger_event.clone().into());
                values.extend(ledger_event_row(event).map(Row::LedgerEvent));
            }
            Body::OrderPlaced { .. } | Body::OrderCancelled { .. } => {}
            Body::EpochStart { .. } => return Err(AttemptError::Unknown),
        }
        for balance in balances {
            statements.push(self.balance.clone().into());
            values.push(Row::Balance(balance));
        }
        for order in event.orders() {
            statements.push(self.order.clone().into());
            values.push(Row::Order(order_row(order)));
        }
        Ok((statements, values))
    }

    fn trade_statements(&self, trade: &Trade) -> Result<&(PreparedStatement, PreparedStatement), AttemptError> {
        self.trades.get(&trade.symbol).ok_or(AttemptError::Unknown)
    }

    async fn read<R>(&self, statement: &PreparedStatement, key: &impl SerializeRow) -> Result<Option<R>, AttemptError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let unreadable = |error: &dyn std::fmt::Display| AttemptError::Unreadable(error.to_string());
        let result = self.context.session.execute_unpaged(statement, key).await?;
        let rows = result.into_rows_result().map_err(|error| unreadable(&error))?;
        rows.maybe_first_row::<R>().map_err(|error| unreadable(&error))
    }

    /// Writes the event to `failed_trades`. That much the source keeps; so until it is written nothing else happens.
    async fn give_up(&self, item: &Item, attempts: u32, error: &AttemptError) {
        let Context {
            session,
            config,
            metrics,
            ..
        } = &self.context;
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
        while let Err(error) = session.execute_unpaged(&self.failed_trade, &row).await {
            tracing::debug!(target: "settlement", seq = item.sequence.0, attempt, error = %error, "failed_trades failed");
            sleep(retry::pause(&config.retry, attempt, item.sequence)).await;
            attempt = attempt.saturating_add(1);
        }
    }
}

fn add(before: (i64, i64), delta: (i64, i64)) -> Option<(i64, i64)> {
    Some((before.0.checked_add(delta.0)?, before.1.checked_add(delta.1)?))
}

fn trade_row(event: &Event, trade: &Trade) -> SettledTrade {
    SettledTrade {
        trade_id: trade.trade_id.into(),
        output_sequence: event.output_sequence.into(),
        match_seq: trade.match_seq.into(),
        event_time_ms: event.event_time_ms.into(),
        buy_order_id: trade.buy_order_id.into(),
        sell_order_id: trade.sell_order_id.into(),
        buyer_user_id: trade.buyer_user_id.into(),
        seller_user_id: trade.seller_user_id.into(),
        base_asset: trade.base_asset.into(),
        quote_asset: trade.quote_asset.into(),
        price: trade.price.into(),
        quantity: trade.quantity.into(),
        quote_amount: trade.quote_amount.into(),
        buyer_refund: trade.buyer_refund.into(),
        seller_refund: trade.seller_refund.into(),
        buyer_is_maker: trade.buyer_is_maker,
        fees: FeeBytes::of(&trade.fees),
    }
}

fn ledger_event_row(event: &Event) -> Option<LedgerEvent> {
    let (Body::Deposit { event_id, change } | Body::Withdrawal { event_id, change }) = &event.body else {
        return None;
    };
    Some(LedgerEvent {
        user_id: change.user_id.into(),
        event_id: (*event_id).into(),
        output_sequence: event.output_sequence.into(),
        kind: event.kind().as_str(),
        asset_id: change.asset_id.into(),
        amount: Bigint(change.delta_avail.0.unsigned_abs()),
        event_time_ms: event.event_time_ms.into(),
    })
}

fn order_row(order: &OrderState) -> OrderRow {
    OrderRow {
        user_id: order.user_id.into(),
        order_id: order.order_id.into(),
        version: order.version.into(),
        symbol: order.symbol.into(),
        side: order.side.as_str(),
        price: order.price.into(),
        quantity: order.quantity.into(),
        filled_quantity: order.filled_quantity.into(),
        status: order.status.as_str(),
    }
}
