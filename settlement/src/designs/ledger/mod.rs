//! The `ledger` design: every row of an event in one LOGGED batch, `settled_events` included; all values absolute, taken
//! from the event; every column bound; the timestamp of each row made of the version of what it describes. Sending it
//! again changes nothing, in any order and at any time, so after any answer but "applied" it is sent again. Events that
//! are ready at the same moment share a batch ([`super::group`]).
//!
//! Nothing is read before an event's write, and no clock stamps anything. Whether an acknowledged event is durable is
//! [`crate::durable`]'s question.

mod batches;
pub(crate) mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schema::tables::settled_trades_table;
use scylla::statement::prepared::PreparedStatement;
use settlement_events::{OutputSequence, Refusal, RefusalCode, SymbolId};
use tokio::time::{Instant, sleep};

use super::group::Bounds;
use super::prepare::{Preparer, StatementError};
use super::{Context, Ended, How, Item, Settled, retry};
use crate::batch_limit;
use crate::outcome::Outcome;
use batches::Batches;
use rows::{EventRows, GroupRows, NoRows, Table};

/// The design with its statements.
pub struct Ledger {
    context: Context,
    statements: Statements,
    bounds: Bounds,
    batches: Batches,
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
}

impl Ledger {
    /// Prepares the statements.
    pub async fn prepare(context: Context, preparer: Preparer<'_>) -> Result<Self, StatementError> {
        let statements = Statements::prepare(&context, preparer).await?;
        let warned_bytes = batch_limit::ask(&context.session).await;
        Ok(Self {
            bounds: context.config.limits.group(warned_bytes),
            context,
            statements,
            batches: Batches::default(),
        })
    }

    /// What the event's rows weigh at most. What verification lets pass has rows; this is its second line.
    pub fn weigh(&self, item: &Item) -> Result<usize, Refusal> {
        match EventRows::new(&item.event, &item.digest, self.context.config.generation) {
            Ok(rows) => Ok(rows.shape().weight_bytes()),
            Err(error) => Err(Refusal::new(RefusalCode::Overflow, error)),
        }
    }

    /// What may share a batch.
    pub const fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Sends the events' batch until it is acknowledged: the identical bytes each time.
    pub async fn settle(&self, group: Vec<Item>) -> Ended {
        let Context {
            session,
            config,
            metrics,
        } = &self.context;
        let rows = match self.rows(&group) {
            Ok(rows) => rows,
            Err((sequence, error)) => return unsettleable(sequence, &error).await,
        };
        let batch = self.batches.take(&self.statements, &rows);
        let taken = Instant::now();
        let mut attempt = 1;
        loop {
            metrics.batches_sent.inc();
            metrics.requests.inc();
            for item in &group {
                tracing::debug!(target: "settlement", seq = item.sequence.0, attempt, "batch sent");
            }
            let sent = Instant::now();
            // Boxed: the driver's future is kilobytes, and within this one they would be copied with every event.
            let outcome = Outcome::of(Box::pin(session.batch(batch.batch(), &rows)).await);
            if outcome.is_applied() {
                self.batches.give(batch);
                return Ended::Settled(
                    group
                        .iter()
                        .map(|item| self.settled(item, taken, sent, attempt))
                        .collect(),
                );
            }
            self.note_failure(&group, attempt, &outcome);
            if outcome.is_rejected() && group.len() > 1 {
                metrics.groups_taken_apart.inc();
                drop(rows);
                return Ended::Apart(group);
            }
            sleep(retry::pause(&config.retry, attempt, rows.first_sequence())).await;
            attempt = attempt.saturating_add(1);
            metrics.retries.inc();
        }
    }

    fn rows<'g>(&self, group: &'g [Item]) -> Result<GroupRows<'g>, (OutputSequence, NoRows)> {
        let generation = self.context.config.generation;
        let rows_of = |item: &'g Item| {
            EventRows::new(&item.event, &item.digest, generation).map_err(|error| (item.sequence, error))
        };
        group.iter().map(rows_of).collect::<Result<_, _>>().map(GroupRows::new)
    }

    fn settled(&self, item: &Item, taken: Instant, sent: Instant, attempts: u32) -> Settled {
        retry::settled(&self.context.metrics, item.sequence);
        Settled {
            sequence: item.sequence,
            arrived: item.arrived,
            taken,
            sent,
            attempts,
            how: How::Acknowledged,
        }
    }

    fn note_failure(&self, group: &[Item], attempt: u32, outcome: &Outcome) {
        let Context { config, metrics, .. } = &self.context;
        retry::count(metrics, outcome);
        for item in group {
            tracing::debug!(target: "settlement", seq = item.sequence.0, attempt, outcome = %outcome, "batch failed, will be sent again");
            retry::failed(metrics, &config.retry, item.sequence, attempt, outcome);
        }
    }
}

/// Verification lets no event pass that has no rows; if one comes nevertheless, it must not be lost: it stays in flight,
/// the watermark stays before it, and a person is told.
async fn unsettleable(sequence: OutputSequence, error: &NoRows) -> Ended {
    tracing::error!(target: "settlement", seq = sequence.0, error = %error, "a verified event has no rows");
    std::future::pending().await
}
