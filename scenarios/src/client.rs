//! The judge as an ordinary client: a session of the real driver on a machine of its own, which reads whole tables and,
//! beside the workload, single users' balances. It knows tables and columns by name and nothing of how settlement
//! writes them.
use crate::evidence::ReadRow;
use crate::rows::{COLUMNS_MAX, Cell, Decode, TableKind, Tables};
use scylla::client::PoolSize;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::ColumnIterator;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, Statement};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Rows per page: the driver's default, stated because the number of requests depends on it.
const PAGE_ROWS: i32 = 1_000;
/// How long the judge waits for one answer; above the server's range timeout of 10 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the judge asks again before it gives up: reads of the judge are idempotent, and after the heal a node may
/// still be thought dead for up to 20 s.
const ATTEMPTS: u32 = 12;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_secs(5);

/// A reading client; a clone shares its session.
#[derive(Clone)]
pub struct Client {
    session: Arc<Session>,
    keyspace: String,
}

/// Why the judge could not read.
#[derive(Debug, thiserror::Error)]
#[error("the judge could not {what}: {why}")]
pub struct ReadError {
    what: String,
    why: String,
}

impl Client {
    /// Connects; retried, because nodes may be away.
    pub async fn connect(
        contact_points: &[SocketAddr],
        keyspace: &str,
        credentials: Option<(&str, &str)>,
    ) -> Result<Client, ReadError> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            // One keyspace is looked at, and one connection to a node carries all that is ever asked at a time.
            let mut builder = SessionBuilder::new()
                .known_nodes_addr(contact_points)
                .keyspaces_to_fetch([keyspace])
                .pool_size(PoolSize::PerHost(NonZeroUsize::MIN));
            if let Some((user, password)) = credentials {
                builder = builder.user(user, password);
            }
            match builder.build().await {
                Ok(session) => {
                    return Ok(Client {
                        session: Arc::new(session),
                        keyspace: keyspace.into(),
                    });
                }
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ReadError {
            what: "connect".into(),
            why: last,
        })
    }

    async fn prepare(&self, cql: String, consistency: Consistency) -> Result<PreparedStatement, ReadError> {
        let mut statement = Statement::new(cql.clone()).with_page_size(PAGE_ROWS);
        statement.set_consistency(consistency);
        statement.set_is_idempotent(true);
        statement.set_request_timeout(Some(REQUEST_TIMEOUT));
        let prepared = self.session.prepare(statement).await;
        prepared.map_err(|error| ReadError {
            what: format!("prepare `{cql}`"),
            why: error.to_string(),
        })
    }

    /// Reads every row of a table into `tables`.
    pub async fn table(
        &self,
        name: &str,
        symbol: u32,
        consistency: Consistency,
        tables: &mut Tables,
    ) -> Result<(), ReadError> {
        let Some(kind) = TableKind::of(name, symbol) else {
            return Ok(());
        };
        let columns = kind.columns();
        let present = self.columns_of(name);
        // Where among our columns each of the statement's goes: found once, not with every row.
        let places: Vec<usize> = (0..columns.len())
            .filter(|place| present.iter().any(|column| column == columns[*place]))
            .collect();
        let wanted: Vec<&str> = places.iter().map(|place| columns[*place]).collect();
        let cql = format!("SELECT {} FROM {}.{name}", wanted.join(", "), self.keyspace);
        let prepared = self.prepare(cql, consistency).await?;
        let mut state = PagingState::start();
        loop {
            let (result, next) = self.page(&prepared, &state, name).await?;
            let failed = |why: String| ReadError {
                what: format!("read {name}"),
                why,
            };
            let rows = result.into_rows_result().map_err(|e| failed(e.to_string()))?;
            tables.reserve(kind, rows.rows_num());
            for row in rows
                .rows::<ColumnIterator<'_, '_>>()
                .map_err(|e| failed(e.to_string()))?
            {
                let mut found = row.map_err(|e| failed(e.to_string()))?;
                let mut cells: [Cell<'_>; COLUMNS_MAX] = [None; COLUMNS_MAX];
                for (place, cell) in places.iter().zip(&mut found) {
                    let cell = cell.map_err(|e| failed(e.to_string()))?;
                    cells[*place] = cell.slice.map(|slice| slice.as_slice());
                }
                tables.add(kind, name, &cells[..columns.len()]);
            }
            match next.into_paging_control_flow() {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(more) => state = more,
            }
        }
    }

    /// Reads every table of the keyspace; `symbols` are the trade tables' ([`crate::rows::trade_tables`]).
    ///
    /// # Errors
    /// What could not be read, after the stated attempts.
    pub async fn everything(
        &self,
        symbols: &BTreeMap<String, u32>,
        consistency: Consistency,
    ) -> Result<Tables, ReadError> {
        let mut tables = Tables::default();
        for name in self.tables()? {
            let symbol = symbols.get(&name).copied().unwrap_or(0);
            self.table(&name, symbol, consistency, &mut tables).await?;
        }
        Ok(tables)
    }

    async fn page(
        &self,
        prepared: &PreparedStatement,
        state: &PagingState,
        name: &str,
    ) -> Result<(QueryResult, PagingStateResponse), ReadError> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match self.session.execute_single_page(prepared, (), state.clone()).await {
                Ok(page) => return Ok(page),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ReadError {
            what: format!("read {name}"),
            why: last,
        })
    }

    /// The columns that the database says the table has.
    fn columns_of(&self, table: &str) -> Vec<String> {
        let state = self.session.get_cluster_state();
        let table = state
            .get_keyspace(&self.keyspace)
            .and_then(|keyspace| keyspace.tables.get(table));
        table.map_or_else(Vec::new, |table| table.columns.keys().cloned().collect())
    }

    /// Names of the keyspace's tables, sorted. None at all is an error: a driver that lost sight of the schema knows none.
    pub fn tables(&self) -> Result<Vec<String>, ReadError> {
        let state = self.session.get_cluster_state();
        let mut names: Vec<String> = state
            .get_keyspace(&self.keyspace)
            .map_or_else(Vec::new, |keyspace| keyspace.tables.keys().cloned().collect());
        names.sort_unstable();
        if names.is_empty() {
            return Err(ReadError {
                what: format!("list the tables of {}", self.keyspace),
                why: "the driver knows of none".into(),
            });
        }
        Ok(names)
    }

    /// Prepares the balance query of the reader that runs beside the workload.
    pub async fn balances_query(&self) -> Result<PreparedStatement, ReadError> {
        let columns = "asset_id, version, avail, frozen";
        self.prepare(
            format!(
                "SELECT {columns} FROM {}.user_balances WHERE user_id = ?",
                self.keyspace
            ),
            Consistency::Quorum,
        )
        .await
    }

    /// One user's balances. None when the request failed, which proves nothing; an answer that is not one is evidence, and
    /// comes as rows without values.
    pub async fn balances(&self, query: &PreparedStatement, user: u64) -> Option<Vec<ReadRow>> {
        let user = i64::try_from(user).ok()?;
        let asked = self.session.execute_single_page(query, (user,), PagingState::start());
        let (result, _) = asked.await.ok()?;
        Some(balance_rows(result).unwrap_or_else(|| vec![ReadRow::default()]))
    }
}

/// None for an answer that is no list of rows.
fn balance_rows(result: QueryResult) -> Option<Vec<ReadRow>> {
    let result = result.into_rows_result().ok()?;
    let rows = result.rows::<ColumnIterator<'_, '_>>().ok()?;
    Some(
        rows.map(|row| row.map_or_else(|_| ReadRow::default(), balance_row))
            .collect(),
    )
}

/// The columns of [`Client::balances_query`], in its order.
fn balance_row(mut columns: ColumnIterator<'_, '_>) -> ReadRow {
    let mut cell = || columns.next()?.ok()?.slice.map(|slice| slice.as_slice());
    ReadRow {
        asset: i32::decode(cell()).map(|asset| asset as u32),
        version: i64::decode(cell()),
        avail: i64::decode(cell()),
        frozen: i64::decode(cell()),
    }
}
