//! The `sequential-delta` design, the source's as it was shipped: one event at a time; is it there already; insert the
//! trade; then `available + delta` for each account that it changes, four times for a trade and once more for each fee,
//! each a request of its own after the answer to the one before. Only counters accept such an update, so the balances
//! are counters. On failure wait 100 ms x n and do it all again, at most three attempts; then `failed_trades`, and on
//! to the next.
//!
//! It is here to be compared, and as the baseline of `settlement bench`. It is wrong: an attempt that failed in the
//! middle has added to some accounts, and the next one adds to them again; a crash in the middle leaves the trade there
//! and some balances away, and the check before the first attempt then says that it is settled. Nothing of this can be
//! noticed in the tables: a counter does not say what was added to it.

use scylla::statement::prepared::PreparedStatement;
use settlement_events::{BalanceChange, Body, Event};

use super::prepare::{Preparer, StatementError};
use super::row::{Bigint, Int, row};
use super::source::rows::{ledger_event_row, order_row, trade_row};
use super::source::{AttemptError, Source};
use super::{Context, How, Item, Settled, retry};
use crate::outcome::Outcome;

row!(
    /// What is added to an account, then which one.
    Addition {
        avail: i64,
        frozen: i64,
        user_id: Bigint,
        asset_id: Int,
    }
);

/// The design with its statements.
pub struct SequentialDelta {
    source: Source,
    add: PreparedStatement,
}

impl SequentialDelta {
    /// Prepares the statements.
    pub async fn prepare(context: Context, preparer: Preparer<'_>) -> Result<Self, StatementError> {
        Ok(Self {
            source: Source::prepare(context, preparer).await?,
            add: preparer.add::<Addition>("user_balances").await?,
        })
    }

    /// The source's policy for one event. The check comes before the first attempt alone: after a failure the row that
    /// the failed attempt inserted would always be there, and nothing would ever be tried again.
    pub async fn settle(&self, item: &Item) -> Settled {
        self.source.settle(item, |attempt| self.attempt(item, attempt)).await
    }

    async fn attempt(&self, item: &Item, attempt: u32) -> Result<How, AttemptError> {
        if attempt == 1 && self.source.exists(&item.event).await? {
            tracing::debug!(target: "settlement", seq = item.sequence.0, "is there already, not sent again");
            return Ok(How::AlreadyThere);
        }
        tracing::debug!(target: "settlement", seq = item.sequence.0, attempt, "inserted and added, one by one");
        match self.write(&item.event).await {
            Ok(()) => Ok(How::Acknowledged),
            Err(error) => {
                if let AttemptError::Database(error) = &error {
                    let outcome = Outcome::of::<()>(Err((**error).clone()));
                    retry::count(&self.source.context.metrics, &outcome);
                }
                Err(error)
            }
        }
    }

    async fn write(&self, event: &Event) -> Result<(), AttemptError> {
        match &event.body {
            Body::Trade(trade) => {
                let insert = self.source.insert_of(trade)?;
                self.source.execute(insert, &trade_row(event, trade)).await?;
            }
            Body::Deposit { .. } | Body::Withdrawal { .. } => {
                if let Some(row) = ledger_event_row(event) {
                    self.source.execute(&self.source.ledger_event, &row).await?;
                }
            }
            Body::OrderPlaced { order, .. } | Body::OrderCancelled { order, .. } => {
                self.source.execute(&self.source.order, &order_row(order)).await?;
            }
            Body::EpochStart { .. } => return Err(AttemptError::Unknown),
        }
        for change in event.changes() {
            self.source.execute(&self.add, &addition(change)).await?;
        }
        Ok(())
    }
}

fn addition(change: &BalanceChange) -> Addition {
    Addition {
        avail: change.delta_avail.0,
        frozen: change.delta_frozen.0,
        user_id: change.user_id.into(),
        asset_id: change.asset_id.into(),
    }
}
