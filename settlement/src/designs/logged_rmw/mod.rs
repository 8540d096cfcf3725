//! The `logged-rmw` design, as the source documents give it and as everyone writes it first: one event at a time; is it
//! there already; read the balances; compute; one LOGGED batch of the trade, the balances and the orders; on failure
//! wait 100 ms x n and begin again, at most three attempts; then `failed_trades`, and on to the next.
//!
//! It is here to be compared. It is wrong: a batch that timed out may still be applied, by replay or by a coordinator
//! that woke up, after the check said "not there" and after the retry read the old balances; and because the
//! coordinator's clock stamps the rows, a batch that lands late loses against what was written meanwhile, in part.

mod rows;

use std::collections::BTreeMap;

use futures::future::try_join_all;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use settlement_events::{AssetId, Body, Event, UserId};

use super::prepare::{Preparer, StatementError};
use super::row::{Bigint, Int};
use super::source::rows::{ledger_event_row, order_row, trade_row};
use super::source::{AttemptError, Source};
use super::{Context, How, Item, Settled, retry};
use crate::outcome::Outcome;
use rows::{Row, UserBalance};

/// The design with its statements.
pub struct LoggedRmw {
    source: Source,
    balance: PreparedStatement,
    balance_read: PreparedStatement,
}

impl LoggedRmw {
    /// Prepares the statements.
    pub async fn prepare(context: Context, preparer: Preparer<'_>) -> Result<Self, StatementError> {
        let balance_columns = ["version", "avail", "frozen"];
        Ok(Self {
            source: Source::prepare(context, preparer).await?,
            balance: preparer.insert::<UserBalance>("user_balances").await?,
            balance_read: preparer
                .select("user_balances", &balance_columns, &["user_id", "asset_id"])
                .await?,
        })
    }

    /// The source's policy for one event.
    pub async fn settle(&self, item: &Item) -> Settled {
        self.source.settle(item, |attempt| self.attempt(item, attempt)).await
    }

    async fn attempt(&self, item: &Item, attempt: u32) -> Result<How, AttemptError> {
        if self.source.exists(&item.event).await? {
            tracing::debug!(target: "settlement", seq = item.sequence.0, "is there already, not sent again");
            return Ok(How::AlreadyThere);
        }
        let balances = self.new_balances(&item.event).await?;
        let (statements, values) = self.batch_of(&item.event, balances)?;
        let batch = Batch::new_with_statements(BatchType::Logged, statements);
        let Context { session, metrics, .. } = &self.source.context;
        metrics.batches_sent.inc();
        metrics.requests.inc();
        tracing::debug!(target: "settlement", seq = item.sequence.0, attempt, "is not there, so balances read and batch sent");
        match session.batch(&batch, &values).await {
            Ok(_) => Ok(How::Acknowledged),
            Err(error) => {
                retry::count(metrics, &Outcome::of::<()>(Err(error.clone())));
                Err(error.into())
            }
        }
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
            let before = self.source.read::<(i64, i64, i64)>(&self.balance_read, &key).await?;
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
                statements.push(self.source.insert_of(trade)?.clone().into());
                values.push(Row::Trade(trade_row(event, trade)));
            }
            Body::Deposit { .. } | Body::Withdrawal { .. } => {
                statements.push(self.source.ledger_event.clone().into());
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
            statements.push(self.source.order.clone().into());
            values.push(Row::Order(order_row(order)));
        }
        Ok((statements, values))
    }
}

fn add(before: (i64, i64), delta: (i64, i64)) -> Option<(i64, i64)> {
    Some((before.0.checked_add(delta.0)?, before.1.checked_add(delta.1)?))
}
