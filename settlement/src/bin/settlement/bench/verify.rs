//! Reads everything back and compares it with the events that were published, so that the figures are not those of writes
//! that came to nothing. What is compared: for the ledger every identity row, trade, posting and balance by number, and
//! every balance by content; for the other designs every trade by number and every balance by content.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use schema::keys;
use schema::tables::settled_trades_table;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::value::Counter;
use settlement::DesignName;
use settlement_events::{AssetId, Envelope, OutputSequence, Registry, UserId};

use super::error::BenchError;

/// How many differences are told.
const TOLD_MAX: usize = 5;

/// What an account holds: available, frozen, in minor units.
type Money = (i64, i64);

/// What the tables must hold.
#[derive(Default)]
pub struct Expected {
    events: u64,
    trades: u64,
    changes: u64,
    accounts: BTreeMap<(UserId, AssetId), Money>,
}

/// What they hold.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Readback {
    /// Rows of trades.
    pub trades: u64,
    /// Accounts with the balance that they must have.
    pub accounts: u64,
    /// The sum of all balances, available and frozen, over all assets: a checksum to compare runs by.
    pub balance_sum: i128,
    /// What is not as it must be.
    pub differences: Vec<String>,
}

impl Expected {
    /// Takes note of a published event.
    pub fn note(&mut self, envelope: &Envelope) {
        let Ok(event) = envelope.decode_unverified() else {
            return;
        };
        self.events += 1;
        self.trades += u64::from(event.trade().is_some());
        self.changes += event.changes().len() as u64;
        for change in event.changes() {
            let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
            let money = (signed(change.avail.0), signed(change.frozen.0));
            self.accounts.insert((change.user_id, change.asset_id), money);
        }
    }

    /// Compares the tables of a design.
    pub async fn compare(
        &self,
        session: &Session,
        registry: &Registry,
        design: DesignName,
        keyspace: &str,
    ) -> Result<Readback, BenchError> {
        let tables = Tables { session, keyspace };
        let mut found = Readback::default();
        for symbol in registry.symbols() {
            let table = settled_trades_table(symbol);
            found.trades += tables
                .count::<(i64, i64)>(&table, "trade_id, output_sequence", "", &mut found)
                .await?;
        }
        found.expect("trades", self.trades, found.trades);
        let balances = match design {
            DesignName::Ledger => {
                self.compare_ledger(&tables, &mut found).await?;
                tables.balances::<i64>(|money| money).await?
            }
            DesignName::LoggedRmw => tables.balances::<i64>(|money| money).await?,
            DesignName::SequentialDelta => tables.balances::<Counter>(|money| money.0).await?,
        };
        self.compare_balances(&balances, &mut found);
        Ok(found)
    }

    async fn compare_ledger(&self, tables: &Tables<'_>, found: &mut Readback) -> Result<(), BenchError> {
        let mut events = 0;
        for bucket in 0..=keys::bucket(OutputSequence(self.events)) {
            let of_bucket = format!(" WHERE bucket = {bucket}");
            let (table, key) = ("settled_events", "output_sequence");
            events += tables.count::<(i64,)>(table, key, &of_bucket, found).await?;
        }
        found.expect("rows of settled_events", self.events, events);
        let (table, key) = ("balance_ledger", "user_id, asset_id, seq");
        let postings = tables.count::<(i64, i32, i64)>(table, key, "", found).await?;
        found.expect("postings", self.changes, postings);
        Ok(())
    }

    fn compare_balances(&self, balances: &BTreeMap<(UserId, AssetId), Money>, found: &mut Readback) {
        found.expect("accounts", self.accounts.len() as u64, balances.len() as u64);
        for (account, expected) in &self.accounts {
            let (user, asset) = account;
            match balances.get(account) {
                Some(money) if money == expected => found.accounts += 1,
                other => found.differ(format!(
                    "user {user}, asset {asset}: avail and frozen must be {expected:?} and are {other:?}"
                )),
            }
        }
        let sum = |(avail, frozen): &Money| i128::from(*avail) + i128::from(*frozen);
        found.balance_sum = balances.values().map(sum).sum();
    }
}

impl Readback {
    fn expect(&mut self, what: &str, expected: u64, found: u64) {
        if expected != found {
            self.differ(format!("{what}: {found}, and must be {expected}"));
        }
    }

    fn differ(&mut self, difference: String) {
        match self.differences.len() {
            TOLD_MAX.. => {}
            _ => self.differences.push(difference),
        }
    }
}

struct Tables<'a> {
    session: &'a Session,
    keyspace: &'a str,
}

impl Tables<'_> {
    /// Rows of a table, counted here: the server's own count of a large table runs into its timeout. A key that comes
    /// twice is none of ours to count twice, and told.
    async fn count<R>(&self, table: &str, key: &str, restriction: &str, found: &mut Readback) -> Result<u64, BenchError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm> + Ord + 'static,
    {
        let (mut keys, mut repeated) = (BTreeSet::new(), 0_u64);
        self.each::<R>(table, key, restriction, |row| repeated += u64::from(!keys.insert(row)))
            .await?;
        found.expect(&format!("rows of {table} that the server returned twice"), 0, repeated);
        Ok(keys.len() as u64)
    }

    async fn balances<V>(&self, money: impl Fn(V) -> i64) -> Result<BTreeMap<(UserId, AssetId), Money>, BenchError>
    where
        V: for<'f, 'm> scylla::deserialize::value::DeserializeValue<'f, 'm> + 'static,
    {
        let mut balances = BTreeMap::new();
        let columns = "user_id, asset_id, avail, frozen";
        self.each::<(i64, i32, V, V)>("user_balances", columns, "", |(user, asset, avail, frozen)| {
            let account = (UserId(user.unsigned_abs()), AssetId(asset.unsigned_abs()));
            balances.insert(account, (money(avail), money(frozen)));
        })
        .await?;
        Ok(balances)
    }

    async fn each<R>(
        &self,
        table: &str,
        columns: &str,
        restriction: &str,
        mut take: impl FnMut(R),
    ) -> Result<(), BenchError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm> + 'static,
    {
        let table = format!("{}.{table}", self.keyspace);
        let unreadable = |error: &dyn std::fmt::Display| BenchError::Unreadable {
            table: table.clone(),
            why: error.to_string(),
        };
        let query = format!("SELECT {columns} FROM {table}{restriction}");
        let pager = self
            .session
            .query_iter(query, ())
            .await
            .map_err(|error| unreadable(&error))?;
        let mut rows = pager.rows_stream::<R>().map_err(|error| unreadable(&error))?;
        while let Some(row) = rows.try_next().await.map_err(|error| unreadable(&error))? {
            take(row);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_row_and_another_balance_are_told() {
        let (one, two) = ((UserId(1), AssetId(1)), (UserId(2), AssetId(1)));
        let expected = Expected {
            accounts: BTreeMap::from([(one, (5, 1)), (two, (7, 0))]),
            ..Expected::default()
        };
        let mut fine = Readback::default();
        expected.compare_balances(&expected.accounts, &mut fine);
        assert_eq!((fine.accounts, fine.balance_sum, fine.differences.len()), (2, 13, 0));
        let mut wrong = Readback::default();
        expected.compare_balances(&BTreeMap::from([(one, (5, 2))]), &mut wrong);
        assert_eq!(wrong.differences.len(), 3, "{:?}", wrong.differences);
        assert!(
            wrong.differences[1].contains("must be (5, 1) and are Some((5, 2))"),
            "{:?}",
            wrong.differences
        );
    }
}
