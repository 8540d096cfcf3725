//! The `ledger` design: one LOGGED batch per event with every row of it, `settled_events` included; all values absolute,
//! taken from the event; every column bound; the timestamp of each row made of the version of what it describes.
//! Sending it again changes nothing, in any order and at any time, so after any answer but "applied" it is sent again.
//!
//! Nothing is read before an event's write, and no clock stamps anything. Whether an acknowledged event is durable is
//! [`crate::durable`]'s question.

pub(crate) mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use schema::tables::settled_trades_table;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use settlement_events::{Refusal, RefusalCode, SymbolId};
use tokio::time::{Instant, sleep};

use super::prepare::{Preparer, StatementError};
use super::{Context, How, Item, Settled, retry};
use crate::outcome::Outcome;
use rows::{EventRows, NoRows, Shape, Table};

/// The design with its statements.
pub struct Ledger {
    context: Context,
    statements: Statements,
    /// One batch per shape, made when the first event of it comes: a few per symbol.
    batches: Mutex<BTreeMap<Shape, Arc<Batch>>>,
}

struct Statements {
    trades: BTreeMap<SymbolId, PreparedStatement>,
    trades_by_user: PreparedStatement,
    ledger: PreparedStatement,
    balances: PreparedStatement,
    orders: PreparedStatement,
    ledger_events: PreparedStatement,
    events: PreparedStatement,
}

impl Statements {
    async fn prepare(context: &Context, preparer: Preparer<'_>) -> Result<Self, StatementError> {
        let mut trades = BTreeMap::new();
        for symbol in context.config.registry.symbols() {
            let statement = preparer
                .insert::<rows::SettledTrade>(&settled_trades_table(symbol))
                .await?;
            trades.insert(symbol.id, statement);
        }
        Ok(Self {
            trades,
            trades_by_user: preparer.insert::<rows::TradeByUser>("trades_by_user").await?,
            ledger: preparer.insert::<rows::LedgerEntry>("balance_ledger").await?,
            balances: preparer.insert::<rows::UserBalance>("user_balances").await?,
            orders: preparer.insert::<rows::OrderRow>("orders").await?,
            ledger_events: preparer.insert::<rows::LedgerEvent>("ledger_events").await?,
            events: preparer.insert::<rows::SettledEvent>("settled_events").await?,
        })
    }

    fn of(&self, table: Table) -> Option<&PreparedStatement> {
        Some(match table {
            Table::Trades(symbol) => self.trades.get(&symbol)?,
            Table::TradesByUser => &self.trades_by_user,
            Table::Ledger => &self.ledger,
            Table::Balances => &self.balances,
            Table::Orders => &self.orders,
            Table::LedgerEvents => &self.ledger_events,
            Table::Events => &self.events,
        })
    }

    /// The batch of a shape. Tables whose symbol is unknown have no statement; verification refuses such trades.
    fn batch(&self, shape: Shape) -> Batch {
        let statements = shape
            .tables()
            .into_iter()
            .filter_map(|table| self.of(table).cloned().map(Into::into));
        let mut batch = Batch::new_with_statements(BatchType::Logged, statements.collect());
        batch.set_is_idempotent(true);
        batch
    }
}

impl Ledger {
    /// Prepares the statements.
    pub async fn prepare(context: Context, preparer: Preparer<'_>) -> Result<Self, StatementError> {
        let statements = Statements::prepare(&context, preparer).await?;
        Ok(Self {
            context,
            statements,
            batches: Mutex::new(BTreeMap::new()),
        })
    }

    /// Whether the event has rows. What verification lets pass has; this is its second line.
    pub fn fits(&self, item: &Item) -> Result<(), Refusal> {
        match EventRows::new(&item.event, &item.digest, self.context.config.generation) {
            Ok(_) => Ok(()),
            Err(error) => Err(Refusal::new(RefusalCode::Overflow, error)),
        }
    }

    /// Sends the event's batch until it is acknowledged: the identical bytes each time.
    pub async fn settle(&self, item: &Item) -> Settled {
        let Context {
            session,
            config,
            metrics,
        } = &self.context;
        let rows = match EventRows::new(&item.event, &item.digest, config.generation) {
            Ok(rows) => rows,
            Err(error) => return self.unsettleable(item, &error).await,
        };
        let batch = self.batch(rows.shape());
        let taken = Instant::now();
        let mut attempt = 1;
        loop {
            metrics.batches_sent.inc();
            metrics.requests.inc();
            tracing::debug!(target: "settlement", seq = item.sequence.0, attempt, "batch sent");
            let sent = Instant::now();
            // Boxed: the driver's future is kilobytes, and within this one they would be copied with every event.
            let outcome = Outcome::of(Box::pin(session.batch(&batch, &rows)).await);
            if outcome.is_applied() {
                retry::settled(metrics, &config.retry, item.sequence, attempt);
                let how = How::Acknowledged;
                return Settled {
                    sequence: item.sequence,
                    arrived: item.arrived,
                    taken,
                    sent,
                    attempts: attempt,
                    how,
                };
            }
            self.note_failure(item, attempt, &outcome);
            sleep(retry::pause(&config.retry, attempt, item.sequence)).await;
            attempt = attempt.saturating_add(1);
            metrics.retries.inc();
        }
    }

    fn batch(&self, shape: Shape) -> Arc<Batch> {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches
            .entry(shape)
            .or_insert_with(|| Arc::new(self.statements.batch(shape)))
            .clone()
    }

    fn note_failure(&self, item: &Item, attempt: u32, outcome: &Outcome) {
        let Context { config, metrics, .. } = &self.context;
        retry::count(metrics, outcome);
        tracing::debug!(target: "settlement", seq = item.sequence.0, attempt, outcome = %outcome, "batch failed, will be sent again");
        retry::failed(metrics, &config.retry, item.sequence, attempt, outcome);
    }

    /// Verification lets no event pass that has no rows; if one comes nevertheless, it must not be lost: it stays in
    /// flight, the watermark stays before it, and a person is told.
    async fn unsettleable(&self, item: &Item, error: &NoRows) -> Settled {
        tracing::error!(target: "settlement", seq = item.sequence.0, error = %error, "a verified event has no rows");
        std::future::pending().await
    }
}
